/* fs/store/cache.c — what is only cache: looked at, and taken away a copy at a time.
 *
 * A copy goes whole, its data before its map, so no crash leaves a map that promises bytes which are gone. Whoever
 * wants the file again makes a new, empty copy and fetches.
 */
#include <errno.h>
#include <fcntl.h>

#include "fs/disk/disk.h"
#include "fs/store/private.h"

static void tell_cached(struct store *store, const struct copy *copy, store_cached_f *each,
                        void *ctx) REQUIRES(store->lock)
{
    struct store_cached cached = {
        .ino = copy->file->ino, .version = copy->version, .used_ns = copy->used_ns};
    if (!copy->is_own && !copy->open &&
        copy_occupied(store, cached.ino, false, cached.version, &cached.bytes) == 0)
        each(ctx, &cached);
}

void store_each_cached(struct store *store, store_cached_f *each, void *ctx)
{
    SCOPED_LOCK(&store->lock);
    for (struct file *file = store->files; file; file = file->hh.next)
        list_for_each(copy, &file->copies, struct copy, link) tell_cached(store, copy, each, ctx);
}

struct sum {
    int dirfd;
    uint64_t bytes;
};

static int add_file(void *ctx, const char *name)
{
    struct sum *sum = ctx;
    struct stat st;
    AUTO_CLOSE int fd = disk_open(sum->dirfd, name, O_PATH | O_NOFOLLOW);
    if (fd >= 0 && disk_stat(fd, &st) == 0)
        sum->bytes += (uint64_t)st.st_blocks * 512;
    return 0;
}

static int sum_directories(struct store *store, uint64_t *ret_bytes)
{
    struct sum sum = {.dirfd = store->own_dirfd};
    int e = disk_list(sum.dirfd, add_file, &sum);
    sum.dirfd = store->drawn_dirfd;
    if (e == 0)
        e = disk_list(sum.dirfd, add_file, &sum);
    if (e == 0)
        *ret_bytes = sum.bytes;
    return e;
}

int store_occupied(struct store *store, uint64_t *ret_bytes)
{
    return store->image ? image_in_use(store->image, ret_bytes) : sum_directories(store, ret_bytes);
}
