#include "fs/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/cleanup.h"

#define DEPTH_MAX 16 /* what we make is four deep */
#define COPY_BYTES (1u << 30)
#define BUFFER_BYTES (64u << 10)

int directory_open(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int directory_make(int dirfd, const char *name)
{
    if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    return directory_open(dirfd, name);
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

int directory_write_file(int dirfd, const char *name, const void *data, size_t size)
{
    char new_name[64];
    int n = snprintf(new_name, sizeof new_name, "%s.new", name);
    CHECK(n > 0 && (size_t)n < sizeof new_name);
    AUTO_CLOSE int fd = openat(dirfd, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int error = write_all(fd, data, size);
    if (error < 0)
        return error;
    if (fsync(fd) < 0 || renameat(dirfd, new_name, dirfd, name) < 0 || fsync(dirfd) < 0)
        return -errno;
    return 0;
}

static int copy_by_buffer(int from, int to)
{
    AUTO_FREE uint8_t *buffer = malloc(BUFFER_BYTES);
    if (!buffer)
        return -ENOMEM;
    off_t at = 0;
    for (;;) {
        ssize_t n = pread(from, buffer, BUFFER_BYTES, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        int error = write_all(to, buffer, (size_t)n);
        if (error < 0)
            return error;
        at += n;
    }
}

/* In the kernel where it can, which shares the blocks on some filesystems. */
static int copy_bytes(int from, int to)
{
    loff_t at = 0;
    for (;;) {
        ssize_t n = copy_file_range(from, &at, to, NULL, COPY_BYTES, 0);
        if (n == 0)
            return 0;
        if (n > 0)
            continue;
        return at == 0 && errno != ENOSPC && errno != EIO ? copy_by_buffer(from, to) : -errno;
    }
}

int directory_copy_file(int dirfd, const char *name, int fd)
{
    AUTO_CLOSE int to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    int error = copy_bytes(fd, to);
    if (error == 0 && fsync(to) < 0)
        error = -errno;
    if (error < 0)
        (void)unlinkat(dirfd, name, 0);
    return error;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int remove_depth(int dirfd, const char *name, unsigned depth);

static int remove_entries(int dirfd, const char *name, unsigned depth)
{
    AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    AUTO(close_dir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return -errno;
    int own = TAKE_FD(fd);
    for (const struct dirent *entry; ((void)(errno = 0), entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int error = remove_depth(own, entry->d_name, depth + 1);
        if (error < 0)
            return error;
    }
    return -errno;
}

static int remove_depth(int dirfd, const char *name, unsigned depth)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (depth == DEPTH_MAX)
        return -ELOOP;
    int error = remove_entries(dirfd, name, depth);
    if (error < 0)
        return error;
    return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int directory_remove(int dirfd, const char *name)
{
    return remove_depth(dirfd, name, 0);
}
