/* fs/volume/removal.h — content that nobody needs any more goes when the entry that says so is durable.
 *
 * Before that a power cut could take the entry back, and the file would be there again without its bytes. A thread of
 * the volume collects what has gone for a moment, makes the log durable once for all of it, and removes it. Bounded:
 * what does not fit into the queue is swept at the next start, as is what an end of the daemon leaves.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/mutex.h"

#define REMOVALS_MAX (1u << 18)

struct volume;

struct removal {
    uint64_t ino;
    uint64_t version;       /* drawn copies up to this version; UINT64_MAX: all there is */
    uint64_t pending_bytes; /* of store_pending */
};

struct removals {
    struct mutex lock; /* leaf */
    struct cond changed;
    struct removal *items; /* as all below, under lock */
    size_t n, room;
    uint64_t index; /* of the last entry that items wait for */
    uint64_t n_left_out;
    uint64_t n_queued, n_done; /* ever */
    unsigned n_hurried;        /* callers that wait for it */
    bool is_stopping;
    pthread_t thread;
    bool is_started;
};

void removals_init(struct removals *removals);
void removals_done(struct removals *removals);
MUST_USE int removals_start(struct volume *volume);
/* Removes what is queued, then ends. */
void removals_stop(struct volume *volume);
/* Entry index has made this content useless. Never waits. */
void removals_add(struct volume *volume, uint64_t index, uint64_t ino, uint64_t version);
