/* tests/unit/openwhisk/mock_kafka.h — librdkafka's own mock broker, on a port of localhost. */
#pragma once

#include <stdint.h>

#include "daemon/kafka/settings.h"

struct mock_kafka;

struct mock_kafka *mock_kafka_start(void);
void mock_kafka_stop(struct mock_kafka *mock);

/* bootstrap.servers, and what makes a lost broker's return quick; lives as long as the mock. */
struct kafka_settings mock_kafka_settings(const struct mock_kafka *mock);

void mock_kafka_create(struct mock_kafka *mock, const char *topic);
void mock_kafka_down(struct mock_kafka *mock);
void mock_kafka_up(struct mock_kafka *mock);

/* Returns when the broker has it. timestamp_ms 0: now. payload NULL: a tombstone. */
void mock_kafka_produce(struct mock_kafka *mock, const char *topic, const char *key,
                        const char *payload, int64_t timestamp_ms);
