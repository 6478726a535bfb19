/* daemon/keeper.h — draws what this host published without having all of it.
 *
 * Who opens a file for writing need not have read it: what it publishes may then lack blocks, which are still at the
 * keeper before (REQUEST_INCOMPLETE), and every host keeps what it has of that older version. One thread fetches those blocks,
 * makes them durable and says so (REQUEST_KEEP); after that the older copies go and their hosts are needed no more.
 * A newer version, or an unlink, meanwhile is normal: then there is nothing to say.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "daemon/volumes/volumes.h"

struct keeper;

MUST_USE int keeper_new(struct volumes *volumes, struct keeper **ret_keeper);
MUST_USE int keeper_start(struct keeper *keeper);
/* Returns within a second, or when a KEEP that is being settled has its answer. */
void keeper_stop(struct keeper *keeper);
void keeper_free(struct keeper *keeper);

struct keeper_counters {
    atomic_uint_least64_t files;  /* complete and said so */
    atomic_uint_least64_t bytes;  /* drawn for that */
    atomic_uint_least64_t failed; /* attempts */
};
const struct keeper_counters *keeper_counters(const struct keeper *keeper);
