/* Threads that do everything to a few files of one mounted volume at a time; every errno but the expected ones is a
 * failure. At the end nothing is open or being written in the tree, and every file has its content.
 *
 *     stress_session [OPERATIONS [SEED]]
 *
 * Once with passthrough, once through the daemon, once at the volume's limit.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/fuse/session.h"

#define N_THREADS 8
#define N_NAMES 12
#define WRITE_BYTES_MAX 20000
#define OFFSET_MAX 100000

static char base[64] = "/tmp/whiskfs-stress-XXXXXX", mountpoint[128], state[128];
static unsigned n_operations = 300, seed;
/* A name that is given to another file twice within one call: the kernel looks a stale one up again only once. With
 * twelve names and eight threads that happens now and then; more often it would be a fault of ours. */
#define N_STALE_MAX 5

static atomic_uint n_failures, n_stale;

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "%s %s: %s (seed %u)\n", what, path, strerror(errno), seed);
    atomic_fetch_add(&n_failures, 1);
}

/* What another thread's doing, or a full volume, may lead to. */
static bool is_expected(void)
{
    if (errno == ESTALE)
        return atomic_fetch_add(&n_stale, 1) < N_STALE_MAX;
    return errno == ENOENT || errno == EEXIST || errno == ENOSPC;
}

static void check(int result, const char *what, const char *path)
{
    if (result < 0 && !is_expected())
        fail(what, path);
}

static void random_path(unsigned *state_of, char path[256])
{
    snprintf(path, 256, "%s/%u", mountpoint, (unsigned)rand_r(state_of) % N_NAMES);
}

static void write_file(unsigned *random, const char *path)
{
    static const char bytes[WRITE_BYTES_MAX] = {1};
    int fd = open(path, O_CREAT | O_RDWR, 0644);
    check(fd, "create", path);
    if (fd < 0)
        return;
    size_t size = (size_t)rand_r(random) % WRITE_BYTES_MAX + 1;
    check((int)pwrite(fd, bytes, size, rand_r(random) % OFFSET_MAX), "write", path);
    if (rand_r(random) % 8 == 0)
        check(fsync(fd), "fsync", path);
    check(close(fd), "close", path);
}

static void read_file(unsigned *random, const char *path)
{
    char bytes[10000];
    struct stat st;
    int fd = open(path, O_RDONLY);
    check(fd, "open", path);
    if (fd < 0)
        return;
    check((int)pread(fd, bytes, sizeof bytes, rand_r(random) % OFFSET_MAX), "read", path);
    check(fstat(fd, &st), "fstat", path);
    check(close(fd), "close", path);
}

static void list(void)
{
    struct stat st;
    DIR *dir = opendir(mountpoint);
    if (!dir) {
        fail("opendir", mountpoint);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        check(fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW), "stat", entry->d_name);
    closedir(dir);
}

static void do_something(unsigned *random)
{
    char path[256], other[256];
    random_path(random, path);
    random_path(random, other);
    switch (rand_r(random) % 12) {
    case 0:
    case 1:
    case 2:
        write_file(random, path);
        break;
    case 3:
    case 4:
    case 5:
        read_file(random, path);
        break;
    case 6:
        check(unlink(path), "unlink", path);
        break;
    case 7:
        check(rename(path, other), "rename", path);
        break;
    case 8:
        check(link(path, other), "link", path);
        break;
    case 9:
        check(truncate(path, rand_r(random) % OFFSET_MAX), "truncate", path);
        break;
    case 10:
        check(utimensat(AT_FDCWD, path, NULL, 0), "utimensat", path);
        check(chmod(path, 0600 + (mode_t)(rand_r(random) % 64)), "chmod", path);
        break;
    default:
        list();
    }
}

static void *run_thread(void *arg)
{
    unsigned random = seed * N_THREADS + (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < n_operations; i++)
        do_something(&random);
    return NULL;
}

static bool is_settled(void *ctx, const struct inode *inode)
{
    struct volume *volume = ctx;
    struct content *content;
    if (!S_ISREG(inode->mode))
        return true;
    if (inode->writer.n != 0 || inode->nlink == 0) {
        fprintf(stderr, "inode %lu is left over: writer %lx, %u names\n", inode->ino,
                inode->writer.n, inode->nlink);
        atomic_fetch_add(&n_failures, 1);
    }
    if (content_get(volume_store(volume), volume_self(volume), inode, &content) < 0 ||
        content_size(content) != inode->size) {
        fprintf(stderr, "inode %lu: the content is not the published one\n", inode->ino);
        atomic_fetch_add(&n_failures, 1);
        return true;
    }
    content_put(content);
    return true;
}

static int open_volume(uint64_t limit_bytes, struct volume **ret_volume)
{
    const struct volume_options options = {.directory = state, .self = host_id_of("stress")};
    const struct volume_genesis genesis = {.limit_bytes = limit_bytes, .mode = 0755};
    int r = volume_create(&options, &genesis);
    if (r == 0)
        r = volume_open(&options, ret_volume);
    return r < 0 ? r : volume_resume(*ret_volume);
}

static void run_threads(void)
{
    pthread_t threads[N_THREADS];
    for (uintptr_t i = 0; i < N_THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run_thread, (void *)i) == 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void run(uint64_t limit_bytes, bool passthrough)
{
    const struct session_options options = {
        .mountpoint = mountpoint, .name = "stress", .passthrough = passthrough};
    struct volume *volume = NULL;
    struct session *session = NULL;
    CHECK(open_volume(limit_bytes, &volume) == 0);
    CHECK(session_start(volume, &options, &session) == 0);
    run_threads();
    uint64_t errors = session_counters(session)->errors;
    session_stop(session);
    CHECK(tree_each(volume_tree(volume), 0, is_settled, volume) == 0);
    volume_free(volume);
    CHECK(directory_remove(AT_FDCWD, state) == 0);
    printf("limit %lu, passthrough %d: %lu errors\n", limit_bytes, passthrough, errors);
    atomic_fetch_add(&n_failures, (unsigned)errors);
}

int main(int argc, char **argv)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0 || unshare(CLONE_NEWNS) < 0)
        return 77;
    n_operations = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : n_operations;
    seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : (unsigned)getpid();
    printf("seed %u\n", seed);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mkdtemp(base));
    snprintf(mountpoint, sizeof mountpoint, "%s/mount", base);
    snprintf(state, sizeof state, "%s/state", base);
    CHECK(mkdir(mountpoint, 0755) == 0);
    run(10ULL << 30, true);
    run(10ULL << 30, false);
    run(1 << 20, true);
    CHECK(directory_remove(AT_FDCWD, base) == 0);
    return n_failures == 0 ? 0 : 1;
}
