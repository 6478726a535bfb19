/* tests/lib/hosts.h — hosts in one process: real peers over TLS on loopback, real volumes, real transfers. What fails
 * aborts, so unit and stress tests can both use it. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/pki/pki.h"
#include "daemon/transfer/draw.h"
#include "daemon/transfer/fetch.h"
#include "fs/directory.h"
#include "fs/volume/volume.h"
#include "proto/base/clock.h"

#define HOSTS_MAX 3
#define VOLUME_NAME "assets"

#define REQUIRE(ok)                                                                                \
    ((ok) ? (void)0                                                                                \
          : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #ok), fflush(stderr), abort()))

struct test_host {
    char name[16];
    struct host_id id;
    uint16_t port; /* 0: membership does not know it */
    struct peers *peers;
    struct transfer *transfer;
    struct volume *volume;
    struct source source;
    struct membership membership;
    atomic_int n_finds_refused; /* so many times the volume is "not open" */
};

static char hosts_dir[64];
static struct test_host hosts[HOSTS_MAX];
static uint64_t hosts_serve_rate, hosts_prefetch_rate; /* of those that are started from now on */
static unsigned n_hosts;

static inline const char *hosts_path(const char *a, const char *b)
{
    static _Thread_local char path[4][256];
    static _Thread_local unsigned next;
    char *p = path[next++ % 4];
    (void)snprintf(p, 256, "%s/%s%s", hosts_dir, a, b);
    return p;
}

static inline int64_t hosts_soon(void)
{
    return clock_mono_ns() + 20 * NS_PER_S;
}

/* ---- membership: who is running ---- */

static inline int tell_host(const struct test_host *host, struct member_host *ret_host)
{
    if (host->port == 0)
        return -ENOENT;
    *ret_host = (struct member_host){.id = host->id, .invoker = -1, .alive = true};
    (void)snprintf(ret_host->name, sizeof ret_host->name, "%.15s", host->name);
    (void)snprintf(ret_host->address, sizeof ret_host->address, "127.0.0.1:%u", host->port);
    return 0;
}

static inline int hosts_by_name(struct membership *m, const char *name, struct member_host *ret)
{
    (void)m;
    for (unsigned i = 0; i < n_hosts; i++) {
        if (strcmp(hosts[i].name, name) == 0)
            return tell_host(&hosts[i], ret);
    }
    return -ENOENT;
}

static inline int hosts_by_id(struct membership *m, struct host_id id, struct member_host *ret)
{
    (void)m;
    for (unsigned i = 0; i < n_hosts; i++) {
        if (host_equal(hosts[i].id, id))
            return tell_host(&hosts[i], ret);
    }
    return -ENOENT;
}

static const struct membership_ops hosts_membership = {
    .host_by_name = hosts_by_name,
    .host_by_id = hosts_by_id,
};

/* ---- what a volume and a transfer need of each other ---- */

static inline int hosts_fetch(struct source *source, struct content *content, uint64_t first,
                              uint64_t n, enum fetch_class class, int64_t deadline_ns)
{
    struct test_host *host = container_of(source, struct test_host, source);
    return transfer_fetch(host->transfer, VOLUME_NAME, content, first, n, class, deadline_ns);
}

static inline void hosts_reading(struct source *source, struct content *content, uint64_t first,
                                 uint64_t n)
{
    struct test_host *host = container_of(source, struct test_host, source);
    transfer_reading(host->transfer, VOLUME_NAME, content, first, n);
}

static const struct source_ops hosts_source = {.fetch = hosts_fetch, .reading = hosts_reading};

static inline struct volume *hosts_find(void *ctx, const char *name)
{
    struct test_host *host = ctx;
    if (atomic_load(&host->n_finds_refused) > 0) {
        atomic_fetch_sub(&host->n_finds_refused, 1);
        return NULL;
    }
    return strcmp(name, VOLUME_NAME) == 0 ? host->volume : NULL;
}

static inline void hosts_put(void *ctx, struct volume *volume)
{
    (void)ctx, (void)volume;
}

/* ---- starting and stopping ---- */

static inline void host_start_peers(struct test_host *host)
{
    char ca[256], cert[256], key[256];
    (void)snprintf(ca, sizeof ca, "%s/pki/ca.pem", hosts_dir);
    (void)snprintf(cert, sizeof cert, "%s/pki/%.15s.pem", hosts_dir, host->name);
    (void)snprintf(key, sizeof key, "%s/pki/%.15s.key", hosts_dir, host->name);
    struct peers_options options = {
        .name = host->name,
        .listen = "127.0.0.1:0",
        .ca_file = ca,
        .cert_file = cert,
        .key_file = key,
        .streams = 2,
        .membership = &host->membership,
    };
    REQUIRE(peers_new(&options, &host->peers) == 0);
    struct transfer_options transfer = {
        .peers = host->peers,
        .memory_bytes = 32 << 20,
        .streams = 2,
        .serve_rate = hosts_serve_rate,
        .prefetch_rate = hosts_prefetch_rate,
        .find = hosts_find,
        .put = hosts_put,
        .ctx = host,
    };
    REQUIRE(transfer_new(&transfer, &host->transfer) == 0);
    REQUIRE(peers_start(host->peers) == 0);
    host->port = peers_port(host->peers);
}

static inline void host_stop_peers(struct test_host *host)
{
    transfer_stop(host->transfer);
    peers_stop(host->peers);
    transfer_free(TAKE(host->transfer));
    peers_free(TAKE(host->peers));
    host->port = 0;
}

static inline struct volume_options host_volume_options(struct test_host *host)
{
    return (struct volume_options){
        .directory = hosts_path(host->name, ""),
        .self = host->id,
        .source = &host->source,
        .map_bytes = 64u << 20,
    };
}

static inline void host_open_home(struct test_host *host)
{
    struct volume_options options = host_volume_options(host);
    struct volume_genesis genesis = {.limit_bytes = 8ULL << 30, .mode = 01777};
    options.source = NULL;
    REQUIRE(volume_create(&options, &genesis) == 0);
    REQUIRE(volume_open(&options, &host->volume) == 0);
}

static inline void host_open_replica(struct test_host *host)
{
    uint64_t index;
    AUTO_CLOSE int fd = -1;
    struct volume_options options = host_volume_options(host);
    REQUIRE(volume_checkpoint(hosts[0].volume, true) == 0);
    REQUIRE(volume_checkpoint_open(hosts[0].volume, &fd, &index) == 0);
    REQUIRE(volume_install(&options, fd) == 0);
    REQUIRE(volume_open(&options, &host->volume) == 0);
}

/* n hosts, the first with a volume of its own; the others follow it from when hosts_follow is called. */
static inline void hosts_start(unsigned n)
{
    static const char *const names[HOSTS_MAX] = {"alpha", "beta", "gamma"};
    char why[PKI_WHY_BYTES];
    (void)snprintf(hosts_dir, sizeof hosts_dir, "/tmp/whiskfs-hosts-XXXXXX");
    REQUIRE(mkdtemp(hosts_dir) != NULL);
    REQUIRE(pki_init(hosts_path("pki", ""), NULL, why) == 0);
    n_hosts = n;
    for (unsigned i = 0; i < n; i++) {
        struct test_host *host = &hosts[i];
        *host =
            (struct test_host){.source.ops = &hosts_source, .membership.ops = &hosts_membership};
        (void)snprintf(host->name, sizeof host->name, "%s", names[i]);
        host->id = host_id_of(host->name);
        REQUIRE(pki_host(hosts_path("pki", ""), host->name, NULL, 0, NULL, why) == 0);
        host_start_peers(host);
    }
    host_open_home(&hosts[0]);
}

/* Brings replicas to where the home is. */
static inline void hosts_follow(void)
{
    static _Thread_local uint8_t buffer[LOG_ENTRY_BYTES_MAX];
    for (unsigned i = 1; i < n_hosts; i++) {
        if (!hosts[i].volume)
            host_open_replica(&hosts[i]);
        uint64_t applied = volume_applied(hosts[i].volume);
        while (applied < volume_applied(hosts[0].volume)) {
            size_t used;
            REQUIRE(log_read(volume_log(hosts[0].volume), applied + 1, buffer, sizeof buffer,
                             &used) == 0);
            REQUIRE(volume_follow(hosts[i].volume, (struct span){buffer, used}, &applied) == 0);
        }
    }
}

static inline void hosts_stop(void)
{
    for (unsigned i = 0; i < n_hosts; i++) {
        if (hosts[i].peers)
            host_stop_peers(&hosts[i]);
        volume_free(TAKE(hosts[i].volume));
    }
    REQUIRE(directory_remove(AT_FDCWD, hosts_dir) == 0);
}

/* ---- files ---- */

/* The home decides on behalf of a host. */
static inline struct outcome host_change(struct test_host *host, struct request request)
{
    static atomic_uint_least64_t unique = 2;
    struct outcome outcome;
    request.identity = (struct identity){host->id, 4711, atomic_fetch_add(&unique, 2)};
    struct inode inode;
    if (request.kind == REQUEST_PUBLISH && request.base_version == 0) {
        REQUIRE(tree_get(volume_tree(hosts[0].volume), request.ino, &inode) == 0);
        request.base_version = inode.version;
    }
    int e = volume_execute(hosts[0].volume, &request, &outcome);
    REQUIRE(e == 0 && outcome.error == 0);
    return outcome;
}

/* What byte lies where, by file: 0 noise, 1 text-like, 2 zeros with an island. */
static inline void file_bytes(uint64_t seed, int kind, uint64_t offset, uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t at = offset + i;
        uint64_t v = (seed + at / 8) * 0x9e3779b97f4a7c15ULL;
        v ^= v >> 29;
        v *= 0xbf58476d1ce4e5b9ULL;
        data[i] = kind == 1   ? (uint8_t)("abcdefgh"[at * 7 / 3 % 8])
                  : kind == 2 ? (uint8_t)(at % (1 << 20) == 4096)
                              : (uint8_t)(v >> (at % 8 * 8));
    }
}

static inline struct inode host_inode(struct test_host *host, uint64_t ino)
{
    struct inode inode;
    REQUIRE(tree_get(volume_tree(host->volume), ino, &inode) == 0);
    return inode;
}

static inline struct content *host_content(struct test_host *host, uint64_t ino)
{
    struct inode inode = host_inode(host, ino);
    struct content *content = NULL;
    REQUIRE(content_get(volume_store(host->volume), host->id, &inode, &content) == 0);
    return content;
}

/* A file that the home has written, published and closed. */
static inline uint64_t home_make_file(const char *name, uint64_t seed, int kind, uint64_t size)
{
    uint8_t *data = malloc(BLOCK_BYTES);
    struct outcome made =
        host_change(&hosts[0], (struct request){.kind = REQUEST_MAKE,
                                                .flags = REQUEST_FOR_WRITE,
                                                .parent = ROOT_INO,
                                                .name = {(const uint8_t *)name, strlen(name)},
                                                .mode = S_IFREG | 0644});
    struct content *content = NULL;
    REQUIRE(content_make(volume_store(hosts[0].volume), made.ino, &content) == 0);
    for (uint64_t at = 0; at < size; at += BLOCK_BYTES) {
        size_t n = MIN((uint64_t)BLOCK_BYTES, size - at);
        file_bytes(seed, kind, at, data, n);
        REQUIRE(pwrite(content_fd(content), data, n, (off_t)at) == (ssize_t)n);
    }
    content_put(content);
    free(data);
    (void)host_change(&hosts[0], (struct request){.kind = REQUEST_PUBLISH,
                                                  .flags = REQUEST_LAST_CLOSE,
                                                  .ino = made.ino,
                                                  .size = size,
                                                  .mtime_ns = clock_real_ns()});
    return made.ino;
}

/* Are the bytes [offset, offset + size) of the content those of the file? */
static inline bool content_is(struct content *content, uint64_t seed, int kind, uint64_t offset,
                              uint64_t size)
{
    uint8_t *want = malloc(size), *have = malloc(size);
    file_bytes(seed, kind, offset, want, size);
    bool is_same = pread(content_fd(content), have, size, (off_t)offset) == (ssize_t)size &&
                   memcmp(want, have, size) == 0;
    free(want);
    free(have);
    return is_same;
}
