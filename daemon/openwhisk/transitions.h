/* daemon/openwhisk/transitions.h — which action follows which, counted from runs that were seen.
 *
 * First order: (namespace, action) -> next action, or the end of the run. Bounded: the action that was not looked at
 * for longest goes when there are too many; of one action's successors the rarest gives way. Pure.
 */
#pragma once

#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"

#define TRANSITION_END "" /* as a next action: the run ends here */

struct transitions;

MUST_USE int transitions_new(unsigned max_actions, struct transitions **ret_transitions);
void transitions_free(struct transitions *t);

/* Adds count observations. -ENOMEM: nothing changed. */
MUST_USE int transitions_learn(struct transitions *t, const char *namespace_name,
                               const char *action, const char *next, uint32_t count);

struct transition_guess {
    char next[OW_ACTION_SIZE];
    double probability; /* of all that was seen to follow, ends included */
    uint64_t n_seen;    /* how often next was seen to follow */
};

/* The most frequent continuation. -ENOENT: nothing is known, or the run mostly ends here. */
MUST_USE int transitions_guess(struct transitions *t, const char *namespace_name,
                               const char *action, struct transition_guess *ret_guess);

/* For whoever writes them down: every count once, in no particular order; transitions_learn() takes them back. */
typedef void transition_visit_fn(void *arg, const char *namespace_name, const char *action,
                                 const char *next, uint32_t count);
void transitions_visit(struct transitions *t, transition_visit_fn *visit, void *arg);

unsigned transitions_count(const struct transitions *t); /* actions with a known successor */
