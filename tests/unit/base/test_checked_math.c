#include <criterion/criterion.h>

#include "proto/base/checked_math.h"

/* Sums and products that fit are exact, up to the last value that does. */
Test(checked_math, what_fits_is_exact)
{
    size_t size = 0;
    cr_assert(size_add(40, 2, &size) && size == 42);
    cr_assert(size_add(SIZE_MAX - 1, 1, &size) && size == SIZE_MAX);
    cr_assert(size_mul(6, 7, &size) && size == 42);
    cr_assert(size_mul(SIZE_MAX / 2, 2, &size) && size == SIZE_MAX - 1);
    cr_assert(size_mul(SIZE_MAX, 0, &size) && size == 0);
    uint64_t n = 0;
    cr_assert(u64_add(UINT64_MAX, 0, &n) && n == UINT64_MAX);
}

/* What does not fit is refused, however little too much it is. */
Test(checked_math, overflow_is_refused)
{
    size_t size;
    cr_assert_not(size_add(SIZE_MAX, 1, &size));
    cr_assert_not(size_mul(SIZE_MAX / 2 + 1, 2, &size));
    cr_assert_not(size_mul((size_t)1 << 32, (size_t)1 << 32, &size));
    uint64_t n;
    cr_assert_not(u64_add(UINT64_MAX, 1, &n));
}
