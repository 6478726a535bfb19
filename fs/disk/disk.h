/* fs/disk/disk.h — the one way from fs/ to the disk: what reads, writes, syncs and names files of a volume's directory.
 *
 * Plain functions over the system calls; each returns what it says or a negative errno and goes on after EINTR and
 * short transfers by itself. Before and after each call a hook is asked if one is set, which only tests do: it can
 * record (a crash simulator), or fail the call (faults). Without one that is a load and a branch beside a system call.
 *
 * Two do not pass here: LMDB writes its state itself, which no unclean boot trusts, and bytes that the kernel moves
 * between a mount and a backing file, by passthrough or by fuse_buf_copy.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "proto/base/check.h"
#include "proto/wire.h"

/* Opens with O_CLOEXEC; new files have mode 0600. Returns the descriptor. */
MUST_USE int disk_open(int dirfd, const char *name, int flags);
MUST_USE int disk_open_mode(int dirfd, const char *name, int flags, mode_t mode);
/* Reads until size or the end of the file: the number of bytes. */
MUST_USE int64_t disk_read(int fd, void *buffer, size_t size, uint64_t offset);
/* One pread(2), which may end early: for O_DIRECT, where going on behind an end of the file is an error. */
MUST_USE int64_t disk_read_once(int fd, void *buffer, size_t size, uint64_t offset);
/* Writes all of it, or fails with any part of it written. */
MUST_USE int disk_write(int fd, const void *data, size_t size, uint64_t offset);
/* As disk_write of what the pieces, at most DISK_PIECES_MAX, make one after the other: the kernel keeps pages as large as
 * what is written at once. A hook sees a write for each. */
#define DISK_PIECES_MAX 16u
MUST_USE int disk_write_pieces(int fd, const struct span *pieces, unsigned n, uint64_t offset);
/* Copies up to size bytes inside the kernel: how many, 0 at the end. -EOPNOTSUPP, -EXDEV, -EINVAL: it cannot here. */
MUST_USE int64_t disk_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size);
MUST_USE int disk_truncate(int fd, uint64_t size);
/* fallocate(2) */
MUST_USE int disk_allocate(int fd, int mode, uint64_t offset, uint64_t size);
MUST_USE int disk_set_mode(int fd, mode_t mode);
MUST_USE int disk_set_times(int fd, const struct timespec times[2]);
MUST_USE int disk_set_xattr(int fd, const char *name, const void *value, size_t size);
MUST_USE int disk_get_xattr(int fd, const char *name, void *value, size_t size); /* its size */

MUST_USE int disk_sync(int fd);      /* fsync: also of a directory, whose names are durable then */
MUST_USE int disk_sync_data(int fd); /* fdatasync */
void disk_write_back(int fd);        /* begins to write what is dirty; promises nothing */
MUST_USE int disk_sync_all(int fd);  /* syncfs: all that is on the filesystem of fd */

/* Names. A change of them is durable after disk_sync of the directory. */
MUST_USE int disk_make_dir(int dirfd, const char *name);
MUST_USE int disk_rename(int dirfd, const char *name, int to_dirfd, const char *to_name);
MUST_USE int disk_link(int dirfd, const char *name, int to_dirfd, const char *to_name);
MUST_USE int disk_unlink(int dirfd, const char *name);
MUST_USE int disk_remove_dir(int dirfd, const char *name);
/* What is made in the directory from now on has no access times: reads, passed-through ones too, need not look at them
 * (2.5 % of a 4 KiB read). A filesystem that cannot do without: nothing. */
void disk_without_atimes(int dirfd);

/* Looking: no hook sees these. */
MUST_USE int disk_stat(int fd, struct stat *ret_st);
bool disk_exists(int dirfd, const char *name);
/* Has nobody the file open for writing, nor a map that can be written? fd is open for reading. -EBUSY: somebody has. */
MUST_USE int disk_check_unwritten(int fd);
/* Where data begins, at or behind offset; UINT64_MAX: there is none. Where holes are not known, offset. */
uint64_t disk_next_data(int fd, uint64_t offset);
/* Calls each with every name in the directory but "." and "..", in no order; a result other than 0 ends the walk and is
 * the result. */
typedef int disk_name_f(void *ctx, const char *name);
MUST_USE int disk_list(int dirfd, disk_name_f *each, void *ctx);
struct disk_room {
    uint64_t total_bytes, free_bytes; /* free: to us, now */
    uint64_t total_files, free_files; /* 0 total: the filesystem has no table of them */
};
MUST_USE int disk_room(int fd, struct disk_room *ret_room);

/* ---- for tests ---- */

enum disk_op {
    DISK_OPEN,
    DISK_READ,
    DISK_WRITE,
    DISK_COPY,
    DISK_TRUNCATE,
    DISK_ALLOCATE,
    DISK_SET_MODE,
    DISK_SET_TIMES,
    DISK_SET_XATTR,
    DISK_GET_XATTR,
    DISK_SYNC,
    DISK_SYNC_DATA,
    DISK_SYNC_ALL,
    DISK_MAKE_DIR,
    DISK_RENAME,
    DISK_LINK,
    DISK_UNLINK,
    DISK_REMOVE_DIR,
    DISK_N_OPS
};

/* One call; what an operation has no use for is 0 or NULL. */
struct disk_call {
    enum disk_op op;
    int fd, to_fd; /* the file, or the directory that the name is in */
    const char *name, *to_name;
    const void *data;
    uint64_t offset, to_offset;
    size_t size;
    int flags;
    mode_t mode;
};

struct disk_hook {
    /* A negative errno: that is the result, and the call is not made. */
    int (*before)(struct disk_hook *hook, const struct disk_call *call);
    /* After a call that was made; its result. On the same thread. */
    void (*after)(struct disk_hook *hook, const struct disk_call *call, int64_t result);
};

/* NULL: none. No call may be under way. */
void disk_set_hook(struct disk_hook *hook);
