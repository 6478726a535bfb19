#include "daemon/transfer/pace.h"

#include "proto/base/check.h"
#include "proto/base/clock.h"

int64_t pace_delay_ns(const struct pace *p, int64_t now_ns)
{
    if (p->rate == 0 || p->free_ns - PACE_BURST_NS <= now_ns)
        return 0;
    return p->free_ns - PACE_BURST_NS - now_ns;
}

/* Of several that were passed over so often all go, one after the other. */
static enum fetch_class passed_over(const struct pace *p)
{
    for (int c = FETCH_N_CLASSES - 1; c >= 0; c--) {
        if (p->n_wishes[c] > 0 && p->n_passed[c] >= PACE_FLOOR)
            return (enum fetch_class)c;
    }
    return FETCH_N_CLASSES;
}

enum fetch_class pace_turn(const struct pace *p)
{
    enum fetch_class waiting = passed_over(p);
    if (waiting < FETCH_N_CLASSES)
        return waiting;
    int c = 0;
    while (c < FETCH_N_CLASSES && p->n_wishes[c] == 0)
        c++;
    return (enum fetch_class)c;
}

void pace_spend(struct pace *p, enum fetch_class class, uint64_t bytes, int64_t now_ns)
{
    for (int c = 0; c < FETCH_N_CLASSES; c++)
        p->n_passed[c] = c == (int)class || p->n_wishes[c] == 0 ? 0 : p->n_passed[c] + 1;
    if (p->rate > 0)
        p->free_ns =
            MAX(p->free_ns, now_ns) + (int64_t)((double)bytes * (double)NS_PER_S / (double)p->rate);
}
