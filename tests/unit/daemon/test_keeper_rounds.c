#include <criterion/criterion.h>

#include "daemon/keeper_rounds.h"

#define T0 (1000 * 1000000000LL)

static struct rounds rounds;

static void set_up(void)
{
    rounds = (struct rounds){0};
}

static void tear_down(void)
{
    rounds_done(&rounds);
}

TestSuite(rounds, .init = set_up, .fini = tear_down);

static void note(const char *volume, uint64_t applied)
{
    cr_assert_eq(rounds_note(&rounds, volume, applied), 0);
}

static const char *next(int64_t now_ns)
{
    static char volume[VOLUME_NAME_MAX_BYTES + 1];
    return rounds_next(&rounds, now_ns, volume) ? volume : "";
}

/* A volume is looked at when it is new and whenever its log has moved. */
Test(rounds, due_when_the_log_moves)
{
    cr_assert_str_eq(next(T0), "");
    note("v", 5);
    cr_assert_str_eq(next(T0), "v");
    rounds_looked(&rounds, "v", 5, ROUND_DONE, T0);
    cr_assert_str_eq(next(T0), "");
    note("v", 5);
    cr_assert_str_eq(next(T0 + 1), "");
    note("v", 6);
    cr_assert_str_eq(next(T0 + 1), "v");
}

/* What was logged while it was looked at is not missed. */
Test(rounds, moved_during_the_look)
{
    note("v", 7);
    rounds_looked(&rounds, "v", 5, ROUND_DONE, T0);
    cr_assert_str_eq(next(T0), "v");
}

/* A failure is tried again after 1, 2, 4, 8, 8 … seconds, and at once after a success when the log moves. */
Test(rounds, failures_pause)
{
    static const int64_t pauses[] = {1, 2, 4, 8, 8};
    int64_t now = T0;
    note("v", 5);
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        rounds_looked(&rounds, "v", 5, ROUND_FAILED, now);
        now += pauses[i] * 1000000000LL;
        cr_assert_str_eq(next(now - 1), "");
        cr_assert_str_eq(next(now), "v");
    }
    rounds_looked(&rounds, "v", 5, ROUND_DONE, now);
    note("v", 6);
    cr_assert_str_eq(next(now), "v");
    rounds_looked(&rounds, "v", 6, ROUND_FAILED, now);
    cr_assert_str_eq(next(now + ROUND_PAUSE_MIN_NS), "v");
}

/* A volume with much to do does not keep the others waiting. */
Test(rounds, turns)
{
    note("a", 1);
    note("b", 1);
    rounds_looked(&rounds, "a", 1, ROUND_MORE, T0);
    cr_assert_str_eq(next(T0), "b");
    rounds_looked(&rounds, "b", 1, ROUND_MORE, T0);
    cr_assert_str_eq(next(T0), "a");
    rounds_looked(&rounds, "a", 1, ROUND_DONE, T0);
    cr_assert_str_eq(next(T0), "b");
    rounds_looked(&rounds, "b", 1, ROUND_DONE, T0);
    cr_assert_str_eq(next(T0), "");
}

/* A volume that is closed is forgotten; opened again, it is new. */
Test(rounds, forgotten)
{
    note("a", 1);
    note("b", 1);
    rounds_sweep(&rounds);
    rounds_looked(&rounds, "a", 1, ROUND_DONE, T0);
    rounds_looked(&rounds, "b", 1, ROUND_DONE, T0);
    note("a", 1);
    rounds_sweep(&rounds);
    rounds_looked(&rounds, "b", 1, ROUND_FAILED, T0); /* it was being looked at: fine */
    cr_assert_str_eq(next(T0 + ROUND_PAUSE_MAX_NS), "");
    note("b", 1);
    cr_assert_str_eq(next(T0), "b");
}

/* A volume that was made anew under the same name has a shorter log. */
Test(rounds, made_anew)
{
    note("v", 100);
    rounds_looked(&rounds, "v", 100, ROUND_DONE, T0);
    note("v", 3);
    cr_assert_str_eq(next(T0), "v");
}
