/* sim: schedules of the replication core.
 *
 *     sim                         some 1500 schedules; WHISKFS_LONG=1: a million
 *     sim --schedules N           so many
 *     sim --seed S                one schedule, traced
 *     sim --fault NAME            with the core broken: it must be noticed; the seed that does is printed
 *     sim --faults                each fault in turn
 *
 * A schedule: four hosts, three clients each, 20 s of faults, then everything is healed and must go on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define FAULTS_NS (20 * NS_PER_S)
#define SETTLED_NS (40 * NS_PER_S)
#define END_NS (60 * NS_PER_S)

enum core_fault core_fault;

static const char *const fault_names[N_FAULTS] = {
    "none",
#define FAULT(name, text) #name,
#include "daemon/replica/core/faults.def"
#undef FAULT
};

/* ---- faults of the world ---- */

static void heal_cut(int host, uint64_t argument)
{
    (void)host;
    sim.cut[argument / HOSTS][argument % HOSTS] = false;
}

static void cut(void)
{
    int a = (int)chance(HOSTS), b = (int)chance(HOSTS);
    if (a == b)
        return;
    int64_t ns = between(200, 7000) * NS_PER_MS;
    trace("h%d cut from h%d", a, b);
    sim.cut[a][b] = true;
    after(ns, -1, heal_cut, (uint64_t)(a * HOSTS + b));
    if (one_in(2))
        return;
    sim.cut[b][a] = true;
    after(ns, -1, heal_cut, (uint64_t)(b * HOSTS + a));
}

static void crash(void)
{
    int h = (int)chance(HOSTS);
    if (!sim.host[h].is_up)
        return;
    host_kill(h, one_in(2));
    host_boot_later(h, one_in(3) ? between(1, 6000) * NS_PER_MS : between(1, 300) * NS_PER_MS);
}

/* Rather one that is offered the home. */
static void stop_in_order(int host, uint64_t argument)
{
    (void)host, (void)argument;
    int h = (int)chance(HOSTS);
    for (int i = 0; i < HOSTS; i++)
        if (host_equal(sim.host[i].turn.successor, id_of(i)))
            h = i;
    if (sim.host[h].is_up)
        host_leave(h);
}

static void detach(void)
{
    int h = (int)chance(HOSTS);
    const struct host *host = &sim.host[h];
    bool is_needed = !check_is_current(h) || core_is_home(&host->core) ||
                     core_has_stopped(&host->core) || host->core.is_taking_over ||
                     host_equal(host->turn.successor, id_of(h));
    if (host->is_up && !is_needed && one_in(3))
        host_wipe(h);
}

/* The home goes away, for so long that somebody is told to take its place; or an operator believes so. */
static void operate(void)
{
    int h = (int)chance(HOSTS);
    for (int i = 0; i < HOSTS; i++)
        if (one_in(2) && sim.host[i].is_up && core_is_home(&sim.host[i].core))
            h = i;
    if (one_in(2) && sim.host[h].is_up) {
        host_kill(h, one_in(2));
        host_boot_later(h, between(1, 15000) * NS_PER_MS);
    }
    for (int i = 0; i < HOSTS; i++)
        if (i != h && one_in(2))
            host_claim(i);
}

static void break_any(void)
{
    for (int i = 1, left = 1 + (int)chance(20); i < LINKS; i++)
        if (sim.link[i].is_used && sim.link[i].is_open && --left == 0)
            break_link(i);
}

/* SIGSTOP, or a machine that swaps. */
static void put_to_sleep(void)
{
    int h = (int)chance(HOSTS);
    int64_t ns = between(20, 7000) * NS_PER_MS;
    if (!sim.host[h].is_up)
        return;
    trace("h%d sleeps for %.3f s", h, (double)ns / 1e9);
    sim.host[h].asleep_ns = sim.now_ns + ns;
}

static void disturb(int host, uint64_t argument)
{
    (void)host, (void)argument;
    if (sim.now_ns > FAULTS_NS)
        return;
    switch (chance(12)) {
    case 0:
    case 1:
        cut();
        break;
    case 2:
    case 3:
        crash();
        break;
    case 4:
        detach();
        break;
    case 5:
    case 6:
        put_to_sleep();
        break;
    case 7:
        sim.host[chance(HOSTS)].is_slow = one_in(2);
        break;
    case 8:
        stop_in_order(-1, 0);
        break;
    case 9:
        operate();
        break;
    default:
        break_any();
    }
    after(between(50, 1500) * NS_PER_MS, -1, disturb, 0);
}

static void heal(int host, uint64_t argument)
{
    (void)host, (void)argument;
    trace("everything is healed");
    memset(sim.cut, 0, sizeof sim.cut);
    for (int i = 0; i < HOSTS; i++) {
        sim.host[i].is_slow = false;
        sim.host[i].asleep_ns = 0;
        if (!sim.host[i].is_up)
            host_boot(i);
    }
}

static void settled(int host, uint64_t argument)
{
    (void)host, (void)argument;
    sim.is_healed = true;
    clients_begin();
}

/* What a power cut has not taken reaches the disk now and then. */
static void write_back(int host, uint64_t argument)
{
    (void)host;
    struct host *h = &sim.host[argument];
    h->synced = h->n - chance(MIN(h->n - h->synced, 20) + 1);
    after(between(100, 4000) * NS_PER_MS, -1, write_back, argument);
}

/* The work moves about, as the steps of a sequence do. */
static void move_work(int host, uint64_t argument)
{
    (void)host, (void)argument;
    sim.busy = one_in(4) ? -1 : (int)chance(HOSTS);
    after(between(300, 3000) * NS_PER_MS, -1, move_work, 0);
}

static void hand_over(int host, uint64_t argument)
{
    (void)host, (void)argument;
    if (sim.now_ns > FAULTS_NS)
        return;
    for (int i = 0; i < HOSTS; i++)
        host_hand_over(i);
    if (one_in(10))
        after(between(0, 30) * NS_PER_MS, -1, stop_in_order, 0);
    after(between(50, 2500) * NS_PER_MS, -1, hand_over, 0);
}

/* ---- a schedule ---- */

static void set_up_host(int h)
{
    struct entry *log = sim.host[h].log;
    if (!log)
        log = calloc(LOG_MAX, sizeof *log);
    CHECK(log);
    sim.host[h] = (struct host){
        .log = log,
        .offset_ns = between(0, 1000000) * NS_PER_MS,
        .rate = 1.0 + (double)between(-40, 40) / 1000,
    };
    after(between(100, 4000) * NS_PER_MS, -1, write_back, (uint64_t)h);
}

static void set_up(uint64_t seed)
{
    bool traces = sim.traces;
    for (int i = 0; i < HOSTS; i++)
        if (sim.host[i].is_up)
            core_done(&sim.host[i].core);
    forget_events();
    struct entry *logs[HOSTS];
    for (int i = 0; i < HOSTS; i++)
        logs[i] = sim.host[i].log;
    memset(&sim, 0, sizeof sim);
    for (int i = 0; i < HOSTS; i++)
        sim.host[i].log = logs[i];
    sim.traces = traces;
    sim.seed = sim.random = seed;
    sim.next_id = 1;
    check_reset();
    for (int i = 0; i < HOSTS; i++)
        set_up_host(i);
    sim.host[0].leads.started = TURN_ONE;
    sim.host[0].log[1] =
        (struct entry){.epoch = TURN_ONE, .id = sim.next_id++, .turn = TURN_ONE, .kind = START};
    sim.host[0].n = sim.host[0].synced = 1;
    for (int i = 0; i < HOSTS; i++)
        host_boot(i);
    sim.busy = -1;
    clients_reset();
    move_work(-1, 0);
    hand_over(-1, 0);
    after(between(0, 2000) * NS_PER_MS, -1, disturb, 0);
    after(FAULTS_NS, -1, heal, 0);
    after(SETTLED_NS, -1, settled, 0);
}

static bool holds_the_same(const struct host *a, const struct host *b)
{
    bool is_same = a->n == b->n;
    for (uint64_t i = 1; is_same && i <= a->n; i++)
        is_same = a->log[i].stamp == b->log[i].stamp;
    return is_same;
}

static void check_all(void)
{
    int home = -1;
    for (int i = 0; i < HOSTS; i++)
        if (core_is_home(&sim.host[i].core))
            home = i;
    if (home < 0)
        wrong("nobody is home in the end");
    for (int i = 0; i < HOSTS && home >= 0; i++)
        if (!holds_the_same(&sim.host[i], &sim.host[home]))
            wrong("h%d (%llu entries) and h%d (%llu) do not hold the same in the end", i,
                  (unsigned long long)sim.host[i].n, home, (unsigned long long)sim.host[home].n);
    if (home >= 0)
        check_end(home);
}

/* True: nothing was wrong. */
static bool run(uint64_t seed)
{
    set_up(seed);
    while (!sim.failure && sim.now_ns < END_NS && step())
        continue;
    if (!sim.failure)
        check_all();
    return !sim.failure;
}

/* ---- the command line ---- */

struct totals {
    uint64_t n_answered, n_failed, n_reads, n_handovers, n_crashes, n_installs, n_resumed;
    uint64_t n_claims, n_yielded, n_put_aside;
};

static void add_up(struct totals *t)
{
    t->n_answered += sim.n_answered;
    t->n_failed += sim.n_failed;
    t->n_reads += sim.n_reads;
    t->n_handovers += sim.n_handovers;
    t->n_crashes += sim.n_crashes;
    t->n_installs += sim.n_installs;
    t->n_resumed += sim.n_resumed;
    t->n_claims += sim.n_claims;
    t->n_yielded += sim.n_yielded;
    t->n_put_aside += sim.n_put_aside;
}

static int run_many(uint64_t first, uint64_t n)
{
    struct totals t = {0};
    for (uint64_t seed = first; seed < first + n; seed++) {
        if (!run(seed)) {
            printf("FAILED: seed %llu after %.3f s: %s\n    replay: sim --seed %llu\n",
                   (unsigned long long)seed, (double)sim.now_ns / 1e9, sim.failure,
                   (unsigned long long)seed);
            return 1;
        }
        add_up(&t);
    }
    printf(
        "%llu schedules from seed %llu: answered %llu, failed in time %llu, read %llu, "
        "hand-overs %llu, resumed %llu, crashes %llu, checkpoints %llu, taken %llu, yielded %llu, "
        "entries put aside %llu\n",
        (unsigned long long)n, (unsigned long long)first, (unsigned long long)t.n_answered,
        (unsigned long long)t.n_failed, (unsigned long long)t.n_reads,
        (unsigned long long)t.n_handovers, (unsigned long long)t.n_resumed,
        (unsigned long long)t.n_crashes, (unsigned long long)t.n_installs,
        (unsigned long long)t.n_claims, (unsigned long long)t.n_yielded,
        (unsigned long long)t.n_put_aside);
    return t.n_answered == 0 || t.n_handovers == 0 || t.n_resumed == 0 || t.n_crashes == 0 ||
           t.n_claims == 0 || t.n_yielded == 0 || t.n_put_aside == 0;
}

static int break_core(enum core_fault fault, uint64_t n)
{
    core_fault = fault;
    for (uint64_t seed = 1; seed <= n; seed++)
        if (!run(seed)) {
            printf("%-26s noticed with seed %llu: %s\n", fault_names[fault],
                   (unsigned long long)seed, sim.failure);
            return 0;
        }
    printf("%-26s NOT NOTICED in %llu schedules\n", fault_names[fault], (unsigned long long)n);
    return 1;
}

static int break_all(uint64_t n)
{
    int failures = 0;
    for (int fault = 1; fault < N_FAULTS; fault++)
        failures += break_core((enum core_fault)fault, n);
    return failures > 0;
}

static int find_fault(const char *name)
{
    for (int i = 0; i < N_FAULTS; i++)
        if (strcmp(fault_names[i], name) == 0)
            return i;
    fprintf(stderr, "sim: no fault '%s'\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    bool is_long = getenv("WHISKFS_LONG") != NULL;
    uint64_t n = is_long ? 1000000 : 1500, seed = 0;
    bool breaks_all = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--faults") == 0)
            breaks_all = true;
        else if (strcmp(argv[i], "--schedules") == 0)
            n = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--fault") == 0)
            core_fault = (enum core_fault)find_fault(value), i++;
        else
            return fprintf(stderr, "sim: see the head of tests/sim/sim.c\n"), 2;
    }
    if (breaks_all)
        return break_all(n);
    if (seed != 0) {
        sim.traces = true;
        return run_many(seed, 1);
    }
    return core_fault ? break_core(core_fault, n) : run_many(1, n);
}
