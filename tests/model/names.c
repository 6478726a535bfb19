/* tests/model/names.c — making, linking, removing and moving names. */
#include <stdio.h>

#include "tests/model/impl.h"

/* ---- making ---- */

static bool is_sgid_refused(const struct model *m, const struct inode *dir, mode_t mode)
{
    return !S_ISDIR(mode) && (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
           m->user->uid != 0 && m->user->gid != dir->gid;
}

struct inode *make_inode(struct model *m, struct inode *dir, mode_t mode)
{
    bool inherits = dir->mode & S_ISGID;

    if (inherits && S_ISDIR(mode))
        mode |= S_ISGID;
    if (inherits && is_sgid_refused(m, dir, mode))
        mode &= ~(mode_t)S_ISGID;
    struct inode *inode = inode_new(m, mode);
    inode->uid = m->user->uid;
    inode->gid = inherits ? dir->gid : m->user->gid;
    return inode;
}

int may_make(struct model *m, const struct place *place)
{
    if (place->dir->nlink == 0)
        return -ENOENT;
    return may(m, place->dir, W_OK | X_OK) ? 0 : -EACCES;
}

void make_name(struct model *m, const struct place *place, struct inode *inode)
{
    name_add(m, place->dir, place->text, inode);
    touch_content(m, place->dir);
    if (S_ISDIR(inode->mode)) {
        place->dir->nlink++;
        inode->parent = place->dir;
    }
}

/* Where something can be made. */
static int new_place(struct model *m, const char *path, struct place *ret_place)
{
    int r = walk(m, path, false, ret_place);
    if (r < 0)
        return r;
    return ret_place->inode ? -EEXIST : may_make(m, ret_place);
}

static int64_t make(struct model *m, const char *path, mode_t mode, const char *target)
{
    struct place place;

    int r = new_place(m, path, &place);
    if (r < 0)
        return r;
    struct inode *inode = make_inode(m, place.dir, mode);
    if (target)
        inode->target = strdup(target);
    make_name(m, &place, inode);
    return 0;
}

int64_t do_mkdir(struct model *m, const struct op *op)
{
    return make(m, op->path, S_IFDIR | (op->mode & 01777), NULL);
}

int64_t do_mknod(struct model *m, const struct op *op)
{
    return make(m, op->path, op->mode, NULL);
}

int64_t do_symlink(struct model *m, const struct op *op)
{
    char target[FULL_PATH_SIZE];

    op_expand(op->path2, target);
    return target[0] ? make(m, op->path, S_IFLNK | 0777, target) : -ENOENT;
}

static bool is_link_refused(const struct model *m, const struct inode *inode)
{
    if (!m->rules.protected_hardlinks || is_owner(m, inode))
        return false;
    return !S_ISREG(inode->mode) || (inode->mode & S_ISUID) ||
           (inode->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ||
           !may(m, inode, R_OK | W_OK);
}

static int64_t link_to(struct model *m, struct inode *inode, const char *path)
{
    struct place place;

    int r = walk(m, path, false, &place);
    if (r < 0)
        return r;
    if (place.inode)
        return -EEXIST;
    if (is_link_refused(m, inode))
        return -EPERM;
    r = may_make(m, &place);
    if (r < 0)
        return r;
    if (S_ISDIR(inode->mode))
        return -EPERM;
    if (inode->nlink == 0 && inode->no_link)
        return -ENOENT;
    inode->nlink++;
    inode->no_link = false;
    touch(m, &inode->ctime);
    make_name(m, &place, inode);
    return 0;
}

int64_t do_link(struct model *m, const struct op *op)
{
    struct inode *inode;

    int r = find(m, op->path, false, &inode);
    return r < 0 ? r : link_to(m, inode, op->path2);
}

int64_t do_linkfd(struct model *m, const struct op *op)
{
    struct inode *inode = m->fds[op->fd].inode;

    return inode ? link_to(m, inode, op->path2) : -EBADF;
}

/* ---- removing ---- */

static bool is_sticky(const struct model *m, const struct inode *dir, const struct inode *inode)
{
    return (dir->mode & S_ISVTX) && !is_owner(m, inode) && !is_owner(m, dir);
}

static int may_take(struct model *m, const struct inode *dir, const struct inode *inode,
                    bool as_dir)
{
    if (!may(m, dir, W_OK | X_OK))
        return -EACCES;
    if (is_sticky(m, dir, inode))
        return -EPERM;
    if (as_dir != (bool)S_ISDIR(inode->mode))
        return as_dir ? -ENOTDIR : -EISDIR;
    return 0;
}

static void lose_name(struct model *m, struct inode *dir, struct name *name)
{
    struct inode *inode = name->inode;

    name_drop(dir, name);
    touch_content(m, dir);
    touch(m, &inode->ctime);
    if (S_ISDIR(inode->mode)) {
        dir->nlink--;
        inode->nlink = 0;
    } else {
        inode->nlink--;
    }
    inode->no_link = inode->nlink == 0;
    inode_collect(m, inode);
}

static int64_t remove_name(struct model *m, const struct op *op, bool as_dir)
{
    struct place place;

    int r = walk(m, op->path, false, &place);
    if (r < 0)
        return r;
    if (!place.inode)
        return -ENOENT;
    r = may_take(m, place.dir, place.inode, as_dir);
    if (r < 0)
        return r;
    if (as_dir && place.inode->names)
        return -ENOTEMPTY;
    lose_name(m, place.dir, place.name);
    return 0;
}

int64_t do_unlink(struct model *m, const struct op *op)
{
    return remove_name(m, op, false);
}

int64_t do_rmdir(struct model *m, const struct op *op)
{
    return remove_name(m, op, true);
}

/* ---- moving ---- */

static bool is_within(const struct model *m, const struct inode *dir, const struct inode *of)
{
    for (; dir != of; dir = dir->parent)
        if (dir == m->root)
            return false;
    return true;
}

static int check_loops(struct model *m, const struct place *from, const struct place *to,
                       bool swaps)
{
    if (S_ISDIR(from->inode->mode) && is_within(m, to->dir, from->inode))
        return -EINVAL;
    if (to->inode && S_ISDIR(to->inode->mode) && is_within(m, from->dir, to->inode))
        return swaps ? -EINVAL : -ENOTEMPTY;
    return 0;
}

/* A directory that gets another parent has its `..` changed. */
static bool may_turn(const struct model *m, const struct inode *inode)
{
    return !S_ISDIR(inode->mode) || may(m, inode, W_OK);
}

static int check_permissions(struct model *m, const struct place *from, const struct place *to,
                             bool swaps)
{
    bool is_dir = S_ISDIR(from->inode->mode);
    int r = may_take(m, from->dir, from->inode, is_dir);

    if (r == 0 && !to->inode)
        r = may_make(m, to);
    else if (r == 0)
        r = may_take(m, to->dir, to->inode, swaps ? (bool)S_ISDIR(to->inode->mode) : is_dir);
    if (r == 0 && from->dir != to->dir &&
        (!may_turn(m, from->inode) || (swaps && !may_turn(m, to->inode))))
        r = -EACCES;
    return r;
}

static int check_rename(struct model *m, const struct place *from, const struct place *to,
                        uint32_t flags)
{
    bool swaps = flags & RENAME_EXCHANGE;

    if (!from->inode)
        return from->is_too_long ? -ENAMETOOLONG : -ENOENT;
    if (to->is_too_long)
        return -ENAMETOOLONG;
    if ((flags & RENAME_NOREPLACE) && to->inode)
        return -EEXIST;
    if (swaps && !to->inode)
        return -ENOENT;
    int r = check_loops(m, from, to, swaps);
    if (r < 0 || from->inode == to->inode)
        return r;
    r = check_permissions(m, from, to, swaps);
    if (r == 0 && to->inode && !swaps && to->inode->names)
        r = -ENOTEMPTY;
    return r;
}

/* What a directory that moves means for the two that it moves between. */
static void turn(struct inode *inode, struct inode *from, struct inode *to)
{
    if (S_ISDIR(inode->mode)) {
        from->nlink--;
        to->nlink++;
        inode->parent = to;
    }
}

static void swap(struct model *m, const struct place *from, const struct place *to)
{
    from->name->inode = to->inode;
    to->name->inode = from->inode;
    from->name->id = ++m->next_id;
    to->name->id = ++m->next_id;
    turn(from->inode, from->dir, to->dir);
    turn(to->inode, to->dir, from->dir);
    touch(m, &to->inode->ctime);
}

static void move(struct model *m, const struct place *from, const struct place *to)
{
    if (to->inode)
        lose_name(m, to->dir, to->name);
    name_drop(from->dir, from->name);
    name_add(m, to->dir, to->text, from->inode);
    turn(from->inode, from->dir, to->dir);
}

/* A directory that another host moved is found in its new place by a rename between directories: the kernel, which
 * would have to move what it knows of it, holds the lock for that already. Nothing has changed then. */
static bool is_refused_by_kernel(const struct model *m, const struct place *from,
                                 const struct place *to)
{
    return m->rules.n_hosts > 1 && m->real->value == -ESTALE && from->dir != to->dir;
}

int64_t do_rename(struct model *m, const struct op *op)
{
    struct place from, to;

    if (op->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
        op->flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    int r = walk_to_last(m, op->path, false, &from);
    if (r == 0)
        r = walk_to_last(m, op->path2, false, &to);
    if (r == 0 && is_refused_by_kernel(m, &from, &to))
        return -ESTALE;
    if (r == 0)
        r = check_rename(m, &from, &to, op->flags);
    if (r < 0 || from.inode == to.inode)
        return r;
    if (op->flags & RENAME_EXCHANGE)
        swap(m, &from, &to);
    else
        move(m, &from, &to);
    touch_content(m, from.dir);
    touch_content(m, to.dir);
    touch(m, &from.inode->ctime);
    return 0;
}
