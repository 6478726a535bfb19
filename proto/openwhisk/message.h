/* proto/openwhisk/message.h — OpenWhisk's Kafka messages, of both its generations, as far as whiskfs wants them.
 *
 * Messages carry API keys in clear. A decoded message cannot: it has no field for them, and the parsed tree is
 * zeroed before ow_message_decode() returns. Never log, store or forward the raw payload.
 */
#pragma once

#include <stddef.h>

#include "proto/base/check.h"
#include "proto/openwhisk/ack.h"
#include "proto/openwhisk/activation.h"
#include "proto/openwhisk/container.h"
#include "proto/openwhisk/ping.h"

enum ow_kind {
    OW_OTHER, /* a message that we know of and have no use for, or a newer kind */
    OW_ACTIVATION,
    OW_ACK,
    OW_PING,
    OW_INVALIDATION, /* a definition was written or removed */
    OW_CONTAINER,    /* the newer scheduler makes, resumes or deletes containers */
};

struct ow_invalidation {
    char entity[OW_ACTION_SIZE]; /* "namespace[/package]/name" */
};

struct ow_message {
    enum ow_kind kind;
    union {
        struct ow_activation activation;
        struct ow_ack ack;
        struct ow_ping ping;
        struct ow_invalidation invalidation;
        struct ow_container container;
    };
};

/* -EBADMSG: malformed. -EMSGSIZE: beyond the limits. */
MUST_USE int ow_message_decode(const void *payload, size_t size, const struct ow_limits *limits,
                               struct ow_message *ret_message);

/* One line for a log at debug level; cut to size. */
void ow_message_describe(const struct ow_message *message, char *ret_line, size_t size);
