/* Where actions have containers: learned, forgotten, bounded. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "daemon/openwhisk/placements.h"

TestSuite(placements, .timeout = 30);

static struct placements *make(unsigned max)
{
    struct placements *p;
    cr_assert_eq(placements_new(max, &p), 0);
    return p;
}

static void seen(struct placements *p, const char *action, unsigned invoker, int64_t now_ms)
{
    cr_assert_eq(placements_seen(p, "guest", action, invoker, now_ms), 0);
}

/* The container used last is where the action goes, until it is paused and removed. */
Test(placements, last_used)
{
    struct placements *p = make(16);
    cr_assert_eq(placements_guess(p, "guest", "guest/a", 0), -1);
    seen(p, "guest/a", 1, 0);
    seen(p, "guest/a", 3, 5);
    cr_assert_eq(placements_guess(p, "guest", "guest/a", 10), 3);
    seen(p, "guest/a", 1, 20);
    cr_assert_eq(placements_guess(p, "guest", "guest/a", 30), 1);
    cr_assert_eq(placements_guess(p, "other", "guest/a", 30), -1);
    cr_assert_eq(
        placements_guess(p, "guest", "guest/a", 20 + PLACEMENT_LIVE_MS + PLACEMENT_PAUSED_MS), 1);
    cr_assert_eq(
        placements_guess(p, "guest", "guest/a", 21 + PLACEMENT_LIVE_MS + PLACEMENT_PAUSED_MS), -1);
    placements_free(p);
}

/* Outdated containers are no place to run. */
Test(placements, gone)
{
    struct placements *p = make(16);
    seen(p, "guest/a", 1, 0);
    seen(p, "guest/a", 3, 5);
    placements_gone(p, "guest", "guest/a", 3);
    placements_gone(p, "guest", "guest/a", 7);
    placements_gone(p, "guest", "guest/b", 3);
    cr_assert_eq(placements_guess(p, "guest", "guest/a", 10), 1);
    placements_free(p);
}

/* A completion names the activation and the invoker; whose it was is known from its beginning. */
Test(placements, completions)
{
    struct placements *p = make(16);
    cr_assert_eq(placements_started(p, "id1", "guest", "guest/a", 2), 0);
    cr_assert_eq(placements_started(p, "id1", "guest", "guest/a", 2), 0);
    cr_assert_eq(placements_started(p, "id2", "guest", "guest/a", -1), 0);
    cr_assert(placements_completed(p, "id1", 2, 10));
    cr_assert(!placements_completed(p, "id1", 2, 10));
    cr_assert_eq(placements_guess(p, "guest", "guest/a", 20), 2);
    cr_assert(!placements_completed(p, "id2", 5, 30));
    cr_assert_eq(placements_guess(p, "guest", "guest/a", 40), 5);
    cr_assert(!placements_completed(p, "nobody", 5, 30));
    placements_free(p);
}

/* Many actions, activations that never end, many invokers: the oldest go. */
Test(placements, bounds)
{
    struct placements *p = make(16);
    char name[32];
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "guest/%u", i);
        seen(p, name, i % 7, i);
        seen(p, "guest/kept", i, i);
        (void)snprintf(name, sizeof name, "%u", i);
        cr_assert_eq(placements_started(p, name, "guest", "guest/x", -1), 0);
    }
    cr_assert_eq(placements_guess(p, "guest", "guest/50", 100), -1);
    cr_assert_eq(placements_guess(p, "guest", "guest/99", 100), 99 % 7);
    cr_assert_eq(placements_guess(p, "guest", "guest/kept", 100), 99);
    for (unsigned i = 99; i > 92; i--)
        placements_gone(p, "guest", "guest/kept", i);
    cr_assert_eq(placements_guess(p, "guest", "guest/kept", 100), 92);
    placements_gone(p, "guest", "guest/kept", 92);
    cr_assert_eq(placements_guess(p, "guest", "guest/kept", 100), -1);
    (void)placements_completed(p, "0", 3, 100);
    cr_assert_eq(placements_guess(p, "guest", "guest/x", 100), -1,
                 "the oldest activation was forgotten");
    placements_free(p);
}
