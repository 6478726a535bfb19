/* Recording: a tree of names as it is now, and the operations that made it so. */
#include "tests/crash/record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

#define FDS_MAX 4096
#define NOT_OURS UINT32_MAX

struct entry {
    unsigned dir, what;
    char name[48];
};

static struct {
    struct disk_hook hook;
    pthread_mutex_t
        lock; /* from before a call to after it: operations are recorded in the order in which they happened */
    char root[128];
    struct record record;
    unsigned fds[FDS_MAX]; /* inode of each descriptor that the layer opened */
    struct entry *entries;
    unsigned n_entries;
    bool existed; /* DISK_OPEN under way: the name was there */
} r;

/* ---- names as they are ---- */

static struct entry *find(unsigned dir, const char *name)
{
    for (unsigned i = 0; i < r.n_entries; i++)
        if (r.entries[i].dir == dir && strcmp(r.entries[i].name, name) == 0)
            return &r.entries[i];
    return NULL;
}

static void set(unsigned dir, const char *name, unsigned what)
{
    struct entry *entry = find(dir, name);
    if (!entry) {
        r.entries = reallocarray(r.entries, r.n_entries + 1, sizeof *r.entries);
        entry = &r.entries[r.n_entries++];
        CHECK(strlen(name) < sizeof entry->name);
        entry->dir = dir;
        memcpy(entry->name, name, strlen(name) + 1);
    }
    entry->what = what;
}

static void unset(unsigned dir, const char *name)
{
    struct entry *entry = find(dir, name);
    CHECK(entry);
    *entry = r.entries[--r.n_entries];
}

static unsigned inode_of(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? r.fds[fd] : NOT_OURS;
}

/* Where a name below fd is: its directory and last component. False: not below root. */
static bool resolve(int fd, const char *name, unsigned *ret_dir, const char **ret_last)
{
    unsigned dir = inode_of(fd);
    for (const char *slash; dir != NOT_OURS && (slash = strchr(name, '/')); name = slash + 1) {
        char part[48] = "";
        CHECK((size_t)(slash - name) < sizeof part);
        memcpy(part, name, (size_t)(slash - name));
        struct entry *entry = find(dir, part);
        dir = entry ? entry->what : NOT_OURS;
    }
    *ret_dir = dir;
    *ret_last = name;
    return dir != NOT_OURS;
}

static unsigned new_inode(bool is_dir)
{
    r.record.is_dir = reallocarray(r.record.is_dir, r.record.n_inodes + 1, sizeof(bool));
    r.record.is_dir[r.record.n_inodes] = is_dir;
    return r.record.n_inodes++;
}

/* ---- operations ---- */

static struct op *add(enum disk_op kind, unsigned inode)
{
    r.record.ops = reallocarray(r.record.ops, r.record.n_ops + 1, sizeof *r.record.ops);
    struct op *op = &r.record.ops[r.record.n_ops++];
    *op = (struct op){.op = kind, .inode = inode};
    return op;
}

static void put_name(char to[48], const char *name)
{
    CHECK(strlen(name) < 48);
    memcpy(to, name, strlen(name) + 1);
}

static void note_open(const struct disk_call *call, int fd)
{
    unsigned dir, what = NOT_OURS;
    const char *name;
    CHECK(fd < FDS_MAX);
    if (call->fd == AT_FDCWD)
        what = strcmp(call->name, r.root) == 0 ? 0 : NOT_OURS;
    else if (strcmp(call->name, ".") == 0)
        what = inode_of(call->fd);
    else if (resolve(call->fd, call->name, &dir, &name)) {
        struct entry *entry = find(dir, name);
        if (entry && call->flags & O_TRUNC)
            add(DISK_TRUNCATE, entry->what);
        if (!entry) {
            struct op *op = add(DISK_OPEN, dir);
            op->what = new_inode(false);
            op->size = call->mode;
            put_name(op->name, name);
            set(dir, name, op->what);
            entry = find(dir, name);
        }
        what = entry->what;
    }
    r.fds[fd] = what;
}

static void note_bytes(unsigned inode, int fd, const void *data, uint64_t offset, size_t size)
{
    struct op *op = add(DISK_WRITE, inode);
    op->offset = offset;
    op->size = size;
    op->data = malloc(size + 1);
    if (data) {
        memcpy(op->data, data, size);
        return;
    }
    char path[32]; /* the descriptor may be for writing only */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    AUTO_CLOSE int again = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(pread(again, op->data, size, (off_t)offset) == (ssize_t)size);
}

static void note_name(const struct disk_call *call)
{
    unsigned dir, to_dir = 0;
    const char *name, *to_name = "";
    if (!resolve(call->fd, call->name, &dir, &name))
        return;
    if (call->op != DISK_MAKE_DIR && !find(dir, name))
        return; /* LMDB made it */
    bool moves = call->op == DISK_RENAME || call->op == DISK_LINK;
    if (moves)
        CHECK(resolve(call->to_fd, call->to_name, &to_dir, &to_name));
    struct op *op = add(call->op, dir);
    put_name(op->name, name);
    put_name(op->to_name, to_name);
    op->to_dir = to_dir;
    op->what = call->op == DISK_MAKE_DIR ? new_inode(true) : find(dir, name)->what;
    if (call->op == DISK_MAKE_DIR)
        set(dir, name, op->what);
    else if (call->op != DISK_LINK)
        unset(dir, name);
    if (moves)
        set(to_dir, to_name, op->what);
}

static void note(const struct disk_call *call, int64_t result)
{
    unsigned inode = inode_of(call->fd);
    struct op *op;
    switch (call->op) {
    case DISK_OPEN:
        note_open(call, (int)result);
        return;
    case DISK_WRITE:
        if (inode != NOT_OURS)
            note_bytes(inode, call->fd, call->data, call->offset, call->size);
        return;
    case DISK_COPY:
        if (inode_of(call->to_fd) != NOT_OURS && result > 0)
            note_bytes(inode_of(call->to_fd), call->to_fd, NULL, call->to_offset, (size_t)result);
        return;
    case DISK_TRUNCATE:
    case DISK_ALLOCATE:
    case DISK_SET_MODE:
    case DISK_SYNC:
    case DISK_SYNC_DATA:
    case DISK_SYNC_ALL:
        if (inode == NOT_OURS)
            return;
        op = add(call->op, inode);
        op->offset = call->offset;
        op->size = call->op == DISK_TRUNCATE   ? call->offset
                   : call->op == DISK_SET_MODE ? call->mode
                                               : call->size;
        CHECK(call->op != DISK_ALLOCATE || (call->flags & FALLOC_FL_PUNCH_HOLE) ||
              (call->flags & FALLOC_FL_KEEP_SIZE));
        if (call->op == DISK_ALLOCATE && !(call->flags & FALLOC_FL_PUNCH_HOLE))
            op->size = 0; /* room for what comes later: nothing to see */
        return;
    case DISK_SET_XATTR:
        op = add(call->op, inode);
        put_name(op->name, call->name);
        op->size = call->size;
        op->data = malloc(call->size);
        memcpy(op->data, call->data, call->size);
        return;
    case DISK_MAKE_DIR:
    case DISK_RENAME:
    case DISK_LINK:
    case DISK_UNLINK:
    case DISK_REMOVE_DIR:
        note_name(call);
        return;
    default:
        return;
    }
}

static int before(struct disk_hook *hook, const struct disk_call *call)
{
    (void)hook, (void)call;
    pthread_mutex_lock(&r.lock);
    return 0;
}

static void after(struct disk_hook *hook, const struct disk_call *call, int64_t result)
{
    (void)hook;
    if (result >= 0)
        note(call, result);
    pthread_mutex_unlock(&r.lock);
}

/* ---- the interface ---- */

void record_start(const char *root)
{
    memset(&r, 0, sizeof r);
    memset(r.fds, 0xff, sizeof r.fds);
    pthread_mutex_init(&r.lock, NULL);
    put_name(r.root, root);
    r.hook = (struct disk_hook){.before = before, .after = after};
    (void)new_inode(true);
    disk_set_hook(&r.hook);
}

void record_stop(void)
{
    disk_set_hook(NULL);
}

unsigned record_position(void)
{
    pthread_mutex_lock(&r.lock);
    unsigned n = r.record.n_ops;
    pthread_mutex_unlock(&r.lock);
    return n;
}

const struct record *record_get(void)
{
    return &r.record;
}

struct record *record_change(void)
{
    return &r.record;
}

void record_print(unsigned first, unsigned end)
{
    static const char *const words[DISK_N_OPS] = {
        [DISK_OPEN] = "make",       [DISK_WRITE] = "write",         [DISK_TRUNCATE] = "truncate",
        [DISK_ALLOCATE] = "punch",  [DISK_SET_MODE] = "mode",       [DISK_SET_XATTR] = "xattr",
        [DISK_SYNC] = "fsync",      [DISK_SYNC_DATA] = "fdatasync", [DISK_MAKE_DIR] = "mkdir",
        [DISK_SYNC_ALL] = "syncfs", [DISK_RENAME] = "rename",       [DISK_LINK] = "link",
        [DISK_UNLINK] = "unlink",   [DISK_REMOVE_DIR] = "rmdir",
    };
    for (unsigned i = first; i < end && i < r.record.n_ops; i++) {
        const struct op *op = &r.record.ops[i];
        printf("%5u %-9s %u %s %s %u>%u at %llu size %llu\n", i, words[op->op], op->inode, op->name,
               op->to_name, op->to_dir, op->what, (unsigned long long)op->offset,
               (unsigned long long)op->size);
    }
}

void record_free(void)
{
    for (unsigned i = 0; i < r.record.n_ops; i++)
        free(r.record.ops[i].data);
    free(r.record.ops);
    free(r.record.is_dir);
    free(r.entries);
    pthread_mutex_destroy(&r.lock);
}
