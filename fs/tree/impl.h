/* fs/tree/impl.h — private to the tree: the environment, its one writing transaction and its pool of snapshots.
 *
 *     tree_apply ──► txn, with what is pending ──► writer's thread: commit, begin ──► file
 *                      ▲                                                    │
 *     tree_get… ───────┘ (under the lock)            tree_readdir, tree_each ┘ (snapshots)
 *
 * LMDB wants a writing transaction begun and ended by one thread, so that one belongs to a thread of the tree's own;
 * what is between begin and commit anybody reads and writes, under the lock.
 *
 * A snapshot takes an idle transaction, renews it, and gives it back reset: its reader slot stays its own, so it
 * neither searches the reader table nor holds pages back when it is over. At most IDLE_MAX are kept.
 */
#pragma once

#include "fs/tree/rows.h"
#include "fs/tree/tree.h"
#include "proto/base/mutex.h"

#define TREE_READERS_MAX 1022
#define IDLE_MAX 128
#define PENDING_WANTED 8    /* changes: then the writer's thread is woken */
#define PENDING_MAX 16      /* then whoever applies waits for it */
#define PAGES_PER_CHANGE 16 /* more than any change takes, large values apart */
#define PENDING_PAGES (PENDING_MAX * PAGES_PER_CHANGE)
#define LARGE_VALUE_BYTES 1024 /* past this LMDB may want neighbouring pages */

struct tree {
    /* fixed after open */
    MDB_env *env;
    MDB_dbi dbi[DB_N];
    uint64_t map_pages;
    uint64_t
        reserve_pages; /* kept free of growth, so that removals and applied entries always fit */
    size_t page_bytes;
    pthread_t writer;
    bool is_started;

    struct mutex lock;   /* leaf */
    struct cond wanted;  /* the writer's thread has something to do */
    struct cond settled; /* it has done it */
    /* under lock */
    MDB_txn *txn; /* NULL: being committed, or no more */
    int error;    /* why there is none any more */
    bool is_stopping, is_commit_wanted;
    struct tree_meta meta; /* as txn has it */
    uint64_t committed;    /* index of the last entry in the file */
    uint64_t last_page;    /* of the file, as committed */
    unsigned n_pending;    /* changes applied and not committed */
    bool is_disk_full;     /* it gave no room ahead */
    MDB_txn *idle[IDLE_MAX];
    unsigned n_idle;
    uint64_t n_room_known; /* decisions that the free pages, when last counted, have room for */

    /* under the volume's lock */
    uint64_t allocated_pages; /* of the file: the disk has given room for them */
};

/* A snapshot of all that was applied. */
MUST_USE int tree_read_begin(struct tree *tree, MDB_txn **ret_txn);
void tree_read_end(struct tree *tree, MDB_txn *txn);

/* One that ends with its scope. */
struct tree_read {
    struct tree *tree;
    struct rows rows;
};
static inline void tree_read_done(struct tree_read *read)
{
    if (read->rows.txn)
        tree_read_end(read->tree, read->rows.txn);
}
MUST_USE static inline int tree_read_start(struct tree *tree, struct tree_read *read)
{
    int r = tree_read_begin(tree, &read->rows.txn);
    if (r < 0)
        return r;
    read->tree = tree;
    read->rows.dbi = tree->dbi;
    return 0;
}
#define TREE_READ(name) AUTO(tree_read_done) struct tree_read name = {0}

/* ---- writer.c ---- */

/* What is applied, as long as the lock is held; waits for a commit under way. -EIO: the tree has failed. */
MUST_USE int tree_rows_locked(struct tree *tree, struct rows *ret_rows) REQUIRES(tree->lock);
MUST_USE int writer_start(struct tree *tree);
void writer_stop(struct tree *tree); /* commits */
/* A change was applied: sees to it that it is committed in time. large: it took more than PAGES_PER_CHANGE. */
MUST_USE int writer_applied_locked(struct tree *tree, bool large) REQUIRES(tree->lock);
/* Returns when all that was applied is in the file. */
MUST_USE int writer_settle_locked(struct tree *tree) REQUIRES(tree->lock);
/* The transaction is spoilt: nothing of what is pending stays, and the tree takes and gives nothing any more. */
void writer_fail_locked(struct tree *tree, int error) REQUIRES(tree->lock);
/* Of the map: pages that were never used. */
uint64_t writer_unused_pages_locked(const struct tree *tree) REQUIRES(tree->lock);
/* Room is scarce: then nothing is left pending, so that the free pages are known. */
bool writer_is_tight_locked(const struct tree *tree) REQUIRES(tree->lock);

/* Whether an entry that makes rows of about value_bytes may be admitted: -ENOSPC once only the reserve is left. Under
 * the lock. */
MUST_USE int tree_room(struct tree *tree, size_t value_bytes);
