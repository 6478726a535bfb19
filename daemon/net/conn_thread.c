/* daemon/net/conn_thread.c — the life of a connection: connect, TLS, hello, then frames both ways until it ends. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/net/conn.h"
#include "proto/messages.pb-c.h"

static void drain_wake(struct conn *conn)
{
    uint64_t count;
    (void)!read(conn->wake_fd, &count, sizeof count);
}

/* Until the socket is ready, somebody wakes us, or the deadline (0 then too). */
static void wait_io(struct conn *conn, short events, int64_t deadline_ns)
{
    struct pollfd fds[] = {{.fd = conn->fd, .events = events},
                           {.fd = conn->wake_fd, .events = POLLIN}};
    int timeout = clock_left_ms(deadline_ns);
    if (poll(fds, 2, timeout) > 0 && fds[1].revents != 0)
        drain_wake(conn);
}

/* As wait_io, while there is nothing to serve yet. -EPIPE: to be closed. -ETIMEDOUT. */
static int wait_step(struct conn *conn, short events, int64_t deadline_ns)
{
    wait_io(conn, events, deadline_ns);
    if (conn_is_closing(conn))
        return -EPIPE;
    return clock_mono_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

static int fail(struct conn *conn, int error, const char *why)
{
    conn_shut(conn, why);
    return error;
}

/* ---- connect ---- */

static int await_connection(struct conn *conn, int64_t deadline_ns)
{
    struct pollfd fd = {.fd = conn->fd, .events = POLLOUT};
    while (poll(&fd, 1, 0) == 0) {
        int r = wait_step(conn, POLLOUT, deadline_ns);
        if (r < 0)
            return r;
    }
    return address_connected(conn->fd);
}

static int dial(struct conn *conn)
{
    int64_t deadline_ns = clock_mono_ns() + CONNECT_NS;
    int r = address_connect(conn->address, &conn->fd);
    if (r == 0)
        r = await_connection(conn, deadline_ns);
    if (r == -ETIMEDOUT)
        return fail(conn, r, "it does not answer");
    if (r == -EINVAL)
        return fail(conn, -EHOSTUNREACH, "there is no such address");
    if (r < 0)
        return fail(conn, r, strerrordesc_np(-r));
    address_tune(conn->fd);
    return 0;
}

/* ---- TLS ---- */

static int link_new(struct conn *conn)
{
    struct peers *peers = conn->peers;
    struct tls_io io = conn_tls_io(conn);
    if (!conn->is_dialler)
        return tls_server_new(peers->tls, &io, &conn->tls);
    struct tls_session *session = peers_take_session(peers, conn->peer);
    int r = tls_client_new(peers->tls, conn->peer->name, session, &io, &conn->tls);
    peers_keep_session(peers, conn->peer, session);
    return r;
}

static int shake_hands(struct conn *conn)
{
    int r;
    while ((r = tls_handshake(conn->tls)) == -EAGAIN) {
        short events = POLLIN | (conn->send_blocked ? POLLOUT : 0);
        conn->send_blocked = false;
        r = wait_step(conn, events, conn->deadline_ns);
        if (r < 0)
            return r == -ETIMEDOUT ? fail(conn, r, "its TLS handshake takes too long") : r;
    }
    return r < 0 ? fail(conn, r, tls_why(conn->tls)) : 0;
}

/* An accepted connection: TLS says who called. */
static int admit_caller(struct conn *conn)
{
    const char *name = tls_peer_name(conn->tls);
    if (strcmp(name, conn->peers->name) == 0)
        return fail(conn, -EACCES, "it has this host's own certificate");
    struct peer *peer = NULL;
    int r = peers_peer_of(conn->peers, name, &peer);
    if (r == 0)
        r = peers_admit(conn->peers, conn, peer);
    if (r == -EMFILE)
        return fail(conn, r, "it has too many connections");
    return r < 0 ? fail(conn, r, "too many hosts have called") : 0;
}

static int secure(struct conn *conn)
{
    conn->deadline_ns = clock_mono_ns() + HANDSHAKE_NS;
    int r = link_new(conn);
    if (r == 0)
        r = shake_hands(conn);
    if (r == 0 && !conn->is_dialler)
        r = admit_caller(conn);
    if (r < 0)
        return r;
    conn->in.data = malloc(IN_BYTES);
    conn->staged.data = malloc(STAGE_BYTES);
    conn->received.data = malloc(STAGE_BYTES);
    return conn->in.data && conn->staged.data && conn->received.data ? 0 : -ENOMEM;
}

/* ---- frames ---- */

static bool has_output(const struct conn *conn)
{
    return conn->out.sent < conn->out.size || conn->out.large ||
           conn->staged.at < conn->staged.size;
}

/* False: there is something to do first. Reading has come to its end when this is called. */
static bool fall_asleep(struct conn *conn)
{
    SCOPED_LOCK(&conn->lock);
    bool may_send = has_output(conn) ? !conn->send_blocked : !outbox_is_empty(&conn->outbox);
    if (conn->is_closing || may_send)
        return false;
    conn->is_asleep = true;
    return true;
}

static void wake_up(struct conn *conn)
{
    SCOPED_LOCK(&conn->lock);
    conn->is_asleep = false;
}

static int64_t next_timer(const struct conn *conn)
{
    if (conn->state != CONN_READY)
        return conn->deadline_ns;
    int64_t ping_ns = conn->last_sent_ns + PING_NS;
    int64_t silence_ns = conn->is_stalled ? INT64_MAX : conn->last_received_ns + SILENCE_NS;
    return MIN(ping_ns, silence_ns);
}

static void sleep_until_needed(struct conn *conn)
{
    if (!fall_asleep(conn))
        return;
    short events = conn->is_stalled ? 0 : POLLIN;
    if (has_output(conn))
        events |= POLLOUT;
    wait_io(conn, events, next_timer(conn));
    wake_up(conn);
}

static int keep_time(struct conn *conn, int64_t now_ns)
{
    if (conn->state != CONN_READY)
        return now_ns < conn->deadline_ns ? 0 : fail(conn, -ETIMEDOUT, "its hello takes too long");
    if (!conn->is_stalled && now_ns - conn->last_received_ns >= SILENCE_NS)
        return fail(conn, -ETIMEDOUT, "it was silent for 15 s");
    if (now_ns - conn->last_sent_ns < PING_NS)
        return 0;
    conn->last_sent_ns = now_ns;
    if (has_output(conn))
        return 0; /* a peer that takes nothing gets no more */
    return conn_queue(conn, FRAME_CONTROL, FRAME_PING, 0, NULL);
}

/* When sending fails, the peer's reason may still be there to read. */
static int reason_to_read(struct conn *conn, int error)
{
    bool moved = false;
    int r;
    do {
        r = conn_pump_in(conn, &moved);
    } while (r == 0);
    return r == -EAGAIN ? error : r;
}

/* One turn. 0: go on. */
static int turn(struct conn *conn)
{
    bool sent = false;
    bool received = false;
    int out = conn_pump_out(conn, &sent);
    if (out < 0 && out != -EAGAIN)
        return reason_to_read(conn, out);
    int in = conn_pump_in(conn, &received);
    if (in < 0 && in != -EAGAIN)
        return in;
    int64_t now_ns = clock_mono_ns();
    if (sent)
        conn->last_sent_ns = now_ns;
    if (received)
        conn->last_received_ns = now_ns;
    int r = keep_time(conn, now_ns);
    if (r < 0)
        return r;
    if (conn_is_closing(conn))
        return -EPIPE;
    if (in == -EAGAIN)
        sleep_until_needed(conn);
    return 0;
}

static int serve(struct conn *conn)
{
    conn->last_sent_ns = conn->last_received_ns = clock_mono_ns();
    int r = conn->is_dialler ? hello_begin(conn) : 0;
    while (r == 0)
        r = turn(conn);
    return r;
}

/* ---- the end ---- */

/* Sends what is queued, as far as the socket takes it until the deadline. */
static void flush(struct conn *conn, int64_t deadline_ns)
{
    bool moved = false;
    while (clock_mono_ns() < deadline_ns) {
        int r = conn_pump_out(conn, &moved);
        if (r == 0 && !has_output(conn))
            return;
        if (r < 0 && r != -EAGAIN)
            return;
        wait_io(conn, POLLOUT, deadline_ns);
    }
}

/* Closing with unread bytes would reset the connection, and the peer would never read why it was refused. */
static void linger(struct conn *conn)
{
    int64_t deadline_ns = clock_mono_ns() + LINGER_NS;
    if (conn->has_last_word)
        flush(conn, deadline_ns);
    (void)shutdown(conn->fd, SHUT_WR);
    char sink[4096];
    size_t left = 1u << 20;
    while (clock_mono_ns() < deadline_ns && left > 0) {
        ssize_t n = recv(conn->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return;
        if (n > 0)
            left -= MIN(left, (size_t)n);
        else
            wait_io(conn, POLLIN, deadline_ns);
    }
}

/* One line for one end. why is the first that was given. */
static void report(struct conn *conn)
{
    if (conn->is_reported)
        return;
    if (conn->state == CONN_READY && conn->channel == CHANNEL_CONTROL)
        log_info("peers", "connection with '%s' ended: %s", conn_name(conn), conn->why);
    else if (conn->state == CONN_READY)
        log_debug("peers", "data connection with '%s' ended: %s", conn_name(conn), conn->why);
    else if (conn->is_dialler)
        warn_limited(&conn->peer->dial_log, "cannot reach '%s' at %s: %s", conn_name(conn),
                     conn->address, conn->why);
    else
        listener_refused(conn->peers, conn->address, conn->why);
}

static void drop_output(struct conn *conn)
{
    SCOPED_LOCK(&conn->lock);
    struct out_frame *frame;
    while ((frame = outbox_pop(&conn->outbox, SIZE_MAX)) != NULL)
        frame_pool_put(&conn->peers->pool, frame);
}

static void release(struct conn *conn)
{
    drop_output(conn);
    frame_pool_put(&conn->peers->pool, TAKE(conn->out.large));
    tls_link_free(TAKE(conn->tls));
    free(TAKE(conn->in.data));
    free(TAKE(conn->staged.data));
    free(TAKE(conn->received.data));
    if (conn->fd >= 0)
        (void)close(TAKE_FD(conn->fd));
}

/* What the peer's TLS still had to say becomes the reason, unless we had one ourselves. */
static void settle_why(struct conn *conn, int error)
{
    const char *why = conn->tls ? tls_why(conn->tls) : "";
    if (why[0] == '\0')
        why = error == -EPIPE ? "it closed the connection" : strerrordesc_np(-error);
    conn_shut(conn, why);
}

static void finish(struct conn *conn, int error)
{
    struct peers *peers = conn->peers;
    bool was_ready = conn->state == CONN_READY;
    settle_why(conn, error);
    report(conn);
    if (conn->is_dialler && conn->tls)
        peers_keep_session(peers, conn->peer, tls_take_session(conn->tls));
    if (was_ready) {
        tls_bye(conn->tls);
        (void)!conn_send_staged(conn);
    }
    peers_ended(peers, conn, error);
    if (!was_ready && !conn->is_dialler && conn->fd >= 0)
        linger(conn);
    release(conn);
    for (unsigned i = 0; was_ready && i < peers->n_closers; i++)
        peers->closers[i].fn(peers->closers[i].ctx, conn);
}

void *conn_thread(void *arg)
{
    struct conn *conn = arg;
    conn->self = pthread_self();
    int r = conn->is_dialler ? dial(conn) : 0;
    if (r == 0)
        r = secure(conn);
    if (r == 0)
        r = serve(conn);
    finish(conn, r);
    peers_joinable(conn->peers, conn);
    return NULL;
}
