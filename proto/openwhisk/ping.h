/* proto/openwhisk/ping.h — an invoker, as acknowledgements and the pings on topic `health` name it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"

#define OW_INVOKERS_MAX 4096

struct ow_invoker {
    unsigned id; /* below OW_INVOKERS_MAX */
    char unique_name[OW_INSTANCE_SIZE];
    char displayed_name[OW_INSTANCE_SIZE];
    uint64_t user_memory_bytes;
};

struct ow_ping {
    struct ow_invoker invoker;
    bool is_enabled;
};

struct json_t;
MUST_USE int ow_invoker_read(const struct json_t *object, struct ow_invoker *ret_invoker);
MUST_USE int ow_ping_read(const struct json_t *root, struct ow_ping *ret_ping);
