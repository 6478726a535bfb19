/* tests/model/real.c — operations as system calls. */
#include "tests/model/real.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/clock.h"

/* ---- where and as whom ---- */

static void leave_root(struct real *real)
{
    CHECK(fchdir(real->outside) == 0 && chroot(".") == 0);
    real->host = N_HOSTS_MAX;
}

int real_begin(struct real *real, unsigned n_roots)
{
    *real = (struct real){.n_roots = n_roots, .host = N_HOSTS_MAX};
    for (int i = 0; i < N_HOSTS_MAX; i++)
        real->roots[i] = -1;
    for (int i = 0; i < N_FDS; i++)
        real->fds[i] = -1;
    for (int i = 0; i < N_STREAMS; i++)
        real->streams[i].fd = -1;
    if (unshare(CLONE_FS) < 0 || setgroups(0, NULL) < 0)
        return -errno;
    umask(0);
    real->outside = open("/", O_PATH | O_CLOEXEC);
    return real->outside < 0 ? -errno : 0;
}

int real_enter(struct real *real, unsigned host, const char *root)
{
    leave_root(real);
    real->roots[host] = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return real->roots[host] < 0 ? -errno : 0;
}

static void forget_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void forget_map(struct real_map *map)
{
    if (map->address)
        (void)munmap(map->address, map->size);
    *map = (struct real_map){0};
}

static void forget_stream(struct real_stream *stream)
{
    forget_fd(&stream->fd);
    free(stream->cookies);
    stream->cookies = NULL;
    stream->n_cookies = 0;
}

void real_unmap(struct real *real)
{
    for (int i = 0; i < N_MAPS; i++) {
        if (real->maps[i].address)
            (void)msync(real->maps[i].address, real->maps[i].size, MS_SYNC);
        forget_map(&real->maps[i]);
    }
}

void real_leave(struct real *real)
{
    real_as(real, N_HOSTS_MAX, 0);
    real_unmap(real);
    for (int i = 0; i < N_FDS; i++)
        forget_fd(&real->fds[i]);
    for (int i = 0; i < N_STREAMS; i++)
        forget_stream(&real->streams[i]);
    for (int i = 0; i < N_HOSTS_MAX; i++)
        forget_fd(&real->roots[i]);
    leave_root(real);
}

void real_end(struct real *real)
{
    real_leave(real);
    forget_fd(&real->outside);
}

/* By the calls themselves: libc's change every thread. */
static void become(struct real *real, unsigned user)
{
    (void)syscall(SYS_setfsuid, 0);
    (void)syscall(SYS_setfsgid, users[user].gid);
    (void)syscall(SYS_setfsuid, users[user].uid);
    real->user = user;
}

void real_as(struct real *real, unsigned host, unsigned user)
{
    if (host != real->host && host < real->n_roots) {
        become(real, 0); /* the root's mode may keep others out */
        CHECK(fchdir(real->roots[host]) == 0 && chroot(".") == 0);
        real->host = host;
    }
    if (user != real->user)
        become(real, user);
}

/* ---- files ---- */

static int64_t result(int64_t r)
{
    return r < 0 ? -errno : r;
}

static int64_t open_fd(struct real *real, const struct op *op, const char *path)
{
    int fd = open(path, (int)op->flags | O_CLOEXEC | O_NONBLOCK, op->mode);

    if (fd < 0)
        return -errno;
    forget_fd(&real->fds[op->fd]);
    real->fds[op->fd] = fd;
    return 0;
}

static int64_t read_fd(struct real *real, const struct op *op, struct answer *a)
{
    int fd = real->fds[op->fd];
    int64_t n = op->kind == OP_READ ? read(fd, a->data, (size_t)op->size)
                                    : pread(fd, a->data, (size_t)op->size, op->offset);

    a->size = n > 0 ? (size_t)n : 0;
    return result(n);
}

static int64_t write_fd(struct real *real, const struct op *op)
{
    static _Thread_local uint8_t data[DATA_MAX];
    int fd = real->fds[op->fd];

    op_fill(data, (size_t)op->size, op->pattern);
    return result(op->kind == OP_WRITE ? write(fd, data, (size_t)op->size)
                                       : pwrite(fd, data, (size_t)op->size, op->offset));
}

static int64_t copy_fd(struct real *real, const struct op *op)
{
    off_t from = op->offset, to = op->offset2;

    return result(
        copy_file_range(real->fds[op->fd], &from, real->fds[op->other], &to, (size_t)op->size, 0));
}

static int64_t do_file(struct real *real, const struct op *op, struct answer *a)
{
    int fd = real->fds[op->fd];

    switch (op->kind) {
    case OP_CLOSE:
        real->fds[op->fd] = -1;
        return result(close(fd));
    case OP_READ:
    case OP_PREAD:
        return read_fd(real, op, a);
    case OP_WRITE:
    case OP_PWRITE:
        return write_fd(real, op);
    case OP_LSEEK:
        return result(lseek(fd, op->offset, (int)op->flags));
    case OP_FTRUNCATE:
        return result(ftruncate(fd, op->size));
    case OP_FALLOCATE:
        return result(fallocate(fd, (int)op->flags, op->offset, op->size));
    case OP_COPY:
        return copy_fd(real, op);
    case OP_FSYNC:
        return result(op->flags ? fdatasync(fd) : fsync(fd));
    case OP_FSTAT:
        return result(fstat(fd, &a->st));
    default:
        return result(fchmod(fd, op->mode));
    }
}

/* ---- maps ---- */

static int64_t map_fd(struct real *real, const struct op *op)
{
    int protection = PROT_READ | (op->flags & 1 ? PROT_WRITE : 0);
    void *p = mmap(NULL, (size_t)op->size, protection, MAP_SHARED, real->fds[op->fd], op->offset);

    if (p == MAP_FAILED)
        return -errno;
    real->maps[op->other] = (struct real_map){p, (size_t)op->size};
    return 0;
}

static int64_t do_map(struct real *real, const struct op *op, struct answer *a)
{
    struct real_map *map = &real->maps[op->other];

    switch (op->kind) {
    case OP_MMAP:
        return map_fd(real, op);
    case OP_STORE:
        op_fill(map->address + op->offset, (size_t)op->size, op->pattern);
        return op->size;
    case OP_LOAD:
        memcpy(a->data, map->address + op->offset, (size_t)op->size);
        a->size = (size_t)op->size;
        return op->size;
    case OP_MSYNC:
        return map->address ? result(msync(map->address, map->size, MS_SYNC)) : -ENOMEM;
    default:
        if (!map->address)
            return -EINVAL;
        forget_map(map);
        return 0;
    }
}

/* ---- directories ---- */

static void note_name(struct real_stream *stream, const struct dirent64 *entry, struct answer *a)
{
    size_t size = strlen(entry->d_name) + 1;

    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return;
    memcpy(a->data + a->size, entry->d_name, size);
    a->size += size;
    stream->cookies = reallocarray(stream->cookies, stream->n_cookies + 1, sizeof(int64_t));
    CHECK(stream->cookies);
    stream->cookies[stream->n_cookies++] = entry->d_off;
}

static int64_t read_stream(struct real_stream *stream, const struct op *op, struct answer *a)
{
    _Alignas(struct dirent64) char buffer[4096];
    ssize_t n = getdents64(stream->fd, buffer, MIN((size_t)op->size, sizeof buffer));

    for (ssize_t at = 0; at < n;) {
        const struct dirent64 *entry = (const void *)(buffer + at);
        note_name(stream, entry, a);
        at += entry->d_reclen;
    }
    return result(n);
}

static int64_t seek_stream(struct real_stream *stream, const struct op *op)
{
    if (stream->fd < 0)
        return -EBADF;
    if ((size_t)op->offset > stream->n_cookies)
        return -EINVAL;
    int64_t to = op->offset == 0 ? 0 : stream->cookies[op->offset - 1];
    if (lseek(stream->fd, to, SEEK_SET) != to)
        return -errno;
    stream->n_cookies = (size_t)op->offset;
    return 0;
}

static int64_t do_stream(struct real *real, const struct op *op, const char *path, struct answer *a)
{
    struct real_stream *stream = &real->streams[op->other];

    switch (op->kind) {
    case OP_OPENDIR:
        stream->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return stream->fd < 0 ? -errno : 0;
    case OP_READDIR:
        return read_stream(stream, op, a);
    case OP_SEEKDIR:
        return seek_stream(stream, op);
    default:
        if (stream->fd < 0)
            return -EBADF;
        forget_stream(stream);
        return 0;
    }
}

/* ---- names ---- */

static int64_t do_name(struct real *real, const struct op *op, const char *path, const char *path2)
{
    switch (op->kind) {
    case OP_MKDIR:
        return result(mkdir(path, op->mode));
    case OP_MKNOD:
        return result(mknod(path, op->mode, 0));
    case OP_SYMLINK:
        return result(symlink(path2, path));
    case OP_LINK:
        return result(linkat(AT_FDCWD, path, AT_FDCWD, path2, 0));
    case OP_LINKFD:
        return result(linkat(real->fds[op->fd], "", AT_FDCWD, path2, AT_EMPTY_PATH));
    case OP_UNLINK:
        return result(unlink(path));
    case OP_RMDIR:
        return result(rmdir(path));
    default:
        return result(renameat2(AT_FDCWD, path, AT_FDCWD, path2, op->flags));
    }
}

/* ---- attributes ---- */

static int64_t set_times(const struct op *op, const char *path)
{
    struct timespec t = {.tv_sec = op->offset / NS_PER_S, .tv_nsec = op->offset % NS_PER_S};

    if (op->flags & UTIMENS_NOW)
        t.tv_nsec = UTIME_NOW;
    struct timespec times[2] = {t, t};
    if (op->flags & UTIMENS_OMIT_ATIME)
        times[0].tv_nsec = UTIME_OMIT;
    return result(utimensat(AT_FDCWD, path, times, 0));
}

static int64_t set_attribute(const struct op *op, const char *path)
{
    uint8_t value[DATA_MAX];

    op_fill(value, (size_t)op->size, op->pattern);
    return result(lsetxattr(path, op->path2, value, (size_t)op->size, (int)op->flags));
}

static int64_t sized(int64_t r, struct answer *a)
{
    a->size = r > 0 ? (size_t)r : 0;
    return result(r);
}

static int64_t do_attribute(const struct op *op, const char *path, struct answer *a)
{
    int flags = op->flags & 1 ? 0 : AT_SYMLINK_NOFOLLOW;
    char *data = (char *)a->data;

    switch (op->kind) {
    case OP_STAT:
        return result(fstatat(AT_FDCWD, path, &a->st, flags));
    case OP_READLINK:
        return sized(readlink(path, data, DATA_MAX), a);
    case OP_CHMOD:
        return result(chmod(path, op->mode));
    case OP_CHOWN:
        return result(fchownat(AT_FDCWD, path, (uid_t)op->uid, (gid_t)op->gid, flags));
    case OP_UTIMENS:
        return set_times(op, path);
    case OP_ACCESS:
        return result(faccessat(AT_FDCWD, path, (int)op->mode, AT_EACCESS));
    case OP_SETXATTR:
        return set_attribute(op, path);
    case OP_GETXATTR: {
        int64_t r = lgetxattr(path, op->path2, data, (size_t)op->size);
        return op->size > 0 ? sized(r, a) : result(r);
    }
    case OP_REMOVEXATTR:
        return result(lremovexattr(path, op->path2));
    default:
        return sized(llistxattr(path, data, DATA_MAX), a);
    }
}

/* ---- all ---- */

void real_do(struct real *real, const struct op *op, struct answer *ret_answer)
{
    char path[FULL_PATH_SIZE], path2[FULL_PATH_SIZE];
    struct answer *a = ret_answer;

    op_expand(op->path, path);
    op_expand(op->path2, path2);
    real_as(real, op->host, op->user);
    a->size = 0;
    if (op->kind == OP_OPEN)
        a->value = open_fd(real, op, path);
    else if (op->kind == OP_TRUNCATE)
        a->value = result(truncate(path, op->size));
    else if (op->kind >= OP_CLOSE && op->kind <= OP_FCHMOD)
        a->value = do_file(real, op, a);
    else if (op->kind >= OP_MMAP && op->kind <= OP_MUNMAP)
        a->value = do_map(real, op, a);
    else if (op->kind >= OP_MKDIR && op->kind <= OP_RENAME)
        a->value = do_name(real, op, path, path2);
    else if (op->kind >= OP_STAT && op->kind <= OP_LISTXATTR)
        a->value = do_attribute(op, path, a);
    else if (op->kind >= OP_OPENDIR && op->kind <= OP_CLOSEDIR)
        a->value = do_stream(real, op, path, a);
    else
        a->value = 0;
}
