/* fs/tree/decide_names.c — deciding what gives, takes and moves names. The order of errors is that of Linux. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/tree/decide.h"

static int check_name(struct span name)
{
    if (name.size == 0)
        return -EINVAL;
    if (name.size > NAME_BYTES_MAX)
        return -ENAMETOOLONG;
    if (name.data[0] == '.' && (name.size == 1 || (name.size == 2 && name.data[1] == '.')))
        return -EINVAL;
    if (memchr(name.data, '/', name.size) || memchr(name.data, '\0', name.size))
        return -EINVAL;
    return 0;
}

/* A directory that can take and lose names. */
static int get_dir(const struct decision *d, uint64_t ino, struct inode *ret_dir)
{
    struct inode dir;
    int r = rows_get_inode(&d->rows, ino, &dir);
    if (r < 0)
        return r;
    if (!S_ISDIR(dir.mode))
        return -ENOTDIR;
    if (dir.nlink == 0)
        return -ENOENT;
    *ret_dir = dir;
    return 0;
}

static int get_child(const struct decision *d, uint64_t parent, struct span name,
                     struct inode *ret_dir, struct name_row *ret_row)
{
    int r = check_name(name);
    if (r < 0)
        return r;
    r = get_dir(d, parent, ret_dir);
    return r < 0 ? r : rows_get_name(&d->rows, parent, name, ret_row);
}

/* A directory in which name is still free. */
static int get_free_name(const struct decision *d, uint64_t parent, struct span name,
                         struct inode *ret_dir)
{
    struct inode dir = {0};
    struct name_row row;
    int r = get_child(d, parent, name, &dir, &row);
    if (r == 0)
        return -EEXIST;
    if (r != -ENOENT || dir.ino == 0)
        return r;
    *ret_dir = dir;
    return 0;
}

static bool is_known_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
        return true;
    default:
        return false;
    }
}

static int check_target(const struct request *rq)
{
    if (!S_ISLNK(rq->mode))
        return rq->value.size == 0 ? 0 : -EINVAL;
    if (rq->value.size == 0)
        return -ENOENT;
    if (rq->value.size > SYMLINK_BYTES_MAX)
        return -ENAMETOOLONG;
    return memchr(rq->value.data, '\0', rq->value.size) ? -EINVAL : 0;
}

static int check_inodes(const struct tree_meta *meta)
{
    bool is_full = meta->limit_inodes != 0 && meta->n_inodes >= meta->limit_inodes;
    return is_full ? -ENOSPC : 0;
}

/* A file that is made without a name needs a directory all the same: for the group and ACL that it inherits. */
static int get_place(const struct decision *d, struct inode *ret_dir)
{
    const struct request *rq = d->request;
    if (!(rq->flags & REQUEST_NAMELESS))
        return get_free_name(d, rq->parent, rq->name, ret_dir);
    if (rq->name.size > 0 || !S_ISREG(rq->mode))
        return -EINVAL;
    return get_dir(d, rq->parent, ret_dir);
}

/* Of the permissions asked for stays what the umask, or in its place the directory's default ACL, leaves.
 * Returns the bytes of the ACLs that come with it. */
static int decide_mode(const struct decision *d, const struct inode *dir, uint32_t *ret_mode)
{
    const struct request *rq = d->request;
    uint32_t mode = rq->mode & (S_IFMT | PERMISSIONS);
    struct acl acl = {0};
    if (S_ISLNK(mode)) {
        *ret_mode = S_IFLNK | 0777;
        return 0;
    }
    int r = rows_get_acl(&d->rows, dir->ino, ACL_DEFAULT, &acl);
    if (r < 0 && r != -ENOENT)
        return r;
    mode &= r == 0 ? acl_mode(&acl) | ~0777u : ~rq->umask;
    if (S_ISDIR(mode) && (dir->mode & S_ISGID))
        mode |= S_ISGID;
    *ret_mode = mode;
    return 2 * (int)acl.size;
}

int decide_make(struct decision *d)
{
    const struct request *rq = d->request;
    const struct tree_meta *meta = &d->tree->meta;
    struct inode dir;
    int r = get_place(d, &dir);
    if (r < 0)
        return r;
    if (!is_known_type(rq->mode))
        return -EINVAL;
    r = check_target(rq);
    if (r == 0)
        r = check_inodes(meta);
    struct request *made = &d->change->request;
    if (r == 0)
        r = decide_mode(d, &dir, &made->mode);
    if (r >= 0)
        r = tree_room(d->tree, rq->value.size + (size_t)r);
    if (r < 0)
        return r;
    if (meta->next_ino >> INO_BITS)
        return -ENOSPC;
    if (S_ISDIR(rq->mode) && dir.nlink >= TREE_LINK_MAX)
        return -EMLINK;

    made->umask = 0;
    if (dir.mode & S_ISGID)
        made->gid = dir.gid;
    d->change->ino = meta->next_ino;
    return 0;
}

/* What was unlinked gets no name again; what was made without one does, where it is open. */
static int check_linkable(const struct decision *d, const struct inode *inode)
{
    struct key key = key_2(d->request->identity.host.n, inode->ino);
    struct span value;
    if (inode->nlink > 0)
        return 0;
    return inode->parent == 0 ? -ENOENT : rows_get(&d->rows, DB_HELD, &key, &value);
}

int decide_link(struct decision *d)
{
    const struct request *rq = d->request;
    struct inode inode, dir;
    int r = rows_get_inode(&d->rows, rq->ino, &inode);
    if (r < 0)
        return r;
    r = get_free_name(d, rq->parent, rq->name, &dir);
    if (r < 0)
        return r;
    if (S_ISDIR(inode.mode))
        return -EPERM;
    if (inode.nlink >= TREE_LINK_MAX)
        return -EMLINK;
    d->change->ino = rq->ino;
    r = check_linkable(d, &inode);
    return r < 0 ? r : tree_room(d->tree, 0);
}

int decide_unlink(struct decision *d)
{
    const struct request *rq = d->request;
    struct inode dir;
    struct name_row row;
    int r = get_child(d, rq->parent, rq->name, &dir, &row);
    if (r < 0)
        return r;
    if (S_ISDIR(row.type))
        return -EISDIR;
    d->change->ino = row.ino;
    return 0;
}

static int check_empty(const struct decision *d, uint64_t dir)
{
    int r = rows_is_empty_dir(&d->rows, dir);
    if (r < 0)
        return r;
    return r ? 0 : -ENOTEMPTY;
}

int decide_rmdir(struct decision *d)
{
    const struct request *rq = d->request;
    struct inode dir;
    struct name_row row;
    int r = get_child(d, rq->parent, rq->name, &dir, &row);
    if (r < 0)
        return r;
    if (!S_ISDIR(row.type))
        return -ENOTDIR;
    d->change->ino = row.ino;
    return check_empty(d, row.ino);
}

/* 1 if dir is ino or lies below it. */
static int is_within(const struct decision *d, uint64_t dir, uint64_t ino)
{
    /* No path has more directories than there are inodes: damage must not become an endless walk. */
    for (uint64_t n = 0; n <= d->tree->meta.n_inodes; n++) {
        if (dir == ino)
            return 1;
        if (dir == ROOT_INO)
            return 0;
        struct inode inode;
        int r = rows_get_inode(&d->rows, dir, &inode);
        if (r < 0)
            return r == -ENOENT ? -EIO : r;
        dir = inode.parent;
    }
    return -EIO;
}

struct rename {
    struct inode dir, new_dir;
    struct name_row row, new_row;
    bool has_new;
};

static int get_rename(const struct decision *d, struct rename *rn)
{
    const struct request *rq = d->request;
    int r = get_dir(d, rq->parent, &rn->dir);
    if (r == 0)
        r = get_dir(d, rq->new_parent, &rn->new_dir);
    if (r == 0)
        r = check_name(rq->new_name);
    if (r == 0)
        r = get_child(d, rq->parent, rq->name, &rn->dir, &rn->row);
    if (r < 0)
        return r;
    r = rows_get_name(&d->rows, rq->new_parent, rq->new_name, &rn->new_row);
    rn->has_new = r == 0;
    return r == -ENOENT ? 0 : r;
}

/* Nothing may come to lie below itself. */
static int check_loops(const struct decision *d, const struct rename *rn)
{
    const struct request *rq = d->request;
    if (rq->parent == rq->new_parent)
        return 0;
    if (S_ISDIR(rn->row.type)) {
        int r = is_within(d, rq->new_parent, rn->row.ino);
        if (r != 0)
            return r < 0 ? r : -EINVAL;
    }
    if (rn->has_new && S_ISDIR(rn->new_row.type)) {
        int r = is_within(d, rq->parent, rn->new_row.ino);
        if (r != 0)
            return r < 0 ? r : (rq->rename_flags & RENAME_EXCHANGE) ? -EINVAL : -ENOTEMPTY;
    }
    return 0;
}

static int check_replace(const struct decision *d, const struct rename *rn)
{
    bool is_dir = S_ISDIR(rn->row.type), is_new_dir = S_ISDIR(rn->new_row.type);
    if (is_dir && !is_new_dir)
        return -ENOTDIR;
    if (!is_dir && is_new_dir)
        return -EISDIR;
    return is_new_dir ? check_empty(d, rn->new_row.ino) : 0;
}

/* A directory that a rename brings one more subdirectory. */
static int check_subdirectories(const struct decision *d, const struct rename *rn)
{
    bool is_dir = S_ISDIR(rn->row.type);
    bool is_new_dir = rn->has_new && S_ISDIR(rn->new_row.type);
    if (rn->dir.ino == rn->new_dir.ino || is_dir == is_new_dir)
        return 0;
    bool swap = d->request->rename_flags & RENAME_EXCHANGE;
    if (is_dir && rn->new_dir.nlink >= TREE_LINK_MAX)
        return -EMLINK;
    return swap && is_new_dir && rn->dir.nlink >= TREE_LINK_MAX ? -EMLINK : 0;
}

int decide_rename(struct decision *d)
{
    uint32_t flags = d->request->rename_flags;
    if ((flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    struct rename rn;
    int r = get_rename(d, &rn);
    if (r < 0)
        return r;
    if ((flags & RENAME_NOREPLACE) && rn.has_new)
        return -EEXIST;
    if ((flags & RENAME_EXCHANGE) && !rn.has_new)
        return -ENOENT;
    r = check_loops(d, &rn);
    if (r < 0)
        return r;
    d->change->ino = rn.row.ino;
    if (rn.has_new && rn.new_row.ino == rn.row.ino)
        return NOTHING_TO_DO;
    if (rn.has_new && !(flags & RENAME_EXCHANGE))
        r = check_replace(d, &rn);
    if (r == 0)
        r = check_subdirectories(d, &rn);
    return r < 0 || rn.has_new ? r : tree_room(d->tree, 0);
}
