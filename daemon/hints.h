/* daemon/hints.h — what is expected to be needed here soon: volumes attached and drawn ahead of their action.
 *
 * A hint comes from the host that saw a step begin and predicts that this host runs the next one (HINT frames), or
 * from this host's own invoker topic (an activation that is about to start). One thread attaches and draws; a hinted
 * volume is looked at again whenever its log has moved, so that files are drawn as they are published, until
 * HINT_LIFE_NS after the last hint or the budget is spent.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "daemon/membership.h"
#include "daemon/net/peers.h"
#include "daemon/transfer/transfer.h"
#include "daemon/volumes/volumes.h"

#define HINT_LIFE_NS (60 * 1000000000LL)
#define HINTS_MAX 64

struct hints;

struct hints_options {
    struct volumes *volumes;
    struct transfer *transfer;
    struct peers *peers;
    struct membership *membership;
    uint64_t budget_bytes;
    bool is_drawing; /* [prefetch] enabled */
    void (*expected)(void *ctx,
                     const char *volume); /* told of whatever hints_expect is, by any thread */
    void *ctx;
};

/* Registers the handler of HINT: before peers_start. */
MUST_USE int hints_new(const struct hints_options *options, struct hints **ret_hints);
MUST_USE int hints_start(struct hints *hints);
void hints_stop(struct hints *hints);
void hints_free(struct hints *hints);

/* An activation that uses the volume begins on this host: attach it, made here if no host knows it. Returns at once. */
void hints_begin(struct hints *hints, const char *volume);
/* A step that uses the volume is expected here: attach and draw it. Returns at once. */
void hints_expect(struct hints *hints, const char *volume, unsigned per_mille);
/* The predicted host of the next step (or this one) should have the volume. Returns at once. */
void hints_send(struct hints *hints, const char *host, const char *volume, unsigned per_mille);

struct hints_counters {
    atomic_uint_least64_t sent, received, dropped, attached, failed;
    atomic_uint_least64_t drawn_bytes, drawn_files;
};
/* Of the latest hints that were sent, how long it took: half of them at most p50_s, 99 in 100 at most p99_s. 0: none was sent. */
struct hint_delays {
    double p50_s, p99_s;
};
void hints_delays(struct hints *hints, struct hint_delays *ret_delays);
const struct hints_counters *hints_counters(const struct hints *hints);
