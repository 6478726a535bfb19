/* What must be true of a volume after a power cut. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/disk/disk.h"
#include "fs/fsck/fsck.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "tests/crash/record.h"
#include "tests/crash/work.h"
#include "tests/lib/pattern_source.h"

#define FSCK_EVERY 8 /* it makes the state again, which takes its time */

struct checking {
    const struct work *work;
    unsigned n_ops;
    const char *directory;
    struct volume *volume;
    struct inode inodes[256];
    unsigned n_inodes;
    char wrong[256]; /* empty: nothing yet */
};

static bool say(struct checking *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool say(struct checking *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (c->wrong[0] == '\0')
        (void)vsnprintf(c->wrong, sizeof c->wrong, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- metadata ---- */

static bool check_tree(struct checking *c)
{
    uint64_t applied = volume_applied(c->volume), durable = 0;
    for (uint64_t i = 1; i < c->work->n_dumps; i++)
        if (c->work->durable_at[i] != 0 && c->work->durable_at[i] <= c->n_ops)
            durable = i;
    if (applied < durable)
        return say(c, "entry %" PRIu64 " was durable, the log ends at %" PRIu64, durable, applied);
    if (applied >= c->work->n_dumps)
        return say(c, "entry %" PRIu64 " was never made", applied);
    if (c->work->dumps[applied] != 0 && c->work->dumps[applied] != tree_dump(c->volume))
        return say(c, "the tree is not as it was after entry %" PRIu64, applied);
    return true;
}

static bool collect(void *ctx, const struct inode *inode)
{
    struct checking *c = ctx;
    if (S_ISREG(inode->mode) && c->n_inodes < N_ELEMENTS(c->inodes))
        c->inodes[c->n_inodes++] = *inode;
    return true;
}

/* ---- content of this host's own files ---- */

static const struct work_file *find_file(const struct work *work, uint64_t ino, uint64_t era)
{
    for (unsigned i = 0; i < work->n_files; i++)
        if (work->files[i].ino == ino && work->files[i].era == era)
            return &work->files[i];
    return NULL;
}

/* The snaps that may be there: from the last that was durable to the one that was being made. */
static void find_range(const struct work_file *file, unsigned n_ops, unsigned *ret_first,
                       unsigned *ret_end)
{
    *ret_first = 0;
    for (unsigned i = 0; i < file->n_synced; i++)
        if (file->synced_at[i] <= n_ops)
            *ret_first = file->synced_snap[i];
    *ret_end = *ret_first + 1;
    while (*ret_end < file->n_snaps && file->snaps[*ret_end - 1].position <= n_ops)
        (*ret_end)++;
}

static bool is_as(const struct snap *s, const uint8_t *data, uint64_t from, uint64_t to)
{
    uint64_t at = from;
    while (at < to && data[at] == (at < s->size ? s->data[at] : 0))
        at++;
    while (at < to && data[at] == 0) /* it was cut there once */
        at++;
    return at == to;
}

static bool check_bytes(struct checking *c, const struct work_file *file, const uint8_t *data,
                        uint64_t size)
{
    unsigned first, end, i;
    find_range(file, c->n_ops, &first, &end);
    uint64_t least = UINT64_MAX, most = 0;
    for (i = first; i < end; i++) {
        least = MIN(least, file->snaps[i].size);
        most = MAX(most, file->snaps[i].size);
    }
    if (size < least || size > most)
        return say(c, "inode %" PRIu64 " has size %" PRIu64 ", durable was %" PRIu64, file->ino,
                   size, file->snaps[first].size);
    for (uint64_t at = 0; at < size; at += SECTOR_BYTES) {
        uint64_t to = MIN(size, at + SECTOR_BYTES);
        for (i = first; i < end && !is_as(&file->snaps[i], data, at, to); i++)
            continue;
        if (i == end)
            return say(c,
                       "inode %" PRIu64 " era %" PRIu64 " has wrong bytes at %" PRIu64
                       " of %" PRIu64 " (snaps %u to %u)",
                       file->ino, file->era, at, size, first, end);
    }
    return true;
}

static bool check_own(struct checking *c, const struct inode *inode, uint64_t era,
                      struct content *content)
{
    uint64_t size = content_size(content);
    const struct work_file *file = find_file(c->work, inode->ino, era);
    if (!file)
        return say(c, "inode %" PRIu64 " was never written from version %" PRIu64, inode->ino, era);
    if (size != inode->size)
        return say(c, "inode %" PRIu64 " has %" PRIu64 " bytes, the tree says %" PRIu64, inode->ino,
                   size, inode->size);
    int e = content_need(content, 0, size, FETCH_DEMAND, clock_mono_ns() + NS_PER_S);
    if (e < 0)
        return say(c, "inode %" PRIu64 " lacks blocks: %s", inode->ino, strerror(-e));
    uint8_t *data = malloc(size + 1);
    CHECK(disk_read(content_fd(content), data, size, 0) == (int64_t)size);
    bool is_right = content_size(content) == size
                        ? check_bytes(c, file, data, size)
                        : say(c, "inode %" PRIu64 " grew as it was read", inode->ino);
    free(data);
    return is_right;
}

/* ---- seals ---- */

static void see_bad_block(void *ctx, uint64_t block)
{
    (void)say(ctx, "block %" PRIu64 " is not as a seal says that outlived the power cut", block);
}

/* Before anything is written again. */
static bool check_seal(void *ctx, const struct inode *inode)
{
    struct checking *c = ctx;
    struct seal seal;
    char path[160];
    int e = store_find_seal(volume_store(c->volume), inode->ino, inode->version, &seal);
    if (e < 0)
        return e == -ENOENT || say(c, "the seal of inode %" PRIu64 " is damaged", inode->ino);
    (void)snprintf(path, sizeof path, "%s/content/own/%016" PRIx64, c->directory, inode->ino);
    AUTO_CLOSE int fd = seal_open_data(AT_FDCWD, path);
    e = fd < 0 ? fd : seal_check(&seal, fd, NULL, see_bad_block, c);
    seal_close(&seal);
    return e == 0 || say(c, "the seal of inode %" PRIu64 ": %s", inode->ino, strerror(-e));
}

/* ---- content that was drawn ---- */

static bool check_drawn(struct checking *c, const struct inode *inode, struct content *content)
{
    static uint8_t is[BLOCK_BYTES], wanted[BLOCK_BYTES];
    for (uint64_t b = 0; b < block_count(inode->size); b++) {
        if (!content_has(content, b, 1))
            continue;
        size_t n = pattern_block(inode->ino, inode->version, inode->size, b, wanted);
        if (disk_read(content_fd(content), is, n, b * BLOCK_BYTES) != (int64_t)n ||
            memcmp(is, wanted, n) != 0)
            return say(
                c, "block %" PRIu64 " of the drawn copy of inode %" PRIu64 " is present and wrong",
                b, inode->ino);
    }
    return true;
}

/* before: as it was when the log ended; what the recovery then publishes has index numbers that the run had used. */
static bool check_content(struct checking *c, const struct inode *before)
{
    struct inode now, *inode = &now;
    int e = tree_get(volume_tree(c->volume), before->ino, inode);
    if (e == -ENOENT)
        return true; /* unlinked, and held open */
    struct content *content = NULL;
    bool is_own = host_equal(inode->keeper, SELF);
    if (host_equal(inode->keeper, NO_HOST))
        return inode->size == 0 ||
               say(c, "inode %" PRIu64 " has a size and no content", inode->ino);
    e = content_get(volume_store(c->volume), SELF, inode, &content);
    if (e < 0)
        return say(c, "inode %" PRIu64 " has no content: %s", inode->ino, strerror(-e));
    bool is_right = is_own ? check_own(c, inode, work_era(c->work, before), content)
                           : check_drawn(c, inode, content);
    content_put(content);
    return is_right;
}

/* ---- all of it ---- */

static bool check_all(struct checking *c)
{
    if (!check_tree(c))
        return false;
    CHECK(tree_each(volume_tree(c->volume), 0, collect, c) == 0);
    CHECK(tree_each(volume_tree(c->volume), 0, check_seal, c) == 0);
    int e = volume_resume(c->volume);
    if (e < 0)
        return say(c, "cannot resume: %s", strerror(-e));
    for (unsigned i = 0; i < c->n_inodes; i++)
        if (!check_content(c, &c->inodes[i]))
            return false;
    return true;
}

static void say_found(void *ctx, const char *sentence)
{
    (void)say(ctx, "fsck: %s", sentence);
}

static void check_by_fsck(struct checking *c, const char *directory)
{
    struct fsck_result result;
    int e = fsck_volume(
        &(struct fsck_options){.directory = directory, .self = SELF, .say = say_found, .ctx = c},
        &result);
    if (e < 0)
        (void)say(c, "fsck: %s", strerror(-e));
}

const char *check_recovery(const struct work *work, unsigned n_ops, const char *directory)
{
    static struct checking c;
    struct volume_options options = {
        .directory = directory, .self = SELF, .source = &work_source, .map_bytes = 32u << 20};
    c = (struct checking){.work = work, .n_ops = n_ops, .directory = directory};
    work_use(work);
    int e = volume_open(&options, &c.volume);
    /* Before the first sync of its making nothing has been promised. */
    if (e == -ENOENT && work->durable_at[1] > n_ops)
        return NULL;
    if (e < 0)
        (void)say(&c, "cannot open: %s", strerror(-e));
    else
        (void)check_all(&c);
    volume_free(c.volume);
    if (e == 0 && n_ops % FSCK_EVERY == 0)
        check_by_fsck(&c, directory);
    return c.wrong[0] != '\0' ? c.wrong : NULL;
}
