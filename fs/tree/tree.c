/* fs/tree/tree.c — the environment: opening, snapshots, room. */
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
#define AHEAD_PAGES (3 * PENDING_PAGES) /* of the disk's room that the state keeps for itself */

/* ---- snapshots ---- */

static MDB_txn *take_idle_locked(struct tree *tree) REQUIRES(tree->lock)
{
    return tree->n_idle > 0 ? tree->idle[--tree->n_idle] : NULL;
}

/* False: there are enough. */
static bool keep_idle_locked(struct tree *tree, MDB_txn *txn) REQUIRES(tree->lock)
{
    if (tree->n_idle == IDLE_MAX)
        return false;
    tree->idle[tree->n_idle++] = txn;
    return true;
}

/* idle: one to use again, or NULL. */
static int renew(struct tree *tree, MDB_txn *idle, MDB_txn **ret_txn)
{
    int rc = idle ? mdb_txn_renew(idle) : mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &idle);
    if (rc == 0)
        *ret_txn = idle;
    else if (idle)
        mdb_txn_abort(idle);
    return rows_error(rc);
}

int tree_read_begin(struct tree *tree, MDB_txn **ret_txn)
{
    MDB_txn *idle;
    {
        SCOPED_LOCK(&tree->lock);
        int r = writer_settle_locked(tree);
        if (r < 0)
            return -EIO;
        idle = take_idle_locked(tree);
    }
    return renew(tree, idle, ret_txn);
}

void tree_read_end(struct tree *tree, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    {
        SCOPED_LOCK(&tree->lock);
        if (keep_idle_locked(tree, txn))
            return;
    }
    mdb_txn_abort(txn);
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

/* Nothing was ever committed to it. */
static bool is_fresh(struct tree *tree)
{
    MDB_envinfo info;
    return mdb_env_info(tree->env, &info) == 0 && info.me_last_txnid == 0;
}

/* What lacks in a state that is not fresh was lost: nothing is made in its place. */
static int open_in(struct tree *tree, MDB_txn *txn, bool is_new)
{
    int rc = 0;
    for (enum tree_db db = 0; db < DB_N && rc == 0; db++)
        rc = mdb_dbi_open(txn, rows_db_name(db), is_new ? MDB_CREATE : 0, &tree->dbi[db]);
    struct rows rows = {.txn = txn, .dbi = tree->dbi};
    int r = rows_error(rc);
    if (r == 0)
        r = is_new ? rows_put_meta(&rows, &tree->meta) : rows_get_meta(&rows, &tree->meta);
    return r == -ENOENT ? -EBADMSG : r;
}

static int open_databases(struct tree *tree)
{
    MDB_txn *txn;
    bool is_new = is_fresh(tree);
    int rc = mdb_txn_begin(tree->env, NULL, 0, &txn);
    if (rc != 0)
        return rows_error(rc);
    int r = open_in(tree, txn, is_new);
    if (r < 0) {
        mdb_txn_abort(txn);
        return r;
    }
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
    cond_init(&tree->wanted);
    cond_init(&tree->settled);
    map_bytes = map_bytes ? map_bytes : DEFAULT_MAP_BYTES;
    int r = open_env(tree, dirfd, map_bytes - map_bytes % MAP_STEP_BYTES);
    if (r == 0)
        r = open_databases(tree);
    if (r == 0)
        r = open_sizes(tree);
    if (r == 0)
        r = writer_start(tree);
    if (r < 0)
        return r;
    *ret_tree = TAKE(tree);
    return 0;
}

void tree_free(struct tree *tree)
{
    if (!tree)
        return;
    writer_stop(tree);
    while (tree->n_idle > 0)
        mdb_txn_abort(tree->idle[--tree->n_idle]);
    if (tree->env)
        mdb_env_close(tree->env);
    cond_done(&tree->wanted);
    cond_done(&tree->settled);
    mutex_done(&tree->lock);
    free(tree);
}

/* ---- what is known without a transaction ---- */

static struct tree_meta meta_of(struct tree *tree)
{
    SCOPED_LOCK(&tree->lock);
    return tree->meta;
}

uint64_t tree_applied(struct tree *tree)
{
    return meta_of(tree).applied;
}

struct host_id tree_home(struct tree *tree)
{
    return meta_of(tree).home;
}

struct turn tree_turn(struct tree *tree)
{
    struct tree_meta meta = meta_of(tree);
    return (struct turn){.epoch = meta.epoch, .home = meta.home, .successor = meta.successor};
}

uint64_t tree_next_ino(struct tree *tree)
{
    return meta_of(tree).next_ino;
}

void tree_usage(struct tree *tree, struct tree_usage *ret_usage)
{
    struct tree_meta meta = meta_of(tree);
    *ret_usage = (struct tree_usage){
        .limit_bytes = meta.limit_bytes,
        .used_bytes = meta.used_bytes,
        .limit_inodes = meta.limit_inodes,
        .n_inodes = meta.n_inodes,
        .copies = meta.copies,
        .is_suid = meta.is_suid,
        .is_dev = meta.is_dev,
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

/* Of the last commit: a writing transaction cannot look into its own free pages. Nothing is pending. */
static int count_free_locked(struct tree *tree, uint64_t *ret_n) REQUIRES(tree->lock)
{
    MDB_txn *txn;
    int r = renew(tree, take_idle_locked(tree), &txn);
    if (r < 0)
        return r;
    r = count_free_pages(txn, ret_n);
    mdb_txn_reset(txn);
    if (!keep_idle_locked(tree, txn))
        mdb_txn_abort(txn);
    return r;
}

/* A value that wants neighbouring pages: asks LMDB itself, in a transaction that comes to nothing. The same pages are
 * still free when the change is applied: a reader that begins meanwhile sees the last commit and holds none of them. */
static int try_value_locked(struct tree *tree, size_t value_bytes) REQUIRES(tree->lock)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(tree->env, tree->txn, 0, &txn);
    if (rc != 0)
        return rows_error(rc);
    struct key key = key_1(0);
    MDB_val k = {.mv_data = key.bytes, .mv_size = key.size};
    MDB_val v = {.mv_size = value_bytes + 2 * tree->page_bytes};
    rc = mdb_put(txn, tree->dbi[DB_XATTRS], &k, &v, MDB_RESERVE);
    mdb_txn_abort(txn);
    return rows_error(rc);
}

static int check_free_pages_locked(struct tree *tree, uint64_t n_unused) REQUIRES(tree->lock)
{
    if (tree->n_room_known > 0) {
        tree->n_room_known--;
        return 0;
    }
    uint64_t n_free = 0;
    int r = count_free_locked(tree, &n_free);
    if (r < 0)
        return r;
    uint64_t n_room = n_free + n_unused;
    if (n_room < tree->reserve_pages)
        return -ENOSPC;
    tree->n_room_known = (n_room - tree->reserve_pages) / PAGES_PER_CHANGE;
    return 0;
}

int tree_room(struct tree *tree, size_t value_bytes)
{
    mutex_assert_held(&tree->lock);
    uint64_t n_unused = writer_unused_pages_locked(tree);
    uint64_t value_pages = value_bytes / tree->page_bytes + 1;
    if (n_unused >= tree->reserve_pages + PENDING_PAGES + value_pages)
        return 0;
    /* The end of the map was reached before: what is left are pages that were freed. */
    int r = check_free_pages_locked(tree, n_unused);
    if (r == 0 && value_bytes > LARGE_VALUE_BYTES) {
        tree->n_room_known = 0;
        r = try_value_locked(tree, value_bytes);
    }
    return r;
}

static uint64_t used_pages(struct tree *tree)
{
    SCOPED_LOCK(&tree->lock);
    return tree->last_page + 1;
}

static void note_disk(struct tree *tree, bool is_full)
{
    SCOPED_LOCK(&tree->lock);
    tree->is_disk_full = is_full;
}

bool tree_has_room(struct tree *tree)
{
    int fd;
    if (mdb_env_get_fd(tree->env, &fd) != 0)
        return false;
    uint64_t used = used_pages(tree);
    if (tree->allocated_pages >= used + AHEAD_PAGES / 2)
        return true;
    int e = disk_allocate(fd, FALLOC_FL_KEEP_SIZE, used * tree->page_bytes,
                          AHEAD_PAGES * tree->page_bytes);
    bool is_full = e < 0 && e != -EOPNOTSUPP;
    note_disk(tree, is_full);
    if (!is_full)
        tree->allocated_pages = used + AHEAD_PAGES;
    return !is_full;
}

int tree_sync(struct tree *tree)
{
    int r = tree_commit(tree);
    return r < 0 ? r : rows_error(mdb_env_sync(tree->env, 1));
}
