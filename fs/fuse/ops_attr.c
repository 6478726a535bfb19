/* fs/fuse/ops_attr.c — attributes, privileges that writing takes away, and the size of the volume. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/fuse/live.h"
#include "fs/fuse/ops.h"
#include "proto/base/clock.h"

#define FILE_CAPABILITIES "security.capability"
#define STATFS_UNIT 4096u
#define FILES_MAX (1ULL << 32) /* shown where there is no limit */

/* ---- asking ---- */

typedef void reply_f(struct call *c, struct node *node, const struct inode *inode);

static void stat_node(fuse_req_t req, fuse_ino_t id, reply_f *reply)
{
    struct call c;
    struct node *node;
    struct inode inode;

    if (!call_begin(&c, req, "stat", id, NULL))
        return;
    int r = call_node(&c, &node);
    if (r < 0) {
        call_error(&c, r);
        return;
    }
    r = call_inode(&c, node, &inode);
    if (r < 0)
        call_error(&c, r);
    else
        reply(&c, node, &inode);
    node_put(&c.session->nodes, node);
}

void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi UNUSED)
{
    stat_node(req, id, call_attr);
}

/* The kernel asks this way when somebody wants to know the time of birth. */
void op_statx(fuse_req_t req, fuse_ino_t id, int flags UNUSED, int mask UNUSED,
              struct fuse_file_info *fi UNUSED)
{
    stat_node(req, id, call_statx);
}

void op_access(fuse_req_t req, fuse_ino_t id, int mask UNUSED)
{
    struct call c;
    struct inode inode;

    /* default_permissions: the kernel has checked the mode; what is left is whether it exists. */
    if (call_begin(&c, req, "access", id, NULL))
        call_error(&c, call_inode(&c, NULL, &inode));
}

void op_statfs(fuse_req_t req, fuse_ino_t id)
{
    struct call c;
    struct quota_state q;
    struct store_usage disk;

    if (!call_begin(&c, req, "measure volume", id, NULL))
        return;
    quota_state(&c.session->quota, &q);
    int r = store_usage(c.session->store, &disk);
    if (r < 0) {
        call_error(&c, r);
        return;
    }
    uint64_t free_bytes = q.limit_bytes > q.used_bytes ? q.limit_bytes - q.used_bytes : 0;
    free_bytes = MIN(free_bytes, disk.disk_free_bytes);
    uint64_t limit_files = q.limit_inodes ? q.limit_inodes : FILES_MAX;
    uint64_t free_files = limit_files > q.n_inodes ? limit_files - q.n_inodes : 0;
    const struct statvfs st = {.f_bsize = STATFS_UNIT,
                               .f_frsize = STATFS_UNIT,
                               .f_blocks = q.limit_bytes / STATFS_UNIT,
                               .f_bfree = free_bytes / STATFS_UNIT,
                               .f_bavail = free_bytes / STATFS_UNIT,
                               .f_files = q.n_inodes + free_files,
                               .f_ffree = free_files,
                               .f_favail = free_files,
                               .f_namemax = NAME_BYTES_MAX};
    (void)fuse_reply_statfs(req, &st);
    call_end(&c, 0);
}

/* ---- privileges ---- */

static bool has_capabilities(struct session *s, uint64_t ino)
{
    size_t used;

    return tree_getxattr(s->tree, ino, name_span(FILE_CAPABILITIES), NULL, 0, &used) == 0;
}

static mode_t without_privileges(mode_t mode)
{
    mode &= ~(mode_t)S_ISUID;
    return mode & S_IXGRP ? mode & ~(mode_t)S_ISGID : mode;
}

bool has_privileges(struct session *s, uint64_t ino)
{
    struct inode inode;

    if (tree_get(s->tree, ino, &inode) < 0)
        return false;
    return without_privileges(inode.mode) != inode.mode || has_capabilities(s, ino);
}

static int drop_capabilities(struct session *s, uint64_t ino)
{
    struct request request = {
        .kind = REQUEST_REMOVEXATTR, .ino = ino, .name = name_span(FILE_CAPABILITIES)};
    struct outcome outcome;

    if (!has_capabilities(s, ino))
        return 0;
    int r = session_change(s, &request, &outcome);
    return r == -ENODATA ? 0 : r;
}

int kill_privileges(struct call *c, struct node *node)
{
    struct session *s = c->session;
    struct inode inode;
    struct outcome outcome;

    int r = tree_get(s->tree, node->ino, &inode);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    mode_t mode = without_privileges(inode.mode);
    if (mode != inode.mode) {
        struct request request = {
            .kind = REQUEST_SETATTR, .ino = node->ino, .set = SET_MODE, .mode = mode};
        r = session_change(s, &request, &outcome);
        if (r < 0)
            return r;
        (void)fuse_lowlevel_notify_inval_inode(s->fuse, node->id, -1, 0);
    }
    return drop_capabilities(s, node->ino);
}

/* ---- setting ---- */

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static struct request setattr_request(uint64_t id, const struct stat *attr, int to_set)
{
    static const struct {
        int fuse;
        uint32_t set;
    } bits[] = {{FUSE_SET_ATTR_MODE, SET_MODE},
                {FUSE_SET_ATTR_UID, SET_UID},
                {FUSE_SET_ATTR_GID, SET_GID},
                {FUSE_SET_ATTR_ATIME, SET_ATIME},
                {FUSE_SET_ATTR_MTIME, SET_MTIME},
                {FUSE_SET_ATTR_ATIME_NOW, SET_ATIME_NOW},
                {FUSE_SET_ATTR_MTIME_NOW, SET_MTIME_NOW}};
    struct request request = {.kind = REQUEST_SETATTR,
                              .ino = id_ino(id),
                              .mode = attr->st_mode & 07777,
                              .uid = attr->st_uid,
                              .gid = attr->st_gid,
                              .atime_ns = ns_of(attr->st_atim),
                              .mtime_ns = ns_of(attr->st_mtim)};

    for (size_t i = 0; i < N_ELEMENTS(bits); i++)
        request.set |= to_set & bits[i].fuse ? bits[i].set : 0;
    /* "Now" comes with the plain bit too. */
    if (request.set & SET_ATIME_NOW)
        request.set &= ~SET_ATIME;
    if (request.set & SET_MTIME_NOW)
        request.set &= ~SET_MTIME;
    return request;
}

/* Makes a file longer or shorter. */
static int resize(struct call *c, struct node *node, uint64_t size)
{
    int r = content_truncate(node->content, size, c->deadline_ns);

    node_set_dirty(node, true);
    quota_settle(&c->session->quota, node, 0);
    return r;
}

/* A truncation of a file that nobody here writes is a whole write of its own: open, truncate, publish, close. */
static int resize_claimed(struct call *c, struct node *node, uint64_t size)
{
    int r = live_use(c, node);
    if (r < 0)
        return r;
    r = size > 0 ? live_check(c->session, node) : 0;
    if (r == 0)
        r = live_write(c, node);
    if (r == 0)
        r = resize(c, node, size);
    if (node->n_write == 0 && node->writing) {
        int closed = live_end_write(c->session, node);
        if (node->writing)
            closer_add(&c->session->closer, node);
        r = r < 0 ? r : closed == -ESTALE ? -EIO : closed;
    }
    live_unuse(node);
    return r;
}

/* Unlinked between the kernel's look at the name and now: as if the name had gone right after. Nobody can see its size. */
static bool is_unlinked(struct call *c, struct node *node)
{
    struct inode inode;

    return tree_get(c->session->tree, node->ino, &inode) == -ENOENT;
}

static int set_size(struct call *c, struct node *node, uint64_t size)
{
    int r = node_claim(node, c->deadline_ns);
    if (r < 0)
        return r;
    r = resize_claimed(c, node, size);
    node_unclaim(node);
    return r == -ESTALE && is_unlinked(c, node) ? 0 : r;
}

/* Times that were set on a file being written are its backing file's too: it is from there that they are shown. */
static int set_backing_times(struct call *c, struct node *node, const struct request *request)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    struct inode inode;

    if (!(request->set & (SET_MTIME | SET_MTIME_NOW)))
        return 0;
    int r = node_claim(node, c->deadline_ns);
    if (r < 0)
        return r;
    r = node->writing ? tree_get(c->session->tree, node->ino, &inode) : -ENOENT;
    if (r == 0) {
        int64_t s = inode.mtime_ns / NS_PER_S, rest = inode.mtime_ns % NS_PER_S;
        times[1] = (struct timespec){.tv_sec = rest < 0 ? s - 1 : s,
                                     .tv_nsec = rest < 0 ? rest + NS_PER_S : rest};
        r = live_set_times(node, times);
    }
    node_unclaim(node);
    return r == -ENOENT ? 0 : r;
}

static int set_remembered(struct node *node, const struct request *request)
{
    SCOPED_LOCK(node->lock);

    if (!node->gone)
        return -ENOENT;
    struct inode *last = node_remember_locked(node);
    if (!last)
        return -ENOMEM;
    if (request->set & SET_MODE)
        last->mode = (last->mode & S_IFMT) | request->mode;
    if (request->set & SET_UID)
        last->uid = request->uid;
    if (request->set & SET_GID)
        last->gid = request->gid;
    return 0;
}

static int set_attributes(struct call *c, struct node *node, struct request *request)
{
    struct outcome outcome;

    if (request->set == 0)
        return 0;
    int r = call_change(c, request, &outcome);
    if (r == -ENOENT)
        return set_remembered(node, request);
    if (r < 0)
        return r;
    if (request->set & (SET_UID | SET_GID))
        r = drop_capabilities(c->session, node->ino);
    return r < 0 ? r : set_backing_times(c, node, request);
}

static int set_all(struct call *c, struct node *node, const struct stat *attr, int to_set)
{
    struct request request = setattr_request(c->id, attr, to_set);
    int r = 0;

    if (to_set & FUSE_SET_ATTR_SIZE) {
        r = set_size(c, node, (uint64_t)attr->st_size);
        request.set &= ~SET_MTIME_NOW; /* the truncation has set it */
        if (r == 0 && (to_set & (FUSE_SET_ATTR_KILL_SUID | FUSE_SET_ATTR_KILL_SGID)))
            r = kill_privileges(c, node);
    }
    return r < 0 ? r : set_attributes(c, node, &request);
}

void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int to_set,
                struct fuse_file_info *fi UNUSED)
{
    struct call c;
    struct node *node;
    struct inode inode;

    if (!call_begin(&c, req, "change attributes of", id, NULL))
        return;
    int r = call_node(&c, &node);
    if (r < 0) {
        call_error(&c, r);
        return;
    }
    r = set_all(&c, node, attr, to_set);
    if (r == 0)
        r = call_inode(&c, node, &inode);
    if (r < 0)
        call_error(&c, r);
    else
        call_attr(&c, node, &inode);
    node_put(&c.session->nodes, node);
}
