/* daemon/net/listener.c — accepts callers, and joins the threads of connections that have ended. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/conn.h"

/* When accept(2) fails for want of descriptors, callers wait in the backlog this long. */
#define PAUSE_NS (100 * NS_PER_MS)

void listener_wake(struct peers *peers)
{
    uint64_t one = 1;
    (void)!write(peers->wake_fd, &one, sizeof one);
}

void listener_refused(struct peers *peers, const char *address, const char *why)
{
    atomic_fetch_add(&peers->n_refused_strangers, 1);
    uint64_t hash = host_id_of(address).n;
    warn_limited(&peers->stranger_logs[hash % N_ELEMENTS(peers->stranger_logs)],
                 "a connection from %s failed: %s", address, why);
}

/* ---- joining ---- */

static struct conn *take_joinable(struct peers *peers)
{
    SCOPED_LOCK(&peers->lock);
    list_for_each(conn, &peers->conns, struct conn, in_all)
    {
        if (!conn->is_joinable || !conn->has_thread)
            continue;
        list_remove(&conn->in_all);
        peers->n_conns--;
        return conn;
    }
    return NULL;
}

static void join_ended(struct peers *peers)
{
    struct conn *conn;
    while ((conn = take_joinable(peers)) != NULL) {
        thread_join(conn->thread);
        conn_put(conn);
    }
}

/* ---- accepting ---- */

static bool enter(struct peers *peers, struct conn *conn)
{
    SCOPED_LOCK(&peers->lock);
    if (peers->stopping || peers->n_strangers >= STRANGERS_MAX || peers->n_conns >= CONNS_MAX)
        return false;
    list_append(&peers->conns, &conn->in_all);
    peers->n_conns++;
    peers->n_strangers++;
    return true;
}

static void leave(struct peers *peers, struct conn *conn)
{
    SCOPED_LOCK(&peers->lock);
    list_remove(&conn->in_all);
    peers->n_conns--;
    peers->n_strangers--;
}

static void drop(struct conn *conn)
{
    (void)close(TAKE_FD(conn->fd));
    conn_put(conn);
}

static void welcome(struct peers *peers, int fd)
{
    struct conn *conn = NULL;
    if (conn_new(peers, false, &conn) < 0) {
        (void)close(fd);
        return;
    }
    conn->fd = fd;
    address_tune(fd);
    address_of_peer(fd, conn->address);
    if (!enter(peers, conn)) {
        listener_refused(peers, conn->address, "too many connections");
        drop(conn);
        return;
    }
    if (peers_start_conn(peers, conn, "peer-in") < 0) {
        leave(peers, conn);
        drop(conn);
    }
}

/* False: out of descriptors; try again after a pause. */
static bool accept_all(struct peers *peers)
{
    for (;;) {
        int fd = accept4(peers->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
        welcome(peers, fd);
    }
}

static bool is_done(struct peers *peers)
{
    SCOPED_LOCK(&peers->lock);
    return peers->stopping && list_empty(&peers->conns);
}

static bool is_stopping(struct peers *peers)
{
    SCOPED_LOCK(&peers->lock);
    return peers->stopping;
}

void *listener_thread(void *arg)
{
    struct peers *peers = arg;
    bool pause = false;
    while (!is_done(peers)) {
        bool accepting = !pause && !is_stopping(peers);
        struct pollfd fds[] = {{.fd = peers->wake_fd, .events = POLLIN},
                               {.fd = accepting ? peers->listen_fd : -1, .events = POLLIN}};
        (void)poll(fds, 2, pause ? (int)(PAUSE_NS / NS_PER_MS) : -1);
        uint64_t count;
        (void)!read(peers->wake_fd, &count, sizeof count);
        pause = accepting && fds[1].revents != 0 && !accept_all(peers);
        join_ended(peers);
    }
    return NULL;
}
