/* Since when hosts are silent. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "daemon/volumes/silence.h"

#define S NS_PER_S

static struct silences silences;
static struct host_id a, b;

static void set_up(void)
{
    a = host_id_of("a");
    b = host_id_of("b");
}

TestSuite(silence, .init = set_up);

Test(silence, is_new_and_then_long)
{
    cr_assert_not(silence_is_any_new(&silences, 0));
    silence_note(&silences, a, true, 100 * S);
    cr_assert(silence_is_any_new(&silences, 101 * S));
    cr_assert_not(silence_is_long(&silences, a, 101 * S));
    silence_note(&silences, a, true, 106 * S);
    cr_assert(silence_is_long(&silences, a, 106 * S));
    cr_assert_not(silence_is_any_new(&silences, 106 * S));
    cr_assert_not(silence_is_long(&silences, b, 106 * S));
    silence_note(&silences, b, true, 107 * S);
    cr_assert(silence_is_any_new(&silences, 107 * S));
}

Test(silence, ends_with_an_answer)
{
    silence_note(&silences, a, true, 100 * S);
    silence_note(&silences, b, true, 100 * S);
    silence_note(&silences, a, false, 107 * S);
    cr_assert_not(silence_is_long(&silences, a, 107 * S));
    cr_assert(silence_is_long(&silences, b, 107 * S));
    silence_note(&silences, a, true, 108 * S);
    cr_assert_not(silence_is_long(&silences, a, 109 * S));
    cr_assert(silence_is_any_new(&silences, 109 * S));
}

/* What was noted long ago says nothing of now: it may have been back in between. */
Test(silence, is_forgotten)
{
    silence_note(&silences, a, true, 100 * S);
    cr_assert(silence_is_long(&silences, a, 130 * S));
    cr_assert_not(silence_is_long(&silences, a, 131 * S));
    silence_note(&silences, a, true, 200 * S);
    cr_assert_not(silence_is_long(&silences, a, 201 * S));
    cr_assert(silence_is_any_new(&silences, 201 * S));
}

Test(silence, has_a_bound)
{
    char name[16];
    for (int i = 0; i < 2 * (int)SILENCES_MAX; i++) {
        snprintf(name, sizeof name, "host%d", i);
        silence_note(&silences, host_id_of(name), true, 100 * S + i);
    }
    cr_assert_eq(silences.n, SILENCES_MAX);
    cr_assert(silence_is_long(&silences, host_id_of(name), 110 * S));
    cr_assert_not(silence_is_long(&silences, host_id_of("host0"), 110 * S));
}
