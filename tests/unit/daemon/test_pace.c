/* A shared rate: what is sent keeps to it, who waits first goes first, and nobody starves. */
#include <criterion/criterion.h>

#include "daemon/transfer/pace.h"
#include "proto/base/clock.h"

#define RATE (1000ULL * 1000)

static struct pace pace = {.rate = RATE};
static int64_t now = 1000 * NS_PER_S;

TestSuite(pace, .timeout = 10);

/* Goes as soon as it may. */
static void go(enum fetch_class class, uint64_t bytes)
{
    now += pace_delay_ns(&pace, now);
    cr_assert_eq(pace_turn(&pace), class);
    pace_spend(&pace, class, bytes, now);
}

Test(pace, lets_all_go_without_a_rate)
{
    pace.rate = 0;
    pace.n_wishes[FETCH_PREFETCH] = 1;
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(pace_delay_ns(&pace, now), 0);
        pace_spend(&pace, FETCH_PREFETCH, 1 << 20, now);
    }
}

Test(pace, keeps_to_the_rate)
{
    int64_t start = now;
    pace.n_wishes[FETCH_STREAM] = 1;
    for (int i = 0; i < 1000; i++)
        go(FETCH_STREAM, 10000);
    int64_t wanted =
        10 * NS_PER_S - 10 * NS_PER_MS - PACE_BURST_NS; /* the last is not waited for */
    cr_assert_eq(now - start, wanted);
}

/* Time in which nobody sent is lost, but for a moment. */
Test(pace, saves_nothing_up)
{
    pace.n_wishes[FETCH_DEMAND] = 1;
    go(FETCH_DEMAND, 1000);
    now += 100 * NS_PER_S;
    uint64_t at_once = 0;
    while (pace_delay_ns(&pace, now) == 0) {
        pace_spend(&pace, FETCH_DEMAND, 1000, now);
        at_once += 1000;
    }
    cr_assert_leq(at_once, RATE * PACE_BURST_NS / NS_PER_S + 1000);
}

Test(pace, has_nobody_to_go)
{
    cr_assert_eq(pace_turn(&pace), FETCH_N_CLASSES);
}

Test(pace, lets_demand_go_first)
{
    pace.n_wishes[FETCH_PREFETCH] = pace.n_wishes[FETCH_STREAM] = 3;
    cr_assert_eq(pace_turn(&pace), FETCH_STREAM);
    pace.n_wishes[FETCH_DEMAND] = 1;
    go(FETCH_DEMAND, 100);
    pace.n_wishes[FETCH_DEMAND] = 0;
    go(FETCH_STREAM, 100);
}

/* However many of the others there are, every class gets its share. */
Test(pace, starves_nobody)
{
    unsigned n[FETCH_N_CLASSES] = {0};
    for (int c = 0; c < FETCH_N_CLASSES; c++)
        pace.n_wishes[c] = 5;
    for (int i = 0; i < 1800; i++) {
        enum fetch_class class = pace_turn(&pace);
        go(class, 100);
        n[class]++;
    }
    cr_assert_eq(n[FETCH_DEMAND] + n[FETCH_STREAM] + n[FETCH_PREFETCH], 1800);
    cr_assert_geq(n[FETCH_STREAM], 1800 / (PACE_FLOOR + 2));
    cr_assert_geq(n[FETCH_PREFETCH], 1800 / (PACE_FLOOR + 2));
    cr_assert_geq(n[FETCH_DEMAND], 1500);
}

/* Who had nothing to send while others went has no claim to be next. */
Test(pace, passes_over_only_who_waits)
{
    pace.n_wishes[FETCH_DEMAND] = 1;
    for (int i = 0; i < 100; i++)
        go(FETCH_DEMAND, 100);
    pace.n_wishes[FETCH_PREFETCH] = 1;
    go(FETCH_DEMAND, 100);
}
