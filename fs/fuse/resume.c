/* fs/fuse/resume.c — from the ledger to what is open: the daemon that served this mount before is gone.
 *
 * What the tree says is the truth; the ledger says what the kernel has. A publish, a close or a removal that reached
 * the log just before the end is found there and not made again.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/live.h"
#include "fs/fuse/passthrough.h"
#include "fs/fuse/record.h"
#include "fs/volume/retired.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* How many backing ids around the highest one noted may have been registered and not noted: one a thread. */
#define BACKING_UNSURE (2 * WORKERS_MAX)
/* By then every request that was under way is answered. */
#define LEFTOVER_NS (60 * NS_PER_S)

/* ---- nodes ---- */

static bool is_stale(struct session *s, const struct ledger_slot *slot, const struct inode *inode)
{
    uint32_t flags = atomic_load(&slot->flags);

    if (flags & LEDGER_STALE)
        return true;
    if (inode->version == atomic_load(&slot->version))
        return false;
    return !((flags & LEDGER_OWN) && host_equal(inode->keeper, s->self));
}

static int find_content(struct session *s, const struct node *node, const struct inode *inode,
                        struct content **ret_content)
{
    const struct inode drawn = {.ino = node->ino};

    return node->stale ? content_find(s->store, s->self, &drawn, node->version, ret_content)
                       : content_get(s->store, s->self, inode, ret_content);
}

static void take_content(struct session *s, struct node *node, const struct inode *inode)
{
    struct content *content = NULL;

    int r = find_content(s, node, inode, &content);
    if (r < 0)
        log_error(
            "fuse",
            "cannot go on with an open file: its content was replaced while no daemon ran: %s "
            "(reads of it are errors until it is opened again) volume=%s inode=%" PRIu64,
            strerror(-r), s->name, node->ino);
    SCOPED_LOCK(node->lock);
    node->content = content;
}

static int resume_node(void *ctx, struct ledger_slot *slot)
{
    struct session *s = ctx;
    struct node *node;
    struct inode inode;

    int r = tree_get(s->tree, slot->last.ino, &inode);
    if (r < 0 && r != -ENOENT)
        return r;
    bool is_gone = r == -ENOENT;
    if (is_gone) {
        inode = slot->last;
        inode.nlink = 0;
    }
    bool stale = !is_gone && is_stale(s, slot, &inode);
    r = node_restore(&s->nodes, &inode, slot->id, stale, &node);
    if (r < 0)
        return r;
    node->gone = inode.nlink == 0;
    node->version = stale || is_gone ? atomic_load(&slot->version) : inode.version;
    atomic_store(&slot->version, node->version);
    if (stale)
        atomic_fetch_or(&slot->flags, LEDGER_STALE);
    node->backing_id = atomic_load(&slot->backing_id);
    node->record = slot;
    take_content(s, node, &inode);
    ledger_commit(s->ledger, slot, LEDGER_NODE, node); /* pinned until it is settled */
    return 0;
}

/* ---- handles ---- */

static struct node *node_of(struct session *s, const struct ledger_slot *slot)
{
    const struct ledger_slot *node = ledger_slot(s->ledger, slot->node);

    if (!node || atomic_load(&node->kind) != LEDGER_NODE)
        return NULL;
    return ledger_object(s->ledger, ledger_number(s->ledger, node));
}

static int resume_handle(void *ctx, struct ledger_slot *slot)
{
    struct session *s = ctx;
    uint32_t flags = atomic_load(&slot->flags);
    struct node *node = node_of(s, slot);

    if (!node)
        return -EBADMSG;
    struct handle *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->node = node;
    h->slot = slot;
    h->opened_by = slot->opened_by;
    h->write = flags & LEDGER_WRITE;
    h->may_map = flags & LEDGER_MAY_MAP;
    h->sees_writes = flags & LEDGER_SEES_WRITES;
    h->mode = flags & LEDGER_PASSTHROUGH ? NODE_PASSTHROUGH : NODE_CACHED;
    list_init(&h->in_node);
    node_opening(&s->nodes, node);
    handle_count(node, h);
    ledger_commit(s->ledger, slot, LEDGER_HANDLE, h);
    return 0;
}

/* ---- writing ---- */

/* All its writers are being closed: perhaps the last close is in the log already. */
static bool is_only_closing(struct node *node)
{
    SCOPED_LOCK(node->lock);

    list_for_each(h, &node->handles, struct handle, in_node)
    {
        if (h->write && !(atomic_load(&h->slot->flags) & LEDGER_CLOSING))
            return false;
    }
    return true;
}

/* It was lost with a log that a power cut or another home cut short. */
static int take_ownership(struct session *s, struct node *node)
{
    struct request request = {.kind = REQUEST_OPEN_WRITE, .ino = node->ino};
    struct outcome outcome;

    int r = session_change(s, &request, &outcome);
    if (r < 0)
        log_error(
            "fuse",
            "cannot go on writing an open file: %s (its close and fsync are errors) volume=%s "
            "inode=%" PRIu64,
            strerror(-r), s->name, node->ino);
    return r;
}

static void resume_writing(struct session *s, struct node *node)
{
    struct inode inode;

    if (node->n_write == 0 || node->stale || !node->content ||
        tree_get(s->tree, node->ino, &inode) < 0)
        return;
    bool is_writer = host_equal(inode.writer, s->self);
    if (!is_writer && (is_only_closing(node) || take_ownership(s, node) < 0))
        return;
    bool is_dirty = atomic_load(&node->record->flags) & LEDGER_DIRTY;
    live_resume(s, node, &inode, is_dirty);
}

static int settle_node(void *ctx, struct ledger_slot *slot)
{
    struct session *s = ctx;
    struct node *node = ledger_object(s->ledger, ledger_number(s->ledger, slot));

    record_drop_backing(s, node);
    resume_writing(s, node);
    if (node->n_open == 0)
        record_forget(s, node);
    live_unuse(node);
    node_put(&s->nodes, node);
    return 0;
}

/* ---- around them ---- */

static bool hold(void *ctx, const struct inode *inode)
{
    struct session *s = ctx;

    node_hold(&s->nodes, inode->ino);
    return true;
}

struct backing_use {
    bool is_used[BACKING_UNSURE];
    int32_t first;
};

static int note_use(void *ctx, struct ledger_slot *slot)
{
    struct backing_use *use = ctx;
    int32_t at = atomic_load(&slot->backing_id) - use->first;

    if (at >= 0 && at < BACKING_UNSURE)
        use->is_used[at] = true;
    return 0;
}

/* What was registered and not noted would hold its file until the unmount. */
static int close_unnoted_backings(struct session *s)
{
    int32_t mark = atomic_load(&ledger_header(s->ledger)->backing_mark);
    struct backing_use use = {.first = MAX(1, mark - BACKING_UNSURE / 2)};

    int r = ledger_each(s->ledger, LEDGER_NODE, note_use, &use);
    for (int32_t i = 0; r == 0 && s->passthrough && i < BACKING_UNSURE; i++) {
        if (!use.is_used[i])
            passthrough_close(fuse_session_fd(s->fuse), use.first + i);
    }
    return r;
}

static bool take_leftover(void *ctx, uint64_t unique)
{
    struct session *s = ctx;

    s->leftover[s->n_leftover++] = unique;
    return s->n_leftover < RETIRED_PER_SESSION;
}

static int find_leftover(struct session *s)
{
    s->leftover = calloc(RETIRED_PER_SESSION, sizeof *s->leftover);
    if (!s->leftover)
        return -ENOMEM;
    int r = tree_each_result(s->tree, s->self, s->id, take_leftover, s);
    if (r == 0 && s->n_leftover > 0)
        s->leftover_until_ns = clock_mono_ns() + LEFTOVER_NS;
    return r;
}

int record_resume(struct session *s)
{
    int r = ledger_each(s->ledger, LEDGER_NODE, resume_node, s);
    if (r == 0)
        r = ledger_each(s->ledger, LEDGER_HANDLE, resume_handle, s);
    if (r == 0)
        r = tree_each_held(s->tree, s->self, hold, s);
    if (r == 0)
        r = close_unnoted_backings(s);
    if (r == 0)
        r = ledger_each(s->ledger, LEDGER_NODE, settle_node, s);
    return r < 0 ? r : find_leftover(s);
}
