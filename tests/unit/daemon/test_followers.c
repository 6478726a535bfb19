#include <errno.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "daemon/replica/core/followers.h"

#define T0 (1000 * 1000000000LL)

static struct followers f;
static const struct host_id a = {1}, b = {2};

static struct follower *join(struct host_id host, const char *name, uint64_t index)
{
    struct follower *follower;
    cr_assert(eq(int, followers_join(&f, host, name, index, &follower), 0));
    return follower;
}

static void set_up(void)
{
    f = (struct followers){0};
}

static void tear_down(void)
{
    followers_done(&f);
}

TestSuite(followers, .init = set_up, .fini = tear_down);

/* Nobody waits for a learner. */
Test(followers, learner_is_not_waited_for)
{
    int64_t until;
    join(a, "a", 3);
    cr_assert(followers_settled(&f, 10, T0, &until));
}

/* A member is waited for until it acknowledges. */
Test(followers, member_settles_by_acknowledging)
{
    int64_t until = 0;
    struct follower *follower = join(a, "a", 3);
    cr_assert(followers_promote(&f, a, T0 + LEASE_NS));
    cr_assert(not(followers_settled(&f, 10, T0, &until)));
    cr_assert(eq(i64, until, T0 + LEASE_NS + LEASE_MARGIN_NS));
    follower->sent = 10;
    followers_ack(&f, a, 10);
    cr_assert(followers_settled(&f, 10, T0, &until));
}

/* An acknowledgement of what was never sent counts only up to what was. */
Test(followers, acknowledging_the_future_does_not_settle)
{
    int64_t until;
    struct follower *follower = join(a, "a", 3);
    cr_assert(followers_promote(&f, a, T0 + LEASE_NS));
    follower->sent = 5;
    followers_ack(&f, a, 1000);
    cr_assert(eq(u64, follower->acked, 5));
    cr_assert(not(followers_settled(&f, 6, T0, &until)));
}

/* A silent member holds changes up until its lease and the margin have ended, not a nanosecond longer. */
Test(followers, silence_ends_with_the_lease)
{
    int64_t until, end = T0 + LEASE_NS + LEASE_MARGIN_NS;
    struct follower *lost = NULL;
    join(a, "a", 3);
    cr_assert(followers_promote(&f, a, T0 + LEASE_NS));
    cr_assert(not(followers_settled(&f, 4, end - 1, &until)));
    cr_assert(not(followers_expire(&f, end - 1, &lost)));
    cr_assert(followers_settled(&f, 4, end, &until));
    cr_assert(followers_expire(&f, end, &lost));
    cr_assert(eq(u64, lost->host.n, a.n));
    cr_assert(not(followers_expire(&f, end, &lost)));
    cr_assert(eq(sz, followers_members(&f), 0));
}

/* A renewal prolongs the lease and reports what is applied. */
Test(followers, renewal_prolongs)
{
    int64_t until = 0;
    join(a, "a", 3);
    cr_assert(followers_promote(&f, a, T0 + LEASE_NS));
    cr_assert(followers_renew(&f, a, 7, T0 + LEASE_NS));
    cr_assert(followers_settled(&f, 7, T0 + LEASE_NS, &until));
    cr_assert(not(followers_settled(&f, 8, T0 + LEASE_NS + LEASE_MARGIN_NS, &until)));
    cr_assert(eq(i64, until, T0 + 2 * LEASE_NS + LEASE_MARGIN_NS));
}

/* A member that joins again stays a member: its kernel still has what it has. */
Test(followers, joining_again_keeps_membership)
{
    int64_t until;
    join(a, "a", 9);
    cr_assert(followers_promote(&f, a, T0 + LEASE_NS));
    join(a, "a", 4);
    cr_assert(eq(sz, f.n, 1));
    cr_assert(eq(sz, followers_members(&f), 1));
    cr_assert(not(followers_settled(&f, 5, T0, &until)));
}

/* The first lease to end is when to look again. */
Test(followers, waits_for_the_first_lease_to_end)
{
    int64_t until = 0;
    join(a, "a", 0);
    join(b, "b", 0);
    cr_assert(followers_promote(&f, a, T0 + 5 + LEASE_NS));
    cr_assert(followers_promote(&f, b, T0 + LEASE_NS));
    cr_assert(not(followers_settled(&f, 1, T0 + 5, &until)));
    cr_assert(eq(i64, until, T0 + LEASE_NS + LEASE_MARGIN_NS));
}

/* A host that never joined can neither be promoted nor renew. */
Test(followers, strangers_are_refused)
{
    cr_assert(not(followers_promote(&f, a, T0 + LEASE_NS)));
    cr_assert(not(followers_renew(&f, a, 1, T0)));
    followers_ack(&f, a, 1);
    followers_remove(&f, a);
    cr_assert(eq(sz, f.n, 0));
}

/* There is a limit. */
Test(followers, too_many)
{
    struct follower *follower;
    for (uint64_t i = 1; i <= FOLLOWERS_MAX; i++)
        join((struct host_id){i}, "x", 0);
    cr_assert(eq(int, followers_join(&f, (struct host_id){FOLLOWERS_MAX + 1}, "y", 0, &follower),
                 -ENOSPC));
    followers_remove(&f, (struct host_id){7});
    cr_assert(
        eq(int, followers_join(&f, (struct host_id){FOLLOWERS_MAX + 1}, "y", 0, &follower), 0));
}
