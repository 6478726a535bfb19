/* daemon/kafka/consumer.h — reads every topic whose name matches, and calls back from one thread of its own.
 *
 * An observer: partitions are assigned by hand, nothing is ever committed, no group is joined, so nobody else's
 * messages can be taken. Every few seconds a second thread looks for topics that have come or gone. It either reads from the
 * beginning, or only what is new: then a topic that appears later is read from its beginning less what is older than
 * the consumer, so its first messages are not missed.
 *
 * When the broker goes, callbacks pause; when it is back, they go on where they stopped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/kafka/settings.h"
#include "proto/base/cleanup.h"

struct kafka_consumer;

struct kafka_record {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* since 1970; -1: none */
    const void *key;      /* or NULL */
    size_t key_size;
    const void *payload; /* NULL: a tombstone */
    size_t payload_size;
    bool is_live; /* the partition had been read up to its end when this came */
};

/* All on the consumer's thread, without locks; all may be NULL but on_record. They must not block for long. */
struct kafka_consumer_ops {
    void (*on_record)(void *arg, const struct kafka_record *record);
    void (*on_tick)(void *arg); /* about once a second, broker or not */
};

struct kafka_consumer_config {
    const char
        *name; /* of the calling thread, and the log's subsystem; must outlive the consumer */
    const char *group; /* only the broker's access rules see it */
    struct kafka_settings settings;
    const char *const *patterns; /* extended regular expressions */
    size_t n_patterns;
    bool is_from_beginning;
    int discover_ms; /* look for topics this often; 0: 2000 */
    const struct kafka_consumer_ops *ops;
    void *arg;
};

/* Copies what it needs of config but for name and ops. Needs no broker yet. -EINVAL: see ret_sentence. -ENOMEM, -EAGAIN. */
MUST_USE int kafka_consumer_new(const struct kafka_consumer_config *config,
                                struct kafka_consumer **ret_consumer,
                                char ret_sentence[static KAFKA_SENTENCE_SIZE]);
/* Ends within a second, with or without a broker. No callback runs when it returns. */
void kafka_consumer_free(struct kafka_consumer *c);
DEFINE_FREEP(kafka_consumer, struct kafka_consumer)

/* The broker answered lately. */
bool kafka_consumer_is_connected(const struct kafka_consumer *c);

/* Waits until topics were looked for and all that matched have been read to their ends once (new ones only: until what
 * is produced from now on will be seen). False: deadline. */
MUST_USE bool kafka_consumer_wait_ready(struct kafka_consumer *c, int64_t deadline_ns);
