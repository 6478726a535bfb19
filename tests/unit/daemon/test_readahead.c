/* Read-ahead: grows while access goes on, stops when it jumps. */
#include <criterion/criterion.h>

#include "daemon/transfer/readahead.h"

static struct readahead ahead;
static const char file_a, file_b;
static uint64_t from, to;

TestSuite(readahead, .timeout = 10);

static uint64_t note(const void *key, uint64_t first, uint64_t n)
{
    readahead_note(&ahead, key, first, first + n, &from, &to);
    return to - from;
}

/* The start of a file is where sequential readers begin. */
Test(readahead, begins_at_the_start)
{
    cr_assert_eq(note(&file_a, 0, 1), AHEAD_MIN_BLOCKS);
    cr_assert_eq(from, 1);
}

/* Elsewhere the second access decides. */
Test(readahead, needs_two_accesses_elsewhere)
{
    cr_assert_eq(note(&file_a, 1000, 1), 0);
    cr_assert_eq(note(&file_a, 1001, 1), AHEAD_MIN_BLOCKS);
    cr_assert_eq(from, 1002);
}

/* Unless every place is as good as the start. */
Test(readahead, begins_anywhere_when_told)
{
    ahead.begins_anywhere = true;
    cr_assert_eq(note(&file_a, 1000, 1), AHEAD_MIN_BLOCKS);
    cr_assert_eq(from, 1001);
    cr_assert_eq(note(&file_a, 5000, 1), AHEAD_MIN_BLOCKS);
    cr_assert_eq(from, 5001);
}

/* The window doubles up to its limit, and what is asked for never overlaps or leaves a gap. */
Test(readahead, doubles_while_it_goes_on)
{
    uint64_t frontier = 0, most = 0;
    for (uint64_t b = 0; b < 2000; b++) {
        uint64_t n = note(&file_a, b, 1);
        if (n == 0)
            continue;
        if (frontier > b)
            cr_assert_eq(from, frontier);
        frontier = to;
        most = frontier - b > most ? frontier - b : most;
    }
    cr_assert_eq(most, AHEAD_MAX_BLOCKS + 1);
    cr_assert_gt(frontier, 2000);
}

Test(readahead, leaves_random_access_alone)
{
    uint64_t at = 7;
    for (int i = 0; i < 1000; i++) {
        at = (at * 6364136223846793005ULL + 1442695040888963407ULL);
        cr_assert_eq(note(&file_a, 1 + (at >> 20), 1), 0);
    }
}

/* Not even where every place is near one of the accesses that are remembered. */
Test(readahead, leaves_random_access_of_a_small_file_alone)
{
    uint64_t n = 0;
    for (uint64_t i = 1; i < 200; i++)
        n += note(&file_a, i * 123 % 200 * 10, 1);
    cr_assert_leq(n, 199 / 20);
}

/* The kernel's own threads bring accesses a little out of order. */
Test(readahead, bears_with_disorder)
{
    static const uint64_t order[] = {0, 2, 1, 3, 5, 4, 7, 6, 9, 8};
    uint64_t n = 0;
    for (int i = 0; i < 10; i++)
        n += note(&file_a, order[i], 1);
    cr_assert_geq(n, 10);
}

/* Two readers of one file and one of another do not disturb each other. */
Test(readahead, keeps_readers_apart)
{
    uint64_t n_a = 0, n_a2 = 0, n_b = 0;
    for (uint64_t b = 0; b < 100; b++) {
        n_a += note(&file_a, b, 1);
        n_a2 += note(&file_a, 100000 + b, 1);
        n_b += note(&file_b, b, 1);
    }
    cr_assert_geq(n_a, 100);
    cr_assert_geq(n_a2, 99);
    cr_assert_geq(n_b, 100);
}
