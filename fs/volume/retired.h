/* fs/volume/retired.h — identities that were answered, until a later request of their session takes them along.
 *
 * Bounded: when more are answered than requests carry away, the oldest are forgotten; their results then stay in the
 * state until the host's next session.
 */
#pragma once

#include <stdint.h>

#include "fs/request.h"
#include "proto/base/mutex.h"

#define RETIRED_SESSIONS 4
#define RETIRED_PER_SESSION 1024

struct retired_session {
    uint64_t session; /* 0: free */
    uint64_t used_at; /* the table's clock when it was last added to */
    uint32_t first, n;
    uint64_t uniques[RETIRED_PER_SESSION]; /* a ring */
};

struct retired {
    struct mutex lock; /* leaf */
    uint64_t clock;
    struct retired_session sessions[RETIRED_SESSIONS];
};

void retired_init(struct retired *retired);
void retired_done(struct retired *retired);
void retired_add(struct retired *retired, uint64_t session, uint64_t unique);
/* Moves up to REQUEST_RETIRE_MAX of the request's session into it. */
void retired_attach(struct retired *retired, struct request *request);
/* The request led to no entry: what it carried goes with another one. */
void retired_return(struct retired *retired, const struct request *request);
