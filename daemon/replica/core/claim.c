/* The home is lost, and another host takes its place.
 *
 *     claim       nobody is followed meanwhile; LEASE_NS and the margin later no lease that the lost home granted can run
 *     start       term + 1, durable before it answers anybody
 *     yield       a home that hears of a newer epoch stops at once, and records that it is none: what its log has beyond the
 *                 beginning of the new term is in no other
 *
 * Without anybody who could say which of two claims counts, an operator does; if two do so at once the higher of the two
 * epochs counts, and the other home yields to it. */
#include <errno.h>

#include "daemon/replica/core/broken.h"
#include "daemon/replica/core/core.h"

static bool has_home(const struct core *c, int64_t now_ns)
{
    return c->is_joined && (c->heard_ns == 0 || now_ns - c->heard_ns < LEASE_NS);
}

int core_claim(struct core *c, int64_t now_ns)
{
    if (core_is_home(c))
        return -EALREADY;
    if (has_home(c, now_ns) || c->is_taking_over)
        return -EBUSY;
    if (c->is_joined)
        core_leave_link(c);
    c->claim_at_ns = now_ns + (BROKEN(claims_at_once) ? 1 : LEASE_NS + LEASE_MARGIN_NS);
    return 0;
}

int core_claim_is_due(const struct core *c, int64_t now_ns)
{
    if (c->claim_at_ns == 0 || c->is_taking_over)
        return -ECANCELED;
    return now_ns >= c->claim_at_ns ? 0 : -EAGAIN;
}

void core_end_claim(struct core *c)
{
    c->claim_at_ns = 0;
}

uint64_t core_begin_term(struct core *c, uint16_t drawn)
{
    c->claim_at_ns = 0;
    c->is_taking_over = true;
    c->has_yielded = false;
    c->last = MAX(c->last, c->applied);
    c->fence = c->last + 1;
    core_forget_followers(c);
    core_leave_link(c);
    return epoch_of_next_term(MAX(c->turn.epoch, c->newer), BROKEN(term_not_drawn) ? 0 : drawn);
}

bool core_hear(struct core *c, uint64_t epoch, struct host_id home)
{
    bool is_news = epoch > c->turn.epoch && !host_equal(home, c->self);
    /* Within a term the home that it follows tells it where to go. */
    if (!is_news || (c->is_joined && term_of(c->link_epoch) >= term_of(epoch)))
        return false;
    c->newer = MAX(c->newer, epoch);
    c->hint = home;
    c->claim_at_ns = 0;
    bool has_left = c->link && c->is_joined && !c->is_taking_over;
    if (has_left)
        core_leave_link(c);
    return has_left;
}

/* One that has stopped waits for its successor, and what that has started: but not for another term. */
bool core_must_yield(const struct core *c)
{
    uint64_t epoch = c->turn.epoch;
    bool is_over = core_has_stopped(c) ? term_of(c->newer) > term_of(epoch)
                                       : core_is_home(c) && c->newer > epoch;
    return is_over && !c->is_taking_over && !BROKEN(never_yields);
}

bool core_yield(struct core *c)
{
    if (!core_must_yield(c))
        return false;
    c->is_taking_over = true;
    core_leave_link(c);
    return true;
}

void core_yielded(struct core *c, bool is_recorded)
{
    c->is_taking_over = false;
    if (!is_recorded)
        return;
    c->leads = (struct leads){0};
    c->has_yielded = true;
    c->is_member = false;
    core_forget_followers(c);
}

uint64_t core_sample(uint64_t last, uint64_t first, unsigned n)
{
    uint64_t back = n == 0 ? 0 : 1ULL << MIN(n - 1, 63u);
    return back < last && last - back >= first ? last - back : 0;
}

uint64_t core_diverges_at(const struct comparison *c)
{
    if (c->shared >= c->last || BROKEN(tail_is_dropped))
        return NO_FENCE;
    if (c->shared > 0)
        return c->shared + 1;
    /* Its home may merely be so far ahead that it does not have these entries any more; but not in another term. */
    bool lags = c->home_first > c->last && term_of(c->home_epoch) == term_of(c->epoch);
    return lags ? NO_FENCE : 1;
}
