/* daemon/reaper.h — takes away the volumes of runs that are over.
 *
 * All hosts hear the same messages, so each decides for itself (openwhisk/lifetimes.h). Once a second: the volume's home removes
 * it as soon as no other host is a member; the others stop being members as soon as nobody uses it there. What is in use stays
 * until it is not.
 */
#pragma once

#include <stdatomic.h>

#include "daemon/openwhisk/events.h"
#include "daemon/openwhisk/lifetimes.h"
#include "daemon/volumes/volumes.h"

struct reaper;

MUST_USE int reaper_new(struct volumes *volumes, const struct lifetimes_config *lifetimes,
                        struct reaper **ret_reaper);
/* events says whether messages may be missed now. Until it is started nothing is taken away. */
MUST_USE int reaper_start(struct reaper *reaper, const struct events *events);
void reaper_stop(struct reaper *reaper);
void reaper_free(struct reaper *reaper); /* nothing is told any more */

/* Any thread. */
void reaper_begin_step(struct reaper *reaper, const struct ow_activation *activation,
                       int64_t now_ms);
void reaper_end_step(struct reaper *reaper, const struct ow_ack *ack, int64_t now_ms);
void reaper_missed_step(struct reaper *reaper, int64_t now_ms);

/* The first two as of the last look; the others only grow. */
struct reaper_counters {
    atomic_uint_least64_t volumes, over;
    atomic_uint_least64_t removed, removed_bytes;
};
const struct reaper_counters *reaper_counters(const struct reaper *reaper);
