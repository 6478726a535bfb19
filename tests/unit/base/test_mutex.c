#include <criterion/criterion.h>
#include <signal.h>

#include "proto/base/clock.h"
#include "proto/base/mutex.h"

static struct mutex low, high;

static void init_locks(void)
{
    mutex_init(&low, LOCK_daemon);
    mutex_init(&high, LOCK_leaf);
}

TestSuite(mutex, .init = init_locks);

static void lock_in_scope(struct mutex *m)
{
    SCOPED_LOCK(m);
    mutex_assert_held(m);
}

/* Locks may be taken in rising rank and given back in any order; then all may be taken anew. */
Test(mutex, rising_rank)
{
    mutex_lock(&low);
    mutex_lock(&high);
    mutex_unlock(&low);
    mutex_unlock(&high);
    lock_in_scope(&high);
    lock_in_scope(&low);
    mutex_done(&low);
    mutex_done(&high);
}

/* A lower rank while a higher one is held is a bug. */
Test(mutex, falling_rank_aborts, .signal = SIGABRT)
{
    mutex_lock(&high);
    mutex_lock(&low);
}

/* Only the owner unlocks. */
Test(mutex, unlock_of_a_free_lock_aborts, .signal = SIGABRT)
{
    mutex_unlock(&low);
}

/* What says that it needs a lock finds out when it is not held. */
Test(mutex, assert_of_a_free_lock_aborts, .signal = SIGABRT)
{
    mutex_assert_held(&low);
}

/* CHECK aborts, in every build. */
Test(mutex, check_aborts, .signal = SIGABRT)
{
    CHECK(clock_mono_ns() < 0);
}

/* A wait without a signal ends at its deadline, not before, with the lock held. */
Test(mutex, wait_ends_at_the_deadline)
{
    struct cond cond;
    cond_init(&cond);
    SCOPED_LOCK(&low);
    int64_t deadline = clock_mono_ns() + 30 * NS_PER_MS;
    while (cond_wait_until(&cond, &low, deadline))
        ; /* woken without a reason */
    cr_assert_geq(clock_mono_ns(), deadline);
    mutex_assert_held(&low);
    cond_done(&cond);
}

/* A deadline that has passed does not wait. */
Test(mutex, wait_with_a_deadline_of_the_past)
{
    struct cond cond;
    cond_init(&cond);
    SCOPED_LOCK(&low);
    cr_assert_not(cond_wait_until(&cond, &low, clock_mono_ns() - NS_PER_S));
    cond_done(&cond);
}

static void *name_of_thread(void *arg)
{
    char *name = arg;
    cr_assert_eq(pthread_getname_np(pthread_self(), name, 16), 0);
    return NULL;
}

static void *wait_for_name(void *arg)
{
    char name[16] = "";
    int64_t deadline = clock_mono_ns() + 10 * NS_PER_S; /* the creator names it after the start */
    while (strcmp(name, "whisk-test") != 0 && clock_mono_ns() < deadline)
        name_of_thread(name);
    memcpy(arg, name, sizeof name);
    return NULL;
}

/* Threads carry the name that they were started with. */
Test(mutex, thread_has_its_name)
{
    char name[16] = "";
    pthread_t thread;
    cr_assert_eq(thread_start(&thread, "whisk-test", wait_for_name, name), 0);
    thread_join(thread);
    cr_assert_str_eq(name, "whisk-test");
}
