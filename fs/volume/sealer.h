/* fs/volume/sealer.h — files that this host has published get seals (fs/store/seal.h) once they are quiet.
 *
 * A thread with little priority; close(2) never waits for it. Bounded: what does not fit into the queue stays without a
 * seal until it is published again, or volume_seal is asked for it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/mutex.h"

#define SEALS_QUEUED_MAX (1u << 16)

struct volume;

struct seal_due {
    uint64_t ino;
    int64_t due_ns; /* not before */
};

struct sealer {
    int64_t after_ns;  /* of quiet; 0: there is no thread */
    struct mutex lock; /* leaf */
    struct cond changed;
    struct seal_due *
        items; /* under lock, as all below: a ring of SEALS_QUEUED_MAX, in the order in which they are due */
    size_t first, n;
    bool is_stopping;
    pthread_t thread;
    bool is_started;
    atomic_uint_least64_t n_sealed; /* ever */
};

MUST_USE int sealer_init(struct sealer *sealer, int64_t after_ns);
void sealer_done(struct sealer *sealer);
MUST_USE int sealer_start(struct volume *volume);
void sealer_stop(struct volume *volume);
/* This host's own file was closed or published. Never waits. */
void sealer_add(struct sealer *sealer, uint64_t ino);
