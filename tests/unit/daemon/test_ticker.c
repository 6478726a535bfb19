/* A thread that does something now and then. */
#include <criterion/criterion.h>
#include <stdatomic.h>

#include "daemon/ticker.h"
#include "proto/base/clock.h"

TestSuite(ticker, .timeout = 60);

struct counter {
    struct ticker ticker;
    _Atomic unsigned n;
    _Atomic bool was_stopping;
};

static void count(void *ctx)
{
    struct counter *counter = ctx;
    counter->n++;
}

/* Ends when it is told that the ticker stops. */
static void take_long(void *ctx)
{
    struct counter *counter = ctx;
    counter->n++;
    while (!ticker_is_stopping(&counter->ticker))
        continue;
    counter->was_stopping = true;
}

static void wait_for(struct counter *counter, unsigned n)
{
    while (counter->n < n)
        continue;
}

Test(ticker, ticks_until_it_is_stopped)
{
    struct counter counter = {.n = 0};
    ticker_init(&counter.ticker, NS_PER_MS, count, &counter);
    cr_assert_eq(ticker_start(&counter.ticker, "counter"), 0);
    wait_for(&counter, 3);
    ticker_stop(&counter.ticker);
    unsigned n = counter.n;
    ticker_stop(&counter.ticker);
    cr_assert_eq(counter.n, n);
    ticker_done(&counter.ticker);
}

Test(ticker, a_stop_waits_for_the_tick_and_not_for_the_next)
{
    struct counter counter = {.n = 0};
    ticker_init(&counter.ticker, NS_PER_MS, take_long, &counter);
    cr_assert_eq(ticker_start(&counter.ticker, "counter"), 0);
    wait_for(&counter, 1);
    ticker_stop(&counter.ticker);
    cr_assert(counter.was_stopping);
    cr_assert_eq(counter.n, 1);
    ticker_done(&counter.ticker);

    struct counter later = {.n = 0};
    ticker_init(&later.ticker, 3600 * NS_PER_S, count, &later);
    cr_assert_eq(ticker_start(&later.ticker, "counter"), 0);
    ticker_stop(&later.ticker);
    cr_assert_eq(later.n, 0);
    ticker_done(&later.ticker);
}

Test(ticker, stops_when_it_was_never_started)
{
    struct counter counter = {.n = 0};
    ticker_init(&counter.ticker, NS_PER_MS, count, &counter);
    ticker_stop(&counter.ticker);
    cr_assert(ticker_is_stopping(&counter.ticker));
    ticker_done(&counter.ticker);
}
