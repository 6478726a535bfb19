/* proto/base/mutex.h — mutexes with a class and rank (locks.def), and conditions with monotonic deadlines.
 *
 *     SCOPED_LOCK(&c->lock);        unlocks at the end of the scope
 *
 * The analysis of clang sees mutex_assert_held; locking itself is not annotated (clang 14 gives false alarms
 * with cleanup functions). A failing pthread call is a bug of ours: CHECK.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/cleanup.h"

#if defined(__clang__)
#define CAPABILITY(x) __attribute__((capability(x)))
#define REQUIRES(x) __attribute__((requires_capability(x)))
#define EXCLUDES(x) __attribute__((locks_excluded(x)))
#else
#define CAPABILITY(x)
#define REQUIRES(x)
#define EXCLUDES(x)
#endif

enum lock_class {
#define LOCK(name, what) LOCK_##name,
#include "proto/base/locks.def"
#undef LOCK
    LOCK_N_CLASSES
};

struct CAPABILITY("mutex") mutex {
    pthread_mutex_t impl;
    enum lock_class class;
    pthread_t owner;
    bool held; /* written by the owner only; read by anybody only to compare with itself */
};

struct cond {
    pthread_cond_t impl;
};

void mutex_init(struct mutex *m, enum lock_class class);
void mutex_done(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

#if defined(__clang__)
void mutex_assert_held(struct mutex *m) __attribute__((assert_capability(m)));
#else
void mutex_assert_held(struct mutex *m);
#endif

static inline struct mutex *mutex_scope_enter(struct mutex *m)
{
    mutex_lock(m);
    return m;
}

static inline void mutex_scope_leave(struct mutex **m)
{
    mutex_unlock(*m);
}

#define SCOPED_LOCK(m)                                                                             \
    AUTO(mutex_scope_leave)                                                                        \
    UNUSED struct mutex *CAT(scope_, __COUNTER__) = mutex_scope_enter(m);                          \
    mutex_assert_held(m)

void cond_init(struct cond *c);
void cond_done(struct cond *c);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);
void cond_wait(struct cond *c, struct mutex *m);

/* Waits until signalled or the monotonic deadline has passed. False: the deadline has passed. */
MUST_USE bool cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ns);

/* Names, starts and joins: every thread of ours has a name (15 characters at most) and is joined. -EAGAIN. */
MUST_USE int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg);
void thread_join(pthread_t thread);
