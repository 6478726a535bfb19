#include "fs/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/disk/disk.h"
#include "proto/base/cleanup.h"

#define DEPTH_MAX 16 /* what we make is four deep */
#define COPY_BYTES (1u << 30)
#define BUFFER_BYTES (64u << 10)

int directory_open(int dirfd, const char *name)
{
    return disk_open(dirfd, name, O_RDONLY | O_DIRECTORY);
}

int directory_make(int dirfd, const char *name)
{
    int error = disk_make_dir(dirfd, name);
    return error < 0 && error != -EEXIST ? error : directory_open(dirfd, name);
}

int directory_write_file(int dirfd, const char *name, const void *data, size_t size)
{
    char new_name[64];
    int n = snprintf(new_name, sizeof new_name, "%s.new", name);
    CHECK(n > 0 && (size_t)n < sizeof new_name);
    AUTO_CLOSE int fd = disk_open(dirfd, new_name, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    int error = disk_write(fd, data, size, 0);
    if (error == 0)
        error = disk_sync(fd);
    if (error == 0)
        error = disk_rename(dirfd, new_name, dirfd, name);
    return error < 0 ? error : disk_sync(dirfd);
}

/* Up to end, or to the end of the file: where that is. */
static int64_t copy_range(int from, int to, uint64_t at, uint64_t end, uint8_t *buffer)
{
    while (at < end) {
        int64_t n = disk_read(from, buffer, MIN((uint64_t)BUFFER_BYTES, end - at), at);
        if (n <= 0)
            return n < 0 ? n : (int64_t)at;
        int error = disk_write(to, buffer, (size_t)n, at);
        if (error < 0)
            return error;
        at += (uint64_t)n;
    }
    return (int64_t)at;
}

static int copy_by_buffer(int from, int to)
{
    AUTO_FREE uint8_t *buffer = malloc(BUFFER_BYTES);
    return buffer ? (int)MIN(copy_range(from, to, 0, INT64_MAX, buffer), 0) : -ENOMEM;
}

/* In the kernel where it can, which shares the blocks on some filesystems. */
static int copy_bytes(int from, int to)
{
    for (uint64_t at = 0;;) {
        int64_t n = disk_copy(from, at, to, at, COPY_BYTES);
        if (n == 0)
            return 0;
        if (n < 0)
            return at == 0 && n != -ENOSPC && n != -EIO ? copy_by_buffer(from, to) : (int)n;
        at += (uint64_t)n;
    }
}

int directory_copy_file(int dirfd, const char *name, int fd)
{
    AUTO_CLOSE int to = disk_open(dirfd, name, O_WRONLY | O_CREAT | O_EXCL);
    if (to < 0)
        return to;
    int error = copy_bytes(fd, to);
    if (error == 0)
        error = disk_sync(to);
    if (error < 0)
        (void)!disk_unlink(dirfd, name);
    return error;
}

int directory_copy_data(int from, int to, uint64_t size)
{
    AUTO_FREE uint8_t *buffer = malloc(BUFFER_BYTES);
    int error = buffer ? disk_truncate(to, size) : -ENOMEM;
    for (uint64_t at = 0; error == 0 && at < size;) {
        off_t data = lseek(from, (off_t)at, SEEK_DATA);
        off_t hole = data < 0 ? data : lseek(from, data, SEEK_HOLE);
        if (hole < 0)
            return errno == ENXIO ? 0 : -errno;
        at = MIN((uint64_t)hole, size);
        int64_t end = copy_range(from, to, (uint64_t)data, at, buffer);
        error = end < 0 ? (int)end : (uint64_t)end < at ? -EIO : 0;
    }
    return error;
}

/* ---- removing ---- */

struct removal {
    int dirfd;
    unsigned depth;
};

static int remove_depth(int dirfd, const char *name, unsigned depth);

static int remove_entry(void *ctx, const char *name)
{
    const struct removal *removal = ctx;
    return remove_depth(removal->dirfd, name, removal->depth + 1);
}

static int remove_entries(int dirfd, const char *name, unsigned depth)
{
    AUTO_CLOSE int fd = disk_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    struct removal removal = {.dirfd = fd, .depth = depth};
    return fd < 0 ? fd : disk_list(fd, remove_entry, &removal);
}

static int remove_depth(int dirfd, const char *name, unsigned depth)
{
    int error = disk_unlink(dirfd, name);
    if (error == 0 || error == -ENOENT)
        return 0;
    if (error != -EISDIR && error != -EPERM)
        return error;
    if (depth == DEPTH_MAX)
        return -ELOOP;
    error = remove_entries(dirfd, name, depth);
    if (error == 0)
        error = disk_remove_dir(dirfd, name);
    return error == -ENOENT ? 0 : error;
}

int directory_remove(int dirfd, const char *name)
{
    return remove_depth(dirfd, name, 0);
}
