#include "fs/disk/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

static _Atomic(struct disk_hook *) the_hook;

void disk_set_hook(struct disk_hook *hook)
{
    atomic_store(&the_hook, hook);
}

static int begin(const struct disk_call *call)
{
    struct disk_hook *hook = atomic_load_explicit(&the_hook, memory_order_acquire);
    return hook ? hook->before(hook, call) : 0;
}

static int64_t end(const struct disk_call *call, int64_t result)
{
    struct disk_hook *hook = atomic_load_explicit(&the_hook, memory_order_acquire);
    if (hook)
        hook->after(hook, call, result);
    return result;
}

static int64_t or_errno(int64_t result)
{
    return result < 0 ? -errno : result;
}

/* Makes `call`: asks before it, evaluates `made`, tells after it. */
#define CALL(call, made)                                                                           \
    ({                                                                                             \
        int64_t result_ = begin(call);                                                             \
        result_ < 0 ? result_ : end(call, (made));                                                 \
    })

/* ---- files ---- */

int disk_open_mode(int dirfd, const char *name, int flags, mode_t mode)
{
    struct disk_call call = {
        .op = DISK_OPEN, .fd = dirfd, .name = name, .flags = flags, .mode = mode};
    return (int)CALL(&call, or_errno(openat(dirfd, name, flags | O_CLOEXEC, mode)));
}

int disk_open(int dirfd, const char *name, int flags)
{
    return disk_open_mode(dirfd, name, flags, 0600);
}

static int64_t read_all(int fd, uint8_t *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, buffer + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (int64_t)done;
}

int64_t disk_read(int fd, void *buffer, size_t size, uint64_t offset)
{
    struct disk_call call = {.op = DISK_READ, .fd = fd, .offset = offset, .size = size};
    return CALL(&call, read_all(fd, buffer, size, offset));
}

static int64_t read_once(int fd, void *buffer, size_t size, uint64_t offset)
{
    ssize_t n;
    do
        n = pread(fd, buffer, size, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return or_errno(n);
}

int64_t disk_read_once(int fd, void *buffer, size_t size, uint64_t offset)
{
    struct disk_call call = {.op = DISK_READ, .fd = fd, .offset = offset, .size = size};
    return CALL(&call, read_once(fd, buffer, size, offset));
}

static int write_all(int fd, const uint8_t *data, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

int disk_write(int fd, const void *data, size_t size, uint64_t offset)
{
    struct disk_call call = {
        .op = DISK_WRITE, .fd = fd, .data = data, .offset = offset, .size = size};
    return (int)CALL(&call, write_all(fd, data, size, offset));
}

/* False: not all of it, for whatever reason. */
static bool write_together(int fd, const struct span *pieces, unsigned n, uint64_t offset)
{
    struct iovec vectors[DISK_PIECES_MAX];
    size_t size = 0;
    for (unsigned i = 0; i < n; i++) {
        vectors[i] = (struct iovec){.iov_base = (void *)(uintptr_t)pieces[i].data,
                                    .iov_len = pieces[i].size};
        size += pieces[i].size;
    }
    return pwritev(fd, vectors, (int)n, (off_t)offset) == (ssize_t)size;
}

int disk_write_pieces(int fd, const struct span *pieces, unsigned n, uint64_t offset)
{
    CHECK(n <= DISK_PIECES_MAX);
    bool is_hooked = atomic_load_explicit(&the_hook, memory_order_acquire) != NULL;
    if (!is_hooked && write_together(fd, pieces, n, offset))
        return 0;
    for (unsigned i = 0; i < n; i++) {
        int e = disk_write(fd, pieces[i].data, pieces[i].size, offset);
        if (e < 0)
            return e;
        offset += pieces[i].size;
    }
    return 0;
}

static int64_t copy_some(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size)
{
    loff_t in = (loff_t)from_offset;
    loff_t out = (loff_t)to_offset;
    return or_errno(copy_file_range(from, &in, to, &out, size, 0));
}

int64_t disk_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size)
{
    struct disk_call call = {.op = DISK_COPY,
                             .fd = from,
                             .offset = from_offset,
                             .to_fd = to,
                             .to_offset = to_offset,
                             .size = size};
    return CALL(&call, copy_some(from, from_offset, to, to_offset, size));
}

int disk_truncate(int fd, uint64_t size)
{
    struct disk_call call = {.op = DISK_TRUNCATE, .fd = fd, .offset = size};
    return (int)CALL(&call, or_errno(ftruncate(fd, (off_t)size)));
}

int disk_allocate(int fd, int mode, uint64_t offset, uint64_t size)
{
    struct disk_call call = {
        .op = DISK_ALLOCATE, .fd = fd, .flags = mode, .offset = offset, .size = size};
    return (int)CALL(&call, or_errno(fallocate(fd, mode, (off_t)offset, (off_t)size)));
}

int disk_set_mode(int fd, mode_t mode)
{
    struct disk_call call = {.op = DISK_SET_MODE, .fd = fd, .mode = mode};
    return (int)CALL(&call, or_errno(fchmod(fd, mode)));
}

int disk_set_times(int fd, const struct timespec times[2])
{
    struct disk_call call = {.op = DISK_SET_TIMES, .fd = fd, .data = times};
    return (int)CALL(&call, or_errno(futimens(fd, times)));
}

int disk_set_xattr(int fd, const char *name, const void *value, size_t size)
{
    struct disk_call call = {
        .op = DISK_SET_XATTR, .fd = fd, .name = name, .data = value, .size = size};
    return (int)CALL(&call, or_errno(fsetxattr(fd, name, value, size, 0)));
}

int disk_get_xattr(int fd, const char *name, void *value, size_t size)
{
    struct disk_call call = {.op = DISK_GET_XATTR, .fd = fd, .name = name, .size = size};
    return (int)CALL(&call, or_errno(fgetxattr(fd, name, value, size)));
}

/* ---- syncing ---- */

int disk_sync(int fd)
{
    struct disk_call call = {.op = DISK_SYNC, .fd = fd};
    return (int)CALL(&call, or_errno(fsync(fd)));
}

int disk_sync_data(int fd)
{
    struct disk_call call = {.op = DISK_SYNC_DATA, .fd = fd};
    return (int)CALL(&call, or_errno(fdatasync(fd)));
}

int disk_sync_all(int fd)
{
    struct disk_call call = {.op = DISK_SYNC_ALL, .fd = fd};
    return (int)CALL(&call, or_errno(syncfs(fd)));
}

void disk_write_back(int fd)
{
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* ---- names ---- */

int disk_make_dir(int dirfd, const char *name)
{
    struct disk_call call = {.op = DISK_MAKE_DIR, .fd = dirfd, .name = name};
    return (int)CALL(&call, or_errno(mkdirat(dirfd, name, 0700)));
}

int disk_rename(int dirfd, const char *name, int to_dirfd, const char *to_name)
{
    struct disk_call call = {
        .op = DISK_RENAME, .fd = dirfd, .name = name, .to_fd = to_dirfd, .to_name = to_name};
    return (int)CALL(&call, or_errno(renameat(dirfd, name, to_dirfd, to_name)));
}

int disk_link(int dirfd, const char *name, int to_dirfd, const char *to_name)
{
    struct disk_call call = {
        .op = DISK_LINK, .fd = dirfd, .name = name, .to_fd = to_dirfd, .to_name = to_name};
    return (int)CALL(&call, or_errno(linkat(dirfd, name, to_dirfd, to_name, 0)));
}

int disk_unlink(int dirfd, const char *name)
{
    struct disk_call call = {.op = DISK_UNLINK, .fd = dirfd, .name = name};
    return (int)CALL(&call, or_errno(unlinkat(dirfd, name, 0)));
}

int disk_remove_dir(int dirfd, const char *name)
{
    struct disk_call call = {.op = DISK_REMOVE_DIR, .fd = dirfd, .name = name};
    return (int)CALL(&call, or_errno(unlinkat(dirfd, name, AT_REMOVEDIR)));
}

void disk_without_atimes(int dirfd)
{
    unsigned flags;
    if (ioctl(dirfd, FS_IOC_GETFLAGS, &flags) < 0 || flags & FS_NOATIME_FL)
        return;
    flags |= FS_NOATIME_FL;
    (void)ioctl(dirfd, FS_IOC_SETFLAGS, &flags);
}

/* ---- looking ---- */

int disk_stat(int fd, struct stat *ret_st)
{
    return fstat(fd, ret_st) < 0 ? -errno : 0;
}

bool disk_exists(int dirfd, const char *name)
{
    return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A read lease is given only where nobody writes; it is given back at once. */
int disk_check_unwritten(int fd)
{
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? -EBUSY : -errno;
    return fcntl(fd, F_SETLEASE, F_UNLCK) < 0 ? -errno : 0;
}

uint64_t disk_next_data(int fd, uint64_t offset)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    return data >= 0 ? (uint64_t)data : errno == ENXIO ? UINT64_MAX : offset;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

int disk_list(int dirfd, disk_name_f *each, void *ctx)
{
    AUTO_CLOSE int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(close_dir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return -errno;
    (void)TAKE_FD(fd);
    for (const struct dirent *entry; ((void)(errno = 0), entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int r = each(ctx, entry->d_name);
        if (r != 0)
            return r;
    }
    return -errno;
}

int disk_room(int fd, struct disk_room *ret_room)
{
    struct statvfs fs;
    if (fstatvfs(fd, &fs) < 0)
        return -errno;
    *ret_room = (struct disk_room){
        .total_bytes = fs.f_blocks * fs.f_frsize,
        .free_bytes = fs.f_bavail * fs.f_frsize,
        .total_files = fs.f_files,
        .free_files = fs.f_favail,
    };
    return 0;
}
