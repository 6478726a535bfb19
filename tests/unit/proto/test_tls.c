/* TLS links over memory: who is let in, what both sides are told when not, and the bytes between. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

#include "client/pki/pki.h"
#include "proto/tls.h"

#define PIPE_BYTES (1u << 20)
#define DAY 86400

/* ---- fixture: two links joined by two pipes, certificates in a temporary directory ---- */

struct pipe {
    uint8_t data[PIPE_BYTES];
    size_t head, tail;
    size_t step; /* at most this much a call; 0: no limit */
    bool ended;
};

struct end {
    struct pipe *in, *out;
    struct tls_link *link;
};

static char home[64], other[64];
static struct pipe pipes[2];
static struct end client, server;
static char why[PKI_WHY_BYTES];

static ssize_t end_send(void *ctx, const void *data, size_t size)
{
    struct pipe *p = ((struct end *)ctx)->out;
    if (p->head == p->tail)
        p->head = p->tail = 0;
    size_t n = MIN(size, PIPE_BYTES - p->tail);
    if (p->step > 0)
        n = MIN(n, p->step);
    if (n == 0)
        return -EAGAIN;
    memcpy(p->data + p->tail, data, n);
    p->tail += n;
    return (ssize_t)n;
}

static ssize_t end_receive(void *ctx, void *data, size_t size)
{
    struct pipe *p = ((struct end *)ctx)->in;
    size_t n = MIN(size, p->tail - p->head);
    if (p->step > 0)
        n = MIN(n, p->step);
    if (n == 0)
        return p->ended ? 0 : -EAGAIN;
    memcpy(data, p->data + p->head, n);
    p->head += n;
    return (ssize_t)n;
}

static void must(int r)
{
    cr_assert_eq(r, 0, "%d: %s", r, why);
}

static void make_host(const char *dir, const char *name, const struct pki_options *options)
{
    must(pki_host(dir, name, NULL, 0, options, why));
}

static void set_up(void)
{
    (void)snprintf(home, sizeof home, "/tmp/whiskfs-tls-XXXXXX");
    (void)snprintf(other, sizeof other, "/tmp/whiskfs-tls-XXXXXX");
    cr_assert(mkdtemp(home) && mkdtemp(other));
    must(pki_init(home, NULL, why));
    must(pki_init(other, NULL, why));
    make_host(home, "h1", NULL);
    make_host(home, "h2", NULL);
    make_host(home, "expired", &(struct pki_options){.from_s = -2 * DAY, .to_s = -DAY});
    make_host(home, "early", &(struct pki_options){.from_s = DAY, .to_s = 2 * DAY});
    make_host(home, "mute", &(struct pki_options){.usage = "serverAuth"});
    make_host(home, "deaf", &(struct pki_options){.usage = "clientAuth"});
    make_host(other, "h1", NULL);
    make_host(other, "h2", NULL);
}

static void tear_down(void)
{
    tls_link_free(client.link);
    tls_link_free(server.link);
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf %s %s", home, other);
    cr_assert_eq(system(command), 0);
}

TestSuite(tls, .init = set_up, .fini = tear_down, .timeout = 60);

/* The CA of `ca_dir`, the certificate of DIR/NAME. */
static struct tls_context *context_of(const char *ca_dir, const char *dir, const char *name)
{
    char ca[128], cert[128], key[128];
    (void)snprintf(ca, sizeof ca, "%s/ca.pem", ca_dir);
    (void)snprintf(cert, sizeof cert, "%s/%s.pem", dir, name);
    (void)snprintf(key, sizeof key, "%s/%s.key", dir, name);
    struct tls_context *context = NULL;
    must(tls_context_new(&(struct tls_files){.ca = ca, .cert = cert, .key = key}, why, &context));
    return context;
}

static struct tls_context *own(const char *name)
{
    return context_of(home, home, name);
}

static void join(struct tls_context *from, struct tls_context *to, const char *meant,
                 const struct tls_session *session)
{
    tls_link_free(client.link);
    tls_link_free(server.link);
    memset(pipes, 0, sizeof pipes);
    client = (struct end){.in = &pipes[0], .out = &pipes[1]};
    server = (struct end){.in = &pipes[1], .out = &pipes[0]};
    struct tls_io client_io = {.send = end_send, .receive = end_receive, .ctx = &client};
    struct tls_io server_io = {.send = end_send, .receive = end_receive, .ctx = &server};
    must(tls_client_new(from, meant, session, &client_io, &client.link));
    must(tls_server_new(to, &server_io, &server.link));
}

/* Lets both ends go on until neither can; the client reads too, since a server may refuse it late. */
static void shake(int *ret_client, int *ret_server)
{
    int c = -EAGAIN, s = -EAGAIN;
    for (int i = 0; i < 20000 && (c == -EAGAIN || s == -EAGAIN); i++) {
        if (c == -EAGAIN)
            c = tls_handshake(client.link);
        if (s == -EAGAIN)
            s = tls_handshake(server.link);
        if (s < 0 && s != -EAGAIN)
            pipes[0].ended = true;
        if (c < 0 && c != -EAGAIN)
            pipes[1].ended = true;
    }
    uint8_t byte;
    if (c == 0) {
        ssize_t n = tls_read(client.link, &byte, 1);
        c = n < 0 && n != -EAGAIN ? (int)n : 0;
    }
    *ret_client = c;
    *ret_server = s;
}

static void says(struct end *end, const char *part)
{
    const char *text = tls_why(end->link);
    cr_assert(strstr(text, part), "%s says '%s', not '%s'", end == &client ? "client" : "server",
              text, part);
}

static void refused(struct tls_context *from, struct tls_context *to, const char *meant,
                    const char *client_says, const char *server_says)
{
    int c, s;
    join(from, to, meant, NULL);
    shake(&c, &s);
    cr_assert_eq(c, -EACCES, "client got %d, %s", c, tls_why(client.link));
    cr_assert_eq(s, -EACCES, "server got %d, %s", s, tls_why(server.link));
    says(&client, client_says);
    says(&server, server_says);
    tls_context_free(from);
    tls_context_free(to);
}

static void shake_well(void)
{
    int c, s;
    shake(&c, &s);
    cr_assert_eq(c, 0, "%s", tls_why(client.link));
    cr_assert_eq(s, 0, "%s", tls_why(server.link));
}

/* ---- who is let in ---- */

Test(tls, both_good)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    cr_assert_str_eq(tls_context_name(h1), "h1");
    cr_assert_gt(tls_context_valid_s(h1), 800 * DAY);
    join(h1, h2, "h2", NULL);
    cr_assert_str_eq(tls_peer_name(server.link), "");
    shake_well();
    cr_assert_str_eq(tls_peer_name(client.link), "h2");
    cr_assert_str_eq(tls_peer_name(server.link), "h1");
    cr_assert_str_eq(tls_why(client.link), "");
    tls_context_free(h1);
    tls_context_free(h2);
}

Test(tls, server_expired)
{
    refused(own("h1"), own("expired"), "expired",
            "the certificate of 'expired' has expired: it ended 20",
            "refused this host's certificate, which has expired");
}

Test(tls, client_expired)
{
    refused(own("expired"), own("h2"), "h2", "refused this host's certificate, which has expired",
            "the certificate of 'expired' has expired: it ended 20");
}

Test(tls, client_not_yet_valid)
{
    refused(own("early"), own("h2"), "h2", "not valid yet", "'early' is not valid before 20");
}

Test(tls, server_of_a_foreign_ca)
{
    refused(own("h1"), context_of(home, other, "h2"), "h2", "signed by a foreign CA",
            "foreign to it");
}

Test(tls, client_of_a_foreign_ca)
{
    refused(context_of(home, other, "h1"), own("h2"), "h2", "foreign to it",
            "the certificate of 'h1' is signed by a foreign CA");
}

Test(tls, wrong_name)
{
    refused(own("h1"), own("h2"), "h3", "names 'h2', not 'h3'", "names another host");
}

Test(tls, client_with_a_servers_key_usage)
{
    refused(own("mute"), own("h2"), "h2", "wrong key usage",
            "wrong key usage: not made to be a client");
}

Test(tls, server_with_a_clients_key_usage)
{
    refused(own("h1"), own("deaf"), "deaf", "wrong key usage: not made to be a server",
            "wrong key usage");
}

/* A certificate with two DNS names names nobody. */
Test(tls, a_certificate_names_one_host)
{
    char ca[128];
    (void)snprintf(ca, sizeof ca, "%s/ca.pem", home);
    char key[128];
    (void)snprintf(key, sizeof key, "%s/ca.key", home);
    struct tls_context *context = NULL;
    cr_assert_eq(
        tls_context_new(&(struct tls_files){.ca = ca, .cert = ca, .key = key}, why, &context),
        -EINVAL);
    cr_assert(strstr(why, "exactly one host"), "%s", why);
}

/* ---- peers that are not ours: plain OpenSSL at the other end of the pipes ---- */

struct stranger {
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
};

static void stranger_new(struct stranger *x, bool is_client)
{
    x->context = SSL_CTX_new(is_client ? TLS_client_method() : TLS_server_method());
    x->in = BIO_new(BIO_s_mem());
    x->out = BIO_new(BIO_s_mem());
}

static void stranger_start(struct stranger *x, bool is_client)
{
    x->ssl = SSL_new(x->context);
    SSL_set_bio(x->ssl, x->in, x->out);
    if (is_client)
        SSL_set_connect_state(x->ssl);
    else
        SSL_set_accept_state(x->ssl);
}

static void carry(struct stranger *x, struct end *end)
{
    uint8_t buffer[4096];
    int n;
    while ((n = BIO_read(x->out, buffer, sizeof buffer)) > 0)
        (void)end_send(&(struct end){.out = end->in}, buffer, (size_t)n);
    while ((n = (int)end_receive(&(struct end){.in = end->out}, buffer, sizeof buffer)) > 0)
        (void)BIO_write(x->in, buffer, n);
}

/* Our end's result against a stranger. */
static int shake_stranger(struct stranger *x, struct end *end)
{
    int r = -EAGAIN;
    for (int i = 0; i < 50 && r == -EAGAIN; i++) {
        (void)SSL_do_handshake(x->ssl);
        carry(x, end);
        r = tls_handshake(end->link);
        carry(x, end);
    }
    return r;
}

static void stranger_done(struct stranger *x)
{
    SSL_free(x->ssl);
    SSL_CTX_free(x->context);
}

Test(tls, client_without_a_certificate)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    struct stranger x;
    stranger_new(&x, true);
    stranger_start(&x, true);
    cr_assert_eq(shake_stranger(&x, &server), -EACCES);
    says(&server, "showed no certificate");
    stranger_done(&x);
    tls_context_free(h1);
    tls_context_free(h2);
}

Test(tls, a_client_of_tls_1_2_is_refused)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    struct stranger x;
    stranger_new(&x, true);
    cr_assert_eq(SSL_CTX_set_max_proto_version(x.context, TLS1_2_VERSION), 1);
    stranger_start(&x, true);
    cr_assert_eq(shake_stranger(&x, &server), -EPROTO);
    says(&server, "does not speak TLS 1.3");
    stranger_done(&x);
    tls_context_free(h1);
    tls_context_free(h2);
}

Test(tls, a_server_of_tls_1_2_is_refused)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    struct stranger x;
    stranger_new(&x, false);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/h2.pem", home);
    cr_assert_eq(SSL_CTX_use_certificate_chain_file(x.context, path), 1);
    (void)snprintf(path, sizeof path, "%s/h2.key", home);
    cr_assert_eq(SSL_CTX_use_PrivateKey_file(x.context, path, SSL_FILETYPE_PEM), 1);
    cr_assert_eq(SSL_CTX_set_max_proto_version(x.context, TLS1_2_VERSION), 1);
    stranger_start(&x, false);
    cr_assert_eq(shake_stranger(&x, &client), -EPROTO);
    says(&client, "does not speak TLS 1.3");
    stranger_done(&x);
    tls_context_free(h1);
    tls_context_free(h2);
}

/* Anything that is not TLS ends the link, and cannot make it take more than a few KiB. */
Test(tls, noise)
{
    static const char *const openings[] = {"GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n",
                                           "\x16\x03\x01\x40\x01", "\x17\x03\x03\x00\x05hello",
                                           "\xff\xff\xff\xff\xff\xff\xff\xff"};
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    for (size_t i = 0; i < N_ELEMENTS(openings); i++) {
        join(h1, h2, "h2", NULL);
        size_t size = strlen(openings[i]) + (i == 3);
        (void)end_send(&client, openings[i], size);
        pipes[1].ended = true;
        int r = tls_handshake(server.link);
        cr_assert(r == -EPROTO || r == -EPIPE, "%s: %d %s", openings[i], r, tls_why(server.link));
        cr_assert_neq(tls_why(server.link)[0], '\0');
    }
    tls_context_free(h1);
    tls_context_free(h2);
}

/* A client hello that goes on and on is cut off. */
Test(tls, endless_handshake)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    static uint8_t record[5 + 16384] = {0x16, 3, 1, 0x40, 0, 1, 0x01, 0xff, 0xff};
    int r = -EAGAIN;
    size_t sent = 0;
    while (r == -EAGAIN && sent < (256u << 10)) {
        sent += (size_t)end_send(&client, record, sizeof record);
        r = tls_handshake(server.link);
    }
    cr_assert_eq(r, -EPROTO);
    cr_assert_leq(sent, TLS_HANDSHAKE_BYTES_MAX + 2 * sizeof record);
    tls_context_free(h1);
    tls_context_free(h2);
}

/* ---- bytes ---- */

static uint8_t sent[300000], got[300000];

static void check_bytes(struct end *from, struct end *to, size_t step)
{
    from->out->step = step;
    size_t out = 0, in = 0;
    while (in < sizeof sent) {
        if (out < sizeof sent) {
            ssize_t n = tls_write(from->link, sent + out, sizeof sent - out);
            cr_assert(n > 0 || n == -EAGAIN);
            out += n > 0 ? (size_t)n : 0;
        }
        ssize_t n = tls_read(to->link, got + in, sizeof got - in);
        cr_assert(n > 0 || n == -EAGAIN, "%zd: %s", n, tls_why(to->link));
        in += n > 0 ? (size_t)n : 0;
    }
    cr_assert_arr_eq(sent, got, sizeof sent);
    from->out->step = 0;
}

Test(tls, bytes_both_ways_in_any_pieces)
{
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 31 + i / 251);
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    pipes[0].step = pipes[1].step = 1; /* the handshake too */
    shake_well();
    static const size_t steps[] = {1, 7, 1000, 16384, 100000, 0};
    for (size_t i = 0; i < N_ELEMENTS(steps); i++) {
        check_bytes(&client, &server, steps[i]);
        check_bytes(&server, &client, steps[i]);
    }
    tls_bye(client.link);
    cr_assert_eq(tls_read(server.link, got, 1), 0);
    tls_context_free(h1);
    tls_context_free(h2);
}

/* A flipped bit anywhere ends the link. */
Test(tls, damage)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    shake_well();
    cr_assert_eq(tls_write(client.link, "hello", 5), 5);
    pipes[1].data[pipes[1].head + 7] ^= 4;
    cr_assert_eq(tls_read(server.link, got, sizeof got), -EPROTO);
    cr_assert_neq(tls_why(server.link)[0], '\0');
    tls_context_free(h1);
    tls_context_free(h2);
}

/* The end of the transport without a goodbye is told apart from one with it. */
Test(tls, cut_off)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    join(h1, h2, "h2", NULL);
    shake_well();
    pipes[1].ended = true;
    cr_assert_eq(tls_read(server.link, got, sizeof got), -EPIPE);
    says(&server, "closed the connection");
    tls_context_free(h1);
    tls_context_free(h2);
}

/* ---- resumption ---- */

static struct tls_session *ticket(struct tls_context *h1, struct tls_context *h2)
{
    join(h1, h2, "h2", NULL);
    shake_well();
    struct tls_session *session = tls_take_session(client.link);
    cr_assert_not_null(session);
    return session;
}

Test(tls, resumption_knows_the_names)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    struct tls_session *session = ticket(h1, h2);
    for (int i = 0; i < 2; i++) {
        join(h1, h2, "h2", session);
        shake_well();
        cr_assert(tls_resumed(client.link) && tls_resumed(server.link), "link %d", i);
        cr_assert_str_eq(tls_peer_name(client.link), "h2");
        cr_assert_str_eq(tls_peer_name(server.link), "h1");
    }
    tls_session_free(session);
    tls_context_free(h1);
    tls_context_free(h2);
}

/* A ticket of another host does not help to be that host. */
Test(tls, resumption_checks_the_name)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2");
    struct tls_session *session = ticket(h1, h2);
    join(h1, h2, "h3", session);
    int c, s;
    shake(&c, &s);
    cr_assert_eq(c, -EACCES);
    says(&client, "names 'h2', not 'h3'");
    tls_session_free(session);
    tls_context_free(h1);
    tls_context_free(h2);
}

/* A ticket given under another CA (a server started anew) leads to a full handshake. */
Test(tls, a_foreign_ticket_is_ignored)
{
    struct tls_context *h1 = own("h1"), *h2 = own("h2"), *again = own("h2");
    struct tls_session *session = ticket(h1, h2);
    join(h1, again, "h2", session);
    shake_well();
    cr_assert_not(tls_resumed(client.link));
    tls_session_free(session);
    tls_context_free(h1);
    tls_context_free(h2);
    tls_context_free(again);
}

/* ---- files ---- */

static void bad_files(const char *ca, const char *cert, const char *key, const char *part)
{
    struct tls_context *context = NULL;
    char paths[3][128];
    const char *names[] = {ca, cert, key};
    for (int i = 0; i < 3; i++)
        (void)snprintf(paths[i], sizeof paths[i], "%s/%s", home, names[i]);
    cr_assert_eq(tls_context_new(&(struct tls_files){paths[0], paths[1], paths[2]}, why, &context),
                 -EINVAL);
    cr_assert(strstr(why, part), "'%s' lacks '%s'", why, part);
    cr_assert(strstr(why, home), "names the file: %s", why);
}

Test(tls, bad_files)
{
    bad_files("none.pem", "h1.pem", "h1.key", "cannot use the CA's certificate");
    bad_files("ca.pem", "none.pem", "h1.key", "cannot use the host's certificate");
    bad_files("ca.pem", "h1.pem", "h2.key", "key values mismatch");
    bad_files("ca.pem", "h1.key", "h1.key", "cannot use the host's certificate");
}
