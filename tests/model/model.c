/* tests/model/model.c — a step of the model: which operation, when it says nothing, and whether the answers agree. */
#include "tests/model/model.h"

#include <stdio.h>

#include "tests/model/impl.h"

/* Looking at everything has read everything. */
static int64_t do_tree(struct model *m, const struct op *op UNUSED)
{
    for (struct inode *inode = m->inodes; inode; inode = inode->next)
        inode->atime.hi = m->end_ns;
    return 0;
}

static int64_t do_restart(struct model *m, const struct op *op)
{
    do_close_all(m, op);
    return 0;
}

static int64_t (*const operations[OP_KINDS])(struct model *m, const struct op *op) = {
    [OP_OPEN] = do_open,           [OP_CLOSE] = do_close,         [OP_READ] = do_read,
    [OP_PREAD] = do_read,          [OP_WRITE] = do_write,         [OP_PWRITE] = do_write,
    [OP_LSEEK] = do_lseek,         [OP_FTRUNCATE] = do_ftruncate, [OP_TRUNCATE] = do_truncate,
    [OP_FALLOCATE] = do_fallocate, [OP_COPY] = do_copy,           [OP_FSYNC] = do_fsync,
    [OP_FSTAT] = do_fstat,         [OP_FCHMOD] = do_fchmod,       [OP_MMAP] = do_mmap,
    [OP_STORE] = do_store,         [OP_LOAD] = do_load,           [OP_MSYNC] = do_msync,
    [OP_MUNMAP] = do_munmap,       [OP_MKDIR] = do_mkdir,         [OP_MKNOD] = do_mknod,
    [OP_SYMLINK] = do_symlink,     [OP_LINK] = do_link,           [OP_LINKFD] = do_linkfd,
    [OP_UNLINK] = do_unlink,       [OP_RMDIR] = do_rmdir,         [OP_RENAME] = do_rename,
    [OP_STAT] = do_stat,           [OP_READLINK] = do_readlink,   [OP_CHMOD] = do_chmod,
    [OP_CHOWN] = do_chown,         [OP_UTIMENS] = do_utimens,     [OP_ACCESS] = do_access,
    [OP_SETXATTR] = do_setxattr,   [OP_GETXATTR] = do_getxattr,   [OP_REMOVEXATTR] = do_removexattr,
    [OP_LISTXATTR] = do_listxattr, [OP_OPENDIR] = do_opendir,     [OP_READDIR] = do_readdir,
    [OP_SEEKDIR] = do_seekdir,     [OP_CLOSEDIR] = do_closedir,   [OP_TREE] = do_tree,
    [OP_REMOUNT] = do_restart,     [OP_KILL] = do_restart,
};

/* ---- what is not run ---- */

/* Open here for anything while another host writes, or the other way round. */
static bool is_contended(const struct inode *inode, unsigned host, bool writes)
{
    if (!S_ISREG(inode->mode))
        return false;
    for (unsigned h = 0; h < N_HOSTS_MAX && writes; h++)
        if (h != host && inode->n_open[h] > 0)
            return true;
    return inode_is_elsewhere(inode, host);
}

/* Pipes and sockets are other programs' business. */
static bool skips_open(struct model *m, const struct op *op)
{
    int flags = (int)op->flags;
    struct inode *inode;

    if ((flags & O_TMPFILE) == O_TMPFILE)
        return false;
    if (find(m, op->path, !(flags & O_NOFOLLOW), &inode) < 0)
        return false;
    return S_ISFIFO(inode->mode) || S_ISSOCK(inode->mode) ||
           is_contended(inode, op->host, (flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY);
}

static bool skips_path(struct model *m, const struct op *op, bool follow)
{
    struct inode *inode;

    return find(m, op->path, follow, &inode) == 0 && is_contended(inode, op->host, true);
}

/* Its keeper forgets a file with its last name, though another host has it open and has not drawn it yet. */
static bool skips_last_name(struct model *m, const char *path, unsigned host)
{
    struct inode *inode;

    return find(m, path, false, &inode) == 0 && inode->nlink == 1 &&
           is_contended(inode, host, true);
}

static bool skips_map(struct model *m, const struct op *op)
{
    const struct map *map = &m->maps[op->other];
    bool writes = op->kind == OP_STORE;

    return !map->inode || op->offset + op->size > map->size || (writes && !map->writable) ||
           map->offset + op->offset + op->size > (int64_t)map->inode->size;
}

static bool is_dir_fd(const struct model *m, unsigned fd)
{
    return m->fds[fd].inode && S_ISDIR(m->fds[fd].inode->mode);
}

/* Files stay small. */
static bool is_too_large(const struct model *m, const struct op *op)
{
    const struct fd *fd = &m->fds[op->fd];
    int64_t at = op->offset;

    if (fd->inode && op->kind != OP_FALLOCATE && (fd->flags & O_APPEND))
        at = (int64_t)fd->inode->size;
    else if (op->kind == OP_WRITE)
        at = fd->offset;
    return at + op->size > FILE_SIZE_MAX;
}

static bool skips(struct model *m, const struct op *op)
{
    switch (op->kind) {
    case OP_WRITE:
    case OP_PWRITE:
    case OP_FALLOCATE:
        return is_too_large(m, op);
    case OP_COPY:
        return op->offset2 + op->size > FILE_SIZE_MAX;
    case OP_OPEN:
        return m->fds[op->fd].inode || skips_open(m, op);
    case OP_MMAP:
        return m->maps[op->other].inode;
    case OP_STORE:
    case OP_LOAD:
        return skips_map(m, op);
    case OP_OPENDIR:
        return m->streams[op->other].dir;
    case OP_TRUNCATE:
    case OP_UTIMENS:
    case OP_CHMOD:
    case OP_CHOWN:
        return skips_path(m, op, true);
    case OP_UNLINK:
        return skips_last_name(m, op->path, op->host);
    case OP_RENAME:
        return !(op->flags & RENAME_EXCHANGE) && skips_last_name(m, op->path2, op->host);
    case OP_STAT:
        return skips_path(m, op, op->flags & 1);
    case OP_LINKFD:
        return m->fds[op->fd].inode && m->fds[op->fd].host != op->host;
    case OP_LSEEK:
        return is_dir_fd(m, op->fd);
    default:
        return false;
    }
}

static void begin(struct model *m, const struct op *op)
{
    m->user = &users[op->user];
    m->host = op->host;
    m->want->size = 0;
}

/* "." and ".." at the end are the kernel's, each call with another error. */
static bool ends_in_dot(const char *path)
{
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;

    return strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
}

bool model_skips(struct model *m, const struct op *op)
{
    begin(m, op);
    return op->host >= m->rules.n_hosts || ends_in_dot(op->path) ||
           (op->kind != OP_SYMLINK && ends_in_dot(op->path2)) || skips(m, op);
}

/* ---- whether they agree ---- */

static void print_value(char text[64], int64_t value)
{
    (void)snprintf(text, 64, value < 0 ? "%ld (%s)" : "%ld", value,
                   value < 0 ? strerrorname_np((int)-value) : "");
}

static void compare(struct model *m, const struct answer *want, const struct answer *real)
{
    char wanted[64], got[64];

    print_value(wanted, want->value);
    print_value(got, real->value);
    if (want->value != real->value)
        complain(m, "wanted %s, got %s", wanted, got);
    if (want->size != real->size)
        complain(m, "wanted %zu bytes, got %zu", want->size, real->size);
    for (size_t i = 0; i < want->size; i++)
        if (want->data[i] != real->data[i])
            complain(m, "byte %zu of %zu: wanted %02x, got %02x", i, want->size, want->data[i],
                     real->data[i]);
}

bool model_step(struct model *m, const struct op *op, const struct answer *real, int64_t begin_ns,
                int64_t end_ns, char why[WHY_SIZE])
{
    begin(m, op);
    m->real = real;
    m->begin_ns = begin_ns;
    m->end_ns = end_ns;
    m->why = why;
    why[0] = '\0';
    m->want->value = operations[op->kind](m, op);
    compare(m, m->want, real);
    return why[0] == '\0';
}
