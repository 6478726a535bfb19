#include <criterion/criterion.h>
#include <limits.h>
#include <time.h>

#include "proto/base/clock.h"

/* The monotonic clock never goes back. */
Test(clock, monotonic)
{
    int64_t last = clock_mono_ns();
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_mono_ns();
        cr_assert_geq(now, last);
        last = now;
    }
}

/* The real clock is the system's: what files carry. */
Test(clock, real)
{
    time_t before = time(NULL);
    int64_t now = clock_real_ns();
    cr_assert_geq(now / NS_PER_S, (int64_t)before - 1);
    cr_assert_leq(now / NS_PER_S, (int64_t)time(NULL) + 1);
}

/* What is left is never negative, and never 0 before the deadline: a poll would spin. */
Test(clock, left_is_rounded_up)
{
    int64_t now = clock_mono_ns();
    cr_assert_eq(clock_left_ms(now), 0);
    cr_assert_eq(clock_left_ms(0), 0);
    cr_assert_eq(clock_left_ms(INT64_MIN / 2), 0);
    int left = clock_left_ms(clock_mono_ns() + 10 * NS_PER_S + 1);
    cr_assert(left > 9000 && left <= 10001, "left %d", left);
    do {
        now = clock_mono_ns();
        left = clock_left_ms(now + NS_PER_MS / 2);
    } while (clock_mono_ns() >= now + NS_PER_MS / 2); /* until the call was not interrupted */
    cr_assert_eq(left, 1);
}

/* A deadline that is further away than poll can express is cut. */
Test(clock, left_is_cut)
{
    cr_assert_eq(clock_left_ms(clock_mono_ns() + INT64_MAX / 2), INT_MAX);
}
