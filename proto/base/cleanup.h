/* proto/base/cleanup.h — owning locals that free themselves (style: every owning local is AUTO).
 *
 *     AUTO_FREE char *name = strdup(x);
 *     AUTO_CLOSE int fd = open(...);
 *     AUTO(store_freep) struct store *s = NULL;     with DEFINE_FREEP(store, struct store)
 *     *ret = TAKE(s);                               hands over: the local is NULL afterwards
 *
 * Never jump past such a declaration with goto.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/base/check.h"

#define AUTO(fn) __attribute__((cleanup(fn)))

static inline void free_ptr(void *p)
{
    int saved = errno;
    free(*(void **)p);
    errno = saved;
}
#define AUTO_FREE AUTO(free_ptr)

static inline void close_fd(int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        (void)close(*fd);
    errno = saved;
}
#define AUTO_CLOSE AUTO(close_fd)

#define TAKE(ptr)                                                                                  \
    ({                                                                                             \
        __typeof__(ptr) taken_ = (ptr);                                                            \
        (ptr) = NULL;                                                                              \
        taken_;                                                                                    \
    })

static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}
#define TAKE_FD(fd) take_fd(&(fd))

/* Defines NAME_freep(TYPE **) over NAME_free(TYPE *), for use with AUTO. */
#define DEFINE_FREEP(name, type)                                                                   \
    UNUSED static inline void name##_freep(type **p)                                               \
    {                                                                                              \
        int saved = errno;                                                                         \
        name##_free(*p);                                                                           \
        errno = saved;                                                                             \
    }
