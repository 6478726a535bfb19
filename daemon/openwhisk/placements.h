/* daemon/openwhisk/placements.h — where actions have containers: with the newer scheduler, that is where they run next.
 *
 * Live containers pull activations; idle for 10 s they are paused, paused for 10 minutes removed; the scheduler resumes
 * a paused one before it makes another. So the host of an action is that of its container used last, a live one before a paused
 * one. Learned from containers made and from completions, which name the invoker. Pure; bounded: the action whose
 * containers were used longest ago goes, and of one action's invokers the one used longest ago.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"

#define PLACEMENT_LIVE_MS 10000    /* pause-grace */
#define PLACEMENT_PAUSED_MS 600000 /* idle-container */

struct placements;

MUST_USE int placements_new(unsigned max_actions, struct placements **ret_placements);
void placements_free(struct placements *p);

/* A container of the action was made, resumed or used on this invoker. -ENOMEM: it is not known there. */
MUST_USE int placements_seen(struct placements *p, const char *namespace_name, const char *action,
                             unsigned invoker, int64_t now_ms);
/* Its containers on this invoker are outdated. */
void placements_gone(struct placements *p, const char *namespace_name, const char *action,
                     unsigned invoker);

/* An activation was handed to a scheduler and is expected on this invoker (-1: anywhere); its completion will say only its
 * id. -ENOMEM: the completion will say nothing. */
MUST_USE int placements_started(struct placements *p, const char *id, const char *namespace_name,
                                const char *action, int expected);
/* True if it ran where it was expected. */
bool placements_completed(struct placements *p, const char *id, unsigned invoker, int64_t now_ms);

/* The invoker that most probably runs the action next; -1: it has no container that we know of. */
int placements_guess(struct placements *p, const char *namespace_name, const char *action,
                     int64_t now_ms);
