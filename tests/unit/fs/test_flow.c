/* What came, and how long readers waited: the time is what these tests say it is. */
#include <criterion/criterion.h>

#include "fs/store/flow.h"

TestSuite(flow, .timeout = 30);

static struct flow_totals read_at(struct flow *flow, int64_t now_ns)
{
    struct flow_totals totals;
    flow_read(flow, now_ns, &totals);
    return totals;
}

/* Who waits beside others adds nothing; classes are apart. */
Test(flow, waiting_counts_once)
{
    struct flow flow = {0};
    flow_init(&flow);
    flow_begin_wait(&flow, FETCH_DEMAND, 100);
    flow_begin_wait(&flow, FETCH_DEMAND, 110);
    flow_begin_wait(&flow, FETCH_PREFETCH, 120);
    cr_assert_eq(read_at(&flow, 130).waited_ns, 30, "they wait still");
    flow_end_wait(&flow, FETCH_DEMAND, 140);
    flow_end_wait(&flow, FETCH_DEMAND, 150);
    flow_end_wait(&flow, FETCH_PREFETCH, 170);
    flow_begin_wait(&flow, FETCH_STREAM, 1000);
    flow_end_wait(&flow, FETCH_STREAM, 1001);
    struct flow_totals totals = read_at(&flow, 5000);
    cr_assert_eq(totals.waited_ns, 71);
    cr_assert_eq(totals.waited_for_ns[FETCH_DEMAND], 50);
    cr_assert_eq(totals.waited_for_ns[FETCH_PREFETCH], 50);
    cr_assert_eq(totals.waited_for_ns[FETCH_STREAM], 1);
    flow_done(&flow);
}

/* A clock that another thread read a little earlier takes no time away. */
Test(flow, never_goes_back)
{
    struct flow flow = {0};
    flow_init(&flow);
    flow_begin_wait(&flow, FETCH_DEMAND, 100);
    flow_end_wait(&flow, FETCH_DEMAND, 90);
    cr_assert_eq(read_at(&flow, 200).waited_ns, 0);
    flow_done(&flow);
}

/* Differences and sums; what began anew counts from 0. */
Test(flow, differences)
{
    struct flow flow = {0};
    flow_init(&flow);
    flow_arrived(&flow, FETCH_DEMAND, 10);
    flow_arrived(&flow, FETCH_PREFETCH, 5);
    struct flow_totals before = read_at(&flow, 0);
    flow_arrived(&flow, FETCH_DEMAND, 7);
    struct flow_totals after = read_at(&flow, 0);
    flow_subtract(&after, &before);
    cr_assert_eq(after.bytes[FETCH_DEMAND], 7);
    cr_assert_eq(after.bytes[FETCH_PREFETCH], 0);
    struct flow_totals anew = {.bytes = {[FETCH_DEMAND] = 3}};
    flow_subtract(&anew, &before);
    cr_assert_eq(anew.bytes[FETCH_DEMAND], 3);
    flow_add(&anew, &before);
    cr_assert_eq(anew.bytes[FETCH_DEMAND], 13);
    cr_assert_eq(anew.bytes[FETCH_PREFETCH], 5);
    flow_done(&flow);
}
