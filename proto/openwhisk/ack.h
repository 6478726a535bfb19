/* proto/openwhisk/ack.h — what invokers tell controllers on topic completedC: a step has its result, or its slot
 * is free, or both. Only whether it worked is kept of the result. */
#pragma once

#include <stdbool.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"
#include "proto/openwhisk/ping.h"

enum ow_ack_form {
    OW_ACK_RESULT,
    OW_ACK_COMPLETION,
    OW_ACK_COMBINED
};

struct ow_ack {
    enum ow_ack_form form;
    char id[OW_ID_SIZE]; /* the activation */
    bool is_shrunk;      /* `response` was only the id: nothing known of the result but is_error */
    bool is_error;       /* a sequence stops here */
    /* Only from a response in full; "" otherwise. */
    char cause[OW_ID_SIZE];
    char namespace_name[OW_NAME_SIZE];
    /* Completion and combined. A scheduler that reports a failure names invoker 0, with no memory. */
    bool has_invoker;
    struct ow_invoker invoker;
};

struct json_t;
MUST_USE int ow_ack_read(const struct json_t *root, struct ow_ack *ret_ack);
