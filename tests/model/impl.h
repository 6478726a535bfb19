/* tests/model/impl.h — what the files of the model share. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "tests/model/model.h"

/* The clock that stamps files may be a tick behind, and another host's a little apart. */
#define CLOCK_SLACK_NS 20000000LL
#define NAME_BYTES 255

struct moment {
    int64_t lo, hi;
};

struct inode {
    struct inode *next; /* all that live */
    mode_t mode;
    mode_t may_keep; /* bits of mode's that were taken away, and may be there until they are seen */
    bool late_setid; /* the set-id bits came while it was open for writing */
    uint32_t nlink, uid, gid;
    unsigned n_open[N_HOSTS_MAX], n_writers[N_HOSTS_MAX]; /* descriptors, maps and streams */
    struct inode *parent;                                 /* of a directory */
    struct name *names;
    char *target;
    uint8_t *data;
    size_t size;
    struct attribute *attributes;
    struct moment atime, mtime, ctime;
    unsigned
        n_stored; /* maps with stores that were not synced: mtime and ctime may move at any time */
    uint64_t seen_ino; /* the real one's, once it was seen */
    bool no_link;      /* made with O_TMPFILE|O_EXCL, or lost its last name */
};

struct fd {
    struct inode *inode; /* NULL: free */
    int flags;
    int64_t offset;
    unsigned host;
};

struct map {
    struct inode *inode; /* NULL: free */
    int64_t offset, size;
    bool writable;
    bool stored; /* since the last msync */
    unsigned host;
};

struct listed {
    uint64_t id;
    char text[NAME_BYTES + 1];
};

struct stream {
    struct inode *dir;          /* NULL: free */
    struct listed *must, *seen; /* there since the beginning; read, in their order */
    size_t n_must, n_seen;
    unsigned host;
};

struct model {
    struct rules rules;
    struct inode *root, *inodes;
    struct fd fds[N_FDS];
    struct map maps[N_MAPS];
    struct stream streams[N_STREAMS];
    uint64_t next_id;
    /* the step under way */
    const struct user *user;
    unsigned host;
    const struct answer *real;
    struct answer *want;
    int64_t begin_ns, end_ns;
    char *why;
};

/* ---- inode.c ---- */
struct inode *inode_new(struct model *m, mode_t mode);
void inode_open(struct inode *inode, unsigned host, bool writes);
void inode_close(struct model *m, struct inode *inode, unsigned host, bool writes);
void inode_collect(struct model *m, struct inode *inode); /* frees what nothing refers to */
void inode_resize(struct inode *inode, size_t size);
bool is_owner(const struct model *m, const struct inode *inode); /* or root */
bool may(const struct model *m, const struct inode *inode, int mask);
void strip_privileges(struct model *m, struct inode *inode); /* as a write does */
void strip_by_chown(struct model *m, struct inode *inode, bool changes);
void touch(struct model *m, struct moment *moment);     /* it is now */
void may_touch(struct model *m, struct moment *moment); /* it is now, or as it was */
void touch_content(struct model *m, struct inode *inode);
struct name *name_find(const struct inode *dir, const char *text);
void name_add(struct model *m, struct inode *dir, const char *text, struct inode *inode);
void name_drop(struct inode *dir, struct name *name);
/* Says what is wrong, once. */
void complain(struct model *m, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- walk.c ---- */
struct place {
    struct inode *dir;
    struct inode *inode; /* NULL: there is no such name */
    struct name *name;
    bool is_too_long;
    char text[NAME_BYTES + 1];
};
/* The last name is looked for, which is where one that is too long is refused. */
MUST_USE int walk(struct model *m, const char *path, bool follow, struct place *ret_place);
/* As far as the last name, which may be too long. */
MUST_USE int walk_to_last(struct model *m, const char *path, bool follow, struct place *ret_place);
/* As walk; -ENOENT where there is no such name. */
MUST_USE int find(struct model *m, const char *path, bool follow, struct inode **ret_inode);

/* ---- the operations ---- */
int64_t do_mkdir(struct model *m, const struct op *op);
int64_t do_mknod(struct model *m, const struct op *op);
int64_t do_symlink(struct model *m, const struct op *op);
int64_t do_link(struct model *m, const struct op *op);
int64_t do_linkfd(struct model *m, const struct op *op);
int64_t do_unlink(struct model *m, const struct op *op);
int64_t do_rmdir(struct model *m, const struct op *op);
int64_t do_rename(struct model *m, const struct op *op);
struct inode *make_inode(struct model *m, struct inode *dir, mode_t mode); /* without a name */
MUST_USE int may_make(struct model *m, const struct place *place);
void make_name(struct model *m, const struct place *place, struct inode *inode);

int64_t do_open(struct model *m, const struct op *op);
int64_t do_close(struct model *m, const struct op *op);
int64_t do_read(struct model *m, const struct op *op);
int64_t do_write(struct model *m, const struct op *op);
int64_t do_lseek(struct model *m, const struct op *op);
int64_t do_truncate(struct model *m, const struct op *op);
int64_t do_ftruncate(struct model *m, const struct op *op);
int64_t do_fallocate(struct model *m, const struct op *op);
int64_t do_copy(struct model *m, const struct op *op);
int64_t do_fsync(struct model *m, const struct op *op);
void do_close_all(struct model *m, const struct op *op);

int64_t do_mmap(struct model *m, const struct op *op);
int64_t do_store(struct model *m, const struct op *op);
int64_t do_load(struct model *m, const struct op *op);
int64_t do_msync(struct model *m, const struct op *op);
int64_t do_munmap(struct model *m, const struct op *op);

int64_t do_stat(struct model *m, const struct op *op);
int64_t do_fstat(struct model *m, const struct op *op);
int64_t do_readlink(struct model *m, const struct op *op);
int64_t do_chmod(struct model *m, const struct op *op);
int64_t do_fchmod(struct model *m, const struct op *op);
int64_t do_chown(struct model *m, const struct op *op);
int64_t do_utimens(struct model *m, const struct op *op);
int64_t do_access(struct model *m, const struct op *op);
int64_t do_setxattr(struct model *m, const struct op *op);
int64_t do_getxattr(struct model *m, const struct op *op);
int64_t do_removexattr(struct model *m, const struct op *op);
int64_t do_listxattr(struct model *m, const struct op *op);

int64_t do_opendir(struct model *m, const struct op *op);
int64_t do_readdir(struct model *m, const struct op *op);
int64_t do_seekdir(struct model *m, const struct op *op);
int64_t do_closedir(struct model *m, const struct op *op);
