/* The replication core by itself: what is answered, and how the home moves. tests/sim plays whole schedules. */
#include <errno.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "daemon/replica/core/core.h"

#define T0 (1000 * 1000000000LL)
#define EPOCH FIRST_EPOCH

static const struct host_id a = {1}, b = {2};
static struct core core;
static int link_to_b, other_link_to_b, n_put;

static void put_link(void *link)
{
    (void)link;
    n_put++;
}

static void open_core(struct host_id home, struct host_id successor, struct leads leads)
{
    const struct turn turn = {.epoch = EPOCH, .home = home, .successor = successor};
    core_init(&core, a, put_link);
    core_open(&core, &turn, &leads, 10, T0);
}

static void set_up(void)
{
    n_put = 0;
    open_core(a, NO_HOST, (struct leads){.started = EPOCH});
}

static void tear_down(void)
{
    core_done(&core);
}

TestSuite(core, .init = set_up, .fini = tear_down);

static void join(void *link, uint64_t have_index, bool has_applied)
{
    cr_assert(eq(int, core_join(&core, b, "b", link, have_index, has_applied), 0));
}

static void join_as_member(void)
{
    bool was_alone;
    uint64_t index;
    join(&link_to_b, 10, true);
    cr_assert(eq(int, core_promote(&core, b, &link_to_b, EPOCH, T0, &was_alone, &index), 0));
    cr_assert(was_alone);
}

static bool is_settled(uint64_t index, int64_t now_ns)
{
    int64_t until;
    return core_settled(&core, index, now_ns, &until);
}

/* This host has logged that it stops, with entry 11, and offers its home to b. */
static void stop(void)
{
    const struct turn stopped = {.epoch = EPOCH, .home = a, .successor = b};
    cr_assert(core_may_hand_to(&core, b));
    core_stopping(&core);
    core_appended(&core, 11);
    core_stopped(&core, 11, &stopped, T0);
}

/* Entry 11 is sent to b and applied there. */
static void b_applies_stop(void *link)
{
    cr_assert(core_sent(&core, b, link, 11, 11));
    core_ack(&core, b, link, 11);
}

/* A member that is sent a checkpoint may show an older state until it says that it has applied it. */
Test(core, checkpoint_that_was_sent_is_not_applied)
{
    join_as_member();
    join(&other_link_to_b, 10, false);
    cr_assert(not(is_settled(10, T0)));
    core_ack(&core, b, &link_to_b, 10);
    cr_assert(not(is_settled(10, T0)), "over a link that is no more");
    core_ack(&core, b, &other_link_to_b, 10);
    cr_assert(is_settled(10, T0));
}

/* A host whose log names it as home, but whose disk does not say that it started that epoch, has lost its copy. */
Test(core, host_that_lost_its_copy_is_not_home)
{
    int64_t valid;
    core_done(&core);
    open_core(a, NO_HOST, (struct leads){0});
    cr_assert(not(core_is_home(&core)));
    cr_assert(not(core_may_answer(&core, T0, &valid)));
}

/* The stop is sent when it is durable, and the offer when the successor has applied it: once for each link. */
Test(core, offer)
{
    size_t turn = 0;
    uint64_t from, to;
    join_as_member();
    stop();
    cr_assert(not(core_is_home(&core)));
    cr_assert(eq(ptr, core_next_push(&core, &turn, &from, &to), NULL));
    core_synced(&core, 11);
    cr_assert(ne(ptr, core_next_push(&core, &turn, &from, &to), NULL));
    cr_assert(from == 11 && to == 11);
    cr_assert(eq(ptr, core_next_offer(&core), NULL));
    b_applies_stop(&link_to_b);
    cr_assert(ne(ptr, core_next_offer(&core), NULL));
    cr_assert(eq(ptr, core_next_offer(&core), NULL));
    join(&other_link_to_b, 11, true);
    cr_assert(ne(ptr, core_next_offer(&core), NULL));
}

/* While a successor that was offered the home is silent nobody is home: this host cannot know whether it has started.
 * What it was told it may still show for the length of a lease. It offers again when the successor is back. */
Test(core, successor_is_silent)
{
    int64_t valid;
    join_as_member();
    stop();
    core_synced(&core, 11);
    b_applies_stop(&link_to_b);
    cr_assert(ne(ptr, core_next_offer(&core), NULL));
    (void)core_unlink(&core, &link_to_b);
    cr_assert(core_may_answer(&core, T0 + LEASE_NS - 1, &valid));
    cr_assert(eq(i64, valid, 1));
    cr_assert(not(core_may_answer(&core, T0 + LEASE_NS, &valid)));
    int64_t late = T0 + 1000 * LEASE_NS;
    cr_assert(not(core_must_resume(&core)));
    cr_assert(not(core_resume(&core)));
    cr_assert(not(core_may_answer(&core, late, &valid)));
    cr_assert(eq(int, core_may_join(&core, EPOCH), 0));
    join(&other_link_to_b, 11, true);
    cr_assert(ne(ptr, core_next_offer(&core), NULL));
}

/* A successor that leaves has not started and will not: the old home goes on, two epochs further. */
Test(core, successor_leaves)
{
    const struct turn resumed = {.epoch = EPOCH + 2, .home = a};
    join_as_member();
    stop();
    core_leave(&core, b, &link_to_b);
    cr_assert(not(core_must_resume(&core)), "the stop is not durable yet");
    core_synced(&core, 11);
    cr_assert(core_must_resume(&core) && core_resume(&core));
    cr_assert(not(core_is_home(&core)));
    core_appended(&core, 12);
    cr_assert(not(is_settled(12, T0)), "the start is not durable yet");
    core_started(&core, 12, &resumed, T0);
    cr_assert(core_is_home(&core) && is_settled(12, T0));
}

/* What could not be logged is tried again; nobody is offered the home meanwhile. */
Test(core, cannot_resume_yet)
{
    join_as_member();
    stop();
    core_leave(&core, b, &link_to_b);
    core_synced(&core, 11);
    cr_assert(core_resume(&core));
    core_started(&core, 0, &core.turn, T0);
    join(&other_link_to_b, 11, true);
    cr_assert(eq(ptr, core_next_offer(&core), NULL));
    cr_assert(core_resume(&core));
}

/* A crash between the record and the start: the old home has decided, and offers its home to nobody again. */
Test(core, crash_while_resuming)
{
    core_done(&core);
    open_core(a, b, (struct leads){.started = EPOCH + 2, .resumed = EPOCH + 2});
    cr_assert(core_has_stopped(&core) && core_must_resume(&core));
    join(&link_to_b, 10, true);
    cr_assert(eq(ptr, core_next_offer(&core), NULL));
}

/* The same, but it was started by an offer: what is missing in the log here is elsewhere. */
Test(core, log_that_lacks_what_was_started)
{
    core_done(&core);
    open_core(a, b, (struct leads){.started = EPOCH + 2});
    cr_assert(not(core_has_stopped(&core)));
    cr_assert(not(core_must_resume(&core)));
    cr_assert(host_equal(core_home_to_join(&core), b));
}

/* A replica at a home that has stopped asks the successor next, whoever sent it to that home. */
Test(core, moving_on)
{
    const struct host_id c = {3};
    const struct turn stopped = {.epoch = EPOCH, .home = b, .successor = c};
    core_done(&core);
    open_core(b, NO_HOST, (struct leads){0});
    core_joining(&core, b, &link_to_b);
    cr_assert(core_joined(&core, &link_to_b, EPOCH, 11));
    cr_assert(core_applied(&core, 11, &stopped));
    core_hint(&core, b);
    cr_assert(core_move_on(&core));
    cr_assert(host_equal(core_home_to_join(&core), c));
    core_join_failed(&core);
    cr_assert(host_equal(core_home_to_join(&core), b));
}

static void follow_b_until_it_stops(void)
{
    core_done(&core);
    open_core(b, a, (struct leads){0});
    core_joining(&core, b, &link_to_b);
    cr_assert(core_joined(&core, &link_to_b, EPOCH, 10));
}

/* An offer is taken when the log ends with that stop, over the link that is followed; nothing is answered before the
 * start is durable. */
Test(core, taking_over)
{
    int64_t valid;
    const struct turn started = {.epoch = EPOCH + 1, .home = a};
    follow_b_until_it_stops();
    cr_assert(eq(int, core_take_over(&core, &other_link_to_b, EPOCH + 1, 10), -ESTALE));
    cr_assert(eq(int, core_take_over(&core, &link_to_b, EPOCH + 2, 10), -ESTALE));
    cr_assert(eq(int, core_take_over(&core, &link_to_b, EPOCH + 1, 11), -ESTALE));
    cr_assert(eq(int, core_take_over(&core, &link_to_b, EPOCH + 1, 10), 0));
    cr_assert(eq(int, core_may_join(&core, EPOCH), -ENOTCONN));
    cr_assert(eq(ptr, core_let_go(&core), NULL), "it has taken the offer");
    core_appended(&core, 11);
    cr_assert(not(is_settled(11, T0)));
    cr_assert(not(core_may_answer(&core, T0, &valid)));
    core_started(&core, 11, &started, T0);
    cr_assert(core_is_home(&core) && is_settled(11, T0));
    cr_assert(eq(int, core_take_over(&core, &link_to_b, EPOCH + 1, 10), -EALREADY));
}

/* Whoever has said that it leaves takes no offer that was on its way. */
Test(core, leaving_takes_no_offer)
{
    follow_b_until_it_stops();
    cr_assert(eq(ptr, core_let_go(&core), &link_to_b));
    cr_assert(eq(int, core_take_over(&core, &link_to_b, EPOCH + 1, 10), -ESTALE));
}

/* The new home answers nothing that an inherited lease may still contradict. */
Test(core, inherited_lease)
{
    const struct turn started = {.epoch = EPOCH + 1, .home = a};
    int64_t until;
    follow_b_until_it_stops();
    cr_assert(eq(int, core_take_over(&core, &link_to_b, EPOCH + 1, 10), 0));
    cr_assert(eq(int, core_restore_member(&core, "b", T0 + LEASE_NS), 0));
    core_appended(&core, 11);
    core_started(&core, 11, &started, T0);
    cr_assert(not(core_settled(&core, 11, T0, &until)));
    cr_assert(eq(i64, until, T0 + LEASE_NS + LEASE_MARGIN_NS));
    cr_assert(core_settled(&core, 11, until, &until));
}

/* ---- a lost home ---- */

#define WAIT_NS (LEASE_NS + LEASE_MARGIN_NS)

static void follow_b(void)
{
    core_done(&core);
    open_core(b, NO_HOST, (struct leads){0});
    core_joining(&core, b, &link_to_b);
    cr_assert(core_joined(&core, &link_to_b, EPOCH, 10));
}

/* While the home answers nobody takes its place; once it was silent for a lease somebody may, a lease later. */
Test(core, claims_when_the_home_is_silent)
{
    follow_b();
    cr_assert(eq(int, core_claim(&core, T0), -EBUSY));
    core_renewed(&core, &link_to_b, T0, T0, 0, 10);
    cr_assert(eq(int, core_claim(&core, T0 + LEASE_NS - 1), -EBUSY));
    cr_assert(eq(int, core_claim(&core, T0 + LEASE_NS), 0));
    cr_assert(not(core.is_joined));
    cr_assert(eq(int, core_claim_is_due(&core, T0 + LEASE_NS + WAIT_NS - 1), -EAGAIN));
    cr_assert(eq(int, core_claim_is_due(&core, T0 + LEASE_NS + WAIT_NS), 0));
    uint64_t epoch = core_begin_term(&core, 7);
    cr_assert(eq(u64, epoch, (1ULL << 16 | 7) << 32 | 1));
    const struct turn turn = {.epoch = epoch, .home = a};
    core_appended(&core, 11);
    cr_assert(not(core_is_home(&core)));
    core_started(&core, 11, &turn, T0 + LEASE_NS + WAIT_NS);
    cr_assert(core_is_home(&core));
}

Test(core, claim_ends_when_the_home_is_back)
{
    core_done(&core);
    open_core(b, NO_HOST, (struct leads){0});
    cr_assert(eq(int, core_claim(&core, T0), 0));
    core_joining(&core, b, &link_to_b);
    cr_assert(core_joined(&core, &link_to_b, EPOCH, 10));
    cr_assert(eq(int, core_claim_is_due(&core, T0 + WAIT_NS), -ECANCELED));
}

/* What was not answered when a home yields is not; nobody may join at it, and it joins at the other. */
Test(core, home_yields_to_a_newer_term)
{
    join_as_member();
    core_appended(&core, 11);
    cr_assert(not(core_hear(&core, EPOCH, b)));
    cr_assert(not(core_must_yield(&core)));
    cr_assert(not(core_hear(&core, epoch_of_next_term(EPOCH, 0), b)));
    cr_assert(core_must_yield(&core) && core_yield(&core));
    cr_assert(not(core_yield(&core)));
    core_yielded(&core, true);
    cr_assert(not(core_is_home(&core)));
    cr_assert(not(is_settled(11, T0 + 2 * WAIT_NS)));
    cr_assert(eq(int, core_may_join(&core, EPOCH), -EREMOTE));
    cr_assert(eq(u64, core_home_to_join(&core).n, b.n));
}

/* It was not recorded: it is the home still, and tries again. */
Test(core, yielding_that_failed)
{
    (void)core_hear(&core, epoch_of_next_term(EPOCH, 0), b);
    cr_assert(core_yield(&core));
    core_yielded(&core, false);
    cr_assert(core_is_home(&core) && core_must_yield(&core));
}

Test(core, samples_reach_back_ever_further)
{
    static const uint64_t wanted[] = {100, 99, 98, 96, 92, 84, 0};
    for (unsigned n = 0; n < N_ELEMENTS(wanted); n++)
        cr_assert(eq(u64, core_sample(100, 70, n), wanted[n]));
    cr_assert(eq(u64, core_sample(0, 1, 0), 0));
    cr_assert(eq(u64, core_sample(100, 1, 90), 0));
}

Test(core, where_logs_diverge)
{
    struct comparison c = {
        .epoch = EPOCH, .last = 20, .home_epoch = EPOCH + 3, .home_first = 1, .shared = 20};
    cr_assert(eq(u64, core_diverges_at(&c), NO_FENCE));
    c.shared = 16;
    cr_assert(eq(u64, core_diverges_at(&c), 17));
    c.shared = 0;
    cr_assert(eq(u64, core_diverges_at(&c), 1));
    c.home_first = 21; /* far ahead */
    cr_assert(eq(u64, core_diverges_at(&c), NO_FENCE));
    c.home_epoch = epoch_of_next_term(EPOCH, 0); /* or on another way */
    cr_assert(eq(u64, core_diverges_at(&c), 1));
}
