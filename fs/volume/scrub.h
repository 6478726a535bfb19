/* fs/volume/scrub.h — reads all that this host keeps of a volume, slowly, and compares it with its seals.
 *
 * A pass is a thread of its own, with little priority and at most `rate` bytes a second. A file without a seal gets one, and
 * is what is compared the next time; one that is open is left out where it has no seal. What is damaged goes into the store's
 * list of damage (store_note_damage) and into the log, with the file's path.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/mutex.h"

struct volume;

/* Of the pass under way, or of the last. */
struct scrub_status {
    bool is_running;
    uint64_t passes; /* that came to their end since the volume was opened */
    uint64_t files, bytes;
    uint64_t sealed;    /* files that had no seal, and have one now */
    uint64_t busy;      /* files that were in use: not looked at */
    uint64_t bad_seals; /* seals that were damaged; the file has a new one where it could be had */
    int64_t
        ended_ns; /* when a pass last came to its end, also in an earlier daemon; without one, when the volume was made */
};

struct scrub {
    struct mutex lock; /* leaf */
    struct cond changed;
    struct scrub_status status; /* under lock, as all below */
    bool is_stopping;
    bool is_started; /* thread is to be joined */
    pthread_t thread;
    /* the pass's own */
    uint64_t rate;
    int64_t next_ns; /* nothing is read before */
};

void scrub_init(struct scrub *scrub);
void scrub_done(struct scrub *scrub);
/* When the last pass ended, from the volume's directory. */
void scrub_load(struct volume *volume);
/* Begins a pass. rate: bytes a second; 0: as fast as it goes. -EALREADY: one is under way. */
MUST_USE int volume_scrub(struct volume *volume, uint64_t rate);
void volume_scrub_status(struct volume *volume, struct scrub_status *ret_status);
/* Ends the pass under way. No other may be begun meanwhile or later. */
void scrub_stop(struct volume *volume);
