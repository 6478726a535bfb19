/* daemon/scrubber.h — begins a scrub of each volume when its last one is long ago (fs/volume/scrub.h).
 *
 * One thread. One volume is scrubbed at a time, the one whose last pass ended first; a pass that `whiskfs scrub` began counts.
 */
#pragma once

#include <stdint.h>

#include "daemon/volumes/volumes.h"

struct scrubber;

/* every_ns: between the end of a volume's pass and its next; 0: never. rate: bytes a second; 0: no limit. */
MUST_USE int scrubber_new(struct volumes *volumes, int64_t every_ns, uint64_t rate,
                          struct scrubber **ret_scrubber);
MUST_USE int scrubber_start(struct scrubber *scrubber);
void scrubber_stop(struct scrubber *scrubber);
void scrubber_free(struct scrubber *scrubber);
