#include "daemon/replica/core/core.h"

#include "daemon/replica/core/broken.h"

void core_init(struct core *c, struct host_id self, void (*put_link)(void *link))
{
    *c = (struct core){.self = self, .put_link = put_link, .fence = NO_FENCE};
}

void core_done(struct core *c)
{
    for (size_t i = 0; i < c->followers.n; i++)
        if (c->followers.all[i].link)
            c->put_link(c->followers.all[i].link);
    if (c->link)
        c->put_link(c->link);
    followers_done(&c->followers);
}

/* A home that had stopped may have a kernel that still caches: its own lease counts as just granted. */
void core_open(struct core *c, const struct turn *turn, const struct leads *leads, uint64_t applied,
               int64_t now_ns)
{
    c->leads = *leads;
    c->turn = *turn;
    c->applied = applied;
    c->last = applied;
    c->home_index = MAX(c->home_index, applied);
    if (core_has_stopped(c))
        c->lease_until_ns = now_ns + LEASE_NS;
}

static bool leads(const struct core *c)
{
    return turn_is_led_by(&c->turn, c->self, &c->leads);
}

bool core_is_home(const struct core *c)
{
    return leads(c) && host_equal(c->turn.successor, NO_HOST);
}

bool core_has_stopped(const struct core *c)
{
    return leads(c) && !host_equal(c->turn.successor, NO_HOST);
}

bool core_has_lease(const struct core *c, int64_t now_ns)
{
    return c->is_member && now_ns < c->lease_until_ns;
}

bool core_may_answer(const struct core *c, int64_t now_ns, int64_t *ret_valid_ns)
{
    if (core_is_home(c)) {
        *ret_valid_ns = followers_members(&c->followers) == 0 ? INT64_MAX : LEASE_NS;
        return true;
    }
    *ret_valid_ns = BROKEN(cache_outlives_lease) ? LEASE_NS : c->lease_until_ns - now_ns;
    if (BROKEN(goes_on_after_stop) && core_has_stopped(c))
        return true;
    return core_has_lease(c, now_ns) && (c->applied >= c->answer_from || BROKEN(answers_at_once));
}

static void unlink_follower(struct core *c, struct follower *follower)
{
    c->put_link(TAKE(follower->link));
    if (!follower->is_member || BROKEN(lost_link_is_lost_lease))
        followers_remove(&c->followers, follower->host);
}

void core_leave_link(struct core *c)
{
    if (c->link)
        c->put_link(TAKE(c->link));
    c->is_joined = false;
}

bool core_unlink(struct core *c, void *link)
{
    for (size_t i = c->followers.n; i-- > 0;)
        if (c->followers.all[i].link == link)
            unlink_follower(c, &c->followers.all[i]);
    if (!link || c->link != link)
        return false;
    core_leave_link(c);
    return true;
}
