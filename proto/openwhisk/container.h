/* proto/openwhisk/container.h — the newer scheduler's word on containers: one is to be made (or resumed) on topic invokerN,
 * the invoker's answer on topic creationAckS, or those of an outdated revision are to go. A start comes before the
 * activation that it is for reaches the container, so it is the first sure sign of where an action will run. */
#pragma once

#include <stdbool.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"
#include "proto/openwhisk/ping.h"

enum ow_container_form {
    OW_CONTAINER_CREATION,
    OW_CONTAINER_CREATED, /* or resumed: the answer */
    OW_CONTAINER_DELETION
};

struct ow_container {
    enum ow_container_form form;
    char action[OW_ACTION_SIZE];       /* owner's "namespace[/package]/name" */
    char namespace_name[OW_NAME_SIZE]; /* the namespace it is run for */
    bool is_noise;                     /* OpenWhisk warms itself up */
    /* OW_CONTAINER_CREATED */
    bool is_error;
    struct ow_invoker invoker;
};

struct json_t;
MUST_USE int ow_container_read(const struct json_t *root, struct ow_container *ret_container);
