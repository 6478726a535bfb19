/* Three hosts: two read and draw what the first keeps, with many threads, while connections are cut and blocks are
 * damaged. Every byte is right in the end, and nothing is left in flight.
 *
 * usage: stress_transfer [--seed N] */
#include <inttypes.h>
#include <sched.h>

#include "proto/base/mutex.h"
#include "tests/lib/hosts.h"

#define N_ROUNDS 3
#define N_FILES 4
#define N_SMALL 150
#define N_READERS 4
#define SIZE (40ULL * BLOCK_BYTES + 4321)

static uint64_t seed = 1;
static uint64_t inos[N_FILES], small_inos[N_SMALL];
static atomic_bool is_over;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

struct worker {
    pthread_t thread;
    struct test_host *host;
    uint64_t random;
};

static void read_at(struct test_host *host, int file, uint64_t offset, uint64_t size)
{
    struct content *content = host_content(host, inos[file]);
    size = MIN(size, SIZE - offset);
    int e = content_need(content, offset, size, FETCH_DEMAND, clock_mono_ns() + 100 * NS_PER_S);
    if (e < 0)
        printf("cannot read: %s\n", strerror(-e));
    REQUIRE(e == 0);
    REQUIRE(content_is(content, seed + (uint64_t)file, file % 3, offset, size));
    content_put(content);
}

/* Half of them read through, half jump. */
static void *read_files(void *arg)
{
    struct worker *w = arg;
    int file = (int)(next_random(&w->random) % N_FILES);
    if (next_random(&w->random) % 2 == 0) {
        for (uint64_t at = 0; at < SIZE; at += BLOCK_BYTES)
            read_at(w->host, file, at, BLOCK_BYTES);
        return NULL;
    }
    for (int i = 0; i < 40; i++) {
        file = (int)(next_random(&w->random) % N_FILES);
        read_at(w->host, file, next_random(&w->random) % SIZE,
                1 + next_random(&w->random) % 300000);
    }
    return NULL;
}

static void read_small(struct test_host *host, unsigned i)
{
    struct content *content = host_content(host, small_inos[i]);
    content_opened(content);
    REQUIRE(content_need(content, 0, 100 + i, FETCH_DEMAND, clock_mono_ns() + 100 * NS_PER_S) == 0);
    REQUIRE(content_is(content, i, 0, 0, 100 + i));
    content_put(content);
}

/* From somewhere on, and around. */
static void *read_small_files(void *arg)
{
    struct worker *w = arg;
    unsigned start = (unsigned)(next_random(&w->random) % N_SMALL);
    for (unsigned i = 0; i < N_SMALL; i++)
        read_small(w->host, (start + i) % N_SMALL);
    return NULL;
}

static void *draw_files(void *arg)
{
    struct worker *w = arg;
    struct draw_progress progress;
    struct draw draw = {
        .volume_name = VOLUME_NAME, .volume = w->host->volume, .class = FETCH_PREFETCH};
    REQUIRE(transfer_draw(w->host->transfer, &draw, &progress) == 0);
    return NULL;
}

static void *disturb(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < 8 && !atomic_load(&is_over); i++) {
        struct conn *conn;
        uint64_t before = atomic_load(&transfer_counters(hosts[0].transfer)->served_wire_bytes);
        if (w->host ==
            &hosts[1]) /* one of them, or a block may be damaged so often that it is given up */
            transfer_corrupt_served(hosts[0].transfer, 2);
        while (!atomic_load(&is_over) &&
               atomic_load(&transfer_counters(hosts[0].transfer)->served_wire_bytes) <
                   before + 10 * BLOCK_BYTES)
            sched_yield();
        if (peers_get(w->host->peers, hosts[0].id, CHANNEL_DATA, i, hosts_soon(), &conn) < 0)
            continue;
        conn_close(conn, "the test says so");
        conn_put(conn);
    }
    transfer_corrupt_served(hosts[0].transfer, 0);
    return NULL;
}

static void run_round(uint64_t round)
{
    struct worker workers[2][N_READERS + 2];
    void *(*const work[N_READERS + 2])(void *) = {read_files,       read_files, read_small_files,
                                                  read_small_files, draw_files, disturb};
    for (int file = 0; file < N_FILES; file++) {
        char name[32];
        (void)snprintf(name, sizeof name, "f%" PRIu64 ".%d", round, file);
        inos[file] = home_make_file(name, seed + (uint64_t)file, file % 3, SIZE);
    }
    for (unsigned i = 0; i < N_SMALL; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "s%" PRIu64 ".%u", round, i);
        small_inos[i] = home_make_file(name, i, 0, 100 + i);
    }
    hosts_follow();
    atomic_store(&is_over, false);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < N_READERS + 2; i++) {
            workers[h][i].host = &hosts[h + 1];
            workers[h][i].random = seed * 1000 + round * 100 + (uint64_t)(h * 10 + i + 1);
            REQUIRE(thread_start(&workers[h][i].thread, "worker", work[i], &workers[h][i]) == 0);
        }
    }
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < N_READERS + 1; i++)
            thread_join(workers[h][i].thread);
    }
    atomic_store(&is_over, true);
    for (int h = 0; h < 2; h++)
        thread_join(workers[h][N_READERS + 1].thread);
}

static void check_round(void)
{
    for (int h = 1; h < 3; h++) {
        for (int file = 0; file < N_FILES; file++) {
            struct content *content = host_content(&hosts[h], inos[file]);
            REQUIRE(content_is_complete(content));
            REQUIRE(content_is(content, seed + (uint64_t)file, file % 3, 0, SIZE));
            content_put(content);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seed") == 0)
        seed = strtoull(argv[2], NULL, 10);
    printf("seed %" PRIu64 "\n", seed);
    hosts_start(3);
    for (uint64_t round = 0; round < N_ROUNDS; round++) {
        run_round(round);
        check_round();
    }
    for (unsigned h = 0; h < 3; h++)
        transfer_stop(hosts[h].transfer);
    for (unsigned h = 0; h < 3; h++)
        REQUIRE(atomic_load(&transfer_counters(hosts[h].transfer)->in_flight_blocks) == 0);
    hosts_stop();
    return 0;
}
