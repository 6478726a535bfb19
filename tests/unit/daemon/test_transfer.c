/* Blocks between hosts: they arrive, once, checked, whatever happens to connections and peers. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>

#include "daemon/transfer/transfer_private.h"
#include "proto/messages.pb-c.h"
#include "tests/lib/hosts.h"

#define MIB (1ULL << 20)
#define SIZE (9 * MIB + 4321)
#define N_BLOCKS block_count(SIZE)

static struct test_host *home = &hosts[0], *reader = &hosts[1];

static void setup(void)
{
    hosts_start(2);
}

TestSuite(transfer, .init = setup, .fini = hosts_stop, .timeout = 100);

static int fetch(struct content *content, uint64_t first, uint64_t n, int64_t timeout_ns)
{
    return transfer_fetch(reader->transfer, VOLUME_NAME, content, first, n, FETCH_DEMAND,
                          clock_mono_ns() + timeout_ns);
}

static struct content *new_file(const char *name, uint64_t seed, int kind, uint64_t size)
{
    uint64_t ino = home_make_file(name, seed, kind, size);
    hosts_follow();
    return host_content(reader, ino);
}

static uint64_t served(void)
{
    const struct transfer_counters *c = transfer_counters(home->transfer);
    return atomic_load(&c->served_blocks[FETCH_DEMAND]) +
           atomic_load(&c->served_blocks[FETCH_PREFETCH]);
}

/* A block may be here before it is counted there. */
static uint64_t served_after(uint64_t n)
{
    int64_t deadline_ns = hosts_soon();
    while (served() < n && clock_mono_ns() < deadline_ns)
        sched_yield();
    return served();
}

static const struct transfer_counters *mine(void)
{
    return transfer_counters(reader->transfer);
}

Test(transfer, brings_a_file_over)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    cr_assert_eq(fetch(content, 0, N_BLOCKS, 20 * NS_PER_S), 0);
    cr_assert(content_is_complete(content));
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    cr_assert_eq(served_after(N_BLOCKS), N_BLOCKS);
    cr_assert_eq(atomic_load(&mine()->fetched_bytes[FETCH_DEMAND]), SIZE);
    cr_assert_eq(atomic_load(&mine()->in_flight_blocks), 0);
    content_put(content);
}

/* One block in the middle is one block, not the file. */
Test(transfer, brings_only_what_is_asked_for)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    cr_assert_eq(fetch(content, 30, 1, 20 * NS_PER_S), 0);
    cr_assert(content_has(content, 30, 1));
    cr_assert(content_is(content, 1, 0, 30 * BLOCK_BYTES, BLOCK_BYTES));
    cr_assert_eq(content_present_bytes(content), BLOCK_BYTES);
    cr_assert_eq(served_after(1), 1);
    content_put(content);
}

/* Text travels compressed, zeros not at all, and zeros stay holes. */
Test(transfer, saves_bytes_where_it_pays)
{
    struct content *text = new_file("t", 1, 1, SIZE), *sparse = new_file("z", 1, 2, SIZE);
    cr_assert_eq(fetch(text, 0, N_BLOCKS, 20 * NS_PER_S), 0);
    cr_assert(content_is(text, 1, 1, 0, SIZE));
    cr_assert_eq(fetch(sparse, 0, N_BLOCKS, 20 * NS_PER_S), 0);
    cr_assert(content_is(sparse, 1, 2, 0, SIZE));
    const struct transfer_counters *c = transfer_counters(home->transfer);
    cr_assert_lt(atomic_load(&c->served_wire_bytes),
                 atomic_load(&c->served_bytes[FETCH_DEMAND]) / 4);
    struct stat st;
    cr_assert_eq(fstat(content_fd(sparse), &st), 0);
    cr_assert_lt((uint64_t)st.st_blocks * 512, SIZE / 4);
    content_put(text);
    content_put(sparse);
}

static void *fetch_all(void *arg)
{
    struct content *content = arg;
    cr_assert_eq(fetch(content, 0, N_BLOCKS, 20 * NS_PER_S), 0);
    return NULL;
}

/* However many want it, a block travels once. */
Test(transfer, joins_what_is_under_way)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, fetch_all, content), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    /* A block that lands between one thread's look and its asking may travel again; not more than a few do. */
    cr_assert_leq(served(), N_BLOCKS + 12, "%lu", (unsigned long)served());
    content_put(content);
}

/* A reader that goes on where it was finds its next blocks under way or here. */
Test(transfer, reads_ahead)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    for (uint64_t b = 0; b < N_BLOCKS; b++)
        cr_assert_eq(
            content_need(content, b * BLOCK_BYTES, BLOCK_BYTES, FETCH_DEMAND, hosts_soon()), 0);
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    cr_assert_gt(atomic_load(&mine()->ahead_blocks), N_BLOCKS / 2);
    content_put(content);
}

/* A damaged block is refused and asked for again. */
Test(transfer, refuses_damaged_blocks)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    transfer_corrupt_served(home->transfer, 3);
    cr_assert_eq(fetch(content, 0, N_BLOCKS, 20 * NS_PER_S), 0);
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    cr_assert_eq(atomic_load(&mine()->checksum_failures), 3);
    cr_assert_geq(atomic_load(&mine()->retries), 1);
    content_put(content);
}

/* If it stays damaged that is EIO, and never wrong bytes. */
Test(transfer, gives_up_on_what_stays_damaged)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    transfer_corrupt_served(home->transfer, UINT32_MAX);
    cr_assert_eq(fetch(content, 0, 1, 20 * NS_PER_S), -EIO);
    cr_assert_eq(content_present_bytes(content), 0);
    transfer_corrupt_served(home->transfer, 0);
    cr_assert_eq(fetch(content, 0, 1, 20 * NS_PER_S), 0);
    content_put(content);
}

/* A version that its keeper has no more is stale, at once. */
Test(transfer, says_what_is_stale)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    uint64_t ino = content_ino(content);
    (void)host_change(home, (struct request){.kind = REQUEST_OPEN_WRITE, .ino = ino});
    (void)host_change(home, (struct request){.kind = REQUEST_PUBLISH,
                                             .flags = REQUEST_LAST_CLOSE,
                                             .ino = ino,
                                             .size = SIZE,
                                             .mtime_ns = 1});
    int64_t started_ns = clock_mono_ns();
    cr_assert_eq(fetch(content, 0, 1, 20 * NS_PER_S), -ESTALE);
    cr_assert_lt(clock_mono_ns() - started_ns, 5 * NS_PER_S);
    content_put(content);
}

/* A host that is not there is unreachable at the deadline, not later. */
Test(transfer, is_bounded_without_a_peer)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    host_stop_peers(home);
    int64_t started_ns = clock_mono_ns();
    cr_assert_eq(fetch(content, 0, 1, NS_PER_S), -EHOSTUNREACH);
    cr_assert_lt(clock_mono_ns() - started_ns, 5 * NS_PER_S);
    content_put(content);
}

/* A volume can be closed while its reader's next blocks are under way. */
Test(transfer, lets_go_of_a_store)
{
    for (unsigned i = 0; i < 20; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "%u", i);
        struct content *content = new_file(name, i, 0, SIZE);
        struct store *store = content_store(content);
        cr_assert_eq(fetch(content, 0, 1, 20 * NS_PER_S), 0);
        content_put(content);
        transfer_let_go(reader->transfer, store);
        cr_assert(store_wait_closed(store, 0));
        cr_assert_eq(atomic_load(&mine()->in_flight_blocks), 0);
    }
}

static void *come_back(void *arg)
{
    (void)arg;
    host_start_peers(home);
    return NULL;
}

/* A peer that comes back in time is found again. */
Test(transfer, waits_for_a_peer_that_comes_back)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    pthread_t thread;
    cr_assert_eq(fetch(content, 30, 1, 20 * NS_PER_S), 0); /* nothing is read ahead there */
    host_stop_peers(home);
    cr_assert_eq(fetch(content, 0, 1, NS_PER_S), -EHOSTUNREACH);
    cr_assert_eq(pthread_create(&thread, NULL, come_back, NULL), 0);
    cr_assert_eq(fetch(content, 0, N_BLOCKS, 20 * NS_PER_S), 0);
    pthread_join(thread, NULL);
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    content_put(content);
}

/* A volume that is not open there yet is asked for again. */
Test(transfer, waits_for_the_volume)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    atomic_store(&home->n_finds_refused, 3);
    cr_assert_eq(fetch(content, 0, 1, 20 * NS_PER_S), 0);
    content_put(content);
}

static atomic_bool is_done;

static void *cut_connections(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 12 && !atomic_load(&is_done); i++) {
        struct conn *conn;
        uint64_t before = atomic_load(&mine()->fetched_blocks[FETCH_DEMAND]);
        if (peers_get(reader->peers, home->id, CHANNEL_DATA, i, hosts_soon(), &conn) < 0)
            continue;
        while (!atomic_load(&is_done) &&
               atomic_load(&mine()->fetched_blocks[FETCH_DEMAND]) < before + 3)
            sched_yield();
        conn_close(conn, "the test says so");
        conn_put(conn);
    }
    return NULL;
}

/* Lost connections cost time, not bytes. */
Test(transfer, survives_lost_connections)
{
    struct content *content = new_file("a", 1, 0, 4 * SIZE);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, cut_connections, NULL), 0);
    cr_assert_eq(fetch(content, 0, block_count(4 * SIZE), 60 * NS_PER_S), 0);
    atomic_store(&is_done, true);
    pthread_join(thread, NULL);
    cr_assert(content_is(content, 1, 0, 0, 4 * SIZE));
    cr_assert_eq(atomic_load(&mine()->in_flight_blocks), 0);
    content_put(content);
}

static void *fetch_until_stopped(void *arg)
{
    return (void *)(intptr_t)fetch(arg, 0, 1, 60 * NS_PER_S);
}

/* Stopping ends who waits. */
Test(transfer, stops)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    pthread_t thread;
    void *result;
    atomic_store(&home->n_finds_refused, INT32_MAX);
    cr_assert_eq(pthread_create(&thread, NULL, fetch_until_stopped, content), 0);
    while (atomic_load(&mine()->retries) == 0)
        sched_yield();
    host_stop_peers(reader);
    pthread_join(thread, &result);
    cr_assert_eq((intptr_t)result, -ESHUTDOWN);
    content_put(content);
}

/* ---- drawing ---- */

static bool count_reports(void *ctx, const struct draw_progress *progress)
{
    cr_assert_leq(progress->done_bytes, progress->total_bytes);
    (*(unsigned *)ctx)++;
    return true;
}

static bool say_stop(void *ctx, const struct draw_progress *progress)
{
    (void)ctx, (void)progress;
    return false;
}

static struct draw whole_volume(draw_report_f *report, void *ctx)
{
    return (struct draw){.volume_name = VOLUME_NAME,
                         .volume = reader->volume,
                         .class = FETCH_PREFETCH,
                         .report = report,
                         .ctx = ctx};
}

static uint64_t make_small_files(unsigned n)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%u", i);
        uint64_t ino = home_make_file(name, i, 0, 1000 + i);
        first = first ? first : ino;
    }
    return first;
}

static void read_small(uint64_t ino, unsigned i)
{
    struct content *small = host_content(reader, ino);
    content_opened(small);
    cr_assert_eq(content_need(small, 0, 1000 + i, FETCH_DEMAND, hosts_soon()), 0);
    cr_assert(content_is(small, i, 0, 0, 1000 + i));
    content_put(small);
}

/* Who reads small files in the order in which they were made waits for the first one only, and few requests bring them. */
Test(transfer, brings_what_lies_beside)
{
    enum {
        N = 300
    };
    uint64_t first = make_small_files(N);
    hosts_follow();
    for (unsigned i = 0; i < N; i++)
        read_small(first + i, i);
    cr_assert_eq(served_after(1), 1, "one was asked for by itself");
    cr_assert_eq(atomic_load(&mine()->beside_files), N - 1);
    cr_assert_lt(atomic_load(&mine()->requests), N / 10);
}

/* One that is read alone brings a few, and nothing that is large. */
Test(transfer, brings_little_beside_a_single_file)
{
    (void)home_make_file("before", 1, 0, SIZE);
    uint64_t first = make_small_files(2);
    uint64_t big = home_make_file("big", 1, 0, SIZE);
    uint64_t after = home_make_file("after", 1, 0, 10);
    uint64_t far = home_make_file("far", 1, 0, 10);
    hosts_follow();
    read_small(first, 0);
    struct content *content = host_content(reader, after);
    cr_assert(content_wait(content, 0, 1, hosts_soon()));
    content_put(content);
    cr_assert_eq(atomic_load(&mine()->beside_files), 3,
                 "the second, the one after and the far one");
    content = host_content(reader, big);
    cr_assert_eq(content_present_bytes(content), 0);
    content_put(content);
    content = host_content(reader, far);
    cr_assert(content_wait(content, 0, 1, hosts_soon()));
    content_put(content);
}

Test(transfer, draws_a_volume)
{
    unsigned n_reports = 0;
    struct draw_progress progress;
    struct content *big = new_file("a", 1, 0, 3 * SIZE);
    uint64_t first = make_small_files(100);
    hosts_follow();
    struct draw draw = whole_volume(count_reports, &n_reports);
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0);
    cr_assert_eq(progress.total_files, 101);
    cr_assert_eq(progress.done_files, 101);
    cr_assert_eq(progress.done_bytes, progress.total_bytes);
    cr_assert_geq(n_reports, 1);
    cr_assert(content_is(big, 1, 0, 0, 3 * SIZE));
    for (unsigned i = 0; i < 100; i++) {
        struct content *small = host_content(reader, first + i);
        cr_assert(content_has(small, 0, UINT64_MAX));
        cr_assert(content_is(small, i, 0, 0, 1000 + i));
        content_put(small);
    }
    cr_assert_eq(served_after(100 + block_count(3 * SIZE)), 100 + block_count(3 * SIZE),
                 "each block once");
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0, "and then nothing");
    cr_assert_eq(served(), 100 + block_count(3 * SIZE));
    content_put(big);
}

/* The newest file comes first, and a budget ends it. */
Test(transfer, draws_the_newest_within_its_budget)
{
    struct draw_progress progress;
    struct content *old = new_file("old", 1, 0, SIZE), *new = new_file("new", 2, 0, SIZE);
    struct draw draw = whole_volume(NULL, NULL);
    draw.budget_bytes = SIZE;
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0);
    cr_assert(content_is_complete(new));
    cr_assert_not(content_is_complete(old));
    cr_assert_eq(progress.done_files, 1);
    content_put(old);
    content_put(new);
}

Test(transfer, draws_only_what_is_named)
{
    struct draw_progress progress;
    struct content *a = new_file("a", 1, 0, SIZE), *b = new_file("b", 2, 0, SIZE);
    uint64_t inos[] = {content_ino(a), 999999};
    struct draw draw = whole_volume(NULL, NULL);
    draw.inos = inos;
    draw.n_inos = 2;
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0);
    cr_assert(content_is_complete(a));
    cr_assert_eq(content_present_bytes(b), 0);
    content_put(a);
    content_put(b);
}

Test(transfer, stops_drawing_when_told)
{
    struct draw_progress progress;
    struct content *a = new_file("a", 1, 0, 8 * SIZE);
    struct draw draw = whole_volume(say_stop, NULL);
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), -ECANCELED);
    cr_assert_not(content_is_complete(a));
    content_put(a);
}

/* A host that nobody reaches does not stop the drawing for ever. */
/* ---- rates ---- */

static void setup_slow(void)
{
    hosts_serve_rate = 16 * MIB;
    hosts_prefetch_rate = 4 * MIB;
    setup();
}

TestSuite(transfer_rates, .init = setup_slow, .fini = hosts_stop, .timeout = 100);

/* What is sent while the pace runs up does not count. */
Test(transfer_rates, serves_no_faster_than_it_may)
{
    struct content *content = new_file("a", 1, 0, SIZE);
    int64_t start_ns = clock_mono_ns();
    cr_assert_eq(fetch(content, 0, N_BLOCKS, 50 * NS_PER_S), 0);
    cr_assert_geq(clock_mono_ns() - start_ns, NS_PER_S / 2, "9 MiB at 16 MiB/s");
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    content_put(content);
}

Test(transfer_rates, draws_no_faster_than_it_may)
{
    struct draw_progress progress;
    struct content *content = new_file("a", 1, 0, SIZE);
    struct draw draw = whole_volume(NULL, NULL);
    int64_t start_ns = clock_mono_ns();
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0);
    cr_assert_geq(clock_mono_ns() - start_ns, 2 * NS_PER_S, "9 MiB at 4 MiB/s");
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    content_put(content);
}

/* Neither keeps a stop waiting. */
Test(transfer_rates, stops)
{
    pthread_t thread;
    struct content *content = new_file("a", 1, 0, 8 * SIZE);
    cr_assert_eq(pthread_create(&thread, NULL, fetch_until_stopped, content), 0);
    (void)served_after(1);
    host_stop_peers(home);
    host_stop_peers(reader);
    pthread_join(thread, NULL);
    content_put(content);
}

/* While a reader waits, drawing does, too, but not for ever. */
Test(transfer, draws_behind_who_waits)
{
    struct draw_progress progress;
    struct content *content = new_file("a", 1, 0, SIZE);
    struct draw draw = whole_volume(NULL, NULL);
    int64_t start_ns = clock_mono_ns();
    atomic_fetch_add(&reader->transfer->n_demands, 1);
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0);
    atomic_fetch_sub(&reader->transfer->n_demands, 1);
    cr_assert_geq(clock_mono_ns() - start_ns, 100 * NS_PER_MS);
    cr_assert_geq(atomic_load(&mine()->yields), 1);
    cr_assert(content_is(content, 1, 0, 0, SIZE));
    content_put(content);
}

/* Who waits is counted as long as he does. */
Test(transfer, knows_who_waits)
{
    pthread_t thread;
    struct content *content = new_file("a", 1, 0, SIZE);
    atomic_store(&home->n_finds_refused, INT32_MAX);
    cr_assert_eq(pthread_create(&thread, NULL, fetch_until_stopped, content), 0);
    while (atomic_load(&reader->transfer->n_demands) == 0)
        sched_yield();
    atomic_store(&home->n_finds_refused, 0);
    pthread_join(thread, NULL);
    cr_assert_eq(atomic_load(&reader->transfer->n_demands), 0);
    content_put(content);
}

Test(transfer, draws_nothing_from_the_dead)
{
    struct draw_progress progress;
    struct content *content = new_file("a", 1, 0, 1000);
    host_stop_peers(reader);
    struct draw draw = whole_volume(NULL, NULL);
    host_start_peers(reader);
    atomic_store(&home->n_finds_refused, 2);
    cr_assert_eq(transfer_draw(reader->transfer, &draw, &progress), 0);
    cr_assert(content_is_complete(content));
    content_put(content);
}
