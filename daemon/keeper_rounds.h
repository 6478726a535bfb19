/* daemon/keeper_rounds.h — which volumes the keeper has to look at, and when. Pure: no locks, no clock.
 *
 * A volume is due when its log has moved since it was looked at, when a look ended before everything was done, and,
 * after a pause that doubles up to ROUND_PAUSE_MAX_NS, when something failed. Who was looked at longest ago is next.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/membership.h"
#include "proto/base/check.h"

#define ROUND_PAUSE_MIN_NS (1000000000LL)
#define ROUND_PAUSE_MAX_NS (8 * ROUND_PAUSE_MIN_NS)

struct round;

struct rounds {
    struct round *all;
    uint64_t n_looks, n_sweeps;
};

enum round_end {
    ROUND_DONE,
    ROUND_MORE,  /* go on as soon as the others had their turn */
    ROUND_FAILED /* again, after a pause */
};

void rounds_done(struct rounds *rounds); /* zero-initialised: fine */

/* This volume is open, and its log stands at applied. -ENOMEM. */
MUST_USE int rounds_note(struct rounds *rounds, const char *volume, uint64_t applied);
/* Forgets the volumes that were not noted since the last sweep. */
void rounds_sweep(struct rounds *rounds);

/* False: none is due. */
MUST_USE bool rounds_next(const struct rounds *rounds, int64_t now_ns,
                          char ret_volume[VOLUME_NAME_MAX_BYTES + 1]);
/* The volume was looked at as it was at index `looked`. */
void rounds_looked(struct rounds *rounds, const char *volume, uint64_t looked, enum round_end end,
                   int64_t now_ns);
