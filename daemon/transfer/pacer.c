#include "daemon/transfer/pacer.h"

#include <errno.h>

#include "proto/base/clock.h"

#define LOOK_NS (100 * NS_PER_MS)

void pacer_init(struct pacer *pacer, uint64_t rate)
{
    *pacer = (struct pacer){.pace = {.rate = rate}};
    mutex_init(&pacer->lock, LOCK_leaf);
    cond_init(&pacer->changed);
}

void pacer_done(struct pacer *pacer)
{
    cond_done(&pacer->changed);
    mutex_done(&pacer->lock);
}

static int await_turn(struct pacer *pacer, enum fetch_class class, const atomic_bool *is_cancelled,
                      int64_t deadline_ns) REQUIRES(pacer->lock)
{
    for (;;) {
        int64_t now_ns = clock_mono_ns();
        int64_t delay_ns = pace_delay_ns(&pacer->pace, now_ns);
        if (pacer->is_stopping || atomic_load(is_cancelled))
            return -ECANCELED;
        if (delay_ns == 0 && pace_turn(&pacer->pace) == class)
            return 0;
        if (now_ns >= deadline_ns)
            return -ETIMEDOUT;
        int64_t nap_ns = delay_ns > 0 ? MIN(delay_ns, LOOK_NS) : LOOK_NS;
        if (!cond_wait_until(&pacer->changed, &pacer->lock, MIN(now_ns + nap_ns, deadline_ns)))
            continue;
    }
}

int pacer_take(struct pacer *pacer, enum fetch_class class, uint64_t bytes,
               const atomic_bool *is_cancelled, int64_t deadline_ns)
{
    if (pacer->pace.rate == 0)
        return 0;
    SCOPED_LOCK(&pacer->lock);
    pacer->pace.n_wishes[class]++;
    int e = await_turn(pacer, class, is_cancelled, deadline_ns);
    if (e == 0)
        pace_spend(&pacer->pace, class, bytes, clock_mono_ns());
    pacer->pace.n_wishes[class]--;
    cond_broadcast(&pacer->changed);
    return e;
}

void pacer_stop(struct pacer *pacer)
{
    SCOPED_LOCK(&pacer->lock);
    pacer->is_stopping = true;
    cond_broadcast(&pacer->changed);
}
