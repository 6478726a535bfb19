/* fs/fuse/call.c — admission, identities, replies. */
#include "fs/fuse/call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/fuse/live.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define IO_BYTES (128u << 10) /* st_blksize: what cp and friends read at a time */
#define NOTABLE_WAIT_NS (100 * 1000)

static double cache_seconds(int64_t valid_ns)
{
    if (valid_ns == FOREVER_NS)
        return CACHE_FOREVER_S;
    return valid_ns > 0 ? (double)valid_ns / (double)NS_PER_S : 0;
}

/* What the kernel is told from now on is right until then: noted before it is told, for who lets it expire. */
static void note_lease(struct session *s, int64_t valid_ns)
{
    _Atomic int64_t *end = &ledger_header(s->ledger)->lease_end_ns;
    int64_t until = valid_ns == FOREVER_NS ? LEDGER_LEASE_FOREVER : clock_mono_ns() + valid_ns;
    int64_t now = atomic_load(end);

    while ((until == LEDGER_LEASE_FOREVER || now == LEDGER_LEASE_FOREVER || now < until) &&
           now != until && !atomic_compare_exchange_weak(end, &now, until))
        continue;
}

/* Waits for the lease, if there is one; what it took is time waited for other hosts. */
static int admit(struct call *c)
{
    struct session *s = c->session;
    int64_t valid_ns;

    if (!s->source) {
        note_lease(s, FOREVER_NS);
        c->valid_s = CACHE_FOREVER_S;
        return 0;
    }
    int64_t start = clock_mono_ns();
    int r = s->source->ops->admit(s->source, &valid_ns);
    int64_t took = clock_mono_ns() - start;
    if (took > NOTABLE_WAIT_NS)
        atomic_fetch_add(&s->counters.wait_ns, (uint64_t)took);
    if (r < 0)
        return r;
    note_lease(s, valid_ns);
    c->valid_s = cache_seconds(valid_ns);
    return 0;
}

void call_begin_open(struct call *c, fuse_req_t req, const char *doing, fuse_ino_t id)
{
    struct session *s = fuse_req_userdata(req);

    *c = (struct call){.session = s,
                       .req = req,
                       .doing = doing,
                       .id = id,
                       .unique = worker_unique() & ~UNIQUE_RESEND_BIT,
                       .is_resent = worker_unique() & UNIQUE_RESEND_BIT,
                       .deadline_ns = clock_mono_ns() + REQUEST_TIMEOUT_NS};
    atomic_fetch_add_explicit(&s->counters.requests, 1, memory_order_relaxed);
}

bool call_begin_handle(struct call *c, fuse_req_t req, const char *doing, fuse_ino_t id,
                       const struct fuse_file_info *fi, struct handle **ret_handle)
{
    call_begin_open(c, req, doing, id);
    struct handle *h = handle_of(c->session, fi);
    if (h && h->node->content) {
        *ret_handle = h;
        return true;
    }
    call_error(c, h ? -EIO : -EBADF);
    return false;
}

bool call_begin(struct call *c, fuse_req_t req, const char *doing, fuse_ino_t id, const char *name)
{
    call_begin_open(c, req, doing, id);
    c->name = name;
    int r = admit(c);
    if (r < 0)
        call_error(c, r);
    return r == 0;
}

void call_naming(struct call *c)
{
    atomic_fetch_add(&c->session->naming, 1);
    c->is_naming = true;
}

/* ---- the end of a call ---- */

/* Errors that the caller did not ask for. */
static bool is_trouble(int error)
{
    switch (error) {
    case -EIO:
    case -EBADMSG:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ENOTCONN:
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
    case -EBUSY:
    case -EINTR:
        return true;
    default:
        return false;
    }
}

/* What programs know: the network's errors are EIO to them. */
static int narrowed(int error)
{
    switch (error) {
    case -EBADMSG:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ENOTCONN:
    case -EMFILE:
    case -ENFILE:
        return -EIO;
    default:
        return error;
    }
}

static void log_trouble(const struct call *c, int error)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (!log_allow(&limit, &suppressed))
        return;
    const char *quote = c->name ? "'" : "";
    log_warning("fuse",
                "cannot %s %s%s%s%s: %s volume=%s inode=%" PRIu64 " pid=%d suppressed=%" PRIu64,
                c->doing, quote, c->name ? c->name : "the file", quote,
                error == -EBUSY ? " (another host is writing it)" : "", strerror(-error),
                c->session->name, id_ino(c->id), (int)fuse_req_ctx(c->req)->pid, suppressed);
}

void call_end(struct call *c, int error)
{
    struct session *s = c->session;

    if (is_trouble(error))
        atomic_fetch_add_explicit(&s->counters.errors, 1, memory_order_relaxed);
    if (c->is_naming)
        atomic_fetch_sub(&s->naming, 1);
    if (c->is_changed)
        volume_answered(s->volume, s->id, c->unique);
}

void call_error(struct call *c, int error)
{
    if (is_trouble(error))
        log_trouble(c, error);
    (void)fuse_reply_err(c->req, -narrowed(error));
    call_end(c, error);
}

/* ---- attributes ---- */

static struct timespec timespec_of(int64_t ns)
{
    int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;
    if (rest < 0) {
        s--;
        rest += NS_PER_S;
    }
    return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

void fill_stat(const struct inode *inode, struct stat *st)
{
    *st = (struct stat){.st_ino = inode->ino,
                        .st_mode = inode->mode,
                        .st_nlink = inode->nlink,
                        .st_uid = inode->uid,
                        .st_gid = inode->gid,
                        .st_rdev = inode->rdev,
                        .st_size = (off_t)inode->size,
                        .st_blksize = IO_BYTES,
                        .st_blocks = (blkcnt_t)(inode->occupied / 512),
                        .st_atim = timespec_of(inode->atime_ns),
                        .st_mtim = timespec_of(inode->mtime_ns),
                        .st_ctim = timespec_of(inode->ctime_ns)};
}

void fill_entry(const struct call *c, const struct inode *inode, uint64_t id,
                struct fuse_entry_param *ret_entry)
{
    const struct session *s = c->session;
    bool is_shared = c->valid_s < CACHE_FOREVER_S;

    *ret_entry =
        (struct fuse_entry_param){.ino = id,
                                  .attr_timeout = c->valid_s,
                                  .entry_timeout = is_shared && !s->has_epoch ? 0 : c->valid_s};
    fill_stat(inode, &ret_entry->attr);
    /* What is being written here changes without a request; its times once more when it is published. */
    if (host_equal(inode->writer, s->self))
        ret_entry->attr_timeout = 0;
}

int call_node(struct call *c, struct node **ret_node)
{
    struct session *s = c->session;
    struct inode inode;

    *ret_node = node_get(&s->nodes, c->id);
    if (*ret_node)
        return 0;
    int r = s->is_resumed ? tree_get(s->tree, id_ino(c->id), &inode) : -ENOENT;
    if (r < 0)
        return r == -ENOENT ? -ESTALE : r;
    return node_adopt(&s->nodes, &inode, c->id, ret_node);
}

/* What was unlinked while the kernel still knows it. */
static int remembered(struct node *node, struct inode *ret_inode)
{
    SCOPED_LOCK(node->lock);

    *ret_inode = node_remembered_locked(node);
    return 0;
}

int call_inode(struct call *c, struct node *node, struct inode *ret_inode)
{
    struct inode inode;

    int r = tree_get(c->session->tree, node ? node->ino : id_ino(c->id), &inode);
    if (r == -ENOENT && node)
        r = remembered(node, &inode);
    if (r < 0)
        return r;
    if (node)
        live_overlay(c->session, node, &inode);
    if (node)
        node_shown(node, &inode);
    *ret_inode = inode;
    return 0;
}

/* ---- replies ---- */

/* What is being written here changes without a request. */
static double attr_seconds(const struct call *c, const struct node *node, const struct inode *inode)
{
    return node && host_equal(inode->writer, c->session->self) ? 0 : c->valid_s;
}

void call_attr(struct call *c, struct node *node, const struct inode *inode)
{
    struct stat st;

    fill_stat(inode, &st);
    (void)fuse_reply_attr(c->req, &st, attr_seconds(c, node, inode));
    call_end(c, 0);
}

static struct statx_timestamp timestamp_of(int64_t ns)
{
    struct timespec t = timespec_of(ns);

    return (struct statx_timestamp){.tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec};
}

static void fill_statx(const struct inode *inode, struct statx *stx)
{
    struct stat st;

    fill_stat(inode, &st);
    *stx = (struct statx){.stx_mask = STATX_BASIC_STATS | STATX_BTIME,
                          .stx_blksize = (uint32_t)st.st_blksize,
                          .stx_nlink = inode->nlink,
                          .stx_uid = inode->uid,
                          .stx_gid = inode->gid,
                          .stx_mode = (uint16_t)inode->mode,
                          .stx_ino = inode->ino,
                          .stx_size = inode->size,
                          .stx_blocks = (uint64_t)st.st_blocks,
                          .stx_atime = timestamp_of(inode->atime_ns),
                          .stx_btime = timestamp_of(inode->btime_ns),
                          .stx_ctime = timestamp_of(inode->ctime_ns),
                          .stx_mtime = timestamp_of(inode->mtime_ns),
                          .stx_rdev_major = major(inode->rdev),
                          .stx_rdev_minor = minor(inode->rdev)};
}

void call_statx(struct call *c, struct node *node, const struct inode *inode)
{
    struct statx stx;

    fill_statx(inode, &stx);
    (void)fuse_reply_statx(c->req, 0, &stx, attr_seconds(c, node, inode));
    call_end(c, 0);
}

/* Files being written here are looked at through their node, which has the sizes of now. */
static void overlay_entry(struct call *c, uint64_t id, struct inode *inode)
{
    if (!S_ISREG(inode->mode))
        return;
    struct node *node = node_get(&c->session->nodes, id);
    if (!node)
        return;
    live_overlay(c->session, node, inode);
    node_put(&c->session->nodes, node);
}

void call_entry(struct call *c, const struct inode *inode)
{
    struct fuse_entry_param entry;
    struct inode shown = *inode;
    uint64_t id;

    int r = node_enter(&c->session->nodes, inode, &id);
    if (r < 0) {
        call_error(c, r);
        return;
    }
    overlay_entry(c, id, &shown);
    fill_entry(c, &shown, id, &entry);
    if (fuse_reply_entry(c->req, &entry) != 0)
        node_forget(&c->session->nodes, id, 1);
    call_end(c, 0);
}

void call_negative(struct call *c)
{
    struct fuse_entry_param entry = {.ino = 0};

    if (c->valid_s >= CACHE_FOREVER_S || c->session->has_epoch)
        entry.entry_timeout = c->valid_s;
    (void)fuse_reply_entry(c->req, &entry);
    call_end(c, 0);
}

void call_create(struct call *c, const struct inode *inode, uint64_t id, bool is_new,
                 const struct fuse_file_info *fi, int *ret_error)
{
    struct fuse_entry_param entry;

    fill_entry(c, inode, id, &entry);
    if (is_new)
        entry.attr_timeout = c->valid_s;
    *ret_error = fuse_reply_create(c->req, &entry, fi);
    call_end(c, 0);
}

/* ---- changes ---- */

static bool frees(enum request_kind kind)
{
    return kind == REQUEST_UNLINK || kind == REQUEST_RENAME || kind == REQUEST_DROP;
}

/* Off the home, or with members to settle with, a change waits for other hosts. */
static int change(struct session *s, struct request *request, struct outcome *ret_outcome)
{
    int64_t start = s->source ? clock_mono_ns() : 0;
    int r = volume_change(s->volume, request, ret_outcome);
    int64_t took = s->source ? clock_mono_ns() - start : 0;
    if (took > NOTABLE_WAIT_NS)
        atomic_fetch_add(&s->counters.wait_ns, (uint64_t)took);
    if (r == 0 && frees(request->kind))
        session_freed(s);
    return r;
}

/* What a daemon before had answered is answered by now; what it had not was asked for again, and answered. */
static void retire_leftover(struct session *s)
{
    int64_t until = atomic_load(&s->leftover_until_ns);

    if (until == 0 || clock_mono_ns() < until ||
        !atomic_compare_exchange_strong(&s->leftover_until_ns, &until, 0))
        return;
    for (size_t i = 0; i < s->n_leftover; i++)
        volume_answered(s->volume, s->id, s->leftover[i]);
}

int call_change(struct call *c, struct request *request, struct outcome *ret_outcome)
{
    struct session *s = c->session;

    retire_leftover(s);
    request->identity = (struct identity){.host = s->self, .session = s->id, .unique = c->unique};
    int r = change(s, request, ret_outcome);
    /* A refusal by the home itself leaves nothing behind; one that came from afar may have got lost after the fact. */
    c->is_changed = ret_outcome->index != 0 || !volume_is_home(s->volume);
    return r;
}

int session_change(struct session *s, struct request *request, struct outcome *ret_outcome)
{
    uint64_t unique = atomic_fetch_add(&ledger_header(s->ledger)->next_unique, 2);

    if (s->is_cut_off) {
        *ret_outcome = (struct outcome){.error = -EIO};
        return -EIO;
    }
    request->identity = (struct identity){.host = s->self, .session = s->id, .unique = unique};
    int r = change(s, request, ret_outcome);
    if (ret_outcome->index != 0 || !volume_is_home(s->volume))
        volume_answered(s->volume, s->id, unique);
    if (s->is_ending && r == -EIO)
        s->is_cut_off = true;
    return r;
}
