/* daemon/transfer/pacer.h — threads that keep to one pace. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/transfer/pace.h"
#include "proto/base/mutex.h"

struct pacer {
    struct mutex lock; /* leaf */
    struct cond changed;
    struct pace pace; /* under lock, but for the rate: fixed */
    bool is_stopping;
};

void pacer_init(struct pacer *pacer, uint64_t rate);
void pacer_done(struct pacer *pacer);
/* Returns when so many bytes of the class may go, at once where there is no rate. -ECANCELED: *is_cancelled became true (seen
 * within 100 ms), or pacer_stop; -ETIMEDOUT. */
MUST_USE int pacer_take(struct pacer *pacer, enum fetch_class class, uint64_t bytes,
                        const atomic_bool *is_cancelled, int64_t deadline_ns);
void pacer_stop(struct pacer *pacer);
