/* bench/pump.c — the raw TLS pump: how fast bytes go from one process to a file of another over TLS 1.3 when nothing
 * else is done. What it leaves out (checksums, blocks, metadata, FUSE) is what whiskfs is measured against.
 *
 *     pump [--bytes N] [--streams 1,2,4] [--dir DIR] [--json]         both ends, over loopback
 *     pump serve [--listen ADDRESS] [--port N]                         one end: sends what is asked for, until killed
 *     pump draw --connect ADDRESS [--port N] [--bytes N] [--streams …] [--dir DIR] [--json]
 *
 * Each stream is a connection with a thread at both ends; the receiver writes to a file in DIR. Result: the best.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

#define BATCH_BYTES (1u << 20)
#define STREAMS_MAX 16
#define CIPHERS "TLS_AES_128_GCM_SHA256"

struct options {
    const char *listen, *connect, *dir;
    uint16_t port;
    uint64_t bytes;
    int streams[STREAMS_MAX], n_streams;
    bool is_json;
};

__attribute__((noreturn)) static void fail(const char *what)
{
    fprintf(stderr, "pump: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void need(bool ok, const char *what)
{
    if (!ok)
        fail(what);
}

/* ---- TLS ---- */

static SSL_CTX *server_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    need(context && key && certificate, "TLS");
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    need(X509_set_pubkey(certificate, key) == 1 && X509_sign(certificate, key, EVP_sha256()) > 0 &&
             SSL_CTX_use_certificate(context, certificate) == 1 &&
             SSL_CTX_use_PrivateKey(context, key) == 1 &&
             SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
             SSL_CTX_set_ciphersuites(context, CIPHERS) == 1,
         "TLS");
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

static SSL_CTX *client_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    need(context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
             SSL_CTX_set_ciphersuites(context, CIPHERS) == 1,
         "TLS");
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

static SSL *session_on(SSL_CTX *context, int fd)
{
    int on = 1;
    SSL *ssl = SSL_new(context);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    need(ssl && SSL_set_fd(ssl, fd) == 1, "TLS session");
    return ssl;
}

/* ---- the sender ---- */

struct served {
    SSL_CTX *context;
    const uint8_t *batch;
    int fd;
};

/* The client says how many bytes it wants. */
static void *serve_stream(void *arg)
{
    struct served *served = arg;
    uint64_t left = 0;
    SSL *ssl = session_on(served->context, served->fd);
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, &left, sizeof left) == (int)sizeof left) {
        while (left > 0) {
            int n = SSL_write(ssl, served->batch, (int)MIN(left, (uint64_t)BATCH_BYTES));
            if (n <= 0)
                break;
            left -= (uint64_t)n;
        }
        (void)SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    (void)close(served->fd);
    free(served);
    return NULL;
}

static int listen_on(const char *address, uint16_t port, uint16_t *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof at;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(fd >= 0 && inet_pton(AF_INET, address, &at.sin_addr) == 1, "address");
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    need(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, STREAMS_MAX) == 0 &&
             getsockname(fd, (struct sockaddr *)&at, &size) == 0,
         "listen");
    *ret_port = ntohs(at.sin_port);
    return fd;
}

__attribute__((noreturn)) static void serve(int listener)
{
    static uint8_t batch[BATCH_BYTES];
    SSL_CTX *context = server_context();
    need(RAND_bytes(batch, sizeof batch) == 1, "random bytes");
    for (;;) {
        pthread_t thread;
        struct served *served = malloc(sizeof *served);
        need(served != NULL, "memory");
        *served = (struct served){.context = context, .batch = batch};
        served->fd = accept(listener, NULL, NULL);
        need(served->fd >= 0, "accept");
        need(pthread_create(&thread, NULL, serve_stream, served) == 0, "thread");
        (void)pthread_detach(thread); /* until the process is killed */
    }
}

/* ---- the receiver ---- */

struct drawn {
    const struct options *options;
    SSL_CTX *context;
    int file;
    uint64_t offset, bytes;
    pthread_t thread;
};

static void receive(SSL *ssl, struct drawn *drawn)
{
    uint8_t *batch = malloc(BATCH_BYTES);
    need(batch != NULL, "memory");
    for (uint64_t done = 0; done < drawn->bytes;) {
        size_t have = 0, want = (size_t)MIN(drawn->bytes - done, (uint64_t)BATCH_BYTES);
        while (have < want) {
            int n = SSL_read(ssl, batch + have, (int)(want - have));
            need(n > 0, "receive");
            have += (size_t)n;
        }
        need(pwrite(drawn->file, batch, want, (off_t)(drawn->offset + done)) == (ssize_t)want,
             "write");
        done += want;
    }
    free(batch);
}

static void *draw_stream(void *arg)
{
    struct drawn *drawn = arg;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(drawn->options->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(fd >= 0 && inet_pton(AF_INET, drawn->options->connect, &to.sin_addr) == 1, "address");
    need(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    SSL *ssl = session_on(drawn->context, fd);
    need(SSL_connect(ssl) == 1, "handshake");
    need(SSL_write(ssl, &drawn->bytes, sizeof drawn->bytes) == (int)sizeof drawn->bytes, "ask");
    receive(ssl, drawn);
    SSL_free(ssl);
    (void)close(fd);
    return NULL;
}

/* Of this process so far. */
static double cpu_seconds(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Bytes a second. */
static double draw(const struct options *options, SSL_CTX *context, int n_streams)
{
    char path[4096];
    struct drawn drawn[STREAMS_MAX];
    (void)snprintf(path, sizeof path, "%s/pump-XXXXXX", options->dir);
    int file = mkstemp(path);
    need(file >= 0, path);
    (void)unlink(path);
    need(ftruncate(file, (off_t)options->bytes) == 0, path);
    uint64_t share = options->bytes / (uint64_t)n_streams, given = 0;
    int64_t started_ns = clock_mono_ns();
    for (int i = 0; i < n_streams; i++) {
        uint64_t bytes = i == n_streams - 1 ? options->bytes - given : share;
        drawn[i] = (struct drawn){.options = options, .context = context, .file = file};
        drawn[i].offset = given;
        drawn[i].bytes = bytes;
        given += bytes;
        need(pthread_create(&drawn[i].thread, NULL, draw_stream, &drawn[i]) == 0, "thread");
    }
    for (int i = 0; i < n_streams; i++)
        (void)pthread_join(drawn[i].thread, NULL);
    double seconds = (double)(clock_mono_ns() - started_ns) / (double)NS_PER_S;
    (void)close(file);
    return (double)options->bytes / seconds;
}

static void draw_all(const struct options *options)
{
    SSL_CTX *context = client_context();
    double best = 0;
    if (options->is_json)
        printf("{\"bytes\": %" PRIu64 ", \"streams\": [", options->bytes);
    for (int i = 0; i < options->n_streams; i++) {
        double cpu = cpu_seconds();
        double rate = draw(options, context, options->streams[i]);
        cpu = cpu_seconds() - cpu;
        best = MAX(best, rate);
        if (options->is_json)
            printf("%s{\"n\": %d, \"bytes_per_s\": %.0f, \"cpu_s\": %.2f}", i > 0 ? ", " : "",
                   options->streams[i], rate, cpu);
        else
            printf("%d streams: %.0f MB/s\n", options->streams[i], rate / 1e6);
        (void)fflush(stdout);
    }
    if (options->is_json)
        printf("], \"best_bytes_per_s\": %.0f}\n", best);
    else
        printf("best: %.0f MB/s\n", best / 1e6);
    SSL_CTX_free(context);
}

/* ---- the command ---- */

__attribute__((noreturn)) static void usage(void)
{
    fprintf(
        stderr,
        "usage: pump [serve | draw --connect ADDRESS] [--listen ADDRESS] [--port N] [--bytes N]\n"
        "            [--streams 1,2,4] [--dir DIR] [--json]\n");
    exit(2);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || end == text || (*end && *end != ',') || v == 0 || v > most)
        usage();
    return v;
}

static void take_streams(struct options *options, const char *text)
{
    options->n_streams = 0;
    while (text && options->n_streams < STREAMS_MAX) {
        options->streams[options->n_streams++] = (int)number(text, STREAMS_MAX);
        text = strchr(text, ',');
        if (text)
            text++;
    }
}

static void take_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"listen", required_argument, NULL, 'l'},  {"connect", required_argument, NULL, 'c'},
        {"port", required_argument, NULL, 'p'},    {"bytes", required_argument, NULL, 'b'},
        {"streams", required_argument, NULL, 's'}, {"dir", required_argument, NULL, 'd'},
        {"json", no_argument, NULL, 'j'},          {0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'l':
            options->listen = optarg;
            break;
        case 'c':
            options->connect = optarg;
            break;
        case 'p':
            options->port = (uint16_t)number(optarg, UINT16_MAX);
            break;
        case 'b':
            options->bytes = number(optarg, 1ULL << 40);
            break;
        case 's':
            take_streams(options, optarg);
            break;
        case 'd':
            options->dir = optarg;
            break;
        case 'j':
            options->is_json = true;
            break;
        default:
            usage();
        }
    }
}

static void both_ends(struct options *options)
{
    int listener = listen_on("127.0.0.1", 0, &options->port);
    pid_t parent = getpid(), sender = fork();
    need(sender >= 0, "fork");
    if (sender == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            serve(listener);
        _exit(1);
    }
    (void)close(listener);
    options->connect = "127.0.0.1";
    draw_all(options);
    (void)kill(sender, SIGKILL);
    (void)waitpid(sender, NULL, 0);
}

int main(int argc, char **argv)
{
    struct options options = {.listen = "0.0.0.0",
                              .dir = ".",
                              .port = 7799,
                              .bytes = 1ULL << 30,
                              .streams = {1, 2, 4},
                              .n_streams = 3};
    const char *what = argc > 1 && argv[1][0] != '-' ? argv[1] : "";
    (void)signal(SIGPIPE, SIG_IGN);
    take_options(*what ? argc - 1 : argc, *what ? argv + 1 : argv, &options);
    if (strcmp(what, "serve") == 0)
        serve(listen_on(options.listen, options.port, &options.port));
    if (strcmp(what, "draw") == 0 && options.connect)
        draw_all(&options);
    else if (!*what)
        both_ends(&options);
    else
        usage();
    return 0;
}
