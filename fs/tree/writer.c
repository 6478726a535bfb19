/* fs/tree/writer.c — the thread that commits what was applied.
 *
 * Nothing waits for a commit but what needs the file: snapshots, copies, the end. What a kill takes from the state is in
 * the log. So that the pages which a commit will take are always there, few changes may be pending. The lock is not held
 * over a commit; whoever wants the transaction meanwhile waits for the next.
 */
#include <errno.h>
#include <string.h>

#include "fs/tree/impl.h"
#include "proto/base/log.h"

uint64_t writer_unused_pages_locked(const struct tree *tree)
{
    return tree->map_pages - MIN(tree->map_pages, tree->last_page + 1);
}

bool writer_is_tight_locked(const struct tree *tree)
{
    return tree->is_disk_full ||
           writer_unused_pages_locked(tree) < tree->reserve_pages + PENDING_PAGES;
}

/* What the thread does without the lock. */
struct settling {
    MDB_txn *txn; /* to commit, or NULL; then the next one */
    uint64_t last_page;
};

static int begin(struct tree *tree, struct settling *turn)
{
    MDB_envinfo info;
    int rc = mdb_env_info(tree->env, &info);
    if (rc == 0)
        rc = mdb_txn_begin(tree->env, NULL, 0, &turn->txn);
    if (rc == 0)
        turn->last_page = info.me_last_pgno;
    return rows_error(rc);
}

static int commit_and_begin(struct tree *tree, struct settling *turn)
{
    int r = turn->txn ? rows_error(mdb_txn_commit(TAKE(turn->txn))) : 0;
    return r < 0 ? r : begin(tree, turn);
}

static bool is_over_locked(const struct tree *tree) REQUIRES(tree->lock)
{
    return tree->error < 0 || (tree->is_stopping && tree->n_pending == 0);
}

static bool is_due_locked(const struct tree *tree) REQUIRES(tree->lock)
{
    return tree->n_pending > 0 && (tree->is_commit_wanted || tree->is_stopping);
}

/* Takes the transaction away from everybody. False: it was the last. */
static bool wait_until_due(struct tree *tree, struct settling *turn)
{
    SCOPED_LOCK(&tree->lock);
    while (!is_over_locked(tree) && !is_due_locked(tree))
        cond_wait(&tree->wanted, &tree->lock);
    turn->txn = TAKE(tree->txn);
    return !is_over_locked(tree);
}

static void end_turn(struct tree *tree, const struct settling *turn, int error)
{
    SCOPED_LOCK(&tree->lock);
    tree->txn = turn->txn;
    tree->error = error;
    tree->is_commit_wanted = false;
    if (error == 0) {
        tree->last_page = turn->last_page;
        tree->committed = tree->meta.applied;
        tree->n_pending = 0;
    } else {
        tree->meta.applied = tree->committed;
    }
    cond_broadcast(&tree->settled);
}

static void *writer_run(void *arg)
{
    struct tree *tree = arg;
    struct settling turn = {.txn = NULL};
    int error;
    do {
        error = commit_and_begin(tree, &turn);
        end_turn(tree, &turn, error);
    } while (wait_until_due(tree, &turn));
    if (turn.txn)
        mdb_txn_abort(turn.txn);
    if (error < 0)
        log_error("tree", "cannot bring the log's entries into the state: %s", strerror(-error));
    return NULL;
}

int writer_start(struct tree *tree)
{
    int r = thread_start(&tree->writer, "tree-commit", writer_run, tree);
    if (r < 0)
        return r;
    tree->is_started = true;
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    return tree_rows_locked(tree, &rows);
}

void writer_stop(struct tree *tree)
{
    if (!tree->is_started)
        return;
    {
        SCOPED_LOCK(&tree->lock);
        tree->is_stopping = true;
        cond_signal(&tree->wanted);
    }
    thread_join(tree->writer);
}

static void want_locked(struct tree *tree) REQUIRES(tree->lock)
{
    if (tree->is_commit_wanted)
        return;
    tree->is_commit_wanted = true;
    cond_signal(&tree->wanted);
}

int tree_rows_locked(struct tree *tree, struct rows *ret_rows)
{
    while (!tree->txn && tree->error == 0)
        cond_wait(&tree->settled, &tree->lock);
    if (tree->error < 0)
        return -EIO;
    *ret_rows = (struct rows){.txn = tree->txn, .dbi = tree->dbi};
    return 0;
}

int writer_settle_locked(struct tree *tree)
{
    uint64_t index = tree->meta.applied;
    while (tree->error == 0 && tree->committed < index) {
        want_locked(tree);
        cond_wait(&tree->settled, &tree->lock);
    }
    return MIN(tree->error, 0);
}

int writer_applied_locked(struct tree *tree, bool large)
{
    tree->n_pending++;
    if (large || tree->n_pending >= PENDING_MAX || writer_is_tight_locked(tree))
        return writer_settle_locked(tree);
    if (tree->n_pending >= PENDING_WANTED)
        want_locked(tree);
    return 0;
}

void writer_fail_locked(struct tree *tree, int error)
{
    tree->meta.applied = tree->committed;
    tree->error = error;
    cond_signal(&tree->wanted);
    cond_broadcast(&tree->settled);
}

int tree_commit(struct tree *tree)
{
    SCOPED_LOCK(&tree->lock);
    return writer_settle_locked(tree);
}
