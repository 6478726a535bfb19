/* fs/tree/decide.c — what a request means in the present state: an errno, nothing, or a change.
 *
 * Deciding changes nothing. The errors and their order are those of Linux and ext4; permissions were the kernel's.
 */
#include "fs/tree/decide.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fs/acl.h"

#define XATTR_LIST_BYTES_MAX 65536 /* what listxattr(2) can return of one inode */

/* ---- attributes ---- */

/* A change of owner ends the right to run with that owner's identity, as chown(2) does it. */
static mode_t without_setid(mode_t mode)
{
    if (S_ISDIR(mode))
        return mode;
    mode &= ~(mode_t)S_ISUID;
    return mode & S_IXGRP ? mode & ~(mode_t)S_ISGID : mode;
}

static int decide_setattr(struct decision *d)
{
    const struct request *rq = d->request;
    struct inode inode;
    int r = rows_get_inode(&d->rows, rq->ino, &inode);
    if (r < 0)
        return r;
    if (rq->set & ~SET_ALL)
        return -EINVAL;
    d->change->ino = rq->ino;
    if (rq->set == 0)
        return NOTHING_TO_DO;
    struct request *made = &d->change->request;
    made->mode = inode.mode;
    if (rq->set & SET_MODE) {
        made->mode = (inode.mode & S_IFMT) | (rq->mode & PERMISSIONS);
    } else if (rq->set & (SET_UID | SET_GID)) {
        made->mode = without_setid(inode.mode);
        made->set |= SET_MODE;
    }
    return 0;
}

static int get_xattr(const struct decision *d)
{
    struct inode inode;
    int r = rows_get_inode(&d->rows, d->request->ino, &inode);
    if (r < 0)
        return r;
    if (d->request->name.size == 0 || d->request->name.size > XATTR_NAME_BYTES_MAX)
        return -ERANGE;
    if (memchr(d->request->name.data, '\0', d->request->name.size))
        return -EINVAL;
    struct key key = key_named(inode.ino, d->request->name);
    struct span value;
    r = rows_get(&d->rows, DB_XATTRS, &key, &value);
    return r == -ENOENT ? -ENODATA : r;
}

static int add_name_bytes(void *ctx, struct span key, struct span value UNUSED)
{
    *(size_t *)ctx += key.size - 8 + 1;
    return 0;
}

/* All names of an inode must fit one listxattr(2). */
static int check_xattr_list(const struct decision *d)
{
    size_t used = d->request->name.size + 1;
    struct key from = key_1(d->request->ino);
    int r = rows_scan(&d->rows, DB_XATTRS, &from, from.size, add_name_bytes, &used);
    if (r < 0)
        return r;
    return used > XATTR_LIST_BYTES_MAX ? -ENOSPC : 0;
}

/* What is stored as an ACL is one, and where it means something. */
static int check_acl(const struct decision *d)
{
    const struct request *rq = d->request;
    struct inode inode;
    struct acl acl;
    if (!acl_is_access(rq->name) && !acl_is_default(rq->name))
        return 0;
    int r = rows_get_inode(&d->rows, rq->ino, &inode);
    if (r < 0)
        return r;
    if (S_ISLNK(inode.mode))
        return -EOPNOTSUPP;
    if (acl_is_default(rq->name) && !S_ISDIR(inode.mode))
        return -EACCES;
    return acl_parse(rq->value, &acl);
}

static int decide_setxattr(struct decision *d)
{
    const struct request *rq = d->request;
    if (rq->xattr_flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    if (rq->value.size > XATTR_VALUE_BYTES_MAX)
        return -E2BIG;
    int r = get_xattr(d);
    if (r < 0 && r != -ENODATA)
        return r;
    if (r == 0 && (rq->xattr_flags & XATTR_CREATE))
        return -EEXIST;
    if (r < 0 && (rq->xattr_flags & XATTR_REPLACE))
        return -ENODATA;
    if (r < 0) {
        r = check_xattr_list(d);
        if (r < 0)
            return r;
    }
    r = check_acl(d);
    if (r < 0)
        return r;
    d->change->ino = rq->ino;
    return tree_room(d->tree, rq->value.size);
}

static int decide_removexattr(struct decision *d)
{
    struct span name = d->request->name;
    d->change->ino = d->request->ino;
    int r = get_xattr(d);
    if (r == -ENODATA && (acl_is_access(name) || acl_is_default(name)))
        return NOTHING_TO_DO; /* as on ext4: a mode alone is an ACL too */
    return r;
}

/* ---- content ---- */

static int get_file(const struct decision *d, struct inode *ret_inode)
{
    struct inode inode;
    int r = rows_get_inode(&d->rows, d->request->ino, &inode);
    if (r < 0)
        return r;
    if (S_ISDIR(inode.mode))
        return -EISDIR;
    if (!S_ISREG(inode.mode))
        return -EINVAL;
    *ret_inode = inode;
    return 0;
}

static bool is_requesters(const struct decision *d, struct host_id host)
{
    return host_equal(host, d->request->identity.host);
}

static int decide_open_write(struct decision *d)
{
    struct inode inode;
    int r = get_file(d, &inode);
    if (r < 0)
        return r;
    d->change->ino = inode.ino;
    if (is_requesters(d, inode.writer))
        return NOTHING_TO_DO;
    return host_equal(inode.writer, NO_HOST) ? 0 : -EBUSY;
}

static int decide_publish(struct decision *d)
{
    struct inode inode;
    int r = get_file(d, &inode);
    if (r < 0)
        return r;
    if (!is_requesters(d, inode.writer) && !host_equal(inode.writer, NO_HOST))
        return -EBUSY;
    if (d->request->base_version != inode.version)
        return -ESTALE;
    if (d->request->size > INT64_MAX || d->request->occupied > INT64_MAX)
        return -EFBIG;
    d->change->ino = inode.ino;
    return 0;
}

static int decide_close_write(struct decision *d)
{
    struct inode inode;
    int r = get_file(d, &inode);
    if (r < 0)
        return r;
    d->change->ino = inode.ino;
    return is_requesters(d, inode.writer) ? 0 : NOTHING_TO_DO;
}

static int decide_keep(struct decision *d)
{
    struct inode inode;
    int r = get_file(d, &inode);
    if (r < 0)
        return r;
    if (!is_requesters(d, inode.keeper) || d->request->base_version != inode.version)
        return -ESTALE;
    d->change->ino = inode.ino;
    return inode.keeper_complete ? NOTHING_TO_DO : 0;
}

static int decide_drop(struct decision *d)
{
    struct key key = key_2(d->request->identity.host.n, d->request->ino);
    struct span value;
    int r = rows_get(&d->rows, DB_HELD, &key, &value);
    d->change->ino = d->request->ino;
    return r == -ENOENT ? NOTHING_TO_DO : r;
}

/* ---- the volume ---- */

static int decide_session(struct decision *d)
{
    return d->tree->meta.next_ino == 0 ? -EINVAL : 0;
}

/* A limit is not made smaller than what is there. */
static bool is_too_small(uint64_t limit, uint64_t before, uint64_t used)
{
    return limit != 0 && limit < used && (before == 0 || limit < before);
}

/* One of two flags, on or off: the entry says which. Off where a new volume is told nothing. */
static uint32_t decide_switch(uint32_t flags, uint32_t on, uint32_t off, bool is_on)
{
    if ((flags & (on | off)) == 0)
        return flags | (is_on ? on : off);
    return flags;
}

static bool is_contradictory(uint32_t flags)
{
    return (flags & (REQUEST_SUID | REQUEST_NO_SUID)) == (REQUEST_SUID | REQUEST_NO_SUID) ||
           (flags & (REQUEST_DEV | REQUEST_NO_DEV)) == (REQUEST_DEV | REQUEST_NO_DEV);
}

static int decide_reconfigure(const struct decision *d, struct request *made)
{
    const struct tree_meta *meta = &d->tree->meta;
    if (is_too_small(made->limit_bytes, meta->limit_bytes, meta->used_bytes) ||
        is_too_small(made->limit_inodes, meta->limit_inodes, meta->n_inodes))
        return -EDQUOT;
    if (made->limit_bytes == 0)
        made->limit_bytes = meta->limit_bytes;
    if (made->limit_inodes == 0)
        made->limit_inodes = meta->limit_inodes;
    if (made->copies == 0)
        made->copies = meta->copies;
    made->home = meta->home.n;
    return 0;
}

static int decide_configure(struct decision *d)
{
    struct request *made = &d->change->request;
    const struct tree_meta *meta = &d->tree->meta;
    if (is_contradictory(made->flags))
        return -EINVAL;
    made->flags = decide_switch(made->flags, REQUEST_SUID, REQUEST_NO_SUID, meta->is_suid);
    made->flags = decide_switch(made->flags, REQUEST_DEV, REQUEST_NO_DEV, meta->is_dev);
    d->change->ino = ROOT_INO;
    made->mode = S_IFDIR | (made->mode & PERMISSIONS);
    if (meta->next_ino != 0)
        return decide_reconfigure(d, made);
    if (made->copies == 0)
        made->copies = 1;
    return made->home == 0 || made->limit_bytes == 0 ? -EINVAL : 0;
}

static int decide_stop(struct decision *d)
{
    const struct tree_meta *meta = &d->tree->meta;
    const struct request *rq = d->request;
    bool is_home =
        host_equal(meta->home, rq->identity.host) && host_equal(meta->successor, NO_HOST);
    return is_home && rq->home != 0 && rq->epoch == meta->epoch + 1 ? 0 : -EREMOTE;
}

/* By the successor with what it was offered, by the home that had stopped with more than it offered, or by anybody with a
 * new term. */
static int decide_start(struct decision *d)
{
    const struct tree_meta *meta = &d->tree->meta;
    const struct request *rq = d->request;
    struct host_id by = rq->identity.host;
    if (rq->home != by.n)
        return -EREMOTE;
    if (term_of(rq->epoch) > term_of(meta->epoch))
        return 0;
    if (host_equal(meta->successor, NO_HOST))
        return -EREMOTE;
    if (host_equal(meta->successor, by))
        return rq->epoch == meta->epoch + 1 ? 0 : -EREMOTE;
    return host_equal(meta->home, by) && rq->epoch == meta->epoch + 2 ? 0 : -EREMOTE;
}

/* ---- all together ---- */

static decide_f *const deciders[REQUEST_KIND_END] = {
    [REQUEST_MAKE] = decide_make,
    [REQUEST_LINK] = decide_link,
    [REQUEST_UNLINK] = decide_unlink,
    [REQUEST_RMDIR] = decide_rmdir,
    [REQUEST_RENAME] = decide_rename,
    [REQUEST_SETATTR] = decide_setattr,
    [REQUEST_SETXATTR] = decide_setxattr,
    [REQUEST_REMOVEXATTR] = decide_removexattr,
    [REQUEST_OPEN_WRITE] = decide_open_write,
    [REQUEST_PUBLISH] = decide_publish,
    [REQUEST_CLOSE_WRITE] = decide_close_write,
    [REQUEST_KEEP] = decide_keep,
    [REQUEST_DROP] = decide_drop,
    [REQUEST_SESSION] = decide_session,
    [REQUEST_CONFIGURE] = decide_configure,
    [REQUEST_STOP] = decide_stop,
    [REQUEST_START] = decide_start,
};

/* What a kind has no use for stays out of the log: no reader of it would take that for a valid change. */
static uint32_t useful_flags(const struct request *rq)
{
    switch (rq->kind) {
    case REQUEST_MAKE:
        return S_ISREG(rq->mode) ? REQUEST_DURABLE | REQUEST_FOR_WRITE | REQUEST_NAMELESS
                                 : REQUEST_DURABLE;
    case REQUEST_SETXATTR:
        return acl_is_access(rq->name) ? REQUEST_DURABLE | REQUEST_CLEAR_SETGID : REQUEST_DURABLE;
    case REQUEST_UNLINK:
    case REQUEST_RMDIR:
    case REQUEST_RENAME:
        return REQUEST_DURABLE | REQUEST_HOLD;
    case REQUEST_PUBLISH:
        return REQUEST_DURABLE | REQUEST_INCOMPLETE | REQUEST_LAST_CLOSE;
    case REQUEST_SESSION:
        return REQUEST_DURABLE | REQUEST_GOES_ON;
    case REQUEST_CONFIGURE:
        return REQUEST_DURABLE | REQUEST_SUID | REQUEST_NO_SUID | REQUEST_DEV | REQUEST_NO_DEV;
    default:
        return REQUEST_DURABLE;
    }
}

static int decide_with(struct tree *tree, const struct rows *rows, const struct request *request,
                       int64_t now_ns, struct change *ret_change, struct outcome *ret_outcome)
    REQUIRES(tree->lock)
{
    struct outcome outcome;
    int r = rows_get_result(rows, &request->identity, &outcome);
    if (r == 0) {
        *ret_outcome = outcome;
        return 1;
    }
    if (r != -ENOENT)
        return r;

    struct change change = {.request = *request, .time_ns = now_ns};
    change.request.flags &= useful_flags(request);
    struct decision d = {.tree = tree, .rows = *rows, .request = request, .change = &change};
    r = deciders[request->kind](&d);
    if (r == NOTHING_TO_DO)
        *ret_outcome = (struct outcome){.ino = change.ino};
    else if (r == 0)
        *ret_change = change;
    return r;
}

int tree_decide(struct tree *tree, const struct request *request, int64_t now_ns,
                struct change *ret_change, struct outcome *ret_outcome)
{
    if (request->kind <= 0 || request->kind >= REQUEST_KIND_END || !deciders[request->kind] ||
        (request->flags & ~REQUEST_FLAGS_ALL) || request->n_retire > REQUEST_RETIRE_MAX ||
        host_equal(request->identity.host, NO_HOST))
        return -EINVAL;
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    if (r == 0 && writer_is_tight_locked(tree)) {
        r = writer_settle_locked(tree);
        if (r == 0)
            r = tree_rows_locked(tree, &rows);
    }
    return r < 0 ? -EIO : decide_with(tree, &rows, request, now_ns, ret_change, ret_outcome);
}
