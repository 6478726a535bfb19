/* proto/openwhisk/limits.h — how much of a message we are willing to look at, and how long its words may be. */
#pragma once

#include <stddef.h>

/* OpenWhisk: an entity name has at most 256 characters, an id 32 hex digits, an instance id 128. */
#define OW_ID_SIZE 33
#define OW_NAME_SIZE 257
#define OW_ACTION_SIZE (3 * OW_NAME_SIZE)
#define OW_INSTANCE_SIZE 129
#define OW_TRANSID_SIZE 129

struct ow_limits {
    size_t max_bytes;
    unsigned max_depth;
};

/* A payload of 1 MiB, OpenWhisk's own 6068 bytes around it, and room for an operator who raised the former. */
#define OW_LIMITS_DEFAULT                                                                          \
    {                                                                                              \
        .max_bytes = (1u << 20) + (64u << 10), .max_depth = 256                                    \
    }
