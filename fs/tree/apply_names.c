/* fs/tree/apply_names.c — applying what gives, takes and moves names. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fs/tree/apply.h"

/* A directory gained or lost a name; by: how many subdirectories more. */
static int change_dir(struct apply *a, uint64_t ino, int by)
{
    struct inode dir;
    int r = rows_get_inode(&a->rows, ino, &dir);
    if (r < 0)
        return r;
    if (!S_ISDIR(dir.mode))
        return -EBADMSG;
    dir.nlink += (uint32_t)by;
    dir.mtime_ns = dir.ctime_ns = a->change->time_ns;
    return apply_save(a, &dir);
}

/* It has no name, and stays as long as it is open where the request came from. */
static int hold(struct apply *a, uint64_t ino)
{
    struct key key = key_2(a->request->identity.host.n, ino);
    return rows_put(&a->rows, DB_HELD, &key, (struct span){0});
}

/* The inode lost a name: with the last one it goes, unless it is held open where the request came from. */
static int lose_name(struct apply *a, struct inode *inode)
{
    a->effect.before = *inode;
    if (S_ISDIR(inode->mode))
        inode->nlink = 0;
    else
        inode->nlink--;
    inode->ctime_ns = a->change->time_ns;
    a->effect.after = *inode;
    if (inode->nlink > 0)
        return apply_save(a, inode);
    if (!(a->request->flags & REQUEST_HOLD))
        return apply_erase(a, inode);
    int r = hold(a, inode->ino);
    return r < 0 ? r : apply_save(a, inode);
}

static int is_name_free(const struct apply *a, uint64_t parent, struct span name)
{
    struct name_row row;
    int r = rows_get_name(&a->rows, parent, name, &row);
    if (r == 0)
        return -EBADMSG;
    return r == -ENOENT ? 0 : r;
}

static struct inode new_inode(const struct apply *a)
{
    const struct request *rq = a->request;
    int64_t now = a->change->time_ns;
    bool is_dir = S_ISDIR(rq->mode), is_file = S_ISREG(rq->mode);
    bool is_nameless = rq->flags & REQUEST_NAMELESS;
    return (struct inode){
        .ino = a->change->ino,
        .parent = is_dir || is_nameless ? rq->parent : 0,
        .size = rq->value.size,
        .version = is_file ? a->change->index : 0,
        .keeper = is_file ? rq->identity.host : NO_HOST,
        .keeper_complete = is_file,
        .mode = rq->mode,
        .nlink = is_dir        ? 2
                 : is_nameless ? 0
                               : 1,
        .uid = rq->uid,
        .gid = rq->gid,
        .rdev = S_ISCHR(rq->mode) || S_ISBLK(rq->mode) ? rq->rdev : 0,
        .atime_ns = now,
        .mtime_ns = now,
        .ctime_ns = now,
        .btime_ns = now,
    };
}

/* Its mode is already what the directory's default ACL leaves of it. */
static int inherit_acls(struct apply *a, const struct inode *inode)
{
    struct key access = key_named(inode->ino, SPAN(ACL_ACCESS));
    struct key inherited = key_named(inode->ino, SPAN(ACL_DEFAULT));
    struct acl acl;
    if (S_ISLNK(inode->mode))
        return 0;
    int r = rows_get_acl(&a->rows, a->request->parent, ACL_DEFAULT, &acl);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (S_ISDIR(inode->mode)) {
        r = rows_put(&a->rows, DB_XATTRS, &inherited, acl_span(&acl));
        if (r < 0)
            return r;
    }
    acl_set_mode(&acl, inode->mode);
    return acl.is_minimal ? 0 : rows_put(&a->rows, DB_XATTRS, &access, acl_span(&acl));
}

/* The new inode's name, or that it is open without one. */
static int place(struct apply *a, const struct inode *inode)
{
    const struct request *rq = a->request;
    struct name_row row = {.ino = inode->ino, .cookie = a->change->index, .type = inode->mode};
    if (rq->flags & REQUEST_NAMELESS)
        return hold(a, inode->ino);
    int r = rows_put_name(&a->rows, rq->parent, rq->name, &row);
    return r < 0 ? r : change_dir(a, rq->parent, S_ISDIR(inode->mode) ? 1 : 0);
}

static int check_make(const struct apply *a)
{
    const struct request *rq = a->request;
    if (a->change->ino < a->meta.next_ino || a->change->ino >> INO_BITS ||
        (rq->value.size > 0 && !S_ISLNK(rq->mode)))
        return -EBADMSG;
    if (rq->flags & REQUEST_NAMELESS)
        return S_ISREG(rq->mode) ? 0 : -EBADMSG;
    return is_name_free(a, rq->parent, rq->name);
}

int apply_make(struct apply *a)
{
    const struct request *rq = a->request;
    int r = check_make(a);
    if (r < 0)
        return r;
    struct inode inode = new_inode(a);
    if (S_ISREG(rq->mode) && (rq->flags & REQUEST_FOR_WRITE)) {
        r = apply_set_writer(a, &inode, rq->identity.host);
        if (r < 0)
            return r;
    }
    r = rows_make_inode(&a->rows, &inode, rq->value);
    if (r == 0)
        r = inherit_acls(a, &inode);
    if (r < 0)
        return r;
    a->meta.next_ino = inode.ino + 1;
    a->meta.n_inodes++;
    a->effect.after = inode;
    apply_touch(a, inode.ino);
    return place(a, &inode);
}

/* What was made without a name is held by it from now on. */
static int first_name(struct apply *a, struct inode *inode)
{
    struct key key = key_2(a->request->identity.host.n, inode->ino);
    if (inode->parent == 0)
        return -EBADMSG;
    inode->parent = 0;
    return rows_delete(&a->rows, DB_HELD, &key);
}

int apply_link(struct apply *a)
{
    const struct request *rq = a->request;
    int r = is_name_free(a, rq->parent, rq->name);
    if (r < 0)
        return r;
    struct inode inode;
    r = rows_get_inode(&a->rows, a->change->ino, &inode);
    if (r < 0)
        return r;
    if (S_ISDIR(inode.mode))
        return -EBADMSG;
    a->effect.before = inode;
    if (inode.nlink == 0) {
        r = first_name(a, &inode);
        if (r < 0)
            return r;
    }
    inode.nlink++;
    inode.ctime_ns = a->change->time_ns;
    a->effect.after = inode;
    r = apply_save(a, &inode);
    if (r < 0)
        return r;
    struct name_row row = {.ino = inode.ino, .cookie = a->change->index, .type = inode.mode};
    r = rows_put_name(&a->rows, rq->parent, rq->name, &row);
    return r < 0 ? r : change_dir(a, rq->parent, 0);
}

/* UNLINK and RMDIR */
int apply_remove(struct apply *a)
{
    const struct request *rq = a->request;
    bool is_dir = rq->kind == REQUEST_RMDIR;
    struct name_row row;
    int r = rows_get_name(&a->rows, rq->parent, rq->name, &row);
    if (r < 0)
        return r;
    if (row.ino != a->change->ino || is_dir != S_ISDIR(row.type) ||
        (is_dir && rows_is_empty_dir(&a->rows, row.ino) != 1))
        return -EBADMSG;
    struct inode inode;
    r = rows_get_inode(&a->rows, row.ino, &inode);
    if (r == 0)
        r = rows_delete_name(&a->rows, rq->parent, rq->name, row.cookie);
    if (r == 0)
        r = lose_name(a, &inode);
    return r < 0 ? r : change_dir(a, rq->parent, is_dir ? -1 : 0);
}

/* Both directories of a rename, which may be one. */
static int change_dirs(struct apply *a, int by, int new_by)
{
    const struct request *rq = a->request;
    if (rq->parent == rq->new_parent)
        return change_dir(a, rq->parent, by + new_by);
    int r = change_dir(a, rq->parent, by);
    return r < 0 ? r : change_dir(a, rq->new_parent, new_by);
}

/* The inode has its name elsewhere now. */
static int move_inode(struct apply *a, uint64_t ino, uint64_t parent, struct inode *ret_before,
                      struct inode *ret_after)
{
    struct inode inode;
    int r = rows_get_inode(&a->rows, ino, &inode);
    if (r < 0)
        return r;
    *ret_before = inode;
    if (S_ISDIR(inode.mode))
        inode.parent = parent;
    inode.ctime_ns = a->change->time_ns;
    *ret_after = inode;
    return apply_save(a, &inode);
}

static int apply_exchange(struct apply *a, const struct name_row *row,
                          const struct name_row *new_row)
{
    const struct request *rq = a->request;
    struct name_row swapped = {.ino = new_row->ino, .cookie = row->cookie, .type = new_row->type};
    struct name_row new_swapped = {.ino = row->ino, .cookie = new_row->cookie, .type = row->type};
    int r = rows_put_name(&a->rows, rq->parent, rq->name, &swapped);
    if (r == 0)
        r = rows_put_name(&a->rows, rq->new_parent, rq->new_name, &new_swapped);
    struct inode other_before, other_after;
    if (r == 0)
        r = move_inode(a, row->ino, rq->new_parent, &a->effect.before, &a->effect.after);
    if (r == 0)
        r = move_inode(a, new_row->ino, rq->parent, &other_before, &other_after);
    if (r < 0)
        return r;
    int by = (S_ISDIR(new_row->type) ? 1 : 0) - (S_ISDIR(row->type) ? 1 : 0);
    return change_dirs(a, by, -by);
}

/* The name that is renamed over goes first. */
static int replace_name(struct apply *a, const struct name_row *row, const struct name_row *new_row)
{
    const struct request *rq = a->request;
    if (S_ISDIR(row->type) != S_ISDIR(new_row->type) ||
        (S_ISDIR(new_row->type) && rows_is_empty_dir(&a->rows, new_row->ino) != 1))
        return -EBADMSG;
    int r = rows_delete_name(&a->rows, rq->new_parent, rq->new_name, new_row->cookie);
    if (r < 0)
        return r;
    struct inode inode;
    r = rows_get_inode(&a->rows, new_row->ino, &inode);
    return r < 0 ? r : lose_name(a, &inode);
}

static int apply_move(struct apply *a, const struct name_row *row, const struct name_row *new_row)
{
    const struct request *rq = a->request;
    int r = rows_delete_name(&a->rows, rq->parent, rq->name, row->cookie);
    if (r == 0 && new_row)
        r = replace_name(a, row, new_row);
    if (r < 0)
        return r;
    struct name_row moved = {.ino = row->ino, .cookie = a->change->index, .type = row->type};
    if (new_row)
        moved.cookie = new_row->cookie;
    else if (rq->parent == rq->new_parent)
        moved.cookie = row->cookie;
    r = rows_put_name(&a->rows, rq->new_parent, rq->new_name, &moved);
    struct inode before = {0}, after = {0};
    if (r == 0)
        r = move_inode(a, row->ino, rq->new_parent, &before, &after);
    if (r < 0)
        return r;
    if (!new_row) {
        a->effect.before = before;
        a->effect.after = after;
    }
    int is_dir = S_ISDIR(row->type) ? 1 : 0;
    return change_dirs(a, -is_dir, new_row ? 0 : is_dir);
}

int apply_rename(struct apply *a)
{
    const struct request *rq = a->request;
    struct name_row row, new_row;
    int r = rows_get_name(&a->rows, rq->parent, rq->name, &row);
    if (r < 0)
        return r;
    if (row.ino != a->change->ino)
        return -EBADMSG;
    r = rows_get_name(&a->rows, rq->new_parent, rq->new_name, &new_row);
    if (r < 0 && r != -ENOENT)
        return r;
    bool has_new = r == 0;
    if (has_new && new_row.ino == row.ino)
        return -EBADMSG;
    if (rq->rename_flags & RENAME_EXCHANGE)
        return has_new ? apply_exchange(a, &row, &new_row) : -EBADMSG;
    if (has_new && (rq->rename_flags & RENAME_NOREPLACE))
        return -EBADMSG;
    return apply_move(a, &row, has_new ? &new_row : NULL);
}
