/* Peers over real sockets on the loopback: who may connect, calls and one-way frames, back-pressure, and strangers
 * that do not keep to the protocol. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "client/pki/pki.h"
#include "daemon/net/outbox.h"
#include "daemon/net/peers.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"
#include "proto/messages.pb-c.h"
#include "tests/unit/daemon/net_fixture.h"

#define NOTHING ((struct span){NULL, 0})

static struct net_fixture net;

static void set_up(void)
{
    cr_assert_eq(net_set_up(&net), 0);
}

static void tear_down(void)
{
    net_tear_down(&net);
}

TestSuite(net, .init = set_up, .fini = tear_down, .timeout = 60);

static int64_t soon(void)
{
    return clock_mono_ns() + 5 * NS_PER_S;
}

/* ---- handlers ---- */

static atomic_int n_seen;

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

static bool eventually(bool (*done)(void *), void *ctx)
{
    int64_t deadline = soon();
    while (clock_mono_ns() < deadline) {
        if (done(ctx))
            return true;
        (void)poll(NULL, 0, 2);
    }
    return false;
}

static bool seen_at_least(void *n)
{
    return atomic_load(&n_seen) >= *(int *)n;
}

static struct conn *get(struct peers *from, const char *host, enum channel channel, unsigned stream)
{
    struct conn *conn = NULL;
    int r = peers_get(from, host_id_of(host), channel, stream, soon(), &conn);
    cr_assert_eq(r, 0, "%s", strerror(-r));
    return conn;
}

static int call_forward(struct conn *conn, const void *raw, size_t size, int64_t deadline,
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

static struct peers *start(const char *name)
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

/* ---- strangers: a plain OpenSSL client that has a certificate and bad manners ---- */

struct stranger {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static struct stranger stranger_to(struct peers *peers, const char *cert)
{
    struct stranger s = {.context = SSL_CTX_new(TLS_client_method())};
    if (cert) {
        char path[160];
        (void)snprintf(path, sizeof path, "%s/%s.pem", net.dir, cert);
        cr_assert_eq(SSL_CTX_use_certificate_chain_file(s.context, path), 1);
        (void)snprintf(path, sizeof path, "%s/%s.key", net.dir, cert);
        cr_assert_eq(SSL_CTX_use_PrivateKey_file(s.context, path, SSL_FILETYPE_PEM), 1);
    }
    s.fd = net_connect(peers);
    s.ssl = SSL_new(s.context);
    cr_assert_eq(SSL_set_fd(s.ssl, s.fd), 1);
    cr_assert_eq(SSL_connect(s.ssl), 1);
    return s;
}

static void stranger_done(struct stranger *s)
{
    SSL_free(s->ssl);
    SSL_CTX_free(s->context);
    close(s->fd);
}

static void put(struct stranger *s, const void *data, size_t size)
{
    if (size > 0)
        (void)SSL_write(s->ssl, data, (int)size);
}

static size_t make_frame(uint8_t *out, size_t room, enum frame_type type, uint64_t id,
                         const ProtobufCMessage *body, size_t raw)
{
    struct writer w = writer_over(out, room);
    cr_assert_eq(frame_put_header(&w, type, FRAME_CONTROL, id, body, raw), 0);
    return writer_used(&w) + raw;
}

static size_t make_hello(uint8_t *out, size_t room, char *host, uint32_t from, uint32_t to,
                         uint32_t channel)
{
    Whiskfs__Hello hello = WHISKFS__HELLO__INIT;
    char lz4[] = "lz4", future[] = "future";
    char *features[] = {lz4, future};
    hello.host = host;
    hello.version_min = from;
    hello.version_max = to;
    hello.channel = channel;
    hello.features = features;
    hello.n_features = 2;
    return make_frame(out, room, FRAME_HELLO, 5, &hello.base, 0);
}

/* Reads one frame within a second or two. 0: the connection ended. */
static size_t get_frame(struct stranger *s, uint8_t *data, size_t room, struct frame *ret)
{
    size_t size = 0, whole = 0;
    while (size < room) {
        if (frame_peek((struct span){data, size}, &whole) == 0 && size >= whole) {
            cr_assert_eq(frame_get((struct span){data, whole}, ret), 0);
            return whole;
        }
        int n = SSL_read(s->ssl, data + size,
                         size < FRAME_HEADER_BYTES ? (int)(FRAME_HEADER_BYTES - size)
                                                   : (int)(whole - size));
        if (n <= 0)
            return 0;
        size += (size_t)n;
    }
    return 0;
}

static struct stranger greeted(struct peers *peers)
{
    struct stranger s = stranger_to(peers, "h2");
    uint8_t bytes[4096];
    char host[] = "h2";
    put(&s, bytes, make_hello(bytes, sizeof bytes, host, 1, 1, 0));
    struct frame f;
    cr_assert(get_frame(&s, bytes, sizeof bytes, &f));
    cr_assert_eq(f.type, FRAME_HELLO_REPLY);
    return s;
}

static bool ended(struct stranger *s)
{
    struct timeval limit = {.tv_sec = 3};
    (void)setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    uint8_t sink[1024];
    int n;
    while ((n = SSL_read(s->ssl, sink, sizeof sink)) > 0)
        ;
    return SSL_get_error(s->ssl, n) != SSL_ERROR_WANT_READ;
}

/* A newer host offers more; what both have is agreed on, and nothing else. */
Test(net, hello_from_a_newer_host)
{
    struct peers *h1 = start("h1");
    struct stranger s = stranger_to(h1, "h2");
    uint8_t bytes[4096];
    char host[] = "h2";
    put(&s, bytes, make_hello(bytes, sizeof bytes, host, 1, 9, 1));
    struct frame f;
    cr_assert(get_frame(&s, bytes, sizeof bytes, &f));
    cr_assert_eq(f.type, FRAME_HELLO_REPLY);
    cr_assert_eq(f.id, 5);
    ProtobufCMessage *m;
    cr_assert_eq(message_get(f.body, &whiskfs__hello_reply__descriptor, &m), 0);
    cr_assert_eq(((Whiskfs__HelloReply *)m)->version, 1);
    cr_assert_str_eq(((Whiskfs__HelloReply *)m)->host, "h1");
    cr_assert_eq(((Whiskfs__HelloReply *)m)->n_features, 0);
    message_free(m);
    stranger_done(&s);
}

static void declined(struct peers *peers, const char *name, uint32_t from, uint32_t to,
                     uint32_t channel, int want)
{
    struct stranger s = stranger_to(peers, "h2");
    uint8_t bytes[4096];
    char host[16];
    (void)snprintf(host, sizeof host, "%s", name);
    put(&s, bytes, make_hello(bytes, sizeof bytes, host, from, to, channel));
    struct frame f;
    cr_assert(get_frame(&s, bytes, sizeof bytes, &f), "an Error comes before the end");
    cr_assert_eq(f.type, FRAME_ERROR);
    ProtobufCMessage *m;
    cr_assert_eq(message_get(f.body, &whiskfs__error__descriptor, &m), 0);
    cr_assert_eq(errno_of_wire_code(((Whiskfs__Error *)m)->code), want);
    message_free(m);
    cr_assert(ended(&s));
    stranger_done(&s);
}

Test(net, hello_declined)
{
    struct peers *h1 = start("h1");
    declined(h1, "h3", 1, 1, 0, -EACCES);
    declined(h1, "h2", 2, 3, 0, -EPROTONOSUPPORT);
    declined(h1, "h2", 0, 0, 0, -EPROTONOSUPPORT);
    declined(h1, "h2", 1, 1, 2, -EINVAL);
    struct peer_counters c;
    cr_assert_eq(peers_counters(h1, &c, 1), 1);
    cr_assert_eq(c.refused_frames, 4);
}

Test(net, a_client_without_a_certificate)
{
    struct peers *h1 = start("h1");
    struct stranger s = stranger_to(h1, NULL);
    uint8_t byte;
    cr_assert_leq(SSL_read(s.ssl, &byte, 1), 0);
    cr_assert_eq(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED);
    stranger_done(&s);
}

/* Anything but hello, and anything large, before hello. */
Test(net, frames_before_hello)
{
    struct peers *h1 = start("h1");
    static uint8_t bytes[8192];
    for (int i = 0; i < 3; i++) {
        struct stranger s = stranger_to(h1, "h2");
        if (i == 0)
            put(&s, bytes, make_frame(bytes, sizeof bytes, FRAME_PING, 0, NULL, 0));
        else if (i == 1)
            put(&s, bytes, make_frame(bytes, sizeof bytes, FRAME_OK, 5, NULL, 0));
        else
            put(&s, bytes, make_frame(bytes, sizeof bytes, FRAME_FORWARD, 5, NULL, 5000));
        cr_assert(ended(&s), "case %d", i);
        stranger_done(&s);
    }
    struct peer_counters c;
    cr_assert_eq(peers_counters(h1, &c, 1), 1);
    cr_assert_eq(c.refused_frames, 3);
}

/* A frame may arrive in any pieces. */
Test(net, frames_in_every_split)
{
    struct peers *h1 = start("h1");
    struct stranger s = greeted(h1);
    Whiskfs__Ack ack = WHISKFS__ACK__INIT;
    char volume[] = "vol";
    ack.volume = volume;
    ack.index = 77;
    uint8_t bytes[128];
    size_t size = make_frame(bytes, sizeof bytes, FRAME_ACK, 0, &ack.base, 0);
    size += make_frame(bytes + size, sizeof bytes - size, FRAME_ACK, 0, &ack.base, 0);
    atomic_store(&n_seen, 0);
    int n = 0;
    for (size_t i = 0; i <= size; i++) {
        put(&s, bytes, i);
        put(&s, bytes + i, size - i);
        n += 2;
        cr_assert(eventually(seen_at_least, &n), "split at %zu", i);
    }
    for (size_t i = 0; i < size; i++)
        put(&s, bytes + i, 1);
    n += 2;
    cr_assert(eventually(seen_at_least, &n));
    cr_assert_eq(atomic_load(&n_seen), n);
    stranger_done(&s);
}

/* Large frames among small ones, written in pieces of odd sizes, arrive whole. */
Test(net, large_frames_among_small_ones)
{
    struct peers *h1 = start("h1");
    struct stranger s = greeted(h1);
    static uint8_t bytes[2 << 20];
    size_t size = 0;
    int n = 0;
    for (int i = 0; i < 12; i++, n += 2) {
        size += make_frame(bytes + size, sizeof bytes - size, FRAME_ACK, 0, NULL, 0);
        size +=
            make_frame(bytes + size, sizeof bytes - size, FRAME_BLOCK, 3, NULL, (size_t)i * 11000);
    }
    atomic_store(&n_seen, 0);
    for (size_t at = 0, step = 1; at < size; at += step, step = step * 2 % 40961 + 1)
        put(&s, bytes + at, MIN(step, size - at));
    cr_assert(eventually(seen_at_least, &n));
    cr_assert_eq(atomic_load(&n_seen), n);
    stranger_done(&s);
}

Test(net, malformed_frames_end_the_connection)
{
    struct peers *h1 = start("h1");
    uint8_t good[64], bytes[64];
    size_t size = make_frame(good, sizeof good, FRAME_ACK, 0, NULL, 0);
    static const struct {
        size_t at;
        uint8_t value;
    } damage[] = {{0, 15},
                  {3, 0xff},
                  {4, 0},
                  {4, 31},
                  {5, 4},
                  {6, 1},
                  {7, 1},
                  {16, 1},
                  {19, 1},
                  {0, 17},
                  {4, FRAME_OK},
                  {4, FRAME_HELLO},
                  {4, FRAME_HELLO_REPLY}};
    for (size_t i = 0; i < N_ELEMENTS(damage); i++) {
        struct stranger s = greeted(h1);
        memcpy(bytes, good, size);
        bytes[damage[i].at] = damage[i].value;
        if (damage[i].at == 4 && damage[i].value == FRAME_HELLO_REPLY)
            bytes[8] = 1;
        put(&s, bytes, size);
        cr_assert(ended(&s), "case %zu", i);
        stranger_done(&s);
    }
    struct peer_counters c;
    cr_assert_eq(peers_counters(h1, &c, 1), 1);
    cr_assert_eq(c.refused_frames, N_ELEMENTS(damage));
}

/* Bytes that are no TLS at all; and the honest are served meanwhile. */
Test(net, garbage)
{
    struct peers *h1 = start("h1");
    struct peers *h2 = start("h2");
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = net_connect(h1);
        uint8_t noise[600];
        for (size_t k = 0; k < sizeof noise; k++)
            noise[k] = (uint8_t)(k * 37 + (size_t)i * 11);
        (void)!write(fds[i], noise, sizeof noise);
    }
    struct conn *conn = get(h2, "h1", CHANNEL_CONTROL, 0);
    uint64_t ino;
    cr_assert_eq(call_forward(conn, NULL, 0, soon(), &ino), 0);
    conn_put(conn);
    for (int i = 0; i < 20; i++)
        close(fds[i]);
}

/* So many strangers at a time, no more. */
Test(net, crowd_of_strangers)
{
    struct peers *h1 = start("h1");
    int fds[100], n_open = 0;
    for (int i = 0; i < 100; i++)
        fds[i] = net_connect(h1);
    (void)poll(NULL, 0, 300);
    for (int i = 0; i < 100; i++) {
        char byte;
        n_open += recv(fds[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
        close(fds[i]);
    }
    cr_assert_eq(n_open, 64);
}

/* ---- bounds ---- */

/* A peer that does not read: our queue stays within its bound and the sender is told in time. */
Test(net, slow_reader)
{
    struct peers *h1 = start("h1");
    struct peers *h2 = start("h2");
    struct stranger s = greeted(h1); /* says it is h2, and reads no more */
    struct conn *conn = get(h1, "h2", CHANNEL_CONTROL, 0);
    (void)h2;
    static uint8_t raw[BLOCK_RAW_MAX];
    size_t sent = 0;
    int r;
    do {
        r = conn_send(conn, FRAME_PREFETCH, FRAME_BLOCK, 1, NULL, (struct span){raw, sizeof raw},
                      clock_mono_ns() + 200 * NS_PER_MS);
        sent += sizeof raw;
    } while (r == 0 && sent < (256u << 20));
    cr_assert_eq(r, -ETIMEDOUT);
    cr_assert_lt(sent, 32u << 20, "socket buffers and a queue of 1 MiB, not %zu", sent);
    /* Other classes still have room. */
    cr_assert_eq(conn_send(conn, FRAME_CONTROL, FRAME_ACK, 0, NULL, NOTHING, clock_mono_ns()), 0);
    conn_close(conn, "done");
    conn_put(conn);
    stranger_done(&s);
}

/* More requests than workers and queue can hold: the connection waits, nothing is lost. */
Test(net, requests_beyond_the_queue)
{
    struct peers *h1 = start("h1");
    struct stranger s = greeted(h1);
    uint8_t bytes[64];
    uint8_t slow = 20;
    size_t size = make_frame(bytes, sizeof bytes, FRAME_FORWARD, 1, NULL, 1);
    bytes[size - 1] = slow;
    enum {
        N = 600
    };
    for (uint64_t i = 0; i < N; i++) {
        struct writer w = writer_over(bytes + 8, 8);
        put_u64(&w, i + 1);
        put(&s, bytes, size);
    }
    static bool seen[N + 1];
    uint8_t reply[256];
    struct frame f;
    for (int i = 0; i < N; i++) {
        cr_assert(get_frame(&s, reply, sizeof reply, &f), "answer %d", i);
        cr_assert(f.type == FRAME_OUTCOME && f.id >= 1 && f.id <= N && !seen[f.id]);
        seen[f.id] = true;
    }
    stranger_done(&s);
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

/* ---- the outbox ---- */

static struct frame_pool pool;

static void push(struct outbox *outbox, enum frame_class class, size_t size)
{
    struct out_frame *frame = frame_pool_get(&pool, size);
    frame->class = class;
    outbox_push(outbox, frame);
}

static int pop(struct outbox *outbox)
{
    struct out_frame *frame = outbox_pop(outbox, SIZE_MAX);
    int class = frame ? (int)frame->class : -1;
    frame_pool_put(&pool, frame);
    return class;
}

/* Higher classes first, but every seventeenth frame may be a lower one's. */
Test(outbox, classes)
{
    frame_pool_init(&pool);
    struct outbox outbox;
    outbox_init(&outbox);
    cr_assert_eq(pop(&outbox), -1);
    for (int i = 0; i < 100; i++) {
        push(&outbox, FRAME_PREFETCH, 10);
        push(&outbox, FRAME_DEMAND, 10);
    }
    push(&outbox, FRAME_CONTROL, 10);
    cr_assert_eq(pop(&outbox), FRAME_CONTROL);
    int n_prefetch = 0;
    for (int i = 0; i < 85; i++)
        n_prefetch += pop(&outbox) == FRAME_PREFETCH;
    cr_assert_eq(n_prefetch, 5);
    while (pop(&outbox) >= 0)
        ;
    cr_assert(outbox_is_empty(&outbox));
    frame_pool_done(&pool);
}

Test(outbox, bounds)
{
    frame_pool_init(&pool);
    struct outbox outbox;
    outbox_init(&outbox);
    cr_assert(outbox_has_room(&outbox, FRAME_PREFETCH, 64 << 20), "one frame always fits");
    push(&outbox, FRAME_PREFETCH, 1 << 20);
    cr_assert_not(outbox_has_room(&outbox, FRAME_PREFETCH, 1));
    cr_assert(outbox_has_room(&outbox, FRAME_DEMAND, 1));
    cr_assert_null(outbox_pop(&outbox, 1000));
    cr_assert_eq(pop(&outbox), FRAME_PREFETCH);
    cr_assert(outbox_has_room(&outbox, FRAME_PREFETCH, 1));
    frame_pool_done(&pool);
}

/* Memory of large frames is used again, but not without limit. */
Test(outbox, pool)
{
    frame_pool_init(&pool);
    struct out_frame *a = frame_pool_get(&pool, BLOCK_RAW_MAX);
    frame_pool_put(&pool, a);
    cr_assert_eq(frame_pool_get(&pool, BLOCK_RAW_MAX + 100), a);
    frame_pool_put(&pool, a);
    struct out_frame *many[100];
    for (int i = 0; i < 100; i++)
        many[i] = frame_pool_get(&pool, BLOCK_RAW_MAX);
    for (int i = 0; i < 100; i++)
        frame_pool_put(&pool, many[i]);
    cr_assert_eq(pool.n_free, FRAME_POOL_MAX);
    frame_pool_done(&pool);
}
