/* fs/fuse/workers.h — the threads that read requests and answer them.
 *
 * libfuse's own loop hides what we need of a request, its `unique`, so the loop is ours: receive, note the unique,
 * process. Threads are added while all are busy, up to a maximum, and stay. A request that waits for another host
 * holds its thread, so the maximum bounds what one volume can have waiting. The kernel gives the next request to whoever
 * waited longest, so a few wait for it and the rest are parked: they come back when all of those are busy, and after
 * a second give back the memory of their buffers.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/mutex.h"

#define WORKERS_MAX 256
#define WORKER_WRITE_MAX                                                                           \
    (1u << 20) /* the largest write that a worker takes: its buffer has room for that */

struct fuse_session;
struct ledger;
struct worker;

struct workers {
    struct fuse_session *fuse;
    struct ledger *ledger;
    unsigned max;
    struct mutex lock;               /* leaf */
    struct worker *all[WORKERS_MAX]; /* under lock */
    unsigned n;
    struct cond changed; /* one has ended */
    struct cond unparked;
    unsigned n_parked, n_unpark; /* under lock; n_unpark: of the parked, so many are called back */
    _Atomic bool stopping;
    _Atomic unsigned n_idle;
};

/* Starts the first threads. The INIT request is noted in the ledger before it is answered. -EAGAIN, -ENOMEM. */
MUST_USE int kernel_workers_start(struct workers *workers, struct fuse_session *fuse,
                                  struct ledger *ledger, unsigned max);
/* Interrupts idle threads, waits for the busy ones, joins all. */
void kernel_workers_stop(struct workers *workers);

/* On a worker's thread: `unique` of the request being processed, and its recycled I/O buffer (page-aligned; at least
 * size bytes), or NULL. */
uint64_t worker_unique(void);
void *worker_buffer(size_t size);
