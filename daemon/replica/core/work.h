/* daemon/replica/core/work.h — who does the changes, and whether the home should move there.
 *
 * The home moves to a host that has made WORK_RUN changes without anybody else making one meanwhile, and for some
 * time. A home that came back soon after it was given away doubles that time: hosts that really write by turns
 * forward to each other instead of handing the home to and fro.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/identity.h"

#define WORK_RUN 32
#define WORK_ALONE_NS (100 * 1000000LL)
#define WORK_ALONE_MAX_NS (6400 * 1000000LL)
#define WORK_SOON_NS (10 * 1000000000LL)

struct work {
    struct host_id worker; /* who made the last change */
    unsigned run;          /* changes that it made in a row */
    int64_t since_ns;      /* when the first of them was made */
    int64_t alone_ns;      /* how long it must have worked alone; 0: WORK_ALONE_NS */
    int64_t given_ns;      /* when this host last gave the home away; 0: never */
};

void work_done(struct work *work, struct host_id host, int64_t now_ns);
/* A host other than self that has earned the home, or NO_HOST. */
struct host_id work_earned(const struct work *work, struct host_id self, int64_t now_ns);
void work_given(struct work *work, int64_t now_ns);
void work_taken(struct work *work, int64_t now_ns);
