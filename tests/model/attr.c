/* tests/model/attr.c — attributes of inodes. */
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tests/model/impl.h"

/* ---- stat ---- */

static int64_t size_of(const struct inode *inode)
{
    return S_ISLNK(inode->mode) ? (int64_t)strlen(inode->target) : (int64_t)inode->size;
}

static void check_number(struct model *m, const char *what, int64_t want, int64_t got)
{
    if (want != got)
        complain(m, "%s: wanted %ld, got %ld", what, want, got);
}

static void check_moment(struct model *m, const char *what, struct moment *moment,
                         struct timespec got)
{
    int64_t t = got.tv_sec * NS_PER_S + got.tv_nsec;

    if (t < moment->lo)
        complain(m, "%s: %ld ns too early", what, moment->lo - t);
    else if (t > moment->hi)
        complain(m, "%s: %ld ns too late", what, t - moment->hi);
    *moment = (struct moment){t, t};
}

/* A number is an inode's own as long as it lives. */
static void check_ino(struct model *m, struct inode *inode, uint64_t got)
{
    if (inode->seen_ino == got)
        return;
    if (inode->seen_ino != 0)
        complain(m, "st_ino: was %lu, is %lu", inode->seen_ino, got);
    for (const struct inode *other = m->inodes; other; other = other->next)
        if (other != inode && other->seen_ino == got)
            complain(m, "st_ino: %lu is another file's too", got);
    inode->seen_ino = got;
}

static void check_times(struct model *m, struct inode *inode, const struct stat *st)
{
    if (inode->n_stored > 0)
        inode->mtime.hi = inode->ctime.hi = INT64_MAX;
    check_moment(m, "st_atime", &inode->atime, st->st_atim);
    check_moment(m, "st_mtime", &inode->mtime, st->st_mtim);
    check_moment(m, "st_ctime", &inode->ctime, st->st_ctim);
}

static void check_stat(struct model *m, struct inode *inode, const struct stat *st)
{
    check_number(m, "type", inode->mode & S_IFMT, st->st_mode & S_IFMT);
    inode->mode |= st->st_mode & inode->may_keep;
    inode->may_keep = 0;
    if ((inode->mode & 07777) != (st->st_mode & 07777))
        complain(m, "mode: wanted %04o, got %04o", inode->mode & 07777, st->st_mode & 07777);
    check_number(m, "st_nlink", inode->nlink, (int64_t)st->st_nlink);
    check_number(m, "st_uid", inode->uid, st->st_uid);
    check_number(m, "st_gid", inode->gid, st->st_gid);
    check_ino(m, inode, st->st_ino);
    if (inode_is_elsewhere(inode, m->host))
        return;
    if (!S_ISDIR(inode->mode))
        check_number(m, "st_size", size_of(inode), st->st_size);
    check_times(m, inode, st);
}

bool model_stat_agrees(struct model *m, struct inode *inode, const struct stat *st,
                       char why[WHY_SIZE])
{
    why[0] = '\0';
    m->why = why;
    inode->atime.hi = INT64_MAX; /* looking at the tree reads it */
    check_stat(m, inode, st);
    inode->atime.hi = INT64_MAX;
    return why[0] == '\0';
}

int64_t do_stat(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find(m, op->path, op->flags & 1, &inode);
    if (r == 0 && m->real->value == 0)
        check_stat(m, inode, &m->real->st);
    return r;
}

int64_t do_fstat(struct model *m, const struct op *op)
{
    struct inode *inode = m->fds[op->fd].inode;

    if (inode && m->real->value == 0)
        check_stat(m, inode, &m->real->st);
    return inode ? 0 : -EBADF;
}

int64_t do_readlink(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find(m, op->path, false, &inode);
    if (r < 0)
        return r;
    if (!S_ISLNK(inode->mode))
        return -EINVAL;
    may_touch(m, &inode->atime);
    m->want->size = strlen(inode->target);
    memcpy(m->want->data, inode->target, m->want->size);
    return (int64_t)m->want->size;
}

int64_t do_access(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find(m, op->path, true, &inode);
    if (r < 0)
        return r;
    return may(m, inode, (int)op->mode) ? 0 : -EACCES;
}

/* ---- changing ---- */

static int64_t set_mode(struct model *m, struct inode *inode, mode_t mode)
{
    if (!is_owner(m, inode))
        return -EPERM;
    if (m->user->uid != 0 && m->user->gid != inode->gid)
        mode &= ~(mode_t)S_ISGID;
    inode->mode = (inode->mode & S_IFMT) | (mode & 07777);
    inode->may_keep = 0;
    inode->late_setid = inode->n_writers[m->host] > 0;
    touch(m, &inode->ctime);
    return 0;
}

int64_t do_chmod(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find(m, op->path, true, &inode);
    return r < 0 ? r : set_mode(m, inode, op->mode);
}

int64_t do_fchmod(struct model *m, const struct op *op)
{
    struct inode *inode = m->fds[op->fd].inode;

    return inode ? set_mode(m, inode, op->mode) : -EBADF;
}

static bool may_chown(const struct model *m, const struct inode *inode, const struct op *op)
{
    if (m->user->uid == 0)
        return true;
    if (op->uid != -1 && (m->user->uid != inode->uid || (uint32_t)op->uid != inode->uid))
        return false;
    return op->gid == -1 || (m->user->uid == inode->uid && ((uint32_t)op->gid == m->user->gid ||
                                                            (uint32_t)op->gid == inode->gid));
}

int64_t do_chown(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find(m, op->path, op->flags & 1, &inode);
    if (r < 0)
        return r;
    if (!may_chown(m, inode, op))
        return -EPERM;
    strip_by_chown(m, inode, op->uid != -1 || op->gid != -1);
    if (op->uid == -1 && op->gid == -1)
        may_touch(m, &inode->ctime);
    else
        touch(m, &inode->ctime);
    inode->uid = op->uid == -1 ? inode->uid : (uint32_t)op->uid;
    inode->gid = op->gid == -1 ? inode->gid : (uint32_t)op->gid;
    return 0;
}

int64_t do_utimens(struct model *m, const struct op *op)
{
    bool now = op->flags & UTIMENS_NOW, omits = op->flags & UTIMENS_OMIT_ATIME;
    struct inode *inode;

    int r = find(m, op->path, true, &inode);
    if (r < 0)
        return r;
    if (!is_owner(m, inode) && !(now && !omits && may(m, inode, W_OK)))
        return now && !omits ? -EACCES : -EPERM;
    if (now)
        touch(m, &inode->mtime);
    else
        inode->mtime = (struct moment){op->offset, op->offset};
    if (!omits)
        inode->atime = inode->mtime;
    touch(m, &inode->ctime);
    return 0;
}

/* ---- extended attributes ---- */

static struct attribute **attribute_link(struct inode *inode, const char *name)
{
    struct attribute **link = &inode->attributes;

    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

static int may_attribute(const struct model *m, const struct inode *inode, bool writes)
{
    if (!S_ISREG(inode->mode) && !S_ISDIR(inode->mode))
        return writes ? -EPERM : -ENODATA;
    if (writes && S_ISDIR(inode->mode) && (inode->mode & S_ISVTX) && !is_owner(m, inode))
        return -EPERM;
    return may(m, inode, writes ? W_OK : R_OK) ? 0 : -EACCES;
}

static int find_attribute(struct model *m, const struct op *op, bool writes,
                          struct inode **ret_inode)
{
    int r = find(m, op->path, false, ret_inode);

    return r < 0 ? r : may_attribute(m, *ret_inode, writes);
}

/* True: that is what it was. */
static bool put_value(struct attribute *attribute, const struct op *op)
{
    size_t size = (size_t)op->size;
    uint8_t *value = malloc(MAX(size, 1));
    CHECK(value);
    op_fill(value, size, op->pattern);
    bool is_same =
        attribute->value && attribute->size == size && memcmp(attribute->value, value, size) == 0;
    free(attribute->value);
    attribute->value = value;
    attribute->size = size;
    return is_same;
}

int64_t do_setxattr(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find_attribute(m, op, true, &inode);
    if (r < 0)
        return r;
    struct attribute **link = attribute_link(inode, op->path2);
    if (*link && (op->flags & XATTR_CREATE))
        return -EEXIST;
    if (!*link && (op->flags & XATTR_REPLACE))
        return -ENODATA;
    if (!*link) {
        *link = calloc(1, sizeof **link + sizeof op->path2);
        CHECK(*link);
        memcpy((*link)->name, op->path2, sizeof op->path2);
    }
    if (put_value(*link, op)) /* ext4 changes nothing then */
        may_touch(m, &inode->ctime);
    else
        touch(m, &inode->ctime);
    return 0;
}

int64_t do_getxattr(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find_attribute(m, op, false, &inode);
    if (r < 0)
        return r;
    const struct attribute *attribute = *attribute_link(inode, op->path2);
    if (!attribute)
        return -ENODATA;
    if (op->size == 0)
        return (int64_t)attribute->size;
    if ((size_t)op->size < attribute->size)
        return -ERANGE;
    memcpy(m->want->data, attribute->value, attribute->size);
    m->want->size = attribute->size;
    return (int64_t)attribute->size;
}

int64_t do_removexattr(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find_attribute(m, op, true, &inode);
    if (r < 0)
        return r;
    struct attribute **link = attribute_link(inode, op->path2), *gone = *link;
    if (!gone)
        return -ENODATA;
    *link = gone->next;
    free(gone->value);
    free(gone);
    touch(m, &inode->ctime);
    return 0;
}

/* The real list, in any order, must hold each name once. */
int64_t do_listxattr(struct model *m, const struct op *op)
{
    const struct answer *real = m->real;
    struct inode *inode;
    int64_t n = 0;

    int r = find(m, op->path, false, &inode);
    if (r < 0)
        return r;
    for (const struct attribute *a = inode->attributes; a; a = a->next)
        n += (int64_t)strlen(a->name) + 1;
    for (size_t at = 0; at < real->size; at += strlen((const char *)real->data + at) + 1)
        if (!*attribute_link(inode, (const char *)real->data + at))
            complain(m, "there is no attribute %s", (const char *)real->data + at);
    m->want->size = real->size;
    memcpy(m->want->data, real->data, real->size);
    return n;
}
