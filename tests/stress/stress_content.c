/* Fillers, readers and writers on the same copies: a reader sees what the source has or what was written, never a
 * hole; what was written never turns back; what is present is in the map after the store is opened again.
 *
 * usage: stress_content [--seed N] */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mutex.h"
#include "tests/lib/pattern_source.h"

#define N_ROUNDS 6
#define N_FILES 3
#define N_BLOCKS 24
#define N_THREADS 6
#define N_STEPS 150
#define SIZE (N_BLOCKS * (uint64_t)BLOCK_BYTES - 777)
#define WRITTEN 0xEE /* even: no byte of the pattern is */

static struct pattern_source source;
static struct store *store;
static atomic_bool whole_written[N_FILES][N_BLOCKS];
static uint64_t first_ino;
static uint64_t seed = 1;

#define SELF ((struct host_id){1})

static void require(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, what);
    abort();
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct content *get(int file, bool is_own)
{
    struct inode inode = {
        .ino = first_ino + (uint64_t)file, .version = 3, .size = SIZE, .keeper = {2}};
    struct content *content = NULL;
    if (is_own)
        inode.writer = SELF;
    require(content_get(store, SELF, &inode, &content) == 0, "content_get");
    return content;
}

static void check_bytes(struct content *content, int file, uint64_t block, bool was_written)
{
    uint8_t *data = malloc(BLOCK_BYTES);
    uint64_t start = block * BLOCK_BYTES;
    size_t n = MIN((uint64_t)BLOCK_BYTES, SIZE - start);
    require(pread(content_fd(content), data, n, (off_t)start) == (ssize_t)n, "pread");
    for (size_t i = 0; i < n; i++) {
        bool is_base = data[i] == pattern_byte(first_ino + (uint64_t)file, 3, start + i);
        require(data[i] == WRITTEN || is_base, "a byte that nobody wrote");
        require(!was_written || data[i] == WRITTEN, "what was written turned back");
    }
    free(data);
}

static void read_some(uint64_t *random)
{
    int file = (int)(next_random(random) % N_FILES);
    uint64_t block = next_random(random) % N_BLOCKS;
    struct content *content = get(file, true);
    bool was_written = atomic_load(&whole_written[file][block]);
    require(content_need(content, block * BLOCK_BYTES, BLOCK_BYTES, FETCH_DEMAND,
                         clock_mono_ns() + 60 * NS_PER_S) == 0,
            "content_need");
    require(content_has(content, block, 1), "needed and not there");
    check_bytes(content, file, block, was_written);
    content_put(content);
}

static void fill_some(uint64_t *random)
{
    int file = (int)(next_random(random) % N_FILES);
    struct content *content = get(file, true);
    require(pattern_fill(content, SIZE, next_random(random) % N_BLOCKS) == 0, "content_fill");
    content_put(content);
}

static void write_some(uint64_t *random)
{
    int file = (int)(next_random(random) % N_FILES);
    uint64_t block = next_random(random) % (N_BLOCKS - 2);
    bool is_whole = next_random(random) % 2, is_failing = next_random(random) % 4 == 0;
    uint64_t offset = block * BLOCK_BYTES + (is_whole ? 0 : next_random(random) % BLOCK_BYTES);
    uint64_t size = is_whole ? BLOCK_BYTES : 1 + next_random(random) % BLOCK_BYTES;
    uint8_t *data = malloc(size);
    memset(data, WRITTEN, size);
    struct content *content = get(file, true);
    require(content_prepare_write(content, offset, size, clock_mono_ns() + 60 * NS_PER_S) == 0,
            "content_prepare_write");
    int64_t n = is_failing ? -EIO : pwrite(content_fd(content), data, size, (off_t)offset);
    require(content_wrote(content, offset, size, n) == n, "content_wrote");
    if (is_whole && !is_failing)
        atomic_store(&whole_written[file][block], true);
    if (next_random(random) % 16 == 0)
        require(content_sync(content) == 0, "content_sync");
    content_put(content);
    free(data);
}

static void *work(void *arg)
{
    uint64_t random = *(const uint64_t *)arg;
    for (int i = 0; i < N_STEPS; i++) {
        uint64_t what = next_random(&random) % 4;
        if (what == 0)
            fill_some(&random);
        else if (what == 1)
            write_some(&random);
        else
            read_some(&random);
    }
    return NULL;
}

static void check_after_reopening(int dirfd)
{
    uint64_t present[N_FILES];
    for (int file = 0; file < N_FILES; file++) {
        struct content *content = get(file, true);
        present[file] = content_present_bytes(content);
        content_put(content);
    }
    store_free(store);
    require(store_open(dirfd, true, &source.source, &store) == 0, "reopening");
    for (int file = 0; file < N_FILES; file++) {
        struct content *content = get(file, true);
        require(content_present_bytes(content) == present[file], "the map forgot blocks");
        require(content_need(content, 0, SIZE, FETCH_DEMAND, clock_mono_ns() + 60 * NS_PER_S) == 0,
                "content_need");
        for (uint64_t b = 0; b < N_BLOCKS; b++)
            check_bytes(content, file, b, atomic_load(&whole_written[file][b]));
        require(content_is_complete(content), "all there and not complete");
        content_put(content);
        require(store_remove(store, first_ino + (uint64_t)file) == 0, "store_remove");
    }
}

static void run_round(int dirfd, uint64_t round)
{
    pthread_t threads[N_THREADS];
    uint64_t seeds[N_THREADS];
    first_ino = 100 + round * N_FILES;
    memset(whole_written, 0, sizeof whole_written);
    for (int file = 0; file < N_FILES; file++) {
        struct content *content = get(file, false);
        require(content_own(content) == 0, "content_own");
        content_put(content);
    }
    for (int i = 0; i < N_THREADS; i++) {
        seeds[i] = (seed + round) * 1000 + (uint64_t)i + 1;
        require(thread_start(&threads[i], "worker", work, &seeds[i]) == 0, "thread");
    }
    for (int i = 0; i < N_THREADS; i++)
        thread_join(threads[i]);
    check_after_reopening(dirfd);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seed") == 0)
        seed = strtoull(argv[2], NULL, 10);
    printf("seed %" PRIu64 "\n", seed);
    char directory[] = "/tmp/whiskfs-stress-XXXXXX";
    require(mkdtemp(directory) != NULL, "mkdtemp");
    int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pattern_source_init(&source, SIZE);
    require(store_open(dirfd, true, &source.source, &store) == 0, "store_open");
    for (uint64_t round = 0; round < N_ROUNDS; round++)
        run_round(dirfd, round);
    store_free(store);
    require(unlinkat(dirfd, "content/own", AT_REMOVEDIR) == 0, "own copies are left");
    require(unlinkat(dirfd, "content/drawn", AT_REMOVEDIR) == 0, "drawn copies are left");
    require(unlinkat(dirfd, "content/" SEAL_TABLE, 0) == 0, "the table of seals");
    require(unlinkat(dirfd, "content", AT_REMOVEDIR) == 0, "files are left");
    close(dirfd);
    require(rmdir(directory) == 0, "rmdir");
    return 0;
}
