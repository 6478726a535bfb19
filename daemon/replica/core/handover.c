/* The home moves: one host stops, in the log, and another starts, in the log.
 *
 *     stop        durable before it is sent; from then on nobody is home
 *     offer       to the successor that has applied the stop, once for each link over which it joins
 *     start       by the successor, epoch + 1, durable before it answers anybody
 *     resumption  by the old home, epoch + 2, when the successor has left and not started
 *
 * A successor that is silent may have started, or may yet: the old home waits for it, however long. Meanwhile nothing is
 * decided; what the old home showed it shows until its own lease has ended. This ends when the successor is back. Either
 * it has started: then others find it, and the old home follows it. Or it joins, is offered the home again, and starts.
 * Or it leaves: it drops the link before it says so, so an offer that is on its way over it is not taken, and the old
 * home may go on. That it does so is recorded before it is logged, and what is recorded is not taken back: else a crash
 * in between would lead to another offer, and that to a second home. */
#include <errno.h>

#include "daemon/replica/core/broken.h"
#include "daemon/replica/core/core.h"

/* Only to a member that is here and keeps up: it will have next to nothing to catch up with. */
bool core_may_hand_to(const struct core *c, struct host_id host)
{
    const struct follower *follower = followers_find(&c->followers, host);
    return core_is_home(c) && !c->is_taking_over && c->fence == NO_FENCE && follower &&
           follower->link && follower->is_member && follower->acked + WORK_RUN >= c->last;
}

struct host_id core_earned(const struct core *c, int64_t now_ns)
{
    struct host_id host = work_earned(&c->work, c->self, now_ns);
    return core_may_hand_to(c, host) ? host : NO_HOST;
}

void core_stopping(struct core *c)
{
    if (!BROKEN(stop_not_durable))
        c->fence = c->last + 1;
}

/* The kernel of this host may keep what it was told a moment ago for as long as a lease: so that is this host's lease
 * with the new home, which has to wait for it as for any other. */
void core_stopped(struct core *c, uint64_t index, const struct turn *turn, int64_t now_ns)
{
    if (index == 0) {
        c->fence = NO_FENCE;
        return;
    }
    c->turn = *turn;
    c->last = c->applied = index;
    c->is_member = true;
    c->member_since_ns = now_ns;
    c->lease_until_ns = now_ns + LEASE_NS;
    c->answer_from = 0;
    c->has_successor_left = false;
    work_given(&c->work, now_ns);
}

void core_synced(struct core *c, uint64_t index)
{
    if (index >= c->last && !c->is_taking_over)
        c->fence = NO_FENCE;
}

bool core_offer_is_due(const struct core *c)
{
    const struct follower *successor = followers_find(&c->followers, c->turn.successor);
    return core_has_stopped(c) && !c->is_taking_over && c->claim_at_ns == 0 &&
           !core_must_resume(c) && c->fence == NO_FENCE && successor && successor->link &&
           successor->acked >= c->last && successor->handed != successor->link;
}

struct follower *core_next_offer(struct core *c)
{
    if (!core_offer_is_due(c))
        return NULL;
    struct follower *successor = followers_find(&c->followers, c->turn.successor);
    successor->handed = successor->link;
    return successor;
}

int64_t core_lease_left(const struct follower *member, int64_t now_ns)
{
    if (BROKEN(no_inheritance))
        return 0;
    return member->is_member ? MAX(member->lease_until_ns - now_ns, 1) : 0;
}

int64_t core_own_lease_left(const struct core *c, int64_t now_ns)
{
    if (BROKEN(old_home_not_member))
        return 0;
    return MAX(c->lease_until_ns - now_ns, 0);
}

/* The old table goes: what was decided under it, and is waited for still, waits for the members of the new one, who
 * are the same and later ones. */
void core_forget_followers(struct core *c)
{
    for (size_t i = c->followers.n; i-- > 0;)
        if (c->followers.all[i].link)
            c->put_link(c->followers.all[i].link);
    c->followers.n = 0;
}

int core_take_over(struct core *c, const void *link, uint64_t epoch, uint64_t stop_index)
{
    if (core_is_home(c) && c->turn.epoch >= epoch)
        return -EALREADY;
    bool is_offered = host_equal(c->turn.successor, c->self) && c->turn.epoch + 1 == epoch;
    bool is_current = c->link == link && c->is_joined && c->applied == stop_index;
    if (c->is_taking_over || !is_offered || !is_current)
        return -ESTALE;
    core_forget_followers(c);
    c->is_taking_over = true;
    c->has_yielded = false;
    return 0;
}

bool core_must_resume(const struct core *c)
{
    bool has_decided = turn_is_resumed_by(&c->turn, c->self, &c->leads) && !BROKEN(offers_again);
    return core_has_stopped(c) && !c->is_taking_over && c->fence == NO_FENCE &&
           (c->has_successor_left || has_decided);
}

/* Of what is recorded from now on the log must know: so not before the stop is durable. */
bool core_resume(struct core *c)
{
    if (!core_must_resume(c))
        return false;
    c->is_taking_over = true;
    c->fence = c->last + 1;
    c->leads.resumed = c->turn.epoch + 2;
    return true;
}

void core_started(struct core *c, uint64_t index, const struct turn *turn, int64_t now_ns)
{
    c->is_taking_over = false;
    c->fence = NO_FENCE;
    if (index == 0)
        return;
    c->leads.started = turn->epoch; /* or, what says the same here, claimed */
    c->turn = *turn;
    c->last = c->applied = MAX(c->last, index);
    c->is_member = false;
    c->hint = NO_HOST;
    c->claim_at_ns = 0;
    core_leave_link(c);
    work_taken(&c->work, now_ns);
}
