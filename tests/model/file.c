/* tests/model/file.c — descriptors and what is done through them. */
#include <linux/falloc.h>

#include "tests/model/impl.h"

static bool can_read(int flags)
{
    return (flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

/* ---- opening ---- */

static int access_of(int flags)
{
    return (can_read(flags) ? R_OK : 0) | (can_write(flags) || (flags & O_TRUNC) ? W_OK : 0);
}

static int check_open(struct model *m, struct inode *inode, int flags)
{
    if ((flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if ((flags & O_CREAT) && S_ISDIR(inode->mode))
        return -EISDIR;
    if ((flags & O_DIRECTORY) && !S_ISDIR(inode->mode))
        return -ENOTDIR;
    if (S_ISLNK(inode->mode))
        return -ELOOP;
    if (S_ISDIR(inode->mode) && (access_of(flags) & W_OK))
        return -EISDIR;
    return may(m, inode, access_of(flags)) ? 0 : -EACCES;
}

static int open_existing(struct model *m, struct inode *inode, int flags)
{
    int r = check_open(m, inode, flags);

    if (r < 0 || !(flags & O_TRUNC))
        return r;
    inode_resize(inode, 0);
    touch_content(m, inode);
    strip_privileges(m, inode);
    return 0;
}

static int open_named(struct model *m, const struct op *op, int flags, struct inode **ret_inode)
{
    struct place place;
    bool follow = !(flags & O_NOFOLLOW) && !((flags & O_CREAT) && (flags & O_EXCL));

    int r = walk(m, op->path, follow, &place);
    if (r < 0)
        return r;
    *ret_inode = place.inode;
    if (place.inode)
        return open_existing(m, place.inode, flags);
    if (!(flags & O_CREAT))
        return -ENOENT;
    r = may_make(m, &place);
    if (r < 0)
        return r;
    *ret_inode = make_inode(m, place.dir, S_IFREG | op->mode);
    make_name(m, &place, *ret_inode);
    return 0;
}

static int open_unnamed(struct model *m, const struct op *op, int flags, struct inode **ret_inode)
{
    struct inode *dir;

    if (!can_write(flags))
        return -EINVAL;
    int r = find(m, op->path, true, &dir);
    if (r < 0)
        return r;
    if (!S_ISDIR(dir->mode))
        return -ENOTDIR;
    if (!may(m, dir, W_OK | X_OK))
        return -EACCES;
    *ret_inode = make_inode(m, dir, S_IFREG | op->mode);
    (*ret_inode)->nlink = 0;
    (*ret_inode)->no_link = flags & O_EXCL;
    return 0;
}

int64_t do_open(struct model *m, const struct op *op)
{
    int flags = (int)op->flags;
    struct inode *inode;

    int r = (flags & O_TMPFILE) == O_TMPFILE ? open_unnamed(m, op, flags, &inode)
                                             : open_named(m, op, flags, &inode);
    if (r < 0)
        return r;
    m->fds[op->fd] = (struct fd){.inode = inode, .flags = flags, .host = m->host};
    inode_open(inode, m->host, can_write(flags));
    return 0;
}

static void close_fd_slot(struct model *m, struct fd *fd)
{
    struct inode *inode = TAKE(fd->inode);

    if (inode)
        inode_close(m, inode, fd->host, can_write(fd->flags));
}

int64_t do_close(struct model *m, const struct op *op)
{
    if (!m->fds[op->fd].inode)
        return -EBADF;
    close_fd_slot(m, &m->fds[op->fd]);
    return 0;
}

/* What was open for writing is published by the next start: that may be its change's time. */
void do_close_all(struct model *m, const struct op *op)
{
    struct op each = *op;

    for (int i = 0; i < N_FDS; i++) {
        struct fd *fd = &m->fds[i];
        if (fd->inode && op->kind == OP_KILL && can_write(fd->flags))
            may_touch(m, &fd->inode->ctime);
        close_fd_slot(m, fd);
    }
    for (each.other = 0; each.other < N_MAPS; each.other++)
        if (m->maps[each.other].inode)
            (void)do_munmap(m, &each);
    for (each.other = 0; each.other < N_STREAMS; each.other++)
        if (m->streams[each.other].dir)
            (void)do_closedir(m, &each);
}

/* ---- bytes ---- */

int64_t do_read(struct model *m, const struct op *op)
{
    struct fd *fd = &m->fds[op->fd];
    struct inode *inode = fd->inode;
    int64_t offset = op->kind == OP_READ ? fd->offset : op->offset;

    if (op->kind == OP_PREAD && offset < 0)
        return -EINVAL;
    if (!inode || !can_read(fd->flags))
        return -EBADF;
    if (S_ISDIR(inode->mode))
        return -EISDIR;
    may_touch(m, &inode->atime);
    if (offset >= (int64_t)inode->size)
        return 0;
    size_t n = MIN((size_t)op->size, inode->size - (size_t)offset);
    memcpy(m->want->data, inode->data + offset, n);
    m->want->size = n;
    if (op->kind == OP_READ)
        fd->offset += (int64_t)n;
    return (int64_t)n;
}

static void put_bytes(struct inode *inode, int64_t offset, const void *data, size_t size)
{
    inode_resize(inode, MAX(inode->size, (size_t)offset + size));
    memcpy(inode->data + offset, data, size);
}

int64_t do_write(struct model *m, const struct op *op)
{
    static _Thread_local uint8_t data[DATA_MAX];
    struct fd *fd = &m->fds[op->fd];
    struct inode *inode = fd->inode;
    int64_t offset = op->kind == OP_WRITE ? fd->offset : op->offset;

    if (op->kind == OP_PWRITE && offset < 0)
        return -EINVAL;
    if (!inode || !can_write(fd->flags))
        return -EBADF;
    if (op->size == 0)
        return 0;
    if (fd->flags & O_APPEND)
        offset = (int64_t)inode->size;
    op_fill(data, (size_t)op->size, op->pattern);
    put_bytes(inode, offset, data, (size_t)op->size);
    strip_privileges(m, inode);
    touch_content(m, inode);
    if (op->kind == OP_WRITE)
        fd->offset = offset + op->size;
    return op->size;
}

/* ---- seeking ---- */

static bool is_zero(const struct inode *inode, int64_t from, int64_t to)
{
    for (; from < to; from++)
        if (inode->data[from] != 0)
            return false;
    return true;
}

/* Any hole may be called data, and the end is a hole: so there are many right answers. */
static int64_t check_data_or_hole(struct model *m, const struct inode *inode, const struct op *op)
{
    int64_t got = m->real->value, size = (int64_t)inode->size;

    if (op->offset < 0 || op->offset >= size)
        return -ENXIO;
    if (op->flags == SEEK_DATA && got == -ENXIO && !is_zero(inode, op->offset, size))
        complain(m, "no data is said to be behind %ld", op->offset);
    if (got == -ENXIO && op->flags == SEEK_DATA)
        return got;
    if (got < op->offset || got > size || (op->flags == SEEK_DATA && got == size))
        complain(m, "%ld is not between %ld and %ld", got, op->offset, size);
    else if (op->flags == SEEK_DATA && !is_zero(inode, op->offset, got))
        complain(m, "there is data before %ld", got);
    else if (op->flags == SEEK_HOLE && got < size && inode->data[got] != 0)
        complain(m, "there is data at %ld", got);
    return got;
}

int64_t do_lseek(struct model *m, const struct op *op)
{
    struct fd *fd = &m->fds[op->fd];
    int64_t to = op->offset;

    if (!fd->inode)
        return -EBADF;
    if (op->flags == SEEK_CUR)
        to += fd->offset;
    else if (op->flags == SEEK_END)
        to += (int64_t)fd->inode->size;
    else if (op->flags == SEEK_DATA || op->flags == SEEK_HOLE)
        to = check_data_or_hole(m, fd->inode, op);
    else if (op->flags != SEEK_SET)
        return -EINVAL;
    if (to < 0)
        return op->flags <= SEEK_END ? -EINVAL : to;
    fd->offset = to;
    return to;
}

/* ---- sizes ---- */

static void set_size(struct model *m, struct inode *inode, size_t size, bool always)
{
    if (size != inode->size || always)
        touch_content(m, inode);
    else
        may_touch(m, &inode->mtime);
    may_touch(m, &inode->ctime);
    strip_privileges(m, inode);
    inode_resize(inode, size);
}

int64_t do_truncate(struct model *m, const struct op *op)
{
    struct inode *inode;

    if (op->size < 0)
        return -EINVAL;
    int r = find(m, op->path, true, &inode);
    if (r < 0)
        return r;
    if (S_ISDIR(inode->mode))
        return -EISDIR;
    if (!S_ISREG(inode->mode))
        return -EINVAL;
    if (!may(m, inode, W_OK))
        return -EACCES;
    set_size(m, inode, (size_t)op->size, false);
    return 0;
}

int64_t do_ftruncate(struct model *m, const struct op *op)
{
    struct fd *fd = &m->fds[op->fd];

    if (op->size < 0)
        return -EINVAL;
    if (!fd->inode)
        return -EBADF;
    if (!S_ISREG(fd->inode->mode) || !can_write(fd->flags))
        return -EINVAL;
    set_size(m, fd->inode, (size_t)op->size, true);
    return 0;
}

int64_t do_fallocate(struct model *m, const struct op *op)
{
    struct fd *fd = &m->fds[op->fd];
    struct inode *inode = fd->inode;

    if (!inode)
        return -EBADF;
    if (op->offset < 0 || op->size <= 0)
        return -EINVAL;
    if (!can_write(fd->flags))
        return -EBADF;
    size_t end = (size_t)(op->offset + op->size);
    if (!(op->flags & FALLOC_FL_KEEP_SIZE) && end > inode->size)
        inode_resize(inode, end);
    if ((op->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) &&
        (size_t)op->offset < inode->size)
        memset(inode->data + op->offset, 0, MIN(end, inode->size) - (size_t)op->offset);
    strip_privileges(m, inode);
    may_touch(m, &inode->mtime);
    may_touch(m, &inode->ctime);
    return 0;
}

/* ---- copying ---- */

static int check_copy(const struct fd *from, const struct fd *to)
{
    if (!from->inode || !to->inode)
        return -EBADF;
    if (S_ISDIR(from->inode->mode) || S_ISDIR(to->inode->mode))
        return -EISDIR;
    if (!can_read(from->flags) || !can_write(to->flags) || (to->flags & O_APPEND))
        return -EBADF;
    return 0;
}

/* It may stop wherever it likes, but not at the beginning. */
int64_t do_copy(struct model *m, const struct op *op)
{
    struct fd *from = &m->fds[op->fd], *to = &m->fds[op->other];

    int r = check_copy(from, to);
    if (r < 0)
        return r;
    int64_t size = (int64_t)from->inode->size;
    int64_t n = op->offset >= size ? 0 : MIN(op->size, size - op->offset);
    if (from->inode == to->inode && op->offset2 + n > op->offset && op->offset2 < op->offset + n)
        return -EINVAL;
    may_touch(m, &from->inode->atime);
    if (n == 0)
        return 0;
    if (m->real->value > 0 && m->real->value < n)
        n = m->real->value;
    inode_resize(to->inode, MAX(to->inode->size, (size_t)(op->offset2 + n)));
    memcpy(to->inode->data + op->offset2, from->inode->data + op->offset, (size_t)n);
    strip_privileges(m, to->inode);
    touch_content(m, to->inode);
    return n;
}

int64_t do_fsync(struct model *m, const struct op *op)
{
    return m->fds[op->fd].inode ? 0 : -EBADF;
}
