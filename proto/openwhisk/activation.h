/* proto/openwhisk/activation.h — an ActivationMessage: this action is about to run (classic: on topic invokerN,
 * so on invoker N; with the newer scheduler: on topic schedulerM, anywhere).
 *
 * It is what whiskfs wants to know and nothing else: the message's `user` carries the caller's key, `content` may
 * carry authorization headers, and no field here could hold either.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"
#include "proto/openwhisk/volume_ref.h"

struct ow_activation {
    char id[OW_ID_SIZE];
    char cause[OW_ID_SIZE];             /* the enclosing sequence or composition; "" without one */
    char action[OW_ACTION_SIZE];        /* owner's "namespace[/package]/name" */
    char namespace_name[OW_NAME_SIZE];  /* the namespace it is run for */
    char root_transid[OW_TRANSID_SIZE]; /* outermost; shared by all that one request set off */
    bool is_blocking;
    bool is_noise; /* health checks and warm-ups of OpenWhisk's own */
    struct ow_volume_refs volumes;
};

/* The run it belongs to: its cause, or itself. */
const char *ow_activation_run(const struct ow_activation *activation);

struct json_t;
MUST_USE int ow_activation_read(const struct json_t *root, struct ow_activation *ret_activation);
