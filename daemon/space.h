/* daemon/space.h — room on this host's disk: what writers are promised, and what is cached.
 *
 * One thread, once a second. It tells the images what may be written to them; and when the content of all volumes
 * occupies more than the host's limit less a twentieth, copies that are only cache go, least recently used first,
 * until a tenth is free. Never one that is open, never one whose file's keeper lacks blocks, never what this host keeps.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "daemon/volumes/volumes.h"

struct space;

/* limit_bytes 0: no limit. */
MUST_USE int space_new(struct volumes *volumes, uint64_t limit_bytes, struct space **ret_space);
MUST_USE int space_start(struct space *space);
void space_stop(struct space *space);
void space_free(struct space *space);

struct space_counters {
    atomic_uint_least64_t
        occupied_bytes; /* by the content of all volumes, when last looked at; 0 without a limit */
    atomic_uint_least64_t evicted_files, evicted_bytes;
};
const struct space_counters *space_counters(const struct space *space);
