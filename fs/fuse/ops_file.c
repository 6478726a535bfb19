/* fs/fuse/ops_file.c — open files: how they are opened, and what closing them publishes.
 *
 * The kernel allows one mode of I/O per node at a time: passed through with one backing id, or cached. The first open
 * decides for all until the last close. What must be seen (no image holds the limit, suid to take away) while passed
 * through is opened PASSTHROUGH | DIRECT_IO: reads and writes come here, maps go to the backing file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/live.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/pages.h"
#include "fs/fuse/passthrough.h"
#include "fs/fuse/record.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define SMALL_BYTES (64u << 10)
#define DIRECT_BYTES (1u << 20)

/* ---- modes ---- */

static bool wants_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* Writing that only the daemon can do right. */
static bool must_see_writes(struct session *s, struct node *node)
{
    return !s->quota.is_kernels || has_privileges(s, node->ino);
}

static void note_backing(struct session *s, int32_t id)
{
    _Atomic int32_t *mark = &ledger_header(s->ledger)->backing_mark;
    int32_t now = atomic_load(mark);

    while (now < id && !atomic_compare_exchange_weak(mark, &now, id))
        continue;
}

static int backing_id(struct call *c, struct node *node)
{
    struct session *s = c->session;

    if (node->backing_id != 0)
        return node->backing_id;
    int id = passthrough_open(fuse_session_fd(s->fuse), content_fd(node->content));
    if (id > 0) {
        note_backing(s, id);
        return node->backing_id = id;
    }
    if (atomic_exchange(&s->passthrough, false))
        log_warning("fuse",
                    "cannot pass files through: %s; everything goes through the daemon volume=%s",
                    strerror(-id), s->name);
    return 0;
}

/* Small files that are only read are better off in the kernel's own cache: an open needs no backing file there
 * (open, read, close of 4 KiB: 31 us against 53 us; 64 KiB: 38 against 92; 1 MiB: 200 against 149, medians). */
static bool is_better_cached(struct node *node, const struct handle *h)
{
    return !h->write && content_size(node->content) <= SMALL_BYTES;
}

/* A map of a passed-through file holds the backing file and not the open one: its RELEASE comes while the map goes on
 * being written, and what is written then would never be published. A cached file's comes when the map is gone. Where
 * readers have the file passed through already, there is no choice. */
static enum node_mode choose_mode(struct call *c, struct node *node, const struct handle *h,
                                  bool sees_writes)
{
    struct session *s = c->session;

    if (node->n_passthrough > 0)
        return NODE_PASSTHROUGH;
    if (node->n_cached > 0 || !s->passthrough || sees_writes || h->may_map ||
        !content_is_complete(node->content) || is_better_cached(node, h) || live_check(s, node) < 0)
        return NODE_CACHED;
    return backing_id(c, node) != 0 ? NODE_PASSTHROUGH : NODE_CACHED;
}

/* Whether a file that goes through the daemon is read straight into the reader's memory. What comes from elsewhere is
 * mostly read once and in large pieces, and filling the mount's page cache, too, costs more than all the rest of the
 * way from the backing file. A map still goes by the page cache. */
static bool is_better_direct(const struct session *s, struct node *node, const struct handle *h)
{
    return s->maps_direct && !h->write && !content_is_complete(node->content) &&
           content_size(node->content) >= DIRECT_BYTES;
}

/* Whether the kernel is to get the file's pages with its answer: it has none, or wrong ones. */
static bool is_to_be_given(const struct node *node, const struct handle *h)
{
    return h->mode == NODE_CACHED && !h->write && !node->writing && node->n_open == 1 &&
           (node->pages_stale || !node->pages_filled) && content_is_complete(node->content);
}

static void fill_mode(struct session *s, struct node *node, const struct handle *h,
                      struct fuse_file_info *fi)
{
    fi->fh = ledger_number(s->ledger, h->slot);
    fi->noflush = !h->write;
    if (h->mode == NODE_PASSTHROUGH) {
        fi->backing_id = node->backing_id;
        fi->direct_io = h->sees_writes;
        return; /* the kernel refuses keep_cache here */
    }
    fi->direct_io = is_better_direct(s, node, h);
    fi->keep_cache = !node->pages_stale;
    node->pages_stale = false;
    node->pages_filled = true;
}

/* Counts the open in its mode and makes the handle's answer. Under claim. */
static int begin_open(struct call *c, struct node *node, struct handle *h,
                      struct fuse_file_info *fi)
{
    struct session *s = c->session;

    h->sees_writes = h->write && s->passthrough && must_see_writes(s, node);
    h->mode = choose_mode(c, node, h, h->sees_writes);
    int r = record_open(s, node, h);
    if (r < 0) {
        record_drop_backing(s, node);
        return r;
    }
    handle_count(node, h);
    if (h->mode == NODE_PASSTHROUGH && h->write)
        node->pages_stale = true;
    if (h->mode == NODE_PASSTHROUGH && h->may_map) /* stores that the kernel takes no note of */
        (void)fuse_lowlevel_notify_inval_inode(s->fuse, node->id, -1, 0);
    if (is_to_be_given(node, h) && pages_give(s, node))
        node->pages_stale = false;
    fill_mode(s, node, h, fi);
    atomic_fetch_add(h->mode == NODE_PASSTHROUGH ? &s->counters.opens_passthrough
                                                 : &s->counters.opens_cached,
                     1);
    return 0;
}

/* ---- closing ---- */

static void drop_inode(struct session *s, uint64_t ino)
{
    struct request request = {.kind = REQUEST_DROP, .ino = ino};
    struct outcome outcome;

    int r = session_change(s, &request, &outcome);
    if (r < 0)
        log_warning("fuse",
                    "an unlinked file stays until the next mount: %s volume=%s inode=%" PRIu64,
                    strerror(-r), s->name, ino);
}

/* Under claim. */
static void end_open(struct session *s, struct node *node, struct handle *h)
{
    record_closing(h);
    handle_uncount(node, h);
    if (node->n_write == 0 && node->writing)
        live_close(s, node);
    record_close(s, h);
    record_drop_backing(s, node);
    record_forget(s, node);
    live_unuse(node);
}

/* The claim of a close waits as long as it takes: others hold it for a bounded time. */
static void claim_for_close(struct node *node)
{
    while (node_claim(node, clock_mono_ns() + REQUEST_TIMEOUT_NS) < 0)
        continue;
}

static void close_handle(struct session *s, struct handle *h)
{
    struct node *node = h->node;
    uint64_t ino = node->ino;

    claim_for_close(node);
    end_open(s, node, h);
    node_unclaim(node);
    if (node_closed(&s->nodes, node))
        drop_inode(s, ino);
    free(h);
}

void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;

    call_begin_open(&c, req, "close", id);
    struct handle *h = handle_of(c.session, fi);
    if (h)
        close_handle(c.session, h);
    call_error(&c, 0);
}

static struct handle *first_handle(struct node *node)
{
    SCOPED_LOCK(node->lock);
    return list_empty(&node->handles) ? NULL : list_first(&node->handles, struct handle, in_node);
}

/* Where the home is out of reach, one change waits for it and not each: the recovery at the next start makes them. */
void close_all(struct session *s)
{
    struct node *node;

    s->is_ending = true;
    while ((node = node_any_open(&s->nodes))) {
        struct handle *h;
        while ((h = first_handle(node)))
            close_handle(s, h);
        if (node->writing)
            live_abandon(s, node);
        live_unuse(node);
        node_put(&s->nodes, node);
    }
}

/* ---- opening ---- */

static struct handle *handle_new(struct call *c, struct node *node, bool write, int flags)
{
    struct handle *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->node = node;
    h->opened_by = worker_unique() & ~UNIQUE_RESEND_BIT;
    h->write = write;
    h->may_map = (flags & O_ACCMODE) == O_RDWR;
    list_init(&h->in_node);
    node_opening(&c->session->nodes, node);
    return h;
}

/* An open that was counted but not begun. */
static void handle_free(struct session *s, struct handle *h)
{
    uint64_t ino = h->node->ino;

    if (node_closed(&s->nodes, h->node))
        drop_inode(s, ino);
    free(h);
}

static int truncate_at_open(struct call *c, struct node *node, const struct fuse_file_info *fi)
{
    if (!(fi->flags & O_TRUNC))
        return 0;
    int r = content_truncate(node->content, 0, c->deadline_ns);
    node_set_dirty(node, true);
    quota_settle(&c->session->quota, node, 0);
    if (r == 0 && fi->kill_suidgid)
        r = kill_privileges(c, node);
    return r;
}

static int open_claimed(struct call *c, struct handle *h, struct fuse_file_info *fi)
{
    struct node *node = h->node;

    int r = live_use(c, node);
    if (r == 0 && h->write && !(fi->flags & O_TRUNC))
        r = live_check(c->session, node);
    if (r == 0 && h->write)
        r = live_write(c, node);
    if (r == 0)
        r = truncate_at_open(c, node, fi);
    if (r == 0)
        r = begin_open(c, node, h, fi);
    if (r == 0 && !h->write)
        content_opened(node->content);
    if (r == 0)
        return 0;
    if (node->n_write == 0 && node->writing)
        live_close(c->session, node);
    live_unuse(node);
    return r;
}

static int open_handle(struct call *c, struct handle *h, struct fuse_file_info *fi)
{
    int r = node_claim(h->node, c->deadline_ns);
    if (r < 0)
        return r;
    r = open_claimed(c, h, fi);
    node_unclaim(h->node);
    return r;
}

static int open_node(struct call *c, struct node *node, struct fuse_file_info *fi)
{
    struct handle *h = handle_new(c, node, wants_write(fi->flags), fi->flags);
    if (!h)
        return -ENOMEM;
    int r = open_handle(c, h, fi);
    if (r < 0)
        handle_free(c->session, h);
    return r;
}

/* True: the daemon before had opened it and was killed before it could say so. */
static bool is_open_already(struct call *c, struct fuse_file_info *fi, struct node **ret_node)
{
    struct handle *h = c->is_resent ? ledger_opened_by(c->session->ledger, c->unique) : NULL;

    if (!h)
        return false;
    fill_mode(c->session, h->node, h, fi);
    node_pin(&c->session->nodes, h->node);
    *ret_node = h->node;
    return true;
}

void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;
    struct node *node;

    if (!call_begin(&c, req, wants_write(fi->flags) ? "open for writing" : "open", id, NULL))
        return;
    bool is_open = is_open_already(&c, fi, &node);
    int r = is_open ? 0 : call_node(&c, &node);
    if (r == 0) {
        r = is_open ? 0 : open_node(&c, node, fi);
        node_put(&c.session->nodes, node);
    }
    if (r < 0) {
        call_error(&c, r);
        return;
    }
    if (fuse_reply_open(req, fi) != 0)
        close_handle(c.session, handle_of(c.session, fi));
    call_end(&c, 0);
}

/* ---- creating ---- */

static int made_claimed(struct call *c, struct handle *h, const struct inode *inode,
                        struct fuse_file_info *fi)
{
    int r = live_made(c->session, h->node, inode);
    if (r == 0)
        r = begin_open(c, h->node, h, fi);
    if (r == 0)
        return 0;
    if (h->node->n_write == 0 && h->node->writing)
        live_close(c->session, h->node);
    live_unuse(h->node);
    return r;
}

static int open_made(struct call *c, struct node *node, const struct inode *inode,
                     struct fuse_file_info *fi)
{
    struct handle *h = handle_new(c, node, true, fi->flags);
    if (!h)
        return -ENOMEM;
    int r = node_claim(node, c->deadline_ns);
    if (r == 0) {
        r = made_claimed(c, h, inode, fi);
        node_unclaim(node);
    }
    if (r < 0)
        handle_free(c->session, h);
    return r;
}

/* The reply that carries node and handle; what it would have counted is taken back when it does not arrive. */
static void reply_created(struct call *c, struct node *node, const struct inode *inode, bool is_new,
                          struct fuse_file_info *fi)
{
    struct inode shown = *inode;
    int error;

    live_overlay(c->session, node, &shown);
    call_create(c, &shown, node->id, is_new, fi, &error);
    if (error == 0)
        return;
    close_handle(c->session, handle_of(c->session, fi));
    node_forget(&c->session->nodes, node->id, 1);
}

/* The daemon before had made and opened it. */
static bool is_created_already(struct call *c, struct fuse_file_info *fi)
{
    struct node *node;

    if (!is_open_already(c, fi, &node))
        return false;
    struct inode inode;
    node_relookup(&c->session->nodes, node);
    if (call_inode(c, node, &inode) == 0)
        reply_created(c, node, &inode, false, fi);
    else
        call_error(c, -EIO);
    node_put(&c->session->nodes, node);
    return true;
}

static int create_node(struct call *c, const struct inode *inode, bool is_made,
                       struct fuse_file_info *fi)
{
    struct session *s = c->session;
    uint64_t id;

    int r = node_enter(&s->nodes, inode, &id);
    if (r < 0)
        return r;
    struct node *node = node_get(&s->nodes, id);
    CHECK(node);
    r = is_made ? open_made(c, node, inode, fi) : open_node(c, node, fi);
    if (r == 0 && inode->nlink == 0)
        node_hold(&s->nodes, node->ino);
    if (r == 0)
        reply_created(c, node, inode, is_made, fi);
    else
        node_forget(&s->nodes, id, 1);
    node_put(&s->nodes, node);
    return r;
}

/* Without a name in the call: one that has none. */
static int create_file(struct call *c, mode_t mode, struct inode *ret_inode)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(c->req);
    struct request request = {.kind = REQUEST_MAKE,
                              .flags = REQUEST_FOR_WRITE | (c->name ? 0 : REQUEST_NAMELESS),
                              .parent = id_ino(c->id),
                              .name = c->name ? name_span(c->name) : (struct span){0},
                              .mode = S_IFREG | (mode & 07777),
                              .umask = ctx->umask & 0777,
                              .uid = ctx->uid,
                              .gid = ctx->gid};
    struct outcome outcome;

    int r = call_change(c, &request, &outcome);
    if (r == 0)
        r = tree_get(c->session->tree, outcome.ino, ret_inode);
    else if (r == -ENOENT)
        return r;
    return r == -ENOENT ? -ESTALE
                        : r; /* made, and removed by another host: the kernel tries again */
}

/* Somebody else made the name since the kernel looked: then it is opened. */
static int find_file(struct call *c, struct inode *ret_inode)
{
    int r = tree_lookup(c->session->tree, id_ino(c->id), name_span(c->name), ret_inode);
    if (r < 0)
        return r;
    return S_ISREG(ret_inode->mode) ? 0 : S_ISDIR(ret_inode->mode) ? -EISDIR : -ESTALE;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *fi)
{
    struct call c;
    struct inode inode;

    if (!call_begin(&c, req, "create", parent, name))
        return;
    call_naming(&c);
    if (is_created_already(&c, fi))
        return;
    bool is_made = !c.is_resent; /* else it may be somebody else's work by now */
    int r = strlen(name) > NAME_BYTES_MAX ? -ENAMETOOLONG : create_file(&c, mode, &inode);
    if (r == -EEXIST && !(fi->flags & O_EXCL)) {
        is_made = false;
        r = find_file(&c, &inode);
    }
    if (r == 0)
        r = create_node(&c, &inode, is_made, fi);
    if (r < 0)
        call_error(&c, r);
}

/* The daemon before made one that nobody had open yet, so it went with that daemon: here is another. */
static int create_nameless(struct call *c, mode_t mode, struct inode *ret_inode)
{
    int r = create_file(c, mode, ret_inode);
    if (r != -ESTALE || !c->is_resent)
        return r;
    c->unique = atomic_fetch_add(&ledger_header(c->session->ledger)->next_unique, 2);
    c->is_resent = false;
    return create_file(c, mode, ret_inode);
}

void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
    struct call c;
    struct inode inode;

    if (!call_begin(&c, req, "make a file without a name in", parent, NULL) ||
        is_created_already(&c, fi))
        return;
    int r = create_nameless(&c, mode, &inode);
    if (r == 0) {
        r = create_node(&c, &inode, !c.is_resent, fi);
        if (r < 0)
            drop_inode(c.session, inode.ino);
    }
    if (r < 0)
        call_error(&c, r);
}

/* ---- flush and fsync ---- */

/* A version of somebody else is in the tree: what was written here cannot be published any more. */
static int lost_race(int r)
{
    return r == -ESTALE || r == -EBUSY ? -EIO : r;
}

/* A write ownership that was lost with the daemon before: what was written since cannot be published. */
static int check_written(const struct handle *h)
{
    return h->write && !h->node->writing ? -EIO : 0;
}

void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct call c;
    struct handle *h;

    if (!call_begin_handle(&c, req, "publish at close", id, fi, &h))
        return;
    if (!h->write) {
        call_error(&c, 0);
        return;
    }
    int r = node_claim(h->node, c.deadline_ns);
    if (r == 0) {
        r = check_written(h);
        if (r == 0)
            r = live_publish(c.session, h->node, 0, NULL);
        node_unclaim(h->node);
    }
    call_error(&c, lost_race(r));
}

static int sync_claimed(struct session *s, struct node *node)
{
    bool is_published;

    int r = content_sync(node->content);
    if (r < 0)
        return r;
    r = live_publish(s, node, REQUEST_DURABLE, &is_published);
    if (r < 0 || is_published)
        return r;
    r = session_sync_log(s);
    if (r == 0)
        node->undurable = false;
    return r;
}

void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync UNUSED, struct fuse_file_info *fi)
{
    struct call c;
    struct handle *h;

    if (!call_begin_handle(&c, req, "sync", id, fi, &h))
        return;
    int r = node_claim(h->node, c.deadline_ns);
    if (r == 0) {
        r = check_written(h);
        if (r == 0)
            r = sync_claimed(c.session, h->node);
        node_unclaim(h->node);
    }
    call_error(&c, lost_race(r));
}
