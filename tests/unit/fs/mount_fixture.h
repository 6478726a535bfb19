/* tests/unit/fs/mount_fixture.h — volumes that are really mounted, in a mount namespace of the test's own.
 *
 * One host, or two in one process: the home and a replica whose source calls the home directly. What the home logs
 * is followed by the replica when a change is settled or forwarded, as over a network that takes no time; fetches copy
 * blocks from the home's store. A gate holds fetches back where a test wants to see a file that is not complete.
 */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/fuse/session.h"
#include "proto/base/clock.h"

#define MIB (1024 * 1024)

struct host {
    struct source source;
    struct host *peer;
    struct host_id self;
    char state[128], mount[128];
    struct volume *volume;
    struct session *session;
};

static struct host hosts[2]; /* 0: the home */
static char fixture_dir[64] = "/tmp/whiskfs-mount-XXXXXX";
static pthread_mutex_t follow_lock = PTHREAD_MUTEX_INITIALIZER;
static const char
    *backing_type;      /* a filesystem of this type holds the volumes; NULL: that of /tmp */
static bool with_image; /* content lies in an image, so writes are passed through */
static _Atomic unsigned n_fetches;
static _Atomic int fetch_error;
static _Atomic unsigned n_unheard;
static _Atomic bool is_home_silent;   /* requests of the replica are not carried */
static _Atomic bool are_answers_lost; /* they are, but nobody hears of it */

/* ---- one host's files ---- */

__attribute__((unused)) static const char *path_on(const struct host *host, const char *name)
{
    static _Thread_local char path[4][256];
    static _Thread_local unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", host->mount, name);
    return p;
}

__attribute__((unused)) static void put_file(const struct host *host, const char *name,
                                             const void *data, size_t size)
{
    int fd = open(path_on(host, name), O_CREAT | O_TRUNC | O_WRONLY, 0644);
    cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
    for (size_t used = 0; used < size;) {
        ssize_t n = write(fd, (const char *)data + used, size - used);
        cr_assert(n > 0, "%s: %s", name, strerror(errno));
        used += (size_t)n;
    }
    cr_assert_eq(close(fd), 0);
}

__attribute__((unused)) static size_t read_fd(int fd, void *data, size_t size)
{
    size_t used = 0;
    ssize_t n;
    while (used < size && (n = pread(fd, (char *)data + used, size - used, (off_t)used)) > 0)
        used += (size_t)n;
    return used;
}

__attribute__((unused)) static size_t get_file(const struct host *host, const char *name,
                                               void *data, size_t size)
{
    int fd = open(path_on(host, name), O_RDONLY);
    cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
    size_t used = read_fd(fd, data, size);
    cr_assert_eq(close(fd), 0);
    return used;
}

__attribute__((unused)) static char *pattern(size_t size, unsigned seed)
{
    char *data = malloc(size);
    cr_assert_not_null(data);
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245u + 12345u;
        data[i] = (char)(seed >> 16);
    }
    return data;
}

/* ---- the source between the two ---- */

/* The replica follows what the home has logged. */
static int follow(void)
{
    struct volume *home = hosts[0].volume, *replica = hosts[1].volume;
    static uint8_t buffer[4 * LOG_SEGMENT_BYTES / 16];
    size_t used;
    uint64_t applied;
    int r = 0;

    pthread_mutex_lock(&follow_lock);
    while (replica && volume_applied(replica) < log_last(volume_log(home)) && r == 0) {
        r = log_read(volume_log(home), volume_applied(replica) + 1, buffer, sizeof buffer, &used);
        if (r == 0)
            r = volume_follow(replica, (struct span){.data = buffer, .size = used}, &applied);
    }
    pthread_mutex_unlock(&follow_lock);
    return r;
}

static int source_forward(struct source *source UNUSED, const struct request *request,
                          int64_t deadline_ns UNUSED, struct outcome *ret_outcome)
{
    struct outcome outcome;
    if (is_home_silent) {
        n_unheard++;
        return -EIO;
    }
    int r = volume_execute(hosts[0].volume, request, &outcome);
    int followed = follow();
    if (are_answers_lost)
        return -EIO;
    *ret_outcome = outcome;
    return r < 0 ? r : followed;
}

static void source_appended(struct source *source UNUSED, const struct log_entry *entry UNUSED)
{
}

static int source_settle(struct source *source UNUSED, uint64_t index UNUSED,
                         int64_t deadline_ns UNUSED)
{
    return follow();
}

static int source_admit(struct source *source UNUSED, int64_t *ret_valid_ns)
{
    *ret_valid_ns = 2 * NS_PER_S;
    return 0;
}

static int copy_block(struct content *from, struct content *to, uint64_t block)
{
    static _Thread_local char data[BLOCK_BYTES];
    ssize_t n = pread(content_fd(from), data, sizeof data, (off_t)(block * BLOCK_BYTES));
    return n > 0 ? content_fill(to, block, data, (size_t)n) : -EIO;
}

/* From the other host's store, as its tree knows the file. */
static int source_fetch(struct source *source, struct content *content, uint64_t first, uint64_t n,
                        enum fetch_class class UNUSED, int64_t deadline_ns UNUSED)
{
    struct host *peer = container_of(source, struct host, source)->peer;
    struct content *from;
    struct inode inode;

    if (fetch_error)
        return fetch_error;
    n_fetches++;
    int r = tree_get(volume_tree(peer->volume), content_ino(content), &inode);
    if (r == 0)
        r = content_find(volume_store(peer->volume), peer->self, &inode, content_version(content),
                         &from);
    if (r < 0)
        return r;
    for (uint64_t b = first; r == 0 && b < first + n; b++)
        r = copy_block(from, content, b);
    content_put(from);
    return r;
}

static const struct source_ops pair_source = {.forward = source_forward,
                                              .appended = source_appended,
                                              .settle = source_settle,
                                              .admit = source_admit,
                                              .fetch = source_fetch};

/* ---- setting up ---- */

static void host_mount(struct host *host, bool passthrough)
{
    const struct session_options options = {
        .mountpoint = host->mount, .name = "pair", .passthrough = passthrough};
    cr_assert_eq(session_start(host->volume, &options, &host->session), 0);
}

static void host_open(struct host *host, bool with_source)
{
    const struct volume_options options = {.directory = host->state,
                                           .self = host->self,
                                           .source = with_source ? &host->source : NULL,
                                           .image = with_image};
    cr_assert_eq(volume_open(&options, &host->volume), 0);
}

static void host_init(struct host *host, int number)
{
    char name[16];
    snprintf(name, sizeof name, "host%d", number);
    *host = (struct host){
        .source = {.ops = &pair_source}, .peer = &hosts[1 - number], .self = host_id_of(name)};
    snprintf(host->state, sizeof host->state, "%s/state%d", fixture_dir, number);
    snprintf(host->mount, sizeof host->mount, "%s/mount%d", fixture_dir, number);
    cr_assert_eq(mkdir(host->mount, 0755), 0);
}

/* Mounts are the test's own, and go with it. */
static void fixture_begin(void)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0 || unshare(CLONE_NEWNS) < 0)
        cr_skip("needs root and /dev/fuse");
    cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_not_null(mkdtemp(fixture_dir));
    if (backing_type)
        cr_assert_eq(mount(backing_type, fixture_dir, backing_type, 0, NULL), 0);
}

__attribute__((unused)) static void one_host(uint64_t limit_bytes, bool passthrough)
{
    fixture_begin();
    with_image = passthrough;
    host_init(&hosts[0], 0);
    const struct volume_options options = {.directory = hosts[0].state, .self = hosts[0].self};
    const struct volume_genesis genesis = {.limit_bytes = limit_bytes, .mode = 0755};
    cr_assert_eq(volume_create(&options, &genesis), 0);
    host_open(&hosts[0], false);
    cr_assert_eq(volume_resume(hosts[0].volume), 0);
    host_mount(&hosts[0], passthrough);
}

__attribute__((unused)) static void two_hosts(bool passthrough)
{
    fixture_begin();
    with_image = passthrough;
    host_init(&hosts[0], 0);
    host_init(&hosts[1], 1);
    const struct volume_options options[2] = {{.directory = hosts[0].state, .self = hosts[0].self},
                                              {.directory = hosts[1].state, .self = hosts[1].self}};
    const struct volume_genesis genesis = {.limit_bytes = 10ULL << 30, .mode = 0755};
    cr_assert_eq(volume_create(&options[0], &genesis), 0);
    cr_assert_eq(volume_install(&options[1], -1), 0);
    host_open(&hosts[0], true);
    host_open(&hosts[1], true);
    cr_assert_eq(follow(), 0);
    cr_assert_eq(volume_resume(hosts[0].volume), 0);
    cr_assert_eq(volume_resume(hosts[1].volume), 0);
    host_mount(&hosts[0], passthrough);
    host_mount(&hosts[1], passthrough);
}

__attribute__((unused)) static void fixture_end(void)
{
    for (int i = 1; i >= 0; i--) {
        if (hosts[i].session)
            session_stop(hosts[i].session);
        hosts[i].session = NULL;
    }
    for (int i = 1; i >= 0; i--) {
        volume_free(hosts[i].volume);
        hosts[i].volume = NULL;
    }
    if (backing_type)
        cr_assert_eq(umount2(fixture_dir, MNT_DETACH), 0);
    if (fixture_dir[0])
        cr_assert_eq(directory_remove(AT_FDCWD, fixture_dir), 0);
}
