/* fs/tree/impl.h — private to the tree: the environment and its pool of read transactions.
 *
 * A read takes an idle transaction, renews it, and gives it back reset: its reader slot stays its own, so a read
 * neither searches the reader table nor holds pages back when it is over. At most IDLE_MAX are kept.
 */
#pragma once

#include "fs/tree/rows.h"
#include "fs/tree/tree.h"
#include "proto/base/mutex.h"

#define TREE_READERS_MAX 1022
#define IDLE_MAX 128

struct tree {
    /* fixed after open */
    MDB_env *env;
    MDB_dbi dbi[DB_N];
    uint64_t map_pages;
    uint64_t
        reserve_pages; /* kept free of growth, so that removals and applied entries always fit */
    size_t page_bytes;

    struct mutex lock; /* leaf */
    /* under lock */
    MDB_txn *idle[IDLE_MAX];
    unsigned n_idle;
    struct tree_meta committed; /* what readers see, or what they saw a moment ago */

    /* under the volume's lock */
    struct tree_meta current; /* with what is applied but not committed */
    MDB_txn *batch;           /* open between batch_begin and batch_commit */
    int batch_error;          /* the batch failed and will not commit */
    uint64_t allocated_pages; /* of the file: the disk has given room for them */
    uint64_t n_room_known;    /* decisions that the free pages, when last counted, have room for */
};

MUST_USE int tree_read_begin(struct tree *tree, MDB_txn **ret_txn);
void tree_read_end(struct tree *tree, MDB_txn *txn);

/* A read of the last commit that ends with its scope. */
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

/* Whether an entry that makes rows of about value_bytes may be admitted: -ENOSPC once only the reserve is left. */
MUST_USE int tree_room(struct tree *tree, size_t value_bytes);

/* The transaction that the writing side sees: the open batch, else the last commit (then read is started). */
MUST_USE int tree_writer_view(struct tree *tree, struct tree_read *read, struct rows *ret_rows);
