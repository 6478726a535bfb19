/* fs/tree/apply_content.c — applying who has and who writes content, and the end of a session. */
#include <errno.h>
#include <sys/stat.h>

#include "fs/tree/apply.h"

static int get_file(struct apply *a, struct inode *ret_inode)
{
    struct inode inode;
    int r = rows_get_inode(&a->rows, a->change->ino, &inode);
    if (r < 0)
        return r;
    if (!S_ISREG(inode.mode))
        return -EBADMSG;
    a->effect.before = inode;
    *ret_inode = inode;
    return 0;
}

/* OPEN_WRITE and CLOSE_WRITE: no attribute that a kernel sees changes. */
int apply_open_close(struct apply *a)
{
    struct host_id host = a->request->identity.host;
    bool opens = a->request->kind == REQUEST_OPEN_WRITE;
    struct inode inode;
    int r = get_file(a, &inode);
    if (r < 0)
        return r;
    if (!host_equal(inode.writer, opens ? NO_HOST : host))
        return -EBADMSG;
    r = apply_set_writer(a, &inode, opens ? host : NO_HOST);
    a->effect.after = inode;
    return r < 0 ? r : rows_update_inode(&a->rows, &inode);
}

int apply_publish(struct apply *a)
{
    const struct request *rq = a->request;
    struct inode inode;
    int r = get_file(a, &inode);
    if (r < 0)
        return r;
    bool is_writer = host_equal(inode.writer, rq->identity.host);
    if ((!is_writer && !host_equal(inode.writer, NO_HOST)) || rq->base_version != inode.version ||
        rq->size > INT64_MAX || rq->occupied > INT64_MAX)
        return -EBADMSG;
    a->meta.used_bytes += rq->occupied - inode.occupied;
    inode.size = rq->size;
    inode.occupied = rq->occupied;
    inode.mtime_ns = rq->mtime_ns;
    /* It was the write that moved both, not its publication; a time that was set instead says nothing of that. */
    inode.ctime_ns = MAX(inode.ctime_ns, MIN(rq->mtime_ns, a->change->time_ns));
    inode.version = a->change->index;
    r = apply_set_keeper(a, &inode, rq->identity.host, !(rq->flags & REQUEST_INCOMPLETE));
    if (r == 0 && is_writer && (rq->flags & REQUEST_LAST_CLOSE))
        r = apply_set_writer(a, &inode, NO_HOST);
    a->effect.after = inode;
    return r < 0 ? r : apply_save(a, &inode);
}

int apply_keep(struct apply *a)
{
    struct inode inode;
    int r = get_file(a, &inode);
    if (r < 0)
        return r;
    if (!host_equal(inode.keeper, a->request->identity.host) ||
        inode.version != a->request->base_version)
        return -EBADMSG;
    r = apply_set_keeper(a, &inode, inode.keeper, true);
    a->effect.after = inode;
    return r < 0 ? r : rows_update_inode(&a->rows, &inode);
}

int apply_drop(struct apply *a)
{
    struct key key = key_2(a->request->identity.host.n, a->change->ino);
    int r = rows_delete(&a->rows, DB_HELD, &key);
    if (r < 0)
        return r;
    struct inode inode;
    r = rows_get_inode(&a->rows, a->change->ino, &inode);
    if (r < 0)
        return r;
    if (inode.nlink != 0)
        return -EBADMSG;
    a->effect.before = inode;
    return apply_erase(a, &inode);
}

/* Results of all sessions of the host but this one. */
static int drop_results(struct apply *a)
{
    uint64_t host = a->request->identity.host.n, session = a->request->identity.session;
    struct key from = key_3(host, 0, 0);
    for (;;) {
        struct span found;
        int r = rows_first(&a->rows, DB_RESULTS, &from, 8, &found);
        if (r < 0)
            return r == -ENOENT ? 0 : r;
        if (key_u64(found, 1) == session) {
            if (session == UINT64_MAX)
                return 0;
            from = key_3(host, session + 1, 0);
            continue;
        }
        struct key prefix = key_2(host, key_u64(found, 1));
        r = rows_delete_prefix(&a->rows, DB_RESULTS, &prefix);
        if (r < 0)
            return r;
    }
}

static int drop_writers(struct apply *a)
{
    struct key from = key_1(a->request->identity.host.n);
    for (;;) {
        struct span found;
        int r = rows_first(&a->rows, DB_WRITERS, &from, from.size, &found);
        if (r < 0)
            return r == -ENOENT ? 0 : r;
        struct inode inode;
        r = rows_get_inode(&a->rows, key_u64(found, 1), &inode);
        if (r == 0)
            r = apply_set_writer(a, &inode, NO_HOST);
        if (r == 0)
            r = rows_update_inode(&a->rows, &inode);
        if (r < 0)
            return r;
    }
}

int apply_session(struct apply *a)
{
    if (a->meta.next_ino == 0)
        return -EBADMSG;
    int r = drop_results(a);
    return r < 0 || (a->request->flags & REQUEST_GOES_ON) ? r : drop_writers(a);
}
