/* Three hosts that call, stream to and hang up on each other from many threads, for a fixed number of operations;
 * then one stops while the others go on. Invariants: every call ends within its deadline; an answer fits its request;
 * blocks arrive unchanged; once all has stopped nothing is left (the sanitizers look).
 *
 *     stress_peers [--seed N] [--operations N]
 */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/block.h"
#include "proto/messages.pb-c.h"
#include "tests/unit/daemon/net_fixture.h"

#define N_HOSTS 3
#define N_THREADS 4 /* per host */
#define NOTHING ((struct span){NULL, 0})

static const char *const names[N_HOSTS] = {"h1", "h2", "h3"};
static struct net_fixture net;
static struct peers *hosts[N_HOSTS];
static atomic_uint_least64_t n_calls, n_blocks, n_closed, n_bad, n_lost;
static unsigned n_operations = 400;
static atomic_bool may_lose; /* a host is being stopped */

static int64_t soon(void)
{
    return clock_mono_ns() + 20 * NS_PER_S;
}

static void on_forward(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx;
    Whiskfs__Outcome outcome = WHISKFS__OUTCOME__INIT;
    outcome.ino = frame->raw.size;
    int r =
        conn_send(conn, FRAME_CONTROL, FRAME_OUTCOME, frame->id, &outcome.base, NOTHING, soon());
    if (r < 0 && r != -EPIPE)
        atomic_fetch_add(&n_bad, 1);
}

/* Every byte of a block is its number. */
static void on_block(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx;
    (void)conn;
    for (size_t i = 0; i < frame->raw.size; i += 1009)
        if (frame->raw.data[i] != (uint8_t)frame->id)
            atomic_fetch_add(&n_bad, 1);
    atomic_fetch_add(&n_blocks, 1);
}

static void on_closed(void *ctx, struct conn *conn)
{
    (void)ctx;
    if (conn_is_open(conn))
        atomic_fetch_add(&n_bad, 1);
    atomic_fetch_add(&n_closed, 1);
}

struct actor {
    struct peers *from;
    unsigned host;
    uint64_t random;
    uint8_t raw[BLOCK_RAW_MAX];
};

static unsigned draw(struct actor *a, unsigned below)
{
    a->random ^= a->random << 13;
    a->random ^= a->random >> 7;
    a->random ^= a->random << 17;
    return (unsigned)(a->random >> 33) % below;
}

static int call(struct actor *a, struct conn *conn)
{
    struct frame *reply = NULL;
    size_t size = draw(a, FORWARD_RAW_MAX);
    int r = conn_call(conn, FRAME_CONTROL, FRAME_FORWARD, NULL, (struct span){a->raw, size}, soon(),
                      &reply);
    if (r < 0)
        return r;
    ProtobufCMessage *m = NULL;
    if (message_get(reply->body, &whiskfs__outcome__descriptor, &m) < 0 ||
        ((Whiskfs__Outcome *)(void *)m)->ino != size)
        atomic_fetch_add(&n_bad, 1);
    message_free(m);
    frame_free(reply);
    atomic_fetch_add(&n_calls, 1);
    return 0;
}

static int stream(struct actor *a, struct conn *conn)
{
    int r = 0;
    for (unsigned i = 0; i < 8 && r == 0; i++) {
        uint64_t id = draw(a, 255) + 1;
        size_t size = draw(a, BLOCK_RAW_MAX);
        memset(a->raw, (int)id, size);
        r = conn_send(conn, FRAME_DEMAND + draw(a, 3), FRAME_BLOCK, id, NULL,
                      (struct span){a->raw, size}, soon());
    }
    return r;
}

/* What a live host may see: a connection that somebody closed. */
static void judge(int r)
{
    bool fine = r == 0 || r == -EPIPE;
    if (!fine && !(atomic_load(&may_lose) && (r == -EHOSTUNREACH || r == -ETIMEDOUT))) {
        atomic_fetch_add(&n_bad, 1);
        (void)fprintf(stderr, "unexpected: %s\n", strerrordesc_np(-r));
    }
    if (r < 0)
        atomic_fetch_add(&n_lost, 1);
}

static void act(struct actor *a)
{
    unsigned to = (a->host + 1 + draw(a, N_HOSTS - 1)) % N_HOSTS;
    enum channel channel = draw(a, 2) ? CHANNEL_DATA : CHANNEL_CONTROL;
    struct conn *conn = NULL;
    int r = peers_get(a->from, host_id_of(names[to]), channel, draw(a, 4), soon(), &conn);
    if (r < 0) {
        /* A dial may lose against the close of the very connection it makes. */
        judge(r == -EHOSTUNREACH ? -EPIPE : r);
        return;
    }
    unsigned what = draw(a, 100);
    if (what < 60)
        judge(call(a, conn));
    else if (what < 97)
        judge(stream(a, conn));
    else
        conn_close(conn, "on a whim");
    conn_put(conn);
}

static void *run(void *arg)
{
    struct actor *a = arg;
    for (unsigned i = 0; i < n_operations; i++)
        act(a);
    return NULL;
}

static bool start_hosts(void)
{
    for (unsigned i = 0; i < N_HOSTS; i++) {
        hosts[i] = net_host(&net, names[i], names[i]);
        peers_handle(hosts[i], FRAME_FORWARD, false, on_forward, NULL);
        peers_handle(hosts[i], FRAME_BLOCK, true, on_block, NULL);
        peers_on_close(hosts[i], on_closed, NULL);
        if (peers_start(hosts[i]) < 0)
            return false;
    }
    return true;
}

static void run_all(struct actor *actors, unsigned n_hosts, pthread_t *threads)
{
    for (unsigned i = 0; i < n_hosts * N_THREADS; i++)
        CHECK(thread_start(&threads[i], "actor", run, &actors[i]) == 0);
}

static void join_all(unsigned n_hosts, pthread_t *threads)
{
    for (unsigned i = 0; i < n_hosts * N_THREADS; i++)
        thread_join(threads[i]);
}

int main(int argc, char **argv)
{
    uint64_t seed = (uint64_t)time(NULL);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--operations") == 0)
            n_operations = (unsigned)strtoul(argv[i + 1], NULL, 10);
    }
    (void)printf("seed %llu\n", (unsigned long long)seed);
    log_set_level(LOG_WARNING);
    if (net_set_up(&net) < 0 || !start_hosts())
        return 1;
    static struct actor actors[N_HOSTS * N_THREADS];
    static pthread_t threads[N_HOSTS * N_THREADS];
    for (unsigned i = 0; i < N_HOSTS * N_THREADS; i++)
        actors[i] = (struct actor){.from = hosts[i / N_THREADS],
                                   .host = i / N_THREADS,
                                   .random = (seed + i) * 0x9e3779b97f4a7c15u | 1};
    run_all(actors, N_HOSTS, threads);
    join_all(N_HOSTS, threads);
    /* Again, while the last host stops. */
    atomic_store(&may_lose, true);
    run_all(actors, N_HOSTS - 1, threads);
    int64_t begun = clock_mono_ns();
    peers_stop(hosts[N_HOSTS - 1]);
    int64_t took_ms = (clock_mono_ns() - begun) / NS_PER_MS;
    join_all(N_HOSTS - 1, threads);
    net_tear_down(&net);
    (void)printf("calls %llu blocks %llu closed %llu lost %llu bad %llu; stopped in %lld ms\n",
                 (unsigned long long)n_calls, (unsigned long long)n_blocks,
                 (unsigned long long)n_closed, (unsigned long long)n_lost,
                 (unsigned long long)n_bad, (long long)took_ms);
    return n_bad == 0 && n_calls > n_operations && n_blocks > n_operations ? 0 : 1;
}
