#include "proto/base/mutex.h"

#include <time.h>

#include "proto/base/clock.h"

/* How many locks of each class this thread holds: a lock's rank is its class. */
static _Thread_local unsigned held_of_class[LOCK_N_CLASSES];

static void check_rank(enum lock_class class)
{
    for (unsigned c = (unsigned)class + 1; c < LOCK_N_CLASSES; c++)
        CHECK(held_of_class[c] == 0 && "lock order of locks.def");
}

void mutex_init(struct mutex *m, enum lock_class class)
{
    *m = (struct mutex){.class = class};
    CHECK(pthread_mutex_init(&m->impl, NULL) == 0);
}

void mutex_done(struct mutex *m)
{
    CHECK(pthread_mutex_destroy(&m->impl) == 0);
}

static void mark_held(struct mutex *m)
{
    m->owner = pthread_self();
    m->held = true;
    held_of_class[m->class]++;
}

static void mark_free(struct mutex *m)
{
    CHECK(m->held && pthread_equal(m->owner, pthread_self()));
    m->held = false;
    held_of_class[m->class]--;
}

void mutex_lock(struct mutex *m)
{
    check_rank(m->class);
    CHECK(pthread_mutex_lock(&m->impl) == 0);
    mark_held(m);
}

void mutex_unlock(struct mutex *m)
{
    mark_free(m);
    CHECK(pthread_mutex_unlock(&m->impl) == 0);
}

void mutex_assert_held(struct mutex *m)
{
    CHECK(m->held && pthread_equal(m->owner, pthread_self()));
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&c->impl, &attr) == 0);
    CHECK(pthread_condattr_destroy(&attr) == 0);
}

void cond_done(struct cond *c)
{
    CHECK(pthread_cond_destroy(&c->impl) == 0);
}

void cond_signal(struct cond *c)
{
    CHECK(pthread_cond_signal(&c->impl) == 0);
}

void cond_broadcast(struct cond *c)
{
    CHECK(pthread_cond_broadcast(&c->impl) == 0);
}

void cond_wait(struct cond *c, struct mutex *m)
{
    mark_free(m);
    CHECK(pthread_cond_wait(&c->impl, &m->impl) == 0);
    mark_held(m);
}

bool cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ns)
{
    struct timespec ts = {.tv_sec = deadline_ns / NS_PER_S, .tv_nsec = deadline_ns % NS_PER_S};
    mark_free(m);
    int r = pthread_cond_timedwait(&c->impl, &m->impl, &ts);
    mark_held(m);
    CHECK(r == 0 || r == ETIMEDOUT);
    return r == 0;
}

int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    int r = pthread_create(&thread, NULL, fn, arg);
    if (r != 0)
        return -r;
    (void)pthread_setname_np(thread, name);
    *ret_thread = thread;
    return 0;
}

void thread_join(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}
