/* The home is lost, and this host takes its place: because an operator says so. */
#include <errno.h>
#include <sys/random.h>

#include "daemon/replica/impl.h"
#include "proto/base/log.h"

static int begin_claim(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    int r = core_claim(&replica->core, clock_mono_ns());
    if (r == 0)
        inbox_clear(&replica->inbox);
    cond_broadcast(&replica->changed);
    return r;
}

static void end_claim(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    core_end_claim(&replica->core);
}

/* Bounded by the longest lease. */
static int wait_for_leases(struct replica *replica)
{
    int r;
    SCOPED_LOCK(&replica->lock);
    while ((r = core_claim_is_due(&replica->core, clock_mono_ns())) == -EAGAIN) {
        if (replica->is_stopping)
            return -ECANCELED;
        if (!cond_wait_until(&replica->changed, &replica->lock, replica->core.claim_at_ns))
            continue;
    }
    return r;
}

static int begin_term(struct replica *replica, uint64_t *ret_epoch)
{
    uint16_t drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn)
        return -EIO;
    SCOPED_LOCK(&replica->lock);
    int r = core_claim_is_due(&replica->core, clock_mono_ns());
    if (r < 0)
        return r;
    *ret_epoch = core_begin_term(&replica->core, drawn);
    inbox_clear(&replica->inbox);
    return 0;
}

int replica_take_home(struct replica *replica, may_take_f *may_take, void *ctx)
{
    uint64_t epoch = 0;
    int r = begin_claim(replica);
    if (r < 0)
        return r;
    r = wait_for_leases(replica);
    if (r == 0)
        r = may_take(ctx);
    if (r == 0)
        r = begin_term(replica, &epoch);
    if (r < 0) {
        end_claim(replica);
        return r;
    }
    r = turn_start(replica, epoch);
    if (r == 0)
        log_warning("replica", "this host has taken the home of volume '%s': an operator said so",
                    replica->name);
    return r;
}
