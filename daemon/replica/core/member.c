/* The replica's side: whom it follows, what it may answer. */
#include <errno.h>

#include "daemon/replica/core/broken.h"
#include "daemon/replica/core/core.h"

/* While a home is offered either may be the one that goes on: the old one until the other has started, and again if the
 * other cannot. */
static struct host_id home_while_offered(const struct core *c)
{
    if (host_equal(c->turn.successor, c->self))
        return c->turn.home;
    if (core_has_stopped(c) || !c->tries_stopper)
        return c->turn.successor;
    return c->turn.home;
}

struct host_id core_home_to_join(const struct core *c)
{
    if (core_is_home(c) || c->is_taking_over)
        return NO_HOST;
    if (!host_equal(c->hint, NO_HOST))
        return c->hint;
    struct host_id home =
        host_equal(c->turn.successor, NO_HOST) ? c->turn.home : home_while_offered(c);
    return host_equal(home, c->self) ? NO_HOST : home; /* it was once, or has yielded */
}

void core_joining(struct core *c, struct host_id host, void *link)
{
    core_leave_link(c);
    c->link = link;
    c->link_host = host;
}

bool core_joined(struct core *c, const void *link, uint64_t epoch, uint64_t home_index)
{
    if (!link || c->link != link || (epoch < c->turn.epoch && !BROKEN(no_fence)))
        return false;
    c->is_joined = true;
    if (!BROKEN(claims_while_joined))
        c->claim_at_ns = 0;
    c->heard_ns = 0;
    c->link_epoch = epoch;
    c->home_index = home_index;
    return true;
}

void core_forget(struct core *c)
{
    c->turn = (struct turn){0};
}

void core_join_failed(struct core *c)
{
    c->hint = NO_HOST;
    c->tries_stopper = !c->tries_stopper;
}

void *core_let_go(struct core *c)
{
    if (!c->is_joined || c->is_taking_over)
        return NULL;
    if (BROKEN(leaves_and_starts))
        return c->link;
    c->is_joined = false;
    c->is_member = false;
    return TAKE(c->link);
}

void core_hint(struct core *c, struct host_id home)
{
    c->hint = host_equal(home, c->self) ? NO_HOST : home;
}

static bool turns_differ(const struct turn *a, const struct turn *b)
{
    return a->epoch != b->epoch || !host_equal(a->home, b->home) ||
           !host_equal(a->successor, b->successor);
}

bool core_applied(struct core *c, uint64_t applied, const struct turn *turn)
{
    c->applied = MAX(c->applied, applied);
    if (turns_differ(&c->turn, turn)) {
        c->turn = *turn;
        c->hint = NO_HOST;
        c->tries_stopper = false;
    }
    return c->link && c->is_joined;
}

/* Nothing more comes from a home that has stopped, but for its successor: the offer. */
bool core_move_on(struct core *c)
{
    bool is_at_stopped = c->link && c->is_joined && !host_equal(c->turn.successor, NO_HOST) &&
                         host_equal(c->link_host, c->turn.home) && c->link_epoch == c->turn.epoch;
    if (!is_at_stopped || host_equal(c->turn.successor, c->self) || c->applied < c->home_index)
        return false;
    core_leave_link(c);
    c->tries_stopper = false;
    c->hint = NO_HOST; /* it may have led here */
    return true;
}

bool core_may_promote(const struct core *c)
{
    return c->is_joined && c->applied >= c->home_index;
}

void core_promoted(struct core *c, const void *link, int64_t sent_ns, int64_t now_ns,
                   int64_t lease_ns, uint64_t index)
{
    if (c->link != link)
        return;
    int64_t from = BROKEN(count_from_receiving) ? now_ns : sent_ns;
    c->is_member = true;
    c->member_since_ns = now_ns;
    c->lease_until_ns = MAX(c->lease_until_ns, from + lease_ns);
    c->answer_from = index;
}

void core_renewed(struct core *c, const void *link, int64_t sent_ns, int64_t now_ns,
                  int64_t lease_ns, uint64_t home_index)
{
    if (c->link != link)
        return;
    c->home_index = MAX(c->home_index, home_index);
    c->heard_ns = now_ns;
    int64_t from = BROKEN(count_from_receiving) ? now_ns : sent_ns;
    if (lease_ns > 0 && c->is_member)
        c->lease_until_ns = MAX(c->lease_until_ns, from + lease_ns);
    else if (sent_ns >
             c->member_since_ns) /* else it was answered before this host became a member */
        c->lease_until_ns = MIN(c->lease_until_ns, now_ns);
}

bool core_lease_ended(struct core *c, int64_t now_ns)
{
    if (!c->is_member || now_ns < c->lease_until_ns)
        return false;
    c->is_member = false;
    return true;
}

bool core_may_pass_on(const struct core *c, uint64_t seen)
{
    return c->applied >= seen || BROKEN(seen_not_awaited);
}
