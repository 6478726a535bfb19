#include <criterion/criterion.h>
#include <fcntl.h>

#include "proto/base/cleanup.h"

struct thing {
    int *n_freed;
};

static void thing_free(struct thing *thing)
{
    if (!thing)
        return;
    ++*thing->n_freed;
    free(thing);
    errno = EBADF; /* what a destructor does to errno must not be seen outside */
}
DEFINE_FREEP(thing, struct thing)

static struct thing *thing_new(int *n_freed)
{
    struct thing *thing = malloc(sizeof *thing);
    cr_assert_not_null(thing);
    thing->n_freed = n_freed;
    return thing;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static struct thing *make_and_hand_over(int *n_freed)
{
    AUTO(thing_freep) struct thing *kept = thing_new(n_freed);
    AUTO(thing_freep) UNUSED struct thing *dropped = thing_new(n_freed);
    return TAKE(kept);
}

/* An owning local frees what it still owns at the end of its scope, and nothing that was taken from it. */
Test(cleanup, taken_survives_the_rest_is_freed)
{
    int n_freed = 0;
    struct thing *thing = make_and_hand_over(&n_freed);
    cr_assert_eq(n_freed, 1);
    cr_assert_not_null(thing);
    thing_free(thing);
    cr_assert_eq(n_freed, 2);
}

/* TAKE leaves NULL behind. */
Test(cleanup, take_empties_the_local)
{
    int n_freed = 0;
    struct thing *thing = thing_new(&n_freed);
    AUTO(thing_freep) struct thing *taken = TAKE(thing);
    cr_assert_null(thing);
    cr_assert_not_null(taken);
    cr_assert_eq(n_freed, 0);
}

/* Destructors accept a local that never got anything. */
Test(cleanup, nothing_to_free)
{
    AUTO_FREE UNUSED char *text = NULL;
    AUTO_CLOSE UNUSED int fd = -1;
    AUTO(thing_freep) UNUSED struct thing *thing = NULL;
}

/* A descriptor is closed at the end of its scope unless it was taken. */
Test(cleanup, descriptors)
{
    int seen, taken;
    {
        AUTO_CLOSE int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        AUTO_CLOSE int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
        cr_assert(is_open(fd) && is_open(other));
        seen = fd;
        taken = TAKE_FD(other);
        cr_assert_eq(other, -1);
    }
    cr_assert_not(is_open(seen));
    cr_assert(is_open(taken));
    close(taken);
}

static int fail_with_locals(int *n_freed)
{
    AUTO(thing_freep) UNUSED struct thing *thing = thing_new(n_freed);
    AUTO_FREE UNUSED char *text = strdup("text");
    AUTO_CLOSE UNUSED int fd = 9999; /* close fails with EBADF */
    errno = ENOENT;
    return -1;
}

/* errno of the failing call is still there after the destructors have run. */
Test(cleanup, errno_is_preserved)
{
    int n_freed = 0;
    cr_assert_eq(fail_with_locals(&n_freed), -1);
    cr_assert_eq(errno, ENOENT);
    cr_assert_eq(n_freed, 1);
}
