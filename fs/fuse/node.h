/* fs/fuse/node.h — what this host's kernel knows and has open.
 *
 *     id_entry (one per inode known)          node (one per content generation of it)
 *       ino, n_open, held  ── nodes ──►  id = ino | generation << INO_BITS, nlookup, refs
 *                                          content, opens by mode, backing id, write state
 *
 * A version published elsewhere makes the current node of an inode stale; the next lookup enters a new generation.
 * Old descriptors go on with the old node and its content. A node lives while the kernel counts lookups of it or a
 * call or handle pins it.
 *
 * There are as many nodes as files that the kernel knows, so they are small: nodes share a few locks, and one that is
 * found by its inode's entry is in no table of its own.
 *
 * Locks: the table's lock for counts and the hash table; a node's for its state. What must not run twice at a
 * time on one node and may wait (open, close, publish, truncate) holds the node's claim, which is no lock: nothing
 * that answers it ever needs the claim.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "fs/fuse/ledger.h"
#include "fs/inode.h"
#include "fs/store/store.h"
#include "proto/base/list.h"
#include "proto/base/mutex.h"

struct id_entry {
    uint64_t ino;
    uint32_t generation;  /* of the newest node */
    struct node *current; /* the newest node, or NULL once it is forgotten */
    struct list nodes;
    unsigned n_open; /* handles, and opens being decided, of any generation */
    bool held;       /* lost its last name while open here: ends with a DROP */
    UT_hash_handle hh;
};

enum node_mode {
    NODE_CLOSED,
    NODE_CACHED,
    NODE_PASSTHROUGH
};

struct node {
    /* fixed */
    uint64_t id, ino;
    struct id_entry *entry;

    /* under the table's lock */
    uint64_t nlookup;
    unsigned refs; /* calls and handles */
    struct list in_entry;

    struct mutex *lock; /* a latch's */
    struct cond *idle;
    /* under lock */
    bool busy;          /* claimed */
    bool stale;         /* a newer version was published elsewhere */
    bool gone;          /* not in the tree any more: what is remembered answers */
    bool writing;       /* this host is the writer: size and times are the backing file's */
    uint64_t version;   /* of the content, as this generation last published or found it */
    struct inode *last; /* what is gone, as it was; or NULL */
    uint32_t mode, uid, gid;
    int64_t mtime_ns; /* as last shown, and so is the line above; a stale version keeps it */
    struct ledger_slot *record; /* while it is open: what the next daemon will find; or NULL */

    /* changed under claim and lock, so either suffices for reading */
    struct content *content; /* while open or being written */
    unsigned n_open, n_cached, n_write;
    _Atomic unsigned n_passthrough; /* the quota looks at it from outside */
    int backing_id;                 /* 0: none */
    bool pages_stale;  /* written past the kernel's page cache since it was last filled */
    bool pages_filled; /* an open has let the kernel fill its page cache */
    bool undurable;    /* something was published and not synced since */
    bool unsure;       /* asked for the write ownership, got no answer: perhaps it is ours */

    /* under claim: the backing file as it was when last published, or opened for writing */
    uint64_t sample_size;
    int64_t sample_mtime_ns;
    bool
        sample_is_fresh; /* taken so soon after a write that a coarse clock may not tell the next one from it */
    _Atomic bool dirty; /* written through the daemon since, or known to differ */

    struct list handles; /* handle.in_node; under lock */
    struct list in_closer;

    /* quota's */
    struct list in_writers;
    uint64_t published_bytes; /* what the tree counts for it */
    int64_t counted_bytes;    /* what it occupies beyond that */
    bool is_publishing;
};

#define LATCHES 64

/* The lock of every node whose inode number falls on it. No thread holds those of two nodes. */
struct latch {
    struct mutex lock;
    struct cond idle;
};

struct node_table {
    struct mutex lock;
    struct id_entry *by_ino;
    struct latch latches[LATCHES];
    struct host_id self;
    uint64_t n_nodes;
    bool is_resumed; /* the kernel knows ids, and has pages, from a daemon before; fixed */
};

static inline uint64_t id_ino(uint64_t id)
{
    return id & ((1ULL << INO_BITS) - 1);
}

/* Makes the table with the root in it, which is never forgotten. -ENOMEM. */
MUST_USE int node_table_init(struct node_table *table, struct host_id self);
/* Frees every node, whatever is still counted; nothing may be open. */
void node_table_done(struct node_table *table);

/* Counts one lookup of inode as it was just read from the tree and says under which id. -ENOMEM. */
MUST_USE int node_enter(struct node_table *table, const struct inode *inode, uint64_t *ret_id);
/* More lookups than were counted here are those that a daemon before counted. */
void node_forget(struct node_table *table, uint64_t id, uint64_t nlookup);

/* Pins the node of an id that a daemon before gave out, of an inode as it was just read. What generation that was of a
 * file nobody has open is not known: it is the present one, unless another id is that already. -ENOMEM. */
MUST_USE int node_adopt(struct node_table *table, const struct inode *inode, uint64_t id,
                        struct node **ret_node);
/* As node_adopt, where it is known whether its content is the present one. */
MUST_USE int node_restore(struct node_table *table, const struct inode *inode, uint64_t id,
                          bool is_stale, struct node **ret_node);
/* Counts one more lookup. */
void node_relookup(struct node_table *table, struct node *node);

/* Pins. NULL: the kernel does not know this id. */
struct node *node_get(struct node_table *table, uint64_t id);
void node_put(struct node_table *table, struct node *node);
void node_pin(struct node_table *table, struct node *node); /* once more */

/* What may not show in the backing file's size and time; is_dirty false: the tree has it now. Under claim, or true by who
 * has it open. */
void node_set_dirty(struct node *node, bool is_dirty);
/* Brings the ledger in line with node->dirty, after what was exchanged away is published. */
void node_note_dirty(struct node *node);
/* Takes the claim, waiting at most until the deadline: -ETIMEDOUT. */
MUST_USE int node_claim(struct node *node, int64_t deadline_ns);
void node_unclaim(struct node *node);

/* Handles of an inode, counted before they are decided, so that who unlinks it meanwhile knows. */
void node_opening(struct node_table *table, struct node *node);
/* True: that was the last one, of an inode without a name, and the caller sends the DROP. */
MUST_USE bool node_closed(struct node_table *table, struct node *node);
MUST_USE bool node_is_open(struct node_table *table, uint64_t ino);

/* This inode, as it was before (mode 0: not known), lost its last name: the nodes answer from what they remember. held: it stays in the tree until DROP.
 * True: it was closed meanwhile, and the caller sends the DROP. */
MUST_USE bool node_unlinked(struct node_table *table, const struct inode *before, bool held);
/* The inode as it was last known, without a name. */
struct inode node_remembered_locked(const struct node *node) REQUIRES(node->lock);
/* The same, to be changed. NULL: no memory. */
struct inode *node_remember_locked(struct node *node) REQUIRES(node->lock);
/* The inode as it is shown now. */
void node_shown(struct node *node, const struct inode *inode);
/* The inode is open here and ends with a DROP: it was made without a name, or a daemon before said so. */
void node_hold(struct node_table *table, uint64_t ino);
/* It got a name: there is nothing to drop any more. */
void node_linked(struct node_table *table, uint64_t ino);
/* version was published. By another host: its node is stale. */
void node_published(struct node_table *table, uint64_t ino, uint64_t version, bool elsewhere);

/* True if the kernel knows this inode; up to max of its node ids, *ret_n_ids of them. */
MUST_USE bool node_ids(struct node_table *table, uint64_t ino, uint64_t *ids, unsigned max,
                       unsigned *ret_n_ids);
/* All ids known; free() them. -ENOMEM. */
MUST_USE int node_all_ids(struct node_table *table, uint64_t **ret_ids, size_t *ret_n_ids);
/* A pinned node that is open or still being written; NULL: none is left. For the end of a session. */
struct node *node_any_open(struct node_table *table);
