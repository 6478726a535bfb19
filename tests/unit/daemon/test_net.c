/* Peers over real sockets on the loopback: calls and one-way frames, dialling, certificates, stopping. Strangers that
 * do not keep to the protocol: test_net_strangers.c. */
#include "tests/unit/daemon/net_suite.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct net_fixture net;

void net_suite_begin(void)
{
    cr_assert_eq(net_set_up(&net), 0);
}

void net_suite_end(void)
{
    net_tear_down(&net);
}

TestSuite(net, .init = net_suite_begin, .fini = net_suite_end, .timeout = 60);

int64_t soon(void)
{
    return clock_mono_ns() + 5 * NS_PER_S;
}

/* ---- handlers ---- */

atomic_int n_seen;

static void count_frame(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx;
    (void)conn;
    (void)frame;
    atomic_fetch_add(&n_seen, 1);
}

/* Answers a Forward with its raw size as ino; a raw byte says how many milliseconds to think. */
static void answer_forward(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx;
    Whiskfs__Outcome outcome = WHISKFS__OUTCOME__INIT;
    outcome.ino = frame->raw.size;
    outcome.index = frame->id;
    if (frame->raw.size > 0 && frame->raw.data[0] > 0)
        (void)poll(NULL, 0, frame->raw.data[0]);
    (void)!conn_send(conn, FRAME_CONTROL, FRAME_OUTCOME, frame->id, &outcome.base, NOTHING, soon());
}

static void refuse_join(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx;
    conn_refuse(conn, frame->id, -ESTALE, "too old");
}

bool eventually(bool (*done)(void *), void *ctx)
{
    int64_t deadline = soon();
    while (clock_mono_ns() < deadline) {
        if (done(ctx))
            return true;
        (void)poll(NULL, 0, 2);
    }
    return false;
}

bool seen_at_least(void *n)
{
    return atomic_load(&n_seen) >= *(int *)n;
}

struct conn *get(struct peers *from, const char *host, enum channel channel, unsigned stream)
{
    struct conn *conn = NULL;
    int r = peers_get(from, host_id_of(host), channel, stream, soon(), &conn);
    cr_assert_eq(r, 0, "%s", strerror(-r));
    return conn;
}

int call_forward(struct conn *conn, const void *raw, size_t size, int64_t deadline,
                 uint64_t *ret_ino)
{
    struct frame *reply = NULL;
    int r = conn_call(conn, FRAME_CONTROL, FRAME_FORWARD, NULL, (struct span){raw, size}, deadline,
                      &reply);
    if (r < 0)
        return r;
    ProtobufCMessage *m = NULL;
    cr_assert_eq(message_get(reply->body, &whiskfs__outcome__descriptor, &m), 0);
    *ret_ino = ((Whiskfs__Outcome *)m)->ino;
    message_free(m);
    frame_free(reply);
    return 0;
}

struct peers *start(const char *name)
{
    struct peers *peers = net_host(&net, name, name);
    peers_handle(peers, FRAME_FORWARD, false, answer_forward, NULL);
    peers_handle(peers, FRAME_ACK, true, count_frame, NULL);
    peers_handle(peers, FRAME_BLOCK, true, count_frame, NULL);
    peers_handle(peers, FRAME_JOIN, false, refuse_join, NULL);
    cr_assert_eq(peers_start(peers), 0);
    return peers;
}

/* ---- conversation ---- */

Test(net, call_and_answer)
{
    struct peers *h1 = start("h1");
    start("h2");
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    cr_assert_str_eq(conn_name(conn), "h2");
    cr_assert(host_equal(conn_host(conn), host_id_of("h2")));
    cr_assert(conn_is_open(conn));
    static uint8_t raw[FORWARD_RAW_MAX];
    static const size_t sizes[] = {0, 1, 100, 16384, FORWARD_RAW_MAX};
    for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
        uint64_t ino = 99;
        cr_assert_eq(call_forward(conn, raw, sizes[i], soon(), &ino), 0);
        cr_assert_eq(ino, sizes[i]);
    }
    conn_put(conn);
}

Test(net, errors_come_back_as_errno)
{
    struct peers *h1 = start("h1");
    start("h2");
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    struct frame *reply = NULL;
    cr_assert_eq(conn_call(conn, FRAME_CONTROL, FRAME_JOIN, NULL, NOTHING, soon(), &reply),
                 -ESTALE);
    cr_assert_eq(conn_call(conn, FRAME_CONTROL, FRAME_RENEW, NULL, NOTHING, soon(), &reply),
                 -ENOSYS);
    cr_assert_eq(conn_send(conn, FRAME_CONTROL, FRAME_ACK, 0, NULL,
                           (struct span){(const uint8_t *)"x", 1}, soon()),
                 -EMSGSIZE);
    cr_assert(conn_is_open(conn));
    conn_put(conn);
}

/* A slow call does not hold up others on the same connection; a late answer is dropped. */
Test(net, answers_in_any_order)
{
    struct peers *h1 = start("h1");
    start("h2");
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    uint8_t slow = 200;
    uint64_t ino = 0;
    int64_t begun = clock_mono_ns();
    cr_assert_eq(call_forward(conn, &slow, 1, begun + 50 * NS_PER_MS, &ino), -ETIMEDOUT);
    cr_assert_eq(call_forward(conn, NULL, 0, soon(), &ino), 0);
    cr_assert_lt(clock_mono_ns() - begun, 190 * NS_PER_MS);
    cr_assert_eq(call_forward(conn, &slow, 1, soon(), &ino), 0);
    cr_assert_eq(ino, 1);
    conn_put(conn);
}

struct caller {
    struct conn *conn;
    unsigned seed;
    int bad;
};

static void *call_many(void *arg)
{
    struct caller *c = arg;
    static uint8_t raw[9000];
    for (int i = 0; i < 300; i++) {
        size_t size = (c->seed * 7919u + (unsigned)i * 104729u) % sizeof raw;
        uint64_t ino = 0;
        c->bad += call_forward(c->conn, raw, size, soon(), &ino) != 0 || ino != size;
    }
    return NULL;
}

Test(net, many_callers_on_one_connection)
{
    struct peers *h1 = start("h1");
    start("h2");
    struct caller callers[8];
    pthread_t threads[8];
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    for (unsigned i = 0; i < 8; i++) {
        callers[i] = (struct caller){.conn = conn, .seed = i + 1};
        cr_assert_eq(thread_start(&threads[i], "caller", call_many, &callers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        thread_join(threads[i]);
        cr_assert_eq(callers[i].bad, 0);
    }
    conn_put(conn);
}

/* Both ends use what either has dialled; streams are connections of their own. */
Test(net, connections_are_shared)
{
    struct peers *h1 = start("h1");
    struct peers *h2 = start("h2");
    struct conn *a = get(h1, "h2", CHANNEL_CONTROL, 0);
    struct conn *again = get(h1, "h2", CHANNEL_CONTROL, 7);
    cr_assert_eq(a, again);
    uint64_t ino;
    cr_assert_eq(call_forward(a, NULL, 0, soon(), &ino), 0);
    struct conn *back = get(h2, "h1", CHANNEL_CONTROL, 0);
    cr_assert_eq(call_forward(back, NULL, 0, soon(), &ino), 0);
    struct conn *data0 = get(h1, "h2", CHANNEL_DATA, 0);
    struct conn *data1 = get(h1, "h2", CHANNEL_DATA, 1);
    struct conn *data2 = get(h1, "h2", CHANNEL_DATA, 2);
    cr_assert(data0 != data1 && data0 != a && data0 == data2);
    struct peer_counters counters[4];
    cr_assert_eq(peers_counters(h2, counters, 4), 1);
    cr_assert_str_eq(counters[0].name, "h1");
    cr_assert_eq(counters[0].dials, 0);
    cr_assert_eq(counters[0].n_connections, 3);
    struct conn *all[] = {a, again, back, data0, data1, data2};
    for (size_t i = 0; i < N_ELEMENTS(all); i++)
        conn_put(all[i]);
}

static bool is_closed(void *conn)
{
    return !conn_is_open(conn);
}

static void note_closed(void *ctx, struct conn *conn)
{
    cr_assert_not(conn_is_open(conn));
    atomic_fetch_add((atomic_int *)ctx, 1);
}

static bool one(void *counter)
{
    return atomic_load((atomic_int *)counter) == 1;
}

Test(net, close_is_noticed_on_both_sides)
{
    struct peers *h1 = start("h1");
    struct peers *h2 = net_host(&net, "h2", "h2");
    static atomic_int closed;
    peers_on_close(h2, note_closed, &closed);
    cr_assert_eq(peers_start(h2), 0);
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    struct conn *far = get(h2, "h1", CHANNEL_CONTROL, 0);
    conn_close(conn, "enough");
    cr_assert_not(conn_is_open(conn));
    struct frame *reply;
    cr_assert_eq(conn_call(conn, FRAME_CONTROL, FRAME_FORWARD, NULL, NOTHING, soon(), &reply),
                 -EPIPE);
    cr_assert(eventually(is_closed, far));
    cr_assert(eventually(one, &closed));
    struct conn *anew = get(h1, "h2", CHANNEL_CONTROL, 0);
    cr_assert_neq(anew, conn);
    conn_put(anew);
    conn_put(far);
    conn_put(conn);
}

/* ---- dialling ---- */

Test(net, unknown_and_absent_hosts)
{
    struct peers *h1 = start("h1");
    struct conn *conn;
    cr_assert_eq(peers_get(h1, host_id_of("nobody"), CHANNEL_CONTROL, 0, soon(), &conn), -ENOENT);
    cr_assert_eq(peers_get(h1, host_id_of("h1"), CHANNEL_CONTROL, 0, soon(), &conn), -EINVAL);
    net_announce(&net, "h2", "127.0.0.1:1");
    cr_assert_eq(peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, soon(), &conn), -EHOSTUNREACH);
    net_announce(&net, "h3", "no such address");
    cr_assert_eq(peers_get(h1, host_id_of("h3"), CHANNEL_CONTROL, 0, soon(), &conn), -EHOSTUNREACH);
}

/* A dead peer costs one dial in half a second. */
Test(net, dials_are_damped)
{
    struct peers *h1 = start("h1");
    net_announce(&net, "h2", "127.0.0.1:1");
    struct conn *conn;
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, soon(), &conn),
                     -EHOSTUNREACH);
    struct peer_counters c;
    cr_assert_eq(peers_counters(h1, &c, 1), 1);
    cr_assert_leq(c.dials, 3);
    cr_assert_eq(c.dials, c.failures);
}

/* A listener that never answers: the dial ends in time, and the caller's deadline holds before that. */
Test(net, silent_listener)
{
    struct peers *h1 = start("h1");
    int fd = net_listen(&net, "h2");
    struct conn *conn;
    int64_t begun = clock_mono_ns();
    int r = peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, begun + 200 * NS_PER_MS, &conn);
    cr_assert_eq(r, -ETIMEDOUT);
    cr_assert_lt(clock_mono_ns() - begun, NS_PER_S);
    r = peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, begun + 8 * NS_PER_S, &conn);
    cr_assert_eq(r, -ETIMEDOUT);
    cr_assert_lt(clock_mono_ns() - begun, 7 * NS_PER_S);
    close(fd);
}

/* ---- certificates over sockets ---- */

static void dial_refused(const char *h1_cert, const char *h2_cert, int want)
{
    struct peers *h1 = net_host(&net, "h1", h1_cert);
    struct peers *h2 = net_host(&net, "h2", h2_cert);
    cr_assert_eq(peers_start(h1), 0);
    cr_assert_eq(peers_start(h2), 0);
    struct conn *conn;
    cr_assert_eq(peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, soon(), &conn), want);
    cr_assert(peers_get(h2, host_id_of("h1"), CHANNEL_CONTROL, 0, soon(), &conn) < 0);
}

Test(net, expired_client)
{
    dial_refused("h1-expired", "h2", -EACCES);
}

Test(net, expired_server)
{
    dial_refused("h1", "h2-expired", -EACCES);
}

Test(net, foreign_client)
{
    dial_refused("h1-foreign", "h2", -EACCES);
}

Test(net, foreign_server)
{
    dial_refused("h1", "h2-foreign", -EACCES);
}

/* The address of h2 leads to another host of the cluster. */
Test(net, wrong_name)
{
    struct peers *h1 = start("h1");
    struct peers *h3 = start("h3");
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", peers_port(h3));
    net_announce(&net, "h2", address);
    struct conn *conn;
    cr_assert_eq(peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, soon(), &conn), -EACCES);
}

Test(net, a_certificate_of_another_name_is_refused_at_start)
{
    struct peers *peers = NULL;
    struct peers_options options;
    net_options(&net, "h1", "h2", &options);
    cr_assert_eq(peers_new(&options, &peers), -EINVAL);
    options.cert_file = "/nonexistent/x.pem";
    cr_assert_eq(peers_new(&options, &peers), -EINVAL);
}

Test(net, the_address_must_be_free)
{
    struct peers *h1 = start("h1"), *other = NULL;
    struct peers_options options;
    char address[32];
    net_options(&net, "h2", "h2", &options);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", peers_port(h1));
    options.listen = address;
    cr_assert_eq(peers_new(&options, &other), -EADDRINUSE);
    options.listen = "127.0.0.1";
    cr_assert_eq(peers_new(&options, &other), -EINVAL);
}

/* Stopping under load: everybody is answered, and it takes less than a second. */
static void *call_until_end(void *arg)
{
    struct caller *c = arg;
    uint64_t ino;
    int r;
    while ((r = call_forward(c->conn, NULL, 0, soon(), &ino)) == 0)
        ;
    c->bad = r != -EPIPE;
    return NULL;
}

/* ---- frames that come in numbers ---- */

#define STREAMED 60
static int streamed[STREAMED]; /* ids in the order in which they were handled */
static atomic_int n_streamed, most_together, n_wrong;

static void note_streamed(const struct frame *frame)
{
    int n = atomic_load(&n_streamed);
    for (size_t i = 0; i < frame->raw.size; i++)
        if (frame->raw.data[i] != (uint8_t)frame->id)
            atomic_fetch_add(&n_wrong, 1);
    streamed[n] = (int)frame->id;
    atomic_store(&n_streamed, n + 1);
}

static void note_block(void *ctx, struct conn *conn, const struct frame *frames, unsigned n)
{
    (void)ctx;
    (void)conn;
    cr_assert(n > 0 && n <= FRAMES_TOGETHER_MAX);
    most_together = MAX(most_together, (int)n);
    (void)poll(NULL, 0, 5); /* the next ones come meanwhile */
    for (unsigned i = 0; i < n; i++)
        note_streamed(&frames[i]);
}

static void note_ack(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx;
    (void)conn;
    note_streamed(frame);
}

static bool all_streamed(void *unused)
{
    (void)unused;
    return atomic_load(&n_streamed) == STREAMED;
}

/* They reach their handler several at a time, whole, and in their place among frames of other types. */
Test(net, frames_together)
{
    static uint8_t raw[BLOCK_RAW_MAX];
    struct peers *h1 = start("h1"), *h2 = net_host(&net, "h2", "h2");
    peers_handle_together(h2, FRAME_BLOCK, note_block, NULL);
    peers_handle(h2, FRAME_ACK, true, note_ack, NULL);
    cr_assert_eq(peers_start(h2), 0);
    struct conn *conn = get(h1, "h2", CHANNEL_DATA, 0);
    for (int i = 0; i < STREAMED; i++) {
        bool is_ack = i % 23 == 22;
        size_t size = is_ack ? 0 : i % 5 == 4 ? 1 + (size_t)i : sizeof raw;
        memset(raw, i, sizeof raw);
        cr_assert_eq(conn_send(conn, FRAME_STREAM, is_ack ? FRAME_ACK : FRAME_BLOCK, (uint64_t)i,
                               NULL, (struct span){raw, size}, soon()),
                     0);
    }
    cr_assert(eventually(all_streamed, NULL), "%d", atomic_load(&n_streamed));
    for (int i = 0; i < STREAMED; i++)
        cr_assert_eq(streamed[i], i);
    cr_assert_eq(n_wrong, 0);
    cr_assert_gt(most_together, 1);
    conn_put(conn);
}

Test(net, stop_under_load)
{
    struct peers *h1 = start("h1");
    start("h2");
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    struct caller callers[8];
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        callers[i] = (struct caller){.conn = conn};
        cr_assert_eq(thread_start(&threads[i], "caller", call_until_end, &callers[i]), 0);
    }
    (void)poll(NULL, 0, 100);
    int64_t begun = clock_mono_ns();
    peers_stop(h1);
    cr_assert_lt(clock_mono_ns() - begun, NS_PER_S);
    for (int i = 0; i < 8; i++) {
        thread_join(threads[i]);
        cr_assert_eq(callers[i].bad, 0);
    }
    struct conn *none;
    cr_assert_eq(peers_get(h1, host_id_of("h2"), CHANNEL_CONTROL, 0, soon(), &none), -EPIPE);
    conn_put(conn);
}
