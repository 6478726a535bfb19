/* A volume in a directory of its own, and a source that plays the world above it. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/volume/volume.h"
#include "proto/base/clock.h"

#define HOME ((struct host_id){0xa})
#define OTHER ((struct host_id){0xb})
#define KERNEL_SESSION 77u

static char base[64];

static const char *path_of(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *p = path[next++ % 4];
    (void)snprintf(p, 256, "%s/%s", base, name);
    return p;
}

static void setup(void)
{
    (void)snprintf(base, sizeof base, "/tmp/whiskfs-volume-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
}

static void teardown(void)
{
    cr_assert_eq(directory_remove(AT_FDCWD, base), 0);
}

/* ---- a source that notes what it is told ---- */

struct fake {
    struct source source;
    struct volume *home; /* forward goes there */
    struct volume *volume;
    uint64_t appended[64];
    unsigned n_appended;
    unsigned n_settled;
    uint64_t settled;
    int settle_error;
    bool is_silent; /* forward finds nobody */
};

static struct volume_options options_of(const char *name, struct host_id self, struct fake *fake);

/* What home has and volume lacks. */
static void catch_up(struct volume *home, struct volume *volume)
{
    static _Thread_local uint8_t buffer[LOG_ENTRY_BYTES_MAX];
    uint64_t applied = volume_applied(volume);
    while (applied < volume_applied(home)) {
        size_t used;
        cr_assert_eq(log_read(volume_log(home), applied + 1, buffer, sizeof buffer, &used), 0);
        cr_assert_eq(volume_follow(volume, (struct span){buffer, used}, &applied), 0);
    }
}

static int fake_forward(struct source *source, const struct request *request, int64_t deadline_ns,
                        struct outcome *ret_outcome)
{
    struct fake *fake = container_of(source, struct fake, source);
    if (fake->is_silent)
        return -EIO;
    /* What goes over a wire is the encoding. */
    static _Thread_local uint8_t buffer[REQUEST_BYTES_MAX];
    struct writer w = writer_over(buffer, sizeof buffer);
    put_request(&w, request);
    struct reader r = reader_over(buffer, writer_used(&w));
    struct request decoded;
    cr_assert_eq(get_request(&r, &decoded), 0);
    int error = volume_execute(fake->home, &decoded, ret_outcome);
    cr_assert_eq(error, ret_outcome->error);
    catch_up(fake->home, fake->volume);
    cr_assert(volume_wait_applied(fake->volume, ret_outcome->index, deadline_ns));
    return 0;
}

static void fake_appended(struct source *source, const struct log_entry *entry)
{
    struct fake *fake = container_of(source, struct fake, source);
    if (fake->n_appended < N_ELEMENTS(fake->appended))
        fake->appended[fake->n_appended] = entry->index;
    fake->n_appended++;
}

static int fake_settle(struct source *source, uint64_t index, int64_t deadline_ns)
{
    struct fake *fake = container_of(source, struct fake, source);
    cr_assert_gt(deadline_ns, clock_mono_ns());
    fake->n_settled++;
    fake->settled = index;
    return fake->settle_error;
}

static const struct source_ops fake_ops = {
    .forward = fake_forward,
    .appended = fake_appended,
    .settle = fake_settle,
};

static struct volume_options options_of(const char *name, struct host_id self, struct fake *fake)
{
    if (fake)
        fake->source.ops = &fake_ops;
    return (struct volume_options){
        .directory = path_of(name),
        .self = self,
        .source = fake ? &fake->source : NULL,
        .map_bytes = 256u << 20,
    };
}

/* ---- opening and closing ---- */

static const struct volume_genesis genesis = {
    .limit_bytes = 1 << 30, .mode = 01777, .uid = 5, .gid = 6};

static void create(const char *name)
{
    struct volume_options options = options_of(name, HOME, NULL);
    cr_assert_eq(volume_create(&options, &genesis), 0);
}

static struct volume *open_as(const char *name, struct host_id self, struct fake *fake)
{
    struct volume_options options = options_of(name, self, fake);
    struct volume *volume = NULL;
    int error = volume_open(&options, &volume);
    cr_assert_eq(error, 0, "%s", strerror(-error));
    return volume;
}

UNUSED static struct volume *create_and_open(void)
{
    create("home");
    return open_as("home", HOME, NULL);
}

/* The machine has been restarted without the volume being closed. */
UNUSED static void forget_boot(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s/boot", base, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    static const char text[] = "00000000-0000-0000-0000-000000000000\n";
    cr_assert_eq(write(fd, text, sizeof text - 1), sizeof text - 1);
}

/* ---- changing and looking ---- */

static struct span span_of(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

static struct outcome change(struct volume *volume, struct request request)
{
    struct outcome outcome = {.error = 1};
    int error = volume_change(volume, &request, &outcome);
    cr_assert_eq(error, outcome.error);
    return outcome;
}

static struct request make_request(const char *name, uint32_t mode)
{
    return (struct request){.kind = REQUEST_MAKE,
                            .parent = ROOT_INO,
                            .name = span_of(name),
                            .mode = mode,
                            .uid = 1,
                            .gid = 2};
}

static uint64_t make(struct volume *volume, const char *name)
{
    struct outcome outcome = change(volume, make_request(name, S_IFDIR | 0755));
    cr_assert_eq(outcome.error, 0, "%s: %s", name, strerror(-outcome.error));
    return outcome.ino;
}

UNUSED static bool has(struct volume *volume, const char *name)
{
    struct inode inode;
    int error = tree_lookup(volume_tree(volume), ROOT_INO, span_of(name), &inode);
    cr_assert(error == 0 || error == -ENOENT);
    return error == 0;
}

static struct inode get(struct volume *volume, uint64_t ino)
{
    struct inode inode;
    cr_assert_eq(tree_get(volume_tree(volume), ino, &inode), 0);
    return inode;
}

/* A file that is being written on this host, with these bytes in it. */
UNUSED static uint64_t write_file(struct volume *volume, const char *name, const char *text)
{
    struct request request = make_request(name, S_IFREG | 0644);
    request.flags = REQUEST_FOR_WRITE;
    struct outcome outcome = change(volume, request);
    cr_assert_eq(outcome.error, 0);
    struct content *content = NULL;
    cr_assert_eq(content_make(volume_store(volume), outcome.ino, &content), 0);
    size_t size = strlen(text);
    cr_assert_eq(content_prepare_write(content, 0, size, clock_mono_ns() + NS_PER_S), 0);
    ssize_t written = pwrite(content_fd(content), text, size, 0);
    cr_assert_eq(content_wrote(content, 0, size, written), (ssize_t)size);
    content_put(content);
    return outcome.ino;
}

UNUSED static struct outcome publish(struct volume *volume, uint64_t ino, uint64_t size,
                                     uint32_t flags)
{
    return change(volume, (struct request){.kind = REQUEST_PUBLISH,
                                           .flags = flags,
                                           .ino = ino,
                                           .size = size,
                                           .mtime_ns = 1000,
                                           .base_version = get(volume, ino).version});
}

/* What was removed so far is off the disk. */
UNUSED static void settle_removals(struct volume *volume)
{
    cr_assert(volume_wait_removed(volume, clock_mono_ns() + 10 * NS_PER_S));
}

/* version 0: the host's own file. */
UNUSED static bool file_exists(const char *volume, uint64_t ino, uint64_t version)
{
    char path[256];
    if (version == 0)
        (void)snprintf(path, sizeof path, "%s/%s/content/own/%016lx", base, volume, ino);
    else
        (void)snprintf(path, sizeof path, "%s/%s/content/drawn/%016lx.%016lx", base, volume, ino,
                       version);
    return access(path, F_OK) == 0;
}
