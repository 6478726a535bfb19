/* fs/fuse/ops_dir.c — reading directories.
 *
 * The offset that follows an entry is its tree cookie + DOTS; 1 follows "." and 2 follows "..", so a stream can be
 * resumed at any entry, whatever has been made or removed since.
 *
 * The kernel keeps what it has listed until it changes a name there itself or sees another mtime. Since nothing belongs
 * to an open directory here, it opens and closes them by itself once it was told so (-ENOSYS).
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>

#include "fs/fuse/live.h"
#include "fs/fuse/ops.h"

#define DOTS 2u
#define DIRECTORY_BYTES_MAX (1u << 20)

struct listing {
    struct call *call;
    char *buffer;
    size_t size, used;
    bool plus;
    int error; /* of an entry that could not be counted */
};

void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;
    struct node *node;
    struct inode inode;

    if (!call_begin(&c, req, "open directory", id, NULL))
        return;
    if (c.session->opens_directories) {
        call_error(&c, -ENOSYS);
        return;
    }
    int r = call_node(&c, &node);
    if (r == 0) {
        r = call_inode(&c, node, &inode);
        node_put(&c.session->nodes, node);
    }
    if (r < 0) {
        call_error(&c, r);
        return;
    }
    fi->fh = 0;
    fi->cache_readdir = 1;
    fi->keep_cache = 1;
    (void)fuse_reply_open(req, fi);
    call_end(&c, 0);
}

void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi UNUSED)
{
    struct call c;

    call_begin_open(&c, req, "close directory", id);
    call_error(&c, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync UNUSED,
                 struct fuse_file_info *fi UNUSED)
{
    struct call c;

    call_begin_open(&c, req, "sync directory", id);
    call_error(&c, session_sync_log(c.session));
}

/* False: it does not fit any more. */
static bool add_plain(struct listing *l, const char *name, const struct stat *st, uint64_t offset)
{
    size_t left = l->size - l->used;
    size_t need =
        fuse_add_direntry(l->call->req, l->buffer + l->used, left, name, st, (off_t)offset);

    if (need > left)
        return false;
    l->used += need;
    return true;
}

static bool add_plus(struct listing *l, const char *name, const struct fuse_entry_param *entry,
                     uint64_t offset)
{
    size_t left = l->size - l->used;
    size_t need =
        fuse_add_direntry_plus(l->call->req, l->buffer + l->used, left, name, entry, (off_t)offset);

    if (need > left)
        return false;
    l->used += need;
    return true;
}

/* "." and ".." carry no lookup. */
static bool add_dot(struct listing *l, const char *name, uint64_t ino, uint64_t offset)
{
    struct fuse_entry_param entry = {.ino = 0, .attr = {.st_ino = ino, .st_mode = S_IFDIR}};

    return l->plus ? add_plus(l, name, &entry, offset) : add_plain(l, name, &entry.attr, offset);
}

static void overlay(struct call *c, uint64_t id, struct inode *inode)
{
    if (!host_equal(inode->writer, c->session->self))
        return;
    struct node *node = node_get(&c->session->nodes, id);
    if (!node)
        return;
    live_overlay(c->session, node, inode);
    node_put(&c->session->nodes, node);
}

/* Counts a lookup of the entry if it fits. */
static bool add_known(struct listing *l, const char *name, const struct inode *inode,
                      uint64_t offset)
{
    struct node_table *nodes = &l->call->session->nodes;
    struct fuse_entry_param entry;
    struct inode shown = *inode;
    uint64_t id;

    l->error = node_enter(nodes, inode, &id);
    if (l->error < 0)
        return false;
    overlay(l->call, id, &shown);
    fill_entry(l->call, &shown, id, &entry);
    bool fits = add_plus(l, name, &entry, offset);
    if (!fits)
        node_forget(nodes, id, 1);
    return fits;
}

static bool add_entry(void *ctx, struct span span, uint64_t cookie, const struct inode *inode)
{
    struct listing *l = ctx;
    char name[NAME_BYTES_MAX + 1];

    (void)snprintf(name, sizeof name, "%.*s", (int)span.size, (const char *)span.data);
    if (l->plus)
        return add_known(l, name, inode, cookie + DOTS);
    const struct stat st = {.st_ino = inode->ino, .st_mode = inode->mode};
    return add_plain(l, name, &st, cookie + DOTS);
}

/* Takes back the lookups of a reply that did not arrive. */
static void forget_listing(const struct listing *l)
{
    for (size_t at = 0; l->plus && at < l->used;) {
        struct fuse_direntplus entry;
        memcpy(&entry, l->buffer + at, sizeof entry);
        if (entry.entry_out.nodeid != 0)
            node_forget(&l->call->session->nodes, entry.entry_out.nodeid, 1);
        at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + entry.dirent.namelen);
    }
}

static int list(struct listing *l, uint64_t dir, uint64_t offset)
{
    struct session *s = l->call->session;
    struct inode inode;

    int r = tree_get(s->tree, dir, &inode);
    if (r == -ENOENT)
        return 0; /* removed while open: empty */
    if (r < 0)
        return r;
    if (offset < 1 && !add_dot(l, ".", dir, 1))
        return 0;
    if (offset < 2 && !add_dot(l, "..", inode.parent, 2))
        return 0;
    r = tree_readdir(s->tree, dir, offset > DOTS ? offset - DOTS : 0, add_entry, l);
    if (r == -ENOENT)
        return 0;
    return l->used == 0 && l->error < 0 ? l->error : r;
}

static void read_directory(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, bool plus)
{
    struct call c;

    if (!call_begin(&c, req, "list directory", id, NULL))
        return;
    if (plus)
        call_naming(&c);
    size = MIN(size, DIRECTORY_BYTES_MAX);
    struct listing l = {
        .call = &c, .buffer = worker_buffer(DIRECTORY_BYTES_MAX), .size = size, .plus = plus};
    int r = l.buffer && offset >= 0 ? list(&l, id_ino(id), (uint64_t)offset)
            : l.buffer              ? -EINVAL
                                    : -ENOMEM;
    if (r < 0) {
        forget_listing(&l);
        call_error(&c, r);
        return;
    }
    if (fuse_reply_buf(req, l.buffer, l.used) != 0)
        forget_listing(&l);
    call_end(&c, 0);
}

void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
                struct fuse_file_info *fi UNUSED)
{
    read_directory(req, id, size, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
                    struct fuse_file_info *fi UNUSED)
{
    read_directory(req, id, size, offset, true);
}
