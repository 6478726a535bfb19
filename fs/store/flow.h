/* fs/store/flow.h — what came to one store from other hosts, and for how long its readers waited.
 *
 * Readers wait beside each other (the kernel reads ahead on several threads), while the program behind them does one thing
 * at a time. So time is counted while anybody waits, once.
 */
#pragma once

#include <stdint.h>

#include "fs/store/store.h"
#include "proto/base/mutex.h"

struct flow_totals {
    uint64_t bytes[FETCH_N_CLASSES]; /* that came, by what they were asked for as */
    uint64_t waited_ns;              /* somebody waited */
    /* … by what the block was asked for as. Readers of several kinds may wait at a time. */
    uint64_t waited_for_ns[FETCH_N_CLASSES];
};

struct wait_clock {
    unsigned n_waiting;
    int64_t since_ns; /* while n_waiting is not 0 */
    uint64_t total_ns;
};

struct flow {
    struct mutex lock; /* leaf; of all below */
    uint64_t bytes[FETCH_N_CLASSES];
    struct wait_clock any, by_class[FETCH_N_CLASSES];
};

void flow_init(struct flow *flow);
void flow_done(struct flow *flow);

void flow_arrived(struct flow *flow, enum fetch_class class, uint64_t bytes);
void flow_begin_wait(struct flow *flow, enum fetch_class class, int64_t now_ns);
void flow_end_wait(struct flow *flow, enum fetch_class class, int64_t now_ns);
/* As of now; who waits still is counted up to now. */
void flow_read(struct flow *flow, int64_t now_ns, struct flow_totals *ret_totals);

/* Since `before`; what went back, since the store was opened anew, counts from 0. */
void flow_subtract(struct flow_totals *totals, const struct flow_totals *before);
void flow_add(struct flow_totals *totals, const struct flow_totals *more);
