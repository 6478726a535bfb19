/* fs/tree/tree.c — the environment: opening, read transactions, batches, copies. */
#include "fs/tree/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>

#include "fs/disk/disk.h"
#include "fs/tree/impl.h"

#define DEFAULT_MAP_BYTES (16ULL << 30)
#define MAP_STEP_BYTES (64ULL << 10) /* a map is whole pages, whatever their size */
#define RESERVE_PAGES_MIN 96
#define RESERVE_PAGES_MAX 4096
#define AHEAD_PAGES 256        /* of the disk's room that the state keeps for itself */
#define PAGES_PER_DECISION 16  /* more than any change takes, large values apart */
#define LARGE_VALUE_BYTES 1024 /* past this LMDB may want neighbouring pages */

/* ---- read transactions ---- */

int tree_read_begin(struct tree *tree, MDB_txn **ret_txn)
{
    MDB_txn *txn = NULL;
    {
        SCOPED_LOCK(&tree->lock);
        if (tree->n_idle > 0)
            txn = tree->idle[--tree->n_idle];
    }
    if (!txn) {
        int rc = mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &txn);
        if (rc != 0)
            return rows_error(rc);
    } else {
        int rc = mdb_txn_renew(txn);
        if (rc != 0) {
            mdb_txn_abort(txn);
            return rows_error(rc);
        }
    }
    *ret_txn = txn;
    return 0;
}

void tree_read_end(struct tree *tree, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    {
        SCOPED_LOCK(&tree->lock);
        if (tree->n_idle < IDLE_MAX) {
            tree->idle[tree->n_idle++] = txn;
            return;
        }
    }
    mdb_txn_abort(txn);
}

int tree_writer_view(struct tree *tree, struct tree_read *read, struct rows *ret_rows)
{
    if (tree->batch) {
        *ret_rows = (struct rows){.txn = tree->batch, .dbi = tree->dbi};
        return 0;
    }
    int r = tree_read_start(tree, read);
    if (r < 0)
        return r;
    *ret_rows = read->rows;
    return 0;
}

/* ---- opening and closing ---- */

static int open_env(struct tree *tree, int dirfd, uint64_t map_bytes)
{
    int rc = mdb_env_create(&tree->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(tree->env, (size_t)map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(tree->env, DB_N);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(tree->env, TREE_READERS_MAX);
    if (rc != 0)
        return rows_error(rc);

    int r = disk_make_dir(dirfd, TREE_DIRECTORY);
    if (r < 0 && r != -EEXIST)
        return r;
    char path[64]; /* LMDB opens by path only */
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d/" TREE_DIRECTORY, dirfd);
    /* No MDB_WRITEMAP: a stray store of ours must not reach the file, and a kill between two pages of one commit
     * would be seen by the next opener. */
    rc = mdb_env_open(tree->env, path, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (rc != 0)
        return rows_error(rc);
    int n_dead;
    return rows_error(mdb_reader_check(tree->env, &n_dead));
}

static int open_databases(struct tree *tree)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(tree->env, NULL, 0, &txn);
    if (rc != 0)
        return rows_error(rc);
    for (enum tree_db db = 0; db < DB_N && rc == 0; db++)
        rc = mdb_dbi_open(txn, rows_db_name(db), MDB_CREATE, &tree->dbi[db]);
    int r = rows_error(rc);
    if (r == 0) {
        struct rows rows = {.txn = txn, .dbi = tree->dbi};
        r = rows_get_meta(&rows, &tree->current);
        if (r == -ENOENT)
            r = rows_put_meta(&rows, &tree->current);
    }
    if (r < 0) {
        mdb_txn_abort(txn);
        return r;
    }
    tree->committed = tree->current;
    return rows_error(mdb_txn_commit(txn));
}

static int open_sizes(struct tree *tree)
{
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_info(tree->env, &info);
    if (rc == 0)
        rc = mdb_env_stat(tree->env, &stat);
    if (rc != 0)
        return rows_error(rc);
    tree->page_bytes = stat.ms_psize;
    tree->map_pages = info.me_mapsize / stat.ms_psize;
    uint64_t eighth = tree->map_pages / 8;
    tree->reserve_pages = MIN(MAX(eighth, RESERVE_PAGES_MIN), RESERVE_PAGES_MAX);
    return 0;
}

int tree_open(int dirfd, uint64_t map_bytes, struct tree **ret_tree)
{
    AUTO(tree_freep) struct tree *tree = calloc(1, sizeof *tree);
    if (!tree)
        return -ENOMEM;
    mutex_init(&tree->lock, LOCK_leaf);
    map_bytes = map_bytes ? map_bytes : DEFAULT_MAP_BYTES;
    int r = open_env(tree, dirfd, map_bytes - map_bytes % MAP_STEP_BYTES);
    if (r == 0)
        r = open_databases(tree);
    if (r == 0)
        r = open_sizes(tree);
    if (r < 0)
        return r;
    *ret_tree = TAKE(tree);
    return 0;
}

void tree_free(struct tree *tree)
{
    if (!tree)
        return;
    if (tree->batch)
        mdb_txn_abort(tree->batch);
    while (tree->n_idle > 0)
        mdb_txn_abort(tree->idle[--tree->n_idle]);
    if (tree->env)
        mdb_env_close(tree->env);
    mutex_done(&tree->lock);
    free(tree);
}

/* ---- what is known without a transaction ---- */

static struct tree_meta committed(struct tree *tree)
{
    SCOPED_LOCK(&tree->lock);
    return tree->committed;
}

uint64_t tree_applied(struct tree *tree)
{
    return committed(tree).applied;
}

struct host_id tree_home(struct tree *tree)
{
    return committed(tree).home;
}

uint64_t tree_next_ino(struct tree *tree)
{
    return committed(tree).next_ino;
}

void tree_usage(struct tree *tree, struct tree_usage *ret_usage)
{
    struct tree_meta meta = committed(tree);
    *ret_usage = (struct tree_usage){
        .limit_bytes = meta.limit_bytes,
        .used_bytes = meta.used_bytes,
        .limit_inodes = meta.limit_inodes,
        .n_inodes = meta.n_inodes,
        .copies = meta.copies,
    };
}

/* ---- room in the map ---- */

/* LMDB keeps the pages it may reuse in its first database: each row a count, then page numbers. */
static int count_free_pages(MDB_txn *txn, uint64_t *ret_n)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc != 0)
        return rows_error(rc);
    uint64_t n = 0;
    MDB_val k, v;
    while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
        n += *(const size_t *)v.mv_data;
    mdb_cursor_close(cursor);
    if (rc != MDB_NOTFOUND)
        return rows_error(rc);
    *ret_n = n;
    return 0;
}

static int count_free(struct tree *tree, uint64_t *ret_n)
{
    TREE_READ(read); /* of the last commit: a batch cannot look into its own free pages */
    int r = tree_read_start(tree, &read);
    return r < 0 ? r : count_free_pages(read.rows.txn, ret_n);
}

/* A value that wants neighbouring pages: asks LMDB itself, in a transaction that comes to nothing. The same pages are
 * still free when the change is applied: a reader that begins meanwhile sees the last commit and holds none of them. */
static int try_value(struct tree *tree, size_t value_bytes)
{
    if (tree->batch)
        return -ENOSPC; /* one writing transaction at a time */
    MDB_txn *txn;
    int rc = mdb_txn_begin(tree->env, NULL, 0, &txn);
    if (rc != 0)
        return rows_error(rc);
    struct key key = key_1(0);
    MDB_val k = {.mv_data = key.bytes, .mv_size = key.size};
    MDB_val v = {.mv_size = value_bytes + 2 * tree->page_bytes};
    rc = mdb_put(txn, tree->dbi[DB_XATTRS], &k, &v, MDB_RESERVE);
    mdb_txn_abort(txn);
    return rows_error(rc);
}

static int check_free_pages(struct tree *tree, uint64_t n_unused)
{
    if (tree->n_room_known > 0) {
        tree->n_room_known--;
        return 0;
    }
    uint64_t n_free = 0;
    int r = count_free(tree, &n_free);
    if (r < 0)
        return r;
    uint64_t n_room = n_free + n_unused;
    if (n_room < tree->reserve_pages)
        return -ENOSPC;
    tree->n_room_known = (n_room - tree->reserve_pages) / PAGES_PER_DECISION;
    return 0;
}

int tree_room(struct tree *tree, size_t value_bytes)
{
    MDB_envinfo info;
    int rc = mdb_env_info(tree->env, &info);
    if (rc != 0)
        return rows_error(rc);
    uint64_t n_unused = tree->map_pages - MIN(tree->map_pages, info.me_last_pgno + 1);
    uint64_t value_pages = value_bytes / tree->page_bytes + 1;
    if (n_unused >= tree->reserve_pages + value_pages)
        return 0;
    /* The end of the map was reached before: what is left are pages that were freed. */
    int r = check_free_pages(tree, n_unused);
    if (r == 0 && value_bytes > LARGE_VALUE_BYTES) {
        tree->n_room_known = 0;
        r = try_value(tree, value_bytes);
    }
    return r;
}

bool tree_has_room(struct tree *tree)
{
    MDB_envinfo info;
    int fd;
    if (mdb_env_info(tree->env, &info) != 0 || mdb_env_get_fd(tree->env, &fd) != 0)
        return false;
    uint64_t used = info.me_last_pgno + 1;
    if (tree->allocated_pages >= used + AHEAD_PAGES / 2)
        return true;
    int e = disk_allocate(fd, FALLOC_FL_KEEP_SIZE, used * tree->page_bytes,
                          AHEAD_PAGES * tree->page_bytes);
    if (e < 0 && e != -EOPNOTSUPP)
        return false;
    tree->allocated_pages = used + AHEAD_PAGES;
    return true;
}

/* ---- batches ---- */

int tree_batch_begin(struct tree *tree)
{
    CHECK(!tree->batch && tree->batch_error == 0);
    return rows_error(mdb_txn_begin(tree->env, NULL, 0, &tree->batch));
}

int tree_batch_commit(struct tree *tree)
{
    int r = tree->batch_error;
    tree->batch_error = 0;
    if (r < 0)
        return r;
    CHECK(tree->batch);
    r = rows_error(mdb_txn_commit(TAKE(tree->batch)));
    SCOPED_LOCK(&tree->lock);
    if (r < 0)
        tree->current = tree->committed;
    else
        tree->committed = tree->current;
    return r;
}

void tree_batch_abort(struct tree *tree)
{
    tree->batch_error = 0;
    if (tree->batch)
        mdb_txn_abort(TAKE(tree->batch));
    SCOPED_LOCK(&tree->lock);
    tree->current = tree->committed;
}

int tree_sync(struct tree *tree)
{
    return rows_error(mdb_env_sync(tree->env, 1));
}
