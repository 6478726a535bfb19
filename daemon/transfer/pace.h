/* daemon/transfer/pace.h — a rate that the classes of transfers share. Pure: no locks, no clock; times are monotonic.
 *
 *     wish (class) ── … pace_delay() is 0 and pace_turn() the class ──► pace_spend(bytes)
 *
 * The lower class number goes first, but a class that was passed over PACE_FLOOR times in a row goes once. What was
 * not used is not saved up beyond PACE_BURST_NS.
 */
#pragma once

#include <stdint.h>

#include "fs/store/store.h"

#define PACE_FLOOR 16u
#define PACE_BURST_NS (20 * 1000000LL)
#define PACE_RATE_MIN                                                                              \
    (1u << 20) /* slower, and a block takes so long that its reader gives the connection up */

struct pace {
    uint64_t rate;                      /* bytes a second; 0: no limit */
    int64_t free_ns;                    /* what has been spent is paid for then */
    unsigned n_wishes[FETCH_N_CLASSES]; /* who waits */
    unsigned n_passed
        [FETCH_N_CLASSES]; /* how often in a row others went while somebody of the class waited */
};

/* How long from now nobody may go; 0: somebody may. */
int64_t pace_delay_ns(const struct pace *pace, int64_t now_ns);
/* The class whose turn it is among those that wait; FETCH_N_CLASSES: nobody waits. */
enum fetch_class pace_turn(const struct pace *pace);
/* One of the class goes now with so many bytes. It is still counted among those that wait. */
void pace_spend(struct pace *pace, enum fetch_class class, uint64_t bytes, int64_t now_ns);
