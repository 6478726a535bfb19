/* daemon/kafka/settings.h — librdkafka's own properties, passed through as the operator wrote them.
 *
 * Ours come first as defaults, the operator's replace them, and what correctness hangs on (no commits, our own group)
 * comes last. librdkafka judges names and values; its sentence is what the operator reads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/check.h"
#include "proto/base/log.h"

#define KAFKA_SENTENCE_SIZE 512

struct kafka_setting {
    const char *name, *value;
};

struct kafka_settings {
    const struct kafka_setting *list;
    size_t n;
};

/* What a client's callbacks log with; must outlive the client. Zero-initialise but for subsystem. */
struct kafka_log {
    const char *subsystem;
    struct log_limit lost, other;
};

/* -EINVAL: librdkafka refuses one; ret_sentence says which and why. */
MUST_USE int kafka_settings_check(const struct kafka_settings *settings,
                                  char ret_sentence[static KAFKA_SENTENCE_SIZE]);

/* A configuration with defaults, settings, and `fixed` on top, that logs through *log (its opaque). To be owned by
 * rd_kafka_new() or destroyed. -EINVAL as above. */
struct rd_kafka_conf_s;
MUST_USE int kafka_conf_make(const struct kafka_settings *settings,
                             const struct kafka_settings *fixed, struct kafka_log *log,
                             struct rd_kafka_conf_s **ret_conf,
                             char ret_sentence[static KAFKA_SENTENCE_SIZE]);
