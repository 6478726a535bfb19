/* proto/openwhisk/topic.h — the names of OpenWhisk's topics: PREFIXbase[instance]. */
#pragma once

#include <stddef.h>

#include "proto/base/check.h"

enum ow_topic {
    OW_TOPIC_OTHER,
    OW_TOPIC_INVOKER,   /* invokerN */
    OW_TOPIC_SCHEDULER, /* schedulerM */
    OW_TOPIC_COMPLETED, /* completedC */
    OW_TOPIC_CREATED,   /* creationAckM */
    OW_TOPIC_HEALTH,
    OW_TOPIC_INVALIDATION, /* cacheInvalidation */
};

/* Which topic this is; for an invoker's also its id. */
enum ow_topic ow_topic_parse(const char *prefix, const char *topic, unsigned *ret_invoker);

/* A regular expression that matches the topics of this kind: "^prefixinvoker[0-9]+$". -ENAMETOOLONG. */
MUST_USE int ow_topic_pattern(const char *prefix, enum ow_topic topic, char *ret_pattern,
                              size_t size);
