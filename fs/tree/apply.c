/* fs/tree/apply.c — applying a change: state, result and index together.
 *
 * Deterministic: nothing but the state and the change goes in. The home decided before; what is checked here again
 * is only that state and change fit together, so that no log can bring the state into disorder.
 */
#include "fs/tree/apply.h"

#include <errno.h>
#include <sys/stat.h>

/* ---- parts ---- */

void apply_touch(struct apply *a, uint64_t ino)
{
    for (size_t i = 0; i + 1 < N_ELEMENTS(a->effect.touched); i++) {
        if (a->effect.touched[i] == ino)
            return;
        if (a->effect.touched[i] == 0) {
            a->effect.touched[i] = ino;
            return;
        }
    }
}

int apply_save(struct apply *a, const struct inode *inode)
{
    apply_touch(a, inode->ino);
    return rows_update_inode(&a->rows, inode);
}

int apply_set_writer(struct apply *a, struct inode *inode, struct host_id host)
{
    struct key key = key_2(inode->writer.n, inode->ino);
    if (!host_equal(inode->writer, NO_HOST)) {
        int r = rows_delete(&a->rows, DB_WRITERS, &key);
        if (r < 0)
            return r;
    }
    inode->writer = host;
    if (host_equal(host, NO_HOST))
        return 0;
    key = key_2(host.n, inode->ino);
    return rows_put(&a->rows, DB_WRITERS, &key, (struct span){0});
}

/* Its keeper lacks blocks: then it has a row. */
static bool is_incomplete(const struct inode *inode)
{
    return S_ISREG(inode->mode) && !host_equal(inode->keeper, NO_HOST) && !inode->keeper_complete;
}

int apply_set_keeper(struct apply *a, struct inode *inode, struct host_id host, bool is_complete)
{
    struct key key = key_2(inode->keeper.n, inode->ino);
    if (is_incomplete(inode)) {
        int r = rows_delete(&a->rows, DB_INCOMPLETE, &key);
        if (r < 0)
            return r;
    }
    inode->keeper = host;
    inode->keeper_complete = is_complete;
    if (!is_incomplete(inode))
        return 0;
    key = key_2(host.n, inode->ino);
    return rows_put(&a->rows, DB_INCOMPLETE, &key, (struct span){0});
}

int apply_erase(struct apply *a, struct inode *inode)
{
    int r = apply_set_writer(a, inode, NO_HOST);
    if (r == 0)
        r = apply_set_keeper(a, inode, NO_HOST, true);
    if (r < 0)
        return r;
    struct key key = key_1(inode->ino);
    r = rows_delete_prefix(&a->rows, DB_XATTRS, &key);
    if (r == 0)
        r = rows_delete(&a->rows, DB_INODES, &key);
    a->meta.used_bytes -= inode->occupied;
    a->meta.n_inodes--;
    a->effect.gone = inode->ino;
    a->effect.after = (struct inode){0};
    apply_touch(a, inode->ino);
    return r;
}

/* ---- attributes ---- */

/* Mode and access ACL say the same. */
static int change_acl(struct apply *a, const struct inode *inode)
{
    struct key key = key_named(inode->ino, SPAN(ACL_ACCESS));
    struct acl acl;
    int r = rows_get_acl(&a->rows, inode->ino, ACL_ACCESS, &acl);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (acl_mode(&acl) == (inode->mode & 0777))
        return 0;
    acl_set_mode(&acl, inode->mode);
    return rows_put(&a->rows, DB_XATTRS, &key, acl_span(&acl));
}

static int apply_setattr(struct apply *a)
{
    const struct request *rq = a->request;
    int64_t now = a->change->time_ns;
    struct inode inode;
    int r = rows_get_inode(&a->rows, a->change->ino, &inode);
    if (r < 0)
        return r;
    a->effect.before = inode;
    if (rq->set & SET_MODE) {
        if ((rq->mode & S_IFMT) != (inode.mode & S_IFMT))
            return -EBADMSG;
        inode.mode = rq->mode;
    }
    if (rq->set & SET_UID)
        inode.uid = rq->uid;
    if (rq->set & SET_GID)
        inode.gid = rq->gid;
    if (rq->set & (SET_ATIME | SET_ATIME_NOW))
        inode.atime_ns = rq->set & SET_ATIME_NOW ? now : rq->atime_ns;
    if (rq->set & (SET_MTIME | SET_MTIME_NOW))
        inode.mtime_ns = rq->set & SET_MTIME_NOW ? now : rq->mtime_ns;
    inode.ctime_ns = now;
    a->effect.after = inode;
    if (rq->set & SET_MODE) {
        r = change_acl(a, &inode);
        if (r < 0)
            return r;
    }
    return apply_save(a, &inode);
}

/* An access ACL is the inode's mode too. One that says no more than that is not kept. */
static int apply_acl(struct apply *a, struct inode *inode)
{
    struct key key = key_named(inode->ino, a->request->name);
    struct acl acl;
    if (acl_parse(a->request->value, &acl) < 0)
        return -EBADMSG;
    inode->mode = (inode->mode & ~0777u) | acl_mode(&acl);
    if (a->request->flags & REQUEST_CLEAR_SETGID)
        inode->mode &= ~(mode_t)S_ISGID;
    if (!acl.is_minimal)
        return rows_put(&a->rows, DB_XATTRS, &key, acl_span(&acl));
    int r = rows_delete(&a->rows, DB_XATTRS, &key);
    return r == -ENOENT ? 0 : r;
}

static int set_or_remove(struct apply *a, struct inode *inode)
{
    const struct request *rq = a->request;
    struct key key = key_named(inode->ino, rq->name);
    if (rq->kind == REQUEST_REMOVEXATTR)
        return rows_delete(&a->rows, DB_XATTRS, &key);
    if (acl_is_access(rq->name))
        return apply_acl(a, inode);
    return rows_put(&a->rows, DB_XATTRS, &key, rq->value);
}

/* SETXATTR and REMOVEXATTR */
static int apply_xattr(struct apply *a)
{
    const struct request *rq = a->request;
    struct inode inode;
    int r = rows_get_inode(&a->rows, a->change->ino, &inode);
    if (r < 0)
        return r;
    if (rq->name.size == 0 || rq->name.size > XATTR_NAME_BYTES_MAX)
        return -EBADMSG;
    a->effect.before = inode;
    r = set_or_remove(a, &inode);
    if (r < 0)
        return r;
    inode.ctime_ns = a->change->time_ns;
    a->effect.after = inode;
    return apply_save(a, &inode);
}

static int apply_configure(struct apply *a)
{
    const struct request *rq = a->request;
    if (rq->limit_bytes == 0)
        return -EBADMSG;
    a->meta.limit_bytes = rq->limit_bytes;
    a->meta.limit_inodes = rq->limit_inodes;
    a->meta.copies = rq->copies;
    a->meta.is_suid = (rq->flags & REQUEST_SUID) != 0;
    a->meta.is_dev = (rq->flags & REQUEST_DEV) != 0;
    if (a->meta.next_ino != 0)
        return 0;
    int64_t now = a->change->time_ns;
    struct inode root = {
        .ino = ROOT_INO,
        .parent = ROOT_INO,
        .mode = S_IFDIR | (rq->mode & ~(uint32_t)S_IFMT),
        .nlink = 2,
        .uid = rq->uid,
        .gid = rq->gid,
        .atime_ns = now,
        .mtime_ns = now,
        .ctime_ns = now,
        .btime_ns = now,
    };
    a->meta.home.n = rq->home;
    a->meta.epoch = FIRST_EPOCH;
    a->meta.next_ino = ROOT_INO + 1;
    a->meta.n_inodes = 1;
    a->effect.after = root;
    apply_touch(a, ROOT_INO);
    return rows_make_inode(&a->rows, &root, (struct span){0});
}

static int apply_stop(struct apply *a)
{
    if (a->request->epoch != a->meta.epoch + 1 || a->request->home == 0)
        return -EBADMSG;
    a->meta.successor.n = a->request->home;
    return 0;
}

static int apply_start(struct apply *a)
{
    if (a->request->epoch <= a->meta.epoch || a->request->home == 0)
        return -EBADMSG;
    a->meta.home.n = a->request->home;
    a->meta.epoch = a->request->epoch;
    a->meta.successor = NO_HOST;
    return 0;
}

/* ---- all together ---- */

static apply_f *const appliers[REQUEST_KIND_END] = {
    [REQUEST_MAKE] = apply_make,
    [REQUEST_LINK] = apply_link,
    [REQUEST_UNLINK] = apply_remove,
    [REQUEST_RMDIR] = apply_remove,
    [REQUEST_RENAME] = apply_rename,
    [REQUEST_SETATTR] = apply_setattr,
    [REQUEST_SETXATTR] = apply_xattr,
    [REQUEST_REMOVEXATTR] = apply_xattr,
    [REQUEST_OPEN_WRITE] = apply_open_close,
    [REQUEST_PUBLISH] = apply_publish,
    [REQUEST_CLOSE_WRITE] = apply_open_close,
    [REQUEST_KEEP] = apply_keep,
    [REQUEST_DROP] = apply_drop,
    [REQUEST_SESSION] = apply_session,
    [REQUEST_CONFIGURE] = apply_configure,
    [REQUEST_STOP] = apply_stop,
    [REQUEST_START] = apply_start,
};

static int retire_results(struct apply *a)
{
    struct identity identity = a->request->identity;
    for (uint32_t i = 0; i < a->request->n_retire; i++) {
        struct key key = key_3(identity.host.n, identity.session, a->request->retire[i]);
        int r = rows_delete(&a->rows, DB_RESULTS, &key);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

static int apply_in(struct apply *a)
{
    const struct request *rq = a->request;
    if (rq->kind <= 0 || rq->kind >= REQUEST_KIND_END || !appliers[rq->kind] ||
        rq->n_retire > REQUEST_RETIRE_MAX || rq->name.size > NAME_BYTES_MAX ||
        rq->new_name.size > NAME_BYTES_MAX)
        return -EBADMSG;
    int r = appliers[rq->kind](a);
    if (r == 0)
        r = retire_results(a);
    if (r < 0)
        return r;
    a->effect.outcome = (struct outcome){.index = a->change->index, .ino = a->change->ino};
    r = rows_put_result(&a->rows, &rq->identity, &a->effect.outcome);
    if (r < 0)
        return r;
    a->meta.applied = a->change->index;
    return rows_put_meta(&a->rows, &a->meta);
}

/* What the caller can tell apart: no room, no memory, a bad disk; anything else means that they do not fit. */
static int apply_error(int r)
{
    return r == -ENOSPC || r == -ENOMEM || r == -EIO ? r : -EBADMSG;
}

static int apply_again(const struct rows *rows, const struct change *change,
                       struct tree_effect *ret_effect)
{
    struct tree_effect effect = {.outcome = {.index = change->index, .ino = change->ino}};
    int r = rows_get_result(rows, &change->request.identity, &effect.outcome);
    if (r < 0 && r != -ENOENT)
        return r;
    *ret_effect = effect;
    return 0;
}

static int apply_next_locked(struct tree *tree, const struct rows *rows,
                             const struct change *change, struct tree_effect *ret_effect)
    REQUIRES(tree->lock)
{
    struct apply a = {
        .rows = *rows,
        .meta = tree->meta,
        .change = change,
        .request = &change->request,
    };
    int r = apply_in(&a);
    if (r < 0) {
        writer_fail_locked(tree, apply_error(r));
        return apply_error(r);
    }
    tree->meta = a.meta;
    r = writer_applied_locked(tree, change->request.value.size > LARGE_VALUE_BYTES);
    if (r < 0)
        return r;
    *ret_effect = a.effect;
    return 0;
}

int tree_apply(struct tree *tree, const struct change *change, struct tree_effect *ret_effect)
{
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    if (r < 0)
        return r;
    if (change->index <= tree->meta.applied)
        return apply_again(&rows, change, ret_effect);
    if (change->index != tree->meta.applied + 1)
        return -EBADMSG;
    return apply_next_locked(tree, &rows, change, ret_effect);
}
