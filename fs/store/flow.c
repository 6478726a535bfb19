#include "fs/store/flow.h"

void flow_init(struct flow *flow)
{
    mutex_init(&flow->lock, LOCK_leaf);
}

void flow_done(struct flow *flow)
{
    mutex_done(&flow->lock);
}

void flow_arrived(struct flow *flow, enum fetch_class class, uint64_t bytes)
{
    SCOPED_LOCK(&flow->lock);
    flow->bytes[class] += bytes;
}

static void clock_begin(struct wait_clock *clock, int64_t now_ns)
{
    if (clock->n_waiting++ == 0)
        clock->since_ns = now_ns;
}

static uint64_t clock_read(const struct wait_clock *clock, int64_t now_ns)
{
    uint64_t running =
        clock->n_waiting > 0 && now_ns > clock->since_ns ? (uint64_t)(now_ns - clock->since_ns) : 0;
    return clock->total_ns + running;
}

static void clock_end(struct wait_clock *clock, int64_t now_ns)
{
    CHECK(clock->n_waiting > 0);
    uint64_t total_ns = clock_read(clock, now_ns);
    if (--clock->n_waiting == 0)
        clock->total_ns = total_ns;
}

void flow_begin_wait(struct flow *flow, enum fetch_class class, int64_t now_ns)
{
    SCOPED_LOCK(&flow->lock);
    clock_begin(&flow->any, now_ns);
    clock_begin(&flow->by_class[class], now_ns);
}

void flow_end_wait(struct flow *flow, enum fetch_class class, int64_t now_ns)
{
    SCOPED_LOCK(&flow->lock);
    clock_end(&flow->any, now_ns);
    clock_end(&flow->by_class[class], now_ns);
}

void flow_read(struct flow *flow, int64_t now_ns, struct flow_totals *ret_totals)
{
    SCOPED_LOCK(&flow->lock);
    ret_totals->waited_ns = clock_read(&flow->any, now_ns);
    for (int class = 0; class < FETCH_N_CLASSES; class ++) {
        ret_totals->bytes[class] = flow->bytes[class];
        ret_totals->waited_for_ns[class] = clock_read(&flow->by_class[class], now_ns);
    }
}

static void subtract(uint64_t *value, uint64_t before)
{
    if (*value >= before)
        *value -= before;
}

void flow_subtract(struct flow_totals *totals, const struct flow_totals *before)
{
    subtract(&totals->waited_ns, before->waited_ns);
    for (int class = 0; class < FETCH_N_CLASSES; class ++) {
        subtract(&totals->bytes[class], before->bytes[class]);
        subtract(&totals->waited_for_ns[class], before->waited_for_ns[class]);
    }
}

void flow_add(struct flow_totals *totals, const struct flow_totals *more)
{
    totals->waited_ns += more->waited_ns;
    for (int class = 0; class < FETCH_N_CLASSES; class ++) {
        totals->bytes[class] += more->bytes[class];
        totals->waited_for_ns[class] += more->waited_for_ns[class];
    }
}
