/* daemon/kafka/producer.h — writes records, and makes the topics they go to.
 *
 * Bounded: what librdkafka queues has a limit of messages and bytes, and a record that no broker takes within ten
 * seconds is given up and counted. One thread of its own takes delivery reports.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/kafka/settings.h"
#include "proto/base/cleanup.h"

struct kafka_producer;

/* name: of the thread and the log's subsystem; must outlive the producer. -EINVAL: see ret_sentence. */
MUST_USE int kafka_producer_new(const char *name, const struct kafka_settings *settings,
                                struct kafka_producer **ret_producer,
                                char ret_sentence[static KAFKA_SENTENCE_SIZE]);
/* Gives what is queued up to half a second to go out. */
void kafka_producer_free(struct kafka_producer *p);
DEFINE_FREEP(kafka_producer, struct kafka_producer)

/* Queues a record; payload NULL is a tombstone. -ENOBUFS: the queue is full. -EMSGSIZE. -EIO. */
MUST_USE int kafka_producer_send(struct kafka_producer *p, const char *topic, const char *key,
                                 const void *payload, size_t size);

/* The same, and waits until the brokers have it. -ETIMEDOUT: not within timeout_ms; it may still arrive. */
MUST_USE int kafka_producer_send_wait(struct kafka_producer *p, const char *topic, const char *key,
                                      const void *payload, size_t size, int timeout_ms);

/* Makes a compacted topic of one partition unless it exists. -EACCES, -ETIMEDOUT, -EOPNOTSUPP (a broker that makes no
 * topics on request), -EIO. */
MUST_USE int kafka_producer_ensure_compacted(struct kafka_producer *p, const char *topic,
                                             int timeout_ms);

struct kafka_producer_stats {
    uint64_t n_delivered, n_failed;
};
void kafka_producer_stats(const struct kafka_producer *p, struct kafka_producer_stats *ret_stats);
