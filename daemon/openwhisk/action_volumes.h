/* daemon/openwhisk/action_volumes.h — which volumes an action named when it last ran for a namespace. Pure.
 *
 * Actions name their volumes in default parameters, so what the next step will use is known from its last run, before its
 * own message is there. Bounded: the action that was not looked at for longest is forgotten.
 */
#pragma once

#include "proto/base/check.h"
#include "proto/openwhisk/volume_ref.h"

struct action_volumes;

MUST_USE int action_volumes_new(unsigned max_actions, struct action_volumes **ret_volumes);
void action_volumes_free(struct action_volumes *v);

/* -ENOMEM: what was known is forgotten. */
MUST_USE int action_volumes_put(struct action_volumes *v, const char *namespace_name,
                                const char *action, const struct ow_volume_refs *refs);
/* -ENOENT: never seen. */
MUST_USE int action_volumes_get(struct action_volumes *v, const char *namespace_name,
                                const char *action, struct ow_volume_refs *ret_refs);
