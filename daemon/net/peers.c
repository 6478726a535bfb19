/* daemon/net/peers.c — the table of peers: who is connected, who dials, who may. */
#include "daemon/net/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/net/conn.h"

#define WORKERS_DEFAULT 32u
/* From here on the log warns at start that the certificate will expire. */
#define EXPIRY_WARNING_S (14 * 86400)

/* ---- life ---- */

static int load_certificates(struct peers *peers, const struct peers_options *options)
{
    char why[TLS_WHY_BYTES];
    struct tls_files files = {
        .ca = options->ca_file, .cert = options->cert_file, .key = options->key_file};
    int r = tls_context_new(&files, why, &peers->tls);
    if (r < 0) {
        log_error("peers", "%s", why);
        return r;
    }
    const char *name = tls_context_name(peers->tls);
    if (strcmp(name, options->name) != 0) {
        log_error("peers", "certificate '%s' is for host '%s', but this host is '%s'",
                  options->cert_file, name, options->name);
        return -EINVAL;
    }
    int64_t valid_s = tls_context_valid_s(peers->tls);
    if (valid_s < EXPIRY_WARNING_S)
        log_warning("peers", "certificate '%s' %s: peers will refuse this host", options->cert_file,
                    valid_s < 0 ? "has expired" : "expires within 14 days");
    return 0;
}

static int open_listener(struct peers *peers, const char *address)
{
    int r = address_listen(address, &peers->listen_fd);
    if (r < 0) {
        log_error("peers", "cannot listen on %s: %s", address, strerrordesc_np(-r));
        return r;
    }
    peers->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return peers->wake_fd < 0 ? -errno : 0;
}

DEFINE_FREEP(peers, struct peers)

int peers_new(const struct peers_options *options, struct peers **ret_peers)
{
    AUTO(peers_freep) struct peers *peers = calloc(1, sizeof *peers);
    if (!peers)
        return -ENOMEM;
    peers->listen_fd = peers->wake_fd = -1;
    mutex_init(&peers->lock, LOCK_peers);
    list_init(&peers->conns);
    frame_pool_init(&peers->pool);
    if (snprintf(peers->name, sizeof peers->name, "%s", options->name) >= (int)sizeof peers->name)
        return -EINVAL;
    peers->id = host_id_of(peers->name);
    peers->streams = MAX(options->streams, 1u);
    peers->membership = options->membership;
    int r = load_certificates(peers, options);
    if (r == 0)
        r = open_listener(peers, options->listen);
    if (r == 0)
        r = workers_new(options->n_workers ? options->n_workers : WORKERS_DEFAULT, &peers->workers);
    if (r < 0)
        return r;
    *ret_peers = TAKE(peers);
    return 0;
}

void peers_handle(struct peers *peers, enum frame_type type, bool is_inline,
                  frame_handler_f *handler, void *ctx)
{
    CHECK(!peers->started && type < FRAME_TYPE_MAX && !peers->handlers[type].fn);
    peers->handlers[type] = (struct handler){.fn = handler, .ctx = ctx, .is_inline = is_inline};
}

void peers_handle_together(struct peers *peers, enum frame_type type, frames_handler_f *handler,
                           void *ctx)
{
    CHECK(!peers->started && type < FRAME_TYPE_MAX && !peers->handlers[type].fn);
    peers->handlers[type] = (struct handler){.together = handler, .ctx = ctx, .is_inline = true};
}

void peers_on_close(struct peers *peers, conn_closed_f *closed, void *ctx)
{
    CHECK(!peers->started && peers->n_closers < CLOSERS_MAX);
    peers->closers[peers->n_closers].fn = closed;
    peers->closers[peers->n_closers++].ctx = ctx;
}

int peers_start(struct peers *peers)
{
    CHECK(!peers->started);
    int r = thread_start(&peers->listener, "peer-listener", listener_thread, peers);
    peers->started = r == 0;
    return r;
}

uint16_t peers_port(const struct peers *peers)
{
    return address_port(peers->listen_fd);
}

static void close_all(struct peers *peers)
{
    SCOPED_LOCK(&peers->lock);
    peers->stopping = true;
    list_for_each(conn, &peers->conns, struct conn, in_all) conn_close(conn, "this host stops");
    struct peer *peer, *next;
    HASH_ITER(hh, peers->table, peer, next) cond_broadcast(&peer->changed);
}

void peers_stop(struct peers *peers)
{
    close_all(peers);
    if (peers->started) {
        listener_wake(peers);
        thread_join(peers->listener);
        peers->started = false;
        /* From now on who dials is refused at once, rather than left in the backlog. */
        (void)close(TAKE_FD(peers->listen_fd));
    }
    workers_stop(peers->workers);
}

static void free_table(struct peers *peers)
{
    struct peer *peer, *next;
    HASH_ITER(hh, peers->table, peer, next)
    {
        HASH_DEL(peers->table, peer);
        tls_session_free(peer->session);
        cond_done(&peer->changed);
        free(peer);
    }
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    if (peers->workers)
        peers_stop(peers);
    workers_free(peers->workers);
    free_table(peers);
    tls_context_free(peers->tls);
    if (peers->listen_fd >= 0)
        (void)close(peers->listen_fd);
    if (peers->wake_fd >= 0)
        (void)close(peers->wake_fd);
    frame_pool_done(&peers->pool);
    mutex_done(&peers->lock);
    free(peers);
}

/* ---- the table ---- */

static struct peer *find_locked(struct peers *peers, struct host_id id) REQUIRES(peers->lock)
{
    struct peer *peer = NULL;
    HASH_FIND(hh, peers->table, &id, sizeof id, peer);
    return peer;
}

static int add_locked(struct peers *peers, const char *name, struct peer **ret_peer)
    REQUIRES(peers->lock)
{
    if (HASH_COUNT(peers->table) >= PEERS_MAX)
        return -ENOSPC;
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return -ENOMEM;
    (void)snprintf(peer->name, sizeof peer->name, "%s", name);
    peer->id = host_id_of(name);
    list_init(&peer->conns);
    cond_init(&peer->changed);
    HASH_ADD(hh, peers->table, id, sizeof peer->id, peer);
    *ret_peer = peer;
    return 0;
}

static int peer_of_locked(struct peers *peers, const char *name, struct peer **ret_peer)
    REQUIRES(peers->lock)
{
    struct peer *peer = find_locked(peers, host_id_of(name));
    if (!peer)
        return add_locked(peers, name, ret_peer);
    if (strcmp(peer->name, name) != 0)
        return -EEXIST;
    *ret_peer = peer;
    return 0;
}

int peers_peer_of(struct peers *peers, const char *name, struct peer **ret_peer)
{
    SCOPED_LOCK(&peers->lock);
    return peer_of_locked(peers, name, ret_peer);
}

int peers_admit(struct peers *peers, struct conn *conn, struct peer *peer)
{
    SCOPED_LOCK(&peers->lock);
    if (peer->n_conns >= CONNS_PER_PEER_MAX)
        return -EMFILE;
    peer->n_conns++;
    peers->n_strangers--;
    conn->peer = peer;
    conn->state = CONN_HELLO;
    return 0;
}

void peers_ready(struct peers *peers, struct conn *conn)
{
    {
        SCOPED_LOCK(&peers->lock);
        conn->state = CONN_READY;
        if (list_empty(&conn->in_peer))
            list_append(&conn->peer->conns, &conn->in_peer);
        conn->peer->dial_error = 0;
        cond_broadcast(&conn->peer->changed);
    }
    if (conn->channel == CHANNEL_CONTROL)
        log_info("peers", "connected with '%s' at %s", conn->peer->name, conn->address);
}

/* What peers_get says of a dial that failed. */
static int dial_error(int error)
{
    return error == -EACCES || error == -ETIMEDOUT ? error : -EHOSTUNREACH;
}

static void note_failure_locked(struct peers *peers, struct conn *conn, int error)
    REQUIRES(peers->lock)
{
    struct peer *peer = conn->peer;
    mutex_assert_held(&peers->lock);
    peer->dial_error = dial_error(error);
    peer->dial_again_ns = clock_mono_ns() + DIAL_DAMPING_NS;
    atomic_fetch_add(&peer->failures, 1);
}

void peers_ended(struct peers *peers, struct conn *conn, int error)
{
    SCOPED_LOCK(&peers->lock);
    bool was_ready = conn->state == CONN_READY;
    conn->state = CONN_ENDED;
    if (!conn->peer) {
        peers->n_strangers--;
        return;
    }
    list_remove(&conn->in_peer);
    conn->peer->n_conns--;
    if (conn->is_dialler && !was_ready)
        note_failure_locked(peers, conn, error);
    cond_broadcast(&conn->peer->changed);
}

void peers_joinable(struct peers *peers, struct conn *conn)
{
    {
        SCOPED_LOCK(&peers->lock);
        conn->is_joinable = true;
    }
    listener_wake(peers);
}

struct tls_session *peers_take_session(struct peers *peers, struct peer *peer)
{
    SCOPED_LOCK(&peers->lock);
    return TAKE(peer->session);
}

void peers_keep_session(struct peers *peers, struct peer *peer, struct tls_session *session)
{
    if (!session)
        return;
    struct tls_session *old = NULL;
    {
        SCOPED_LOCK(&peers->lock);
        old = peer->session;
        peer->session = session;
    }
    tls_session_free(old);
}

int peers_start_conn(struct peers *peers, struct conn *conn, const char *thread_name)
{
    pthread_t thread;
    int r = thread_start(&thread, thread_name, conn_thread, conn);
    if (r < 0)
        return r;
    {
        SCOPED_LOCK(&peers->lock);
        conn->thread = thread;
        conn->has_thread = true;
    }
    /* It may have ended already, when the listener could not join it yet. */
    listener_wake(peers);
    return 0;
}

/* ---- dialling ---- */

/* The connection for this stream, ready or being dialled; or NULL. */
static struct conn *pick_locked(struct peer *peer, enum channel channel, unsigned stream)
{
    list_for_each(conn, &peer->conns, struct conn, in_peer)
    {
        if (conn->channel == channel && conn->state != CONN_ENDED && stream-- == 0)
            return conn;
    }
    return NULL;
}

static struct conn *any_ready_locked(struct peer *peer, enum channel channel)
{
    list_for_each(conn, &peer->conns, struct conn, in_peer)
    {
        if (conn->channel == channel && conn->state == CONN_READY)
            return conn;
    }
    return NULL;
}

static int new_dial_locked(struct peers *peers, struct peer *peer, enum channel channel,
                           const char *address, struct conn **ret_conn) REQUIRES(peers->lock)
{
    if (peer->n_conns >= CONNS_PER_PEER_MAX || peers->n_conns >= CONNS_MAX)
        return -EHOSTUNREACH;
    struct conn *conn = NULL;
    int r = conn_new(peers, true, &conn);
    if (r < 0)
        return r;
    conn->peer = peer;
    conn->channel = channel;
    (void)snprintf(conn->address, sizeof conn->address, "%s", address);
    list_append(&peers->conns, &conn->in_all);
    list_append(&peer->conns, &conn->in_peer);
    peers->n_conns++;
    peer->n_conns++;
    atomic_fetch_add(&peer->dials, 1);
    *ret_conn = conn;
    return 0;
}

static void undo_dial(struct peers *peers, struct conn *conn, int error)
{
    {
        SCOPED_LOCK(&peers->lock);
        list_remove(&conn->in_all);
        list_remove(&conn->in_peer);
        peers->n_conns--;
        conn->peer->n_conns--;
        note_failure_locked(peers, conn, error);
        cond_broadcast(&conn->peer->changed);
    }
    conn_put(conn);
}

struct wish {
    struct host_id host;
    enum channel channel;
    unsigned stream;
    int64_t deadline_ns;
};

/* 1: *ret_conn is it (a reference), or, with is_new, to be started. 0: something changed, look again. */
static int look_locked(struct peers *peers, struct peer *peer, const struct wish *wish,
                       const char *address, struct conn **ret_conn, bool *ret_new)
    REQUIRES(peers->lock)
{
    if (peers->stopping)
        return -EPIPE;
    struct conn *conn = pick_locked(peer, wish->channel, wish->stream);
    if (!conn && peer->dial_error != 0 && clock_mono_ns() < peer->dial_again_ns) {
        conn = any_ready_locked(peer, wish->channel);
        if (!conn)
            return peer->dial_error;
    }
    if (conn && conn->state == CONN_READY && !conn_is_closing(conn)) {
        *ret_conn = conn_ref(conn);
        return 1;
    }
    if (!conn && !address)
        return -EAGAIN;
    if (!conn) {
        int r = new_dial_locked(peers, peer, wish->channel, address, ret_conn);
        *ret_new = r == 0;
        return r < 0 ? r : 1;
    }
    if (cond_wait_until(&peer->changed, &peers->lock, wish->deadline_ns) ||
        clock_mono_ns() < wish->deadline_ns)
        return 0;
    conn = any_ready_locked(peer, wish->channel); /* another stream's is better than none */
    if (!conn)
        return -ETIMEDOUT;
    *ret_conn = conn_ref(conn);
    return 1;
}

/* -EAGAIN: a dial is needed, but address is NULL. */
static int get_or_dial(struct peers *peers, const struct wish *wish, const char *name,
                       const char *address, struct conn **ret_conn, bool *ret_new)
{
    SCOPED_LOCK(&peers->lock);
    struct peer *peer = find_locked(peers, wish->host);
    int r = 0;
    if (!peer && !name)
        return -EAGAIN;
    if (name)
        r = peer_of_locked(peers, name, &peer);
    while (r == 0)
        r = look_locked(peers, peer, wish, address, ret_conn, ret_new);
    return r;
}

static int get_once(struct peers *peers, const struct wish *wish, struct conn **ret_conn,
                    bool *ret_new)
{
    int r = get_or_dial(peers, wish, NULL, NULL, ret_conn, ret_new);
    if (r != -EAGAIN)
        return r;
    /* Asked of nobody's lock: membership has its own, of a lower rank. */
    struct member_host host;
    r = peers->membership->ops->host_by_id(peers->membership, wish->host, &host);
    if (r < 0)
        return r;
    return get_or_dial(peers, wish, host.name, host.address, ret_conn, ret_new);
}

int peers_get(struct peers *peers, struct host_id host, enum channel channel, unsigned stream,
              int64_t deadline_ns, struct conn **ret_conn)
{
    if (host_equal(host, peers->id))
        return -EINVAL;
    struct wish wish = {.host = host,
                        .channel = channel,
                        .stream = channel == CHANNEL_DATA ? stream % peers->streams : 0,
                        .deadline_ns = deadline_ns};
    for (;;) {
        struct conn *conn = NULL;
        bool is_new = false;
        int r = get_once(peers, &wish, &conn, &is_new);
        if (r < 0)
            return r;
        if (!is_new) {
            *ret_conn = conn;
            return 0;
        }
        char thread_name[16];
        (void)snprintf(thread_name, sizeof thread_name, "to-%.12s", conn->peer->name);
        r = peers_start_conn(peers, conn, thread_name);
        if (r < 0)
            undo_dial(peers, conn, r);
        /* Now it is one that is being dialled, for us as for others. */
    }
}

/* ---- counters ---- */

static void copy_counters(const struct peer *peer, struct peer_counters *ret)
{
    *ret = (struct peer_counters){.n_connections = peer->n_conns};
    (void)snprintf(ret->name, sizeof ret->name, "%s", peer->name);
    for (unsigned c = 0; c < FRAME_N_CLASSES; c++) {
        ret->sent_bytes[c] = atomic_load_explicit(&peer->sent_bytes[c], memory_order_relaxed);
        ret->received_bytes[c] =
            atomic_load_explicit(&peer->received_bytes[c], memory_order_relaxed);
    }
    ret->dials = atomic_load(&peer->dials);
    ret->failures = atomic_load(&peer->failures);
    ret->refused_frames = atomic_load(&peer->refused_frames);
}

int peers_counters(struct peers *peers, struct peer_counters *ret_counters, int max)
{
    SCOPED_LOCK(&peers->lock);
    int n = 0;
    struct peer *peer, *next;
    HASH_ITER(hh, peers->table, peer, next)
    {
        if (n < max)
            copy_counters(peer, &ret_counters[n]);
        n++;
    }
    return n;
}
