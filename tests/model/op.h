/* tests/model/op.h — one operation on a filesystem: a plain record that can be kept, printed, read back and left out.
 *
 * An operation names everything it needs (paths, slots of descriptors), so any part of a list of operations is a list
 * that can be run. In paths a component `@N` stands for a name of N letters.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/check.h"

#define N_FDS 6
#define N_MAPS 3
#define N_STREAMS 2
#define N_USERS 4
#define N_HOSTS_MAX 4
#define DATA_MAX 72000       /* bytes of one read or write */
#define FILE_SIZE_MAX 400000 /* what the generator makes: three blocks and a part */
#define OP_PATH_SIZE 56
#define FULL_PATH_SIZE 8192

/*  OP(enum, word) */
#define OPS(OP)                                                                                    \
    OP(OPEN, open)           /* path, flags, mode -> fd */                                         \
    OP(CLOSE, close)         /* fd */                                                              \
    OP(READ, read)           /* fd, size; at its offset */                                         \
    OP(PREAD, pread)         /* fd, offset, size */                                                \
    OP(WRITE, write)         /* fd, size, pattern; at its offset */                                \
    OP(PWRITE, pwrite)       /* fd, offset, size, pattern */                                       \
    OP(LSEEK, lseek)         /* fd, offset, flags: whence */                                       \
    OP(FTRUNCATE, ftruncate) /* fd, size */                                                        \
    OP(TRUNCATE, truncate)   /* path, size */                                                      \
    OP(FALLOCATE, fallocate) /* fd, flags, offset, size */                                         \
    OP(COPY, copy)           /* fd, offset -> other, offset2; size. copy_file_range */             \
    OP(FSYNC, fsync)         /* fd; flags 1: data only */                                          \
    OP(FSTAT, fstat)         /* fd */                                                              \
    OP(FCHMOD, fchmod)       /* fd, mode */                                                        \
    OP(MMAP, mmap)           /* fd, offset, size, flags 1: writable -> other: a slot of maps */    \
    OP(STORE, store)         /* other, offset, size, pattern */                                    \
    OP(LOAD, load)           /* other, offset, size */                                             \
    OP(MSYNC, msync)         /* other */                                                           \
    OP(MUNMAP, munmap)       /* other */                                                           \
    OP(MKDIR, mkdir)         /* path, mode */                                                      \
    OP(MKNOD, mknod)         /* path, mode with its type */                                        \
    OP(SYMLINK, symlink)     /* path2: target, path */                                             \
    OP(LINK, link)           /* path -> path2 */                                                   \
    OP(LINKFD, linkfd)       /* fd -> path2 */                                                     \
    OP(UNLINK, unlink)       /* path */                                                            \
    OP(RMDIR, rmdir)         /* path */                                                            \
    OP(RENAME, rename)       /* path -> path2, flags */                                            \
    OP(STAT, stat)           /* path; flags 1: of a link's target */                               \
    OP(READLINK, readlink)   /* path */                                                            \
    OP(CHMOD, chmod)         /* path, mode */                                                      \
    OP(CHOWN, chown)         /* path, uid, gid (-1: as it is); flags 1: a link's target */         \
    OP(UTIMENS, utimens)     /* path, offset: mtime in ns; flags: UTIMENS_* */                     \
    OP(ACCESS, access)       /* path, mode: R_OK… */                                             \
    OP(SETXATTR, setxattr)   /* path, name, size, pattern, flags */                                \
    OP(GETXATTR, getxattr)   /* path, name, size of the buffer */                                  \
    OP(REMOVEXATTR, removexattr) /* path, name */                                                  \
    OP(LISTXATTR, listxattr)     /* path */                                                        \
    OP(OPENDIR, opendir)         /* path -> other: a slot of streams */                            \
    OP(READDIR, readdir)         /* other, size: bytes of the buffer */                            \
    OP(SEEKDIR, seekdir)         /* other, offset: behind the how-manieth name that was read */    \
    OP(CLOSEDIR, closedir)       /* other */                                                       \
    OP(TREE, tree)               /* all of it is looked at */                                      \
    OP(REMOUNT, remount)         /* all is closed; the volume ends and begins again */             \
    OP(KILL, kill)               /* the same, without an end */

enum op_kind {
#define OP(name, word) OP_##name,
    OPS(OP)
#undef OP
    OP_KINDS
};

#define UTIMENS_NOW 1u
#define UTIMENS_OMIT_ATIME 2u

struct op {
    uint8_t kind;
    uint8_t host, user;
    uint8_t fd, other;
    uint8_t pattern;
    uint32_t flags, mode;
    int32_t uid, gid;
    int64_t offset, offset2, size;
    char path[OP_PATH_SIZE], path2[OP_PATH_SIZE];
};

struct user {
    uint32_t uid, gid;
};
extern const struct user users[N_USERS]; /* 0: root */

const char *op_word(enum op_kind kind);
/* One line: the word and what is not zero. */
void op_print(FILE *out, const struct op *op);
/* False: not what op_print writes. Lines that are empty or begin with # are for the caller to pass over. */
MUST_USE bool op_parse(const char *line, struct op *ret_op);
/* The path that the kernel gets. */
void op_expand(const char *path, char full[FULL_PATH_SIZE]);
void op_fill(uint8_t *data, size_t size, uint8_t pattern);
