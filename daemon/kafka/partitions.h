/* daemon/kafka/partitions.h — which partitions a consumer reads, and how far it has come. One thread's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"

#define KAFKA_PARTITIONS_MAX 8192

struct kafka_partition {
    char *topic;
    int32_t number;
    bool is_caught_up; /* its end was reached once */
    bool
        is_late; /* appeared after the consumer's start: older records are dropped until caught up */
    bool is_marked; /* seen in the present round */
};

struct kafka_partitions {
    struct kafka_partition *list;
    size_t n, capacity, n_behind; /* not caught up */
};

void kafka_partitions_done(struct kafka_partitions *p);
/* Or NULL. */
struct kafka_partition *kafka_partitions_find(const struct kafka_partitions *p, const char *topic,
                                              int32_t number);
/* -ENOSPC: KAFKA_PARTITIONS_MAX. -ENOMEM. */
MUST_USE int kafka_partitions_add(struct kafka_partitions *p, const char *topic, int32_t number,
                                  bool is_late);
void kafka_partitions_remove(struct kafka_partitions *p, size_t index);
void kafka_partitions_caught_up(struct kafka_partitions *p, struct kafka_partition *partition);
