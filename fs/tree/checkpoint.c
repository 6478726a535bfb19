/* fs/tree/checkpoint.c — copies of the state that say what they should be.
 *
 *     LMDB's own compact copy | trailer: "whiskchk" | u64 index | u64 size of the copy | u64 XXH3-64 of all before it
 *
 * LMDB writes a copy by itself, to a pipe here: so it passes fs/disk like all else, and is summed on its way. What
 * follows its last page LMDB does not look at, so the file as it is may become the state.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL /* a state on the stack, of the very version that works on it */
#include <xxhash.h>

#include "fs/disk/disk.h"
#include "fs/tree/impl.h"
#include "proto/base/mutex.h"

#define TRAILER_BYTES 32u
#define COPY_BYTES (256u << 10)

static const uint8_t trailer_magic[8] = "whiskchk";

/* ---- looking into one ---- */

struct tree_copy {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi[DB_N];
};

static void copy_done(struct tree_copy *copy)
{
    if (copy->txn)
        mdb_txn_abort(copy->txn);
    mdb_env_close(copy->env);
}

/* Of its tables only this one is opened. */
static int copy_init(struct tree_copy *copy, int fd, enum tree_db db)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    *copy = (struct tree_copy){0};
    int rc = mdb_env_create(&copy->env);
    if (rc != 0)
        return rows_error(rc);
    rc = mdb_env_set_maxdbs(copy->env, DB_N);
    if (rc == 0)
        rc = mdb_env_open(copy->env, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0);
    if (rc == 0)
        rc = mdb_txn_begin(copy->env, NULL, MDB_RDONLY, &copy->txn);
    if (rc == 0)
        rc = mdb_dbi_open(copy->txn, rows_db_name(db), 0, &copy->dbi[db]);
    if (rc != 0)
        copy_done(copy);
    return rows_error(rc);
}

static struct rows copy_rows(const struct tree_copy *copy)
{
    return (struct rows){.txn = copy->txn, .dbi = copy->dbi};
}

/* Reads the index from the copy itself: it is the one that the copy's snapshot had. */
static int read_copy_index(int fd, uint64_t *ret_index)
{
    struct tree_copy copy;
    struct tree_meta meta = {0};
    int r = copy_init(&copy, fd, DB_META);
    if (r < 0)
        return r == -ENOENT ? -EBADMSG : r;
    const struct rows rows = copy_rows(&copy);
    r = rows_get_meta(&rows, &meta);
    copy_done(&copy);
    if (r < 0)
        return r == -ENOENT ? -EBADMSG : r;
    *ret_index = meta.applied;
    return 0;
}

int tree_copy_open(int fd, struct tree_copy **ret_copy)
{
    uint64_t index;
    int r = tree_check_copy(fd, &index);
    if (r < 0)
        return r;
    AUTO_FREE struct tree_copy *copy = malloc(sizeof *copy);
    if (!copy)
        return -ENOMEM;
    r = copy_init(copy, fd, DB_INODES);
    if (r == 0)
        *ret_copy = TAKE(copy);
    return r;
}

int tree_copy_get(const struct tree_copy *copy, uint64_t ino, struct inode *ret_inode)
{
    const struct rows rows = copy_rows(copy);
    return rows_get_inode(&rows, ino, ret_inode);
}

void tree_copy_free(struct tree_copy *copy)
{
    if (!copy)
        return;
    copy_done(copy);
    free(copy);
}

/* ---- writing ---- */

/* The thread in which LMDB writes into the pipe. */
struct copier {
    MDB_env *env;
    int pipe;
    int rc;
    pthread_t thread;
};

static void *copy_run(void *arg)
{
    struct copier *copier = arg;
    copier->rc = mdb_env_copyfd2(copier->env, copier->pipe, MDB_CP_COMPACT);
    close_fd(&copier->pipe);
    return NULL;
}

struct sum {
    XXH3_state_t state;
    uint64_t size;
};

/* Reads the pipe to its end whatever happens: LMDB must not be left writing to it. */
static int drain(FILE *from, int to, struct sum *sum)
{
    AUTO_FREE uint8_t *buffer = malloc(COPY_BYTES);
    int r = buffer ? 0 : -ENOMEM;
    uint8_t waste[512];
    for (;;) {
        size_t n = fread(buffer ? buffer : waste, 1, buffer ? COPY_BYTES : sizeof waste, from);
        if (n == 0)
            return ferror(from) ? -EIO : r;
        if (r == 0)
            r = disk_write(to, buffer, n, sum->size);
        if (r < 0)
            continue;
        XXH3_64bits_update(&sum->state, buffer, n);
        sum->size += n;
    }
}

static void close_file(FILE **file)
{
    if (*file)
        (void)fclose(*file);
}

static int copy_through(struct tree *tree, int to, struct sum *sum)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    AUTO_CLOSE int read_end = ends[0];
    struct copier copier = {.env = tree->env, .pipe = ends[1]};
    AUTO(close_file) FILE *from = fdopen(read_end, "r");
    if (!from) {
        close_fd(&copier.pipe);
        return -ENOMEM;
    }
    (void)TAKE_FD(read_end);
    int r = thread_start(&copier.thread, "tree-copy", copy_run, &copier);
    if (r < 0) {
        close_fd(&copier.pipe);
        return r;
    }
    r = drain(from, to, sum);
    thread_join(copier.thread);
    return r < 0 ? r : rows_error(copier.rc);
}

static int write_trailer(int fd, struct sum *sum, uint64_t index)
{
    uint8_t trailer[TRAILER_BYTES];
    struct writer w = writer_over(trailer, sizeof trailer);
    put_bytes(&w, trailer_magic, sizeof trailer_magic);
    put_u64(&w, index);
    put_u64(&w, sum->size);
    XXH3_64bits_update(&sum->state, trailer, TRAILER_BYTES - 8);
    put_u64(&w, XXH3_64bits_digest(&sum->state));
    return disk_write(fd, trailer, sizeof trailer, sum->size);
}

static int write_copy(struct tree *tree, int fd, uint64_t *ret_index)
{
    struct sum sum = {.size = 0};
    uint64_t index = 0;
    XXH3_64bits_reset(&sum.state);
    int r = copy_through(tree, fd, &sum);
    if (r == 0)
        r = read_copy_index(fd, &index);
    if (r == 0)
        r = write_trailer(fd, &sum, index);
    if (r == 0)
        r = disk_sync(fd);
    if (r == 0)
        *ret_index = index;
    return r;
}

int tree_checkpoint(struct tree *tree, int dirfd, const char *name, uint64_t *ret_index)
{
    AUTO_CLOSE int fd = disk_open(dirfd, name, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0)
        return fd;
    int r = tree_commit(tree);
    if (r == 0)
        r = write_copy(tree, fd, ret_index);
    if (r < 0)
        (void)!disk_unlink(dirfd, name);
    return r;
}

/* ---- checking ---- */

static int sum_file(int fd, uint64_t size, uint64_t *ret_sum)
{
    AUTO_FREE uint8_t *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return -ENOMEM;
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (uint64_t at = 0; at < size;) {
        size_t want = (size_t)MIN(size - at, (uint64_t)COPY_BYTES);
        int64_t n = disk_read(fd, buffer, want, at);
        if (n != (int64_t)want)
            return n < 0 ? (int)n : -EBADMSG;
        XXH3_64bits_update(&state, buffer, want);
        at += want;
    }
    *ret_sum = XXH3_64bits_digest(&state);
    return 0;
}

int tree_check_copy(int fd, uint64_t *ret_index)
{
    struct stat st;
    uint8_t trailer[TRAILER_BYTES];
    int r = disk_stat(fd, &st);
    if (r < 0)
        return r;
    if (st.st_size < (off_t)TRAILER_BYTES)
        return -EBADMSG;
    uint64_t size = (uint64_t)st.st_size - TRAILER_BYTES;
    int64_t n = disk_read(fd, trailer, sizeof trailer, size);
    if (n != TRAILER_BYTES)
        return n < 0 ? (int)n : -EBADMSG;
    struct reader rd = reader_over(trailer, sizeof trailer);
    struct span magic = get_bytes(&rd, sizeof trailer_magic);
    uint64_t index = get_u64(&rd), said_size = get_u64(&rd), said_sum = get_u64(&rd), sum = 0;
    if (memcmp(magic.data, trailer_magic, sizeof trailer_magic) != 0 || said_size != size)
        return -EBADMSG;
    r = sum_file(fd, size + TRAILER_BYTES - 8, &sum);
    if (r < 0)
        return r;
    if (sum != said_sum)
        return -EBADMSG;
    *ret_index = index;
    return 0;
}
