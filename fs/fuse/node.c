/* fs/fuse/node.c — the node table. */
#include "fs/fuse/node.h"

#include <errno.h>
#include <sys/stat.h>

#define GENERATIONS (1u << (64 - INO_BITS))

static void note_shown(struct node *node, const struct inode *inode)
{
    node->mode = inode->mode;
    node->uid = inode->uid;
    node->gid = inode->gid;
    node->mtime_ns = inode->mtime_ns;
}

static struct node *node_new(struct node_table *table, struct id_entry *entry, uint32_t generation,
                             const struct inode *inode)
{
    struct latch *latch = &table->latches[entry->ino % LATCHES];
    struct node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->id = entry->ino | (uint64_t)generation << INO_BITS;
    node->ino = entry->ino;
    node->entry = entry;
    note_shown(node, inode);
    node->version = inode->version;
    node->lock = &latch->lock;
    node->idle = &latch->idle;
    list_init(&node->in_entry);
    list_init(&node->in_writers);
    list_init(&node->in_closer);
    list_init(&node->handles);
    return node;
}

static void node_free(struct node *node)
{
    CHECK(list_empty(&node->in_writers) && list_empty(&node->in_closer) &&
          list_empty(&node->handles));
    if (node->content)
        content_put(node->content);
    free(node->last);
    free(node);
}

static struct id_entry *find_entry_locked(struct node_table *table, uint64_t ino)
{
    struct id_entry *entry = NULL;
    HASH_FIND(hh, table->by_ino, &ino, sizeof ino, entry);
    return entry;
}

static struct node *find_locked(struct node_table *table, uint64_t id)
{
    struct id_entry *entry = find_entry_locked(table, id_ino(id));
    if (!entry)
        return NULL;
    list_for_each(node, &entry->nodes, struct node, in_entry)
    {
        if (node->id == id)
            return node;
    }
    return NULL;
}

static void drop_empty_entry_locked(struct node_table *table, struct id_entry *entry)
{
    if (!list_empty(&entry->nodes))
        return;
    HASH_DEL(table->by_ino, entry);
    free(entry);
}

static void remove_locked(struct node_table *table, struct node *node)
{
    struct id_entry *entry = node->entry;

    list_remove(&node->in_entry);
    table->n_nodes--;
    if (entry->current == node)
        entry->current = NULL;
    drop_empty_entry_locked(table, entry);
    node_free(node);
}

static void maybe_remove_locked(struct node_table *table, struct node *node)
{
    if (node->nlookup == 0 && node->refs == 0)
        remove_locked(table, node);
}

/* Whether the node's content is what inode says. A version that this host is publishing just now is the node's own:
 * its number is in the tree a moment before it is in the node. */
static bool is_current(struct node_table *table, struct node *node, const struct inode *inode)
{
    SCOPED_LOCK(node->lock);

    if (!S_ISREG(inode->mode))
        return true;
    if (!node->stale && inode->version > node->version &&
        !(node->writing && host_equal(inode->keeper, table->self)))
        node->stale = true;
    return !node->stale;
}

/* The next generation whose id is not in use. */
static bool next_generation_locked(struct node_table *table, struct id_entry *entry)
{
    for (uint32_t n = 0; n < GENERATIONS; n++) {
        entry->generation = (entry->generation + 1) % GENERATIONS;
        if (!find_locked(table, entry->ino | (uint64_t)entry->generation << INO_BITS))
            return true;
    }
    return false;
}

static bool is_file(const struct inode *inode)
{
    return S_ISREG(inode->mode);
}

static struct id_entry *entry_new_locked(struct node_table *table, uint64_t ino)
{
    struct id_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->ino = ino;
    list_init(&entry->nodes);
    HASH_ADD(hh, table->by_ino, ino, sizeof entry->ino, entry);
    return entry;
}

static struct node *add_locked(struct node_table *table, struct id_entry *entry,
                               uint32_t generation, const struct inode *inode)
{
    struct node *node = node_new(table, entry, generation, inode);
    if (!node)
        return NULL;
    node->pages_stale = table->is_resumed && is_file(inode);
    list_append(&entry->nodes, &node->in_entry);
    table->n_nodes++;
    return node;
}

static struct node *enter_locked(struct node_table *table, const struct inode *inode)
{
    struct id_entry *entry = find_entry_locked(table, inode->ino);

    if (!entry) {
        entry = entry_new_locked(table, inode->ino);
        if (!entry)
            return NULL;
    } else if (entry->current && is_current(table, entry->current, inode)) {
        return entry->current;
    } else if (!next_generation_locked(table, entry)) {
        return NULL;
    }
    struct node *node = add_locked(table, entry, entry->generation, inode);
    if (node)
        entry->current = node;
    else
        drop_empty_entry_locked(table, entry);
    return node;
}

int node_enter(struct node_table *table, const struct inode *inode, uint64_t *ret_id)
{
    SCOPED_LOCK(&table->lock);

    struct node *node = enter_locked(table, inode);
    if (!node)
        return -ENOMEM;
    node->nlookup++;
    *ret_id = node->id;
    return 0;
}

void node_forget(struct node_table *table, uint64_t id, uint64_t nlookup)
{
    SCOPED_LOCK(&table->lock);

    struct node *node = find_locked(table, id);
    if (!node || id == ROOT_INO)
        return;
    node->nlookup -= MIN(nlookup, node->nlookup);
    maybe_remove_locked(table, node);
}

/* Enters an id that is not known yet. */
static struct node *adopt_locked(struct node_table *table, const struct inode *inode, uint64_t id)
{
    struct id_entry *entry = find_entry_locked(table, inode->ino);
    if (!entry)
        entry = entry_new_locked(table, inode->ino);
    if (!entry)
        return NULL;
    struct node *node = add_locked(table, entry, (uint32_t)(id >> INO_BITS), inode);
    if (!node) {
        drop_empty_entry_locked(table, entry);
        return NULL;
    }
    node->nlookup = 1;
    node->stale = entry->current && is_file(inode);
    if (!entry->current) {
        entry->current = node;
        entry->generation = (uint32_t)(id >> INO_BITS);
    }
    return node;
}

int node_adopt(struct node_table *table, const struct inode *inode, uint64_t id,
               struct node **ret_node)
{
    SCOPED_LOCK(&table->lock);

    struct node *node = find_locked(table, id);
    if (!node)
        node = adopt_locked(table, inode, id);
    if (!node)
        return -ENOMEM;
    node->refs++;
    *ret_node = node;
    return 0;
}

int node_restore(struct node_table *table, const struct inode *inode, uint64_t id, bool is_stale,
                 struct node **ret_node)
{
    struct node *node;

    int r = node_adopt(table, inode, id, &node);
    if (r < 0)
        return r;
    SCOPED_LOCK(&table->lock);
    node->stale = is_stale;
    if (!is_stale)
        node->entry->current = node;
    *ret_node = node;
    return 0;
}

void node_relookup(struct node_table *table, struct node *node)
{
    SCOPED_LOCK(&table->lock);
    node->nlookup++;
}

void node_hold(struct node_table *table, uint64_t ino)
{
    SCOPED_LOCK(&table->lock);

    struct id_entry *entry = find_entry_locked(table, ino);
    if (entry && entry->n_open > 0)
        entry->held = true;
}

void node_note_dirty(struct node *node)
{
    SCOPED_LOCK(node->lock);

    if (!node->record)
        return;
    if (node->dirty)
        atomic_fetch_or(&node->record->flags, LEDGER_DIRTY);
    else
        atomic_fetch_and(&node->record->flags, ~LEDGER_DIRTY);
}

void node_set_dirty(struct node *node, bool is_dirty)
{
    node->dirty = is_dirty;
    node_note_dirty(node);
}

struct node *node_get(struct node_table *table, uint64_t id)
{
    SCOPED_LOCK(&table->lock);

    struct node *node = find_locked(table, id);
    if (node)
        node->refs++;
    return node;
}

void node_pin(struct node_table *table, struct node *node)
{
    SCOPED_LOCK(&table->lock);
    node->refs++;
}

void node_put(struct node_table *table, struct node *node)
{
    SCOPED_LOCK(&table->lock);

    CHECK(node->refs > 0);
    node->refs--;
    maybe_remove_locked(table, node);
}

int node_claim(struct node *node, int64_t deadline_ns)
{
    SCOPED_LOCK(node->lock);

    while (node->busy) {
        if (!cond_wait_until(node->idle, node->lock, deadline_ns) && node->busy)
            return -ETIMEDOUT;
    }
    node->busy = true;
    return 0;
}

void node_unclaim(struct node *node)
{
    SCOPED_LOCK(node->lock);

    CHECK(node->busy);
    node->busy = false;
    cond_broadcast(node->idle); /* who waits for another node of the latch looks again */
}

void node_opening(struct node_table *table, struct node *node)
{
    SCOPED_LOCK(&table->lock);

    node->entry->n_open++;
    node->refs++;
}

bool node_closed(struct node_table *table, struct node *node)
{
    SCOPED_LOCK(&table->lock);
    struct id_entry *entry = node->entry;

    CHECK(entry->n_open > 0 && node->refs > 0);
    bool drop = --entry->n_open == 0 && entry->held;
    if (drop)
        entry->held = false;
    node->refs--;
    maybe_remove_locked(table, node);
    return drop;
}

bool node_is_open(struct node_table *table, uint64_t ino)
{
    SCOPED_LOCK(&table->lock);

    const struct id_entry *entry = find_entry_locked(table, ino);
    return entry && entry->n_open > 0;
}

void node_shown(struct node *node, const struct inode *inode)
{
    SCOPED_LOCK(node->lock);

    note_shown(node, inode);
    if (node->last)
        *node->last = *inode;
}

struct inode node_remembered_locked(const struct node *node)
{
    struct inode inode = {.ino = node->ino,
                          .mode = node->mode,
                          .uid = node->uid,
                          .gid = node->gid,
                          .mtime_ns = node->mtime_ns};
    if (node->last)
        inode = *node->last;
    else if (node->record)
        inode = node->record->last;
    inode.nlink = 0;
    return inode;
}

struct inode *node_remember_locked(struct node *node)
{
    if (node->last)
        return node->last;
    struct inode inode = node_remembered_locked(node);
    node->last = malloc(sizeof *node->last);
    if (node->last)
        *node->last = inode;
    return node->last;
}

static void mark_unlinked(struct node *node, const struct inode *before)
{
    SCOPED_LOCK(node->lock);

    node->gone = true;
    struct inode *last = node_remember_locked(node);
    if (!last || before->mode == 0)
        return;
    *last = *before;
    last->nlink = 0;
}

static void mark_stale_locked(struct node *node)
{
    node->stale = true;
    if (node->record)
        atomic_fetch_or(&node->record->flags, LEDGER_STALE);
}

bool node_unlinked(struct node_table *table, const struct inode *before, bool held)
{
    SCOPED_LOCK(&table->lock);

    struct id_entry *entry = find_entry_locked(table, before->ino);
    if (!entry)
        return held;
    list_for_each(node, &entry->nodes, struct node, in_entry) mark_unlinked(node, before);
    if (entry->n_open == 0)
        return held;
    entry->held = entry->held || held;
    return false;
}

static void mark_linked(struct node *node)
{
    SCOPED_LOCK(node->lock);
    node->gone = false;
}

void node_linked(struct node_table *table, uint64_t ino)
{
    SCOPED_LOCK(&table->lock);

    struct id_entry *entry = find_entry_locked(table, ino);
    if (!entry)
        return;
    entry->held = false;
    list_for_each(node, &entry->nodes, struct node, in_entry) mark_linked(node);
}

static void mark_published(struct node *node, uint64_t version, bool elsewhere)
{
    SCOPED_LOCK(node->lock);

    if (elsewhere)
        mark_stale_locked(node);
    else if (!node->stale)
        node->version = MAX(node->version, version);
}

void node_published(struct node_table *table, uint64_t ino, uint64_t version, bool elsewhere)
{
    SCOPED_LOCK(&table->lock);

    struct id_entry *entry = find_entry_locked(table, ino);
    if (entry && entry->current)
        mark_published(entry->current, version, elsewhere);
}

bool node_ids(struct node_table *table, uint64_t ino, uint64_t *ids, unsigned max,
              unsigned *ret_n_ids)
{
    SCOPED_LOCK(&table->lock);
    unsigned n = 0;

    struct id_entry *entry = find_entry_locked(table, ino);
    if (!entry)
        return false;
    list_for_each(node, &entry->nodes, struct node, in_entry)
    {
        if (n < max)
            ids[n++] = node->id;
    }
    *ret_n_ids = n;
    return true;
}

int node_all_ids(struct node_table *table, uint64_t **ret_ids, size_t *ret_n_ids)
{
    SCOPED_LOCK(&table->lock);
    size_t n = 0;

    uint64_t *ids = calloc(table->n_nodes + 1, sizeof *ids);
    if (!ids)
        return -ENOMEM;
    for (struct id_entry *entry = table->by_ino; entry; entry = entry->hh.next)
        list_for_each(node, &entry->nodes, struct node, in_entry) ids[n++] = node->id;
    *ret_ids = ids;
    *ret_n_ids = n;
    return 0;
}

static struct node *any_open(const struct id_entry *entry)
{
    list_for_each(node, &entry->nodes, struct node, in_entry)
    {
        if (node->n_open > 0 || node->writing)
            return node;
    }
    return NULL;
}

struct node *node_any_open(struct node_table *table)
{
    SCOPED_LOCK(&table->lock);

    for (struct id_entry *entry = table->by_ino; entry; entry = entry->hh.next) {
        struct node *node = any_open(entry);
        if (!node)
            continue;
        node->refs++;
        return node;
    }
    return NULL;
}

int node_table_init(struct node_table *table, struct host_id self)
{
    const struct inode root = {.ino = ROOT_INO, .mode = S_IFDIR | 0755, .nlink = 2};
    uint64_t id;

    table->self = self;
    mutex_init(&table->lock, LOCK_nodes);
    for (size_t i = 0; i < LATCHES; i++) {
        mutex_init(&table->latches[i].lock, LOCK_node);
        cond_init(&table->latches[i].idle);
    }
    return node_enter(table, &root, &id);
}

/* The entry goes with its last node. */
static void remove_all_locked(struct node_table *table, struct id_entry *entry)
{
    for (bool is_last = false; !is_last;) {
        struct node *node = list_first(&entry->nodes, struct node, in_entry);
        is_last = node->in_entry.next == node->in_entry.prev;
        remove_locked(table, node);
    }
}

void node_table_done(struct node_table *table)
{
    {
        SCOPED_LOCK(&table->lock);
        for (struct id_entry *entry = table->by_ino, *next; entry; entry = next) {
            next = entry->hh.next;
            remove_all_locked(table, entry);
        }
    }
    for (size_t i = 0; i < LATCHES; i++) {
        cond_done(&table->latches[i].idle);
        mutex_done(&table->latches[i].lock);
    }
    mutex_done(&table->lock);
}
