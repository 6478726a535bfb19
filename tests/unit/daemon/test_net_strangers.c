/* Peers against a plain OpenSSL client that has a certificate and bad manners, against garbage, crowds, and peers that
 * read too slowly or ask too much. */
#include "tests/unit/daemon/net_suite.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

TestSuite(strangers, .init = net_suite_begin, .fini = net_suite_end, .timeout = 60);

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
Test(strangers, hello_from_a_newer_host)
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

Test(strangers, hello_declined)
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

Test(strangers, a_client_without_a_certificate)
{
    struct peers *h1 = start("h1");
    struct stranger s = stranger_to(h1, NULL);
    uint8_t byte;
    cr_assert_leq(SSL_read(s.ssl, &byte, 1), 0);
    cr_assert_eq(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED);
    stranger_done(&s);
}

/* Anything but hello, and anything large, before hello. */
Test(strangers, frames_before_hello)
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
Test(strangers, frames_in_every_split)
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
Test(strangers, large_frames_among_small_ones)
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

Test(strangers, malformed_frames_end_the_connection)
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
Test(strangers, garbage)
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
Test(strangers, crowd_of_strangers)
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
Test(strangers, slow_reader)
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
Test(strangers, requests_beyond_the_queue)
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
