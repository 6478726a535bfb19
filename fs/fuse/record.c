/* fs/fuse/record.c — what is open, into the ledger. */
#include "fs/fuse/record.h"

#include "fs/fuse/passthrough.h"

void handle_count(struct node *node, struct handle *h)
{
    SCOPED_LOCK(node->lock);

    node->n_open++;
    node->n_write += h->write;
    node->n_cached += h->mode == NODE_CACHED;
    node->n_passthrough += h->mode == NODE_PASSTHROUGH;
    list_append(&node->handles, &h->in_node);
}

void handle_uncount(struct node *node, struct handle *h)
{
    SCOPED_LOCK(node->lock);

    list_remove(&h->in_node);
    node->n_open--;
    node->n_write -= h->write;
    node->n_cached -= h->mode == NODE_CACHED;
    node->n_passthrough -= h->mode == NODE_PASSTHROUGH;
}

static void set_record(struct node *node, struct ledger_slot *slot)
{
    SCOPED_LOCK(node->lock);

    node->record = slot;
    if (slot && node->stale)
        atomic_fetch_or(&slot->flags, LEDGER_STALE);
}

/* What the tree knows of it now; what is gone from there is remembered. */
static void fill_node(struct session *s, struct node *node, struct ledger_slot *slot)
{
    struct inode inode;
    bool is_there = tree_get(s->tree, node->ino, &inode) == 0;
    SCOPED_LOCK(node->lock);

    slot->id = node->id;
    slot->last = is_there ? inode : node_remembered_locked(node);
    atomic_store(&slot->version, node->version);
    if (node->dirty)
        atomic_fetch_or(&slot->flags, LEDGER_DIRTY);
    if (!node->stale && host_equal(slot->last.keeper, s->self))
        atomic_fetch_or(&slot->flags, LEDGER_OWN);
}

static int record_node(struct session *s, struct node *node)
{
    struct ledger_slot *slot;

    int r = ledger_take(s->ledger, &slot);
    if (r < 0)
        return r;
    fill_node(s, node, slot);
    ledger_commit(s->ledger, slot, LEDGER_NODE, node);
    set_record(node, slot);
    return 0;
}

static uint32_t flags_of(const struct handle *h)
{
    return (h->write ? LEDGER_WRITE : 0) | (h->may_map ? LEDGER_MAY_MAP : 0) |
           (h->mode == NODE_PASSTHROUGH ? LEDGER_PASSTHROUGH : 0) |
           (h->sees_writes ? LEDGER_SEES_WRITES : 0);
}

int record_open(struct session *s, struct node *node, struct handle *h)
{
    struct ledger_slot *slot = NULL;

    int r = node->record ? 0 : record_node(s, node);
    if (r == 0)
        r = ledger_take(s->ledger, &slot);
    if (r < 0) {
        record_forget(s, node);
        return r;
    }
    atomic_store(&node->record->backing_id, node->backing_id);
    if (node->writing)
        atomic_fetch_or(&node->record->flags, LEDGER_OWN);
    slot->node = ledger_index(s->ledger, node->record);
    slot->opened_by = h->opened_by;
    atomic_store(&slot->flags, flags_of(h));
    h->slot = slot;
    ledger_commit(s->ledger, slot, LEDGER_HANDLE, h);
    return 0;
}

void record_closing(struct handle *h)
{
    atomic_fetch_or(&h->slot->flags, LEDGER_CLOSING);
}

void record_close(struct session *s, struct handle *h)
{
    ledger_remove(s->ledger, h->slot);
}

void record_forget(struct session *s, struct node *node)
{
    struct ledger_slot *slot = node->record;

    if (!slot || node->n_open > 0)
        return;
    set_record(node, NULL);
    ledger_remove(s->ledger, slot);
}

void record_drop_backing(struct session *s, struct node *node)
{
    if (node->n_passthrough > 0 || node->backing_id == 0)
        return;
    passthrough_close(fuse_session_fd(s->fuse), node->backing_id);
    node->backing_id = 0;
    if (node->record)
        atomic_store(&node->record->backing_id, 0);
}

/* ---- leaving ---- */

static void leave_node(struct session *s, struct node *node)
{
    quota_leave(&s->quota, node);
    set_record(node, NULL);
    SCOPED_LOCK(node->lock);
    list_for_each(h, &node->handles, struct handle, in_node)
    {
        list_remove(&h->in_node);
        free(h);
    }
    node->n_open = 0;
    node->writing = false;
}

void record_leave(struct session *s)
{
    struct node *node;

    while ((node = node_any_open(&s->nodes))) {
        leave_node(s, node);
        node_put(&s->nodes, node);
    }
}
