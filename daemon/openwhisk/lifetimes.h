/* daemon/openwhisk/lifetimes.h — when a run is over, so that nothing of it will want the run's volumes any more.
 *
 *     activation ──► running ──acknowledged, next step, step_limit──► quiet ──run_end──► over
 *                       ▲                                               │
 *                       └──────────── next activation ──────────────────┘
 *
 * No message says that a sequence has ended; what ends it, its last step, an error or a controller's crash, is followed by
 * silence. A run is also silent while an inner sequence, which is a run of its own, is at work in it: the runs of one request
 * (they have the outermost transaction id in common) are running as long as one of them is. Since callers may choose that id,
 * a run is over run_limit after its own last message in any case. So is one that nothing was heard of, because this daemon
 * began later or had to forget it: run_limit after it was first asked for. While messages may be missed, nothing is over.
 *
 * Only requests that named a volume of the run are followed. Pure: time is passed in, any steady clock. Bounded: the run
 * that was heard of longest ago is forgotten, which makes it one that nothing was heard of.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/openwhisk/ack.h"
#include "proto/openwhisk/activation.h"

struct lifetimes;

struct lifetimes_config {
    int64_t run_end_ms;    /* a next step comes within this time, if it comes */
    int64_t step_limit_ms; /* a step that is not acknowledged is over after this time */
    int64_t run_limit_ms;  /* all steps together take no longer */
    unsigned max_runs;
};

MUST_USE int lifetimes_new(const struct lifetimes_config *config, struct lifetimes **ret_lifetimes);
void lifetimes_free(struct lifetimes *l);
DEFINE_FREEP(lifetimes, struct lifetimes)

/* A step begins. Seen again it is no news. Without memory the run is one that nothing was heard of. */
void lifetimes_begin_step(struct lifetimes *l, const struct ow_activation *activation,
                          int64_t now_ms);
/* A step has ended, whether well or not. */
void lifetimes_end_step(struct lifetimes *l, const struct ow_ack *ack, int64_t now_ms);
/* Messages may be missed just now: what they would say will be heard later, or not at all. */
void lifetimes_miss(struct lifetimes *l, int64_t now_ms);
/* A step may have begun, nobody knows of which run: nothing is over before it must have ended. */
void lifetimes_miss_step(struct lifetimes *l, int64_t now_ms);

/* Whether the volumes of this run may go; who has some asks every few seconds. */
bool lifetimes_is_over(struct lifetimes *l, const char *run, int64_t now_ms);

/* Ends steps whose time has passed, forgets runs that are over and nobody asks for. About once a second. */
void lifetimes_expire(struct lifetimes *l, int64_t now_ms);

unsigned lifetimes_count(const struct lifetimes *l); /* runs that are known */
