/* daemon/openwhisk/accounts.h — what the data of each activation on this host cost: time waited, bytes, lead.
 *
 *     announced ──► begun ──► ended ──► closed: in the ring of the latest, and in the totals
 *         └─ nobody came: what was drawn for it is wasted
 *
 * Bytes and waiting are those of the activation's volumes on this host between its beginning and its end: exact for a
 * run's own volumes; activations that use a volume at the same time have the same. Waiting is for content of other hosts;
 * what the page cache and the disk take is time of computing here. Pure: time and readings are passed in. Bounded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/openwhisk/observer.h"
#include "fs/store/flow.h"

#define ACCOUNTS_OPEN_MAX 128    /* of more the oldest is lost */
#define ACCOUNTS_CLOSED_MAX 256u /* the latest */
#define ACCOUNTS_ANNOUNCED_MAX 64
#define ACCOUNT_ANNOUNCED_MS 60000 /* who is announced comes by then, or not */

struct account {
    char id[OW_ID_SIZE], run[OW_ID_SIZE];
    char namespace_name[OW_NAME_SIZE], action[OW_ACTION_SIZE];
    char volumes[OBSERVER_VOLUMES_MAX][OW_INSTANCE_NAME_SIZE];
    unsigned n_volumes;
    int64_t began_ms, ended_ms; /* of a steady clock; ended_ms -1: not yet */
    int64_t began_real_ms;      /* since 1970 */
    bool is_error;
    int64_t lead_ms;         /* since it was announced, or drawn for; -1: it was not */
    uint64_t ahead_bytes;    /* prefetched since then, before it began */
    struct flow_totals flow; /* open: as it began; ended: what it took. Prefetched then is late */
};

struct accounts_totals {
    uint64_t n_closed, n_errors, n_announced; /* activations */
    uint64_t n_lost;                          /* no end was heard, or too many were open */
    uint64_t ran_ms, lead_ms;
    uint64_t ahead_bytes, wasted_bytes;
    struct flow_totals flow;
};

struct accounts;

MUST_USE int accounts_new(int64_t step_limit_ms, struct accounts **ret_accounts);
void accounts_free(struct accounts *a);

/* An activation that uses the volume is expected here. flow: of that volume, now. */
void accounts_announce(struct accounts *a, const char *volume, const struct flow_totals *flow,
                       int64_t now_ms);
/* It begins; flows[i] is volumes[i]'s. Seen again it is no news. */
void accounts_begin(struct accounts *a, const struct ow_activation *activation,
                    const struct observed_volume *volumes, const struct flow_totals *flows,
                    unsigned n, int64_t now_ms, int64_t real_ms);

/* An account that is open, or NULL. Until the next call that changes anything. */
const struct account *accounts_find(const struct accounts *a, const char *id);
/* It has ended; flow: of all its volumes together, now. It stays open until it is closed: only the second
 * acknowledgement may say where it ran. */
void accounts_end(struct accounts *a, const char *id, bool is_error, const struct flow_totals *flow,
                  int64_t now_ms);
void accounts_close(struct accounts *a, const char *id);
/* It ran on another host. */
void accounts_discard(struct accounts *a, const char *id);
/* An end whose beginning may be about to come. */
void accounts_end_early(struct accounts *a, const char *id);

/* Closes what has ended long enough ago, gives up what should have ended. */
void accounts_expire(struct accounts *a, int64_t now_ms);
/* An announced volume that nobody came for; name of OW_INSTANCE_NAME_SIZE bytes. False: there is none. */
MUST_USE bool accounts_unclaimed(const struct accounts *a, int64_t now_ms, char *ret_volume);
/* … what was drawn for it is wasted. */
void accounts_waste(struct accounts *a, const char *volume, const struct flow_totals *flow);

/* The i-th that was closed, i from totals.n_closed - ACCOUNTS_CLOSED_MAX (0 at least); NULL: not there (any more). */
const struct account *accounts_closed(const struct accounts *a, uint64_t i);
const struct accounts_totals *accounts_totals(const struct accounts *a);
