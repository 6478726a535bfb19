/* daemon/openwhisk/transitions.h — which action follows in which context, counted from runs that were seen.
 *
 * (namespace, context) -> next action, or the end of the run. A context is whatever tells runs apart: the last action, or
 * all actions so far. Bounded: the context that was not looked at for longest goes when there are too many; of one
 * context's successors the rarest gives way. Pure.
 */
#pragma once

#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"

#define TRANSITION_END "" /* as a next action: the run ends here */

struct transitions;

MUST_USE int transitions_new(unsigned max_contexts, struct transitions **ret_transitions);
void transitions_free(struct transitions *t);

/* Adds count observations. -ENOMEM: nothing changed. */
MUST_USE int transitions_learn(struct transitions *t, const char *namespace_name,
                               const char *context, const char *next, uint32_t count);

struct transition_guess {
    char next[OW_ACTION_SIZE];
    double probability; /* of all that was seen to follow, ends included */
    uint64_t n_seen;    /* how often next was seen to follow */
};

/* The most frequent continuation. -ENOENT: nothing is known. -ENODATA: the run mostly ends here. */
MUST_USE int transitions_guess(struct transitions *t, const char *namespace_name,
                               const char *context, struct transition_guess *ret_guess);

/* For whoever writes them down: every count once, the context used longest ago first; transitions_learn() takes them back. */
typedef void transition_visit_fn(void *arg, const char *namespace_name, const char *context,
                                 const char *next, uint32_t count);
void transitions_visit(struct transitions *t, transition_visit_fn *visit, void *arg);

unsigned transitions_count(const struct transitions *t); /* contexts with a known successor */
uint64_t transitions_learned(
    const struct transitions *t); /* observations, ever: moves when there is something new */
