/* daemon/kafka/directory.h — membership over Kafka: two compacted topics of whiskfs's own, PREFIXhosts and
 * PREFIXvolumes (see directory_record.h), read from their beginnings into tables, and written by every host.
 *
 * This host gives a sign of life when it starts and every 5 s. A host is alive for 15 s after its last: by the record's
 * own time when the topic is first read, by ours after that, so clocks that differ do no harm. While the broker is away
 * nobody ages.
 *
 * Nothing here waits for a broker but announce and retract, and kafka_directory_wait_ready().
 */
#pragma once

#include "daemon/kafka/settings.h"
#include "daemon/membership.h"

struct kafka_directory_config {
    const char *name, *address; /* of this host */
    int invoker;                /* or -1 */
    const char *topic_prefix;
    struct kafka_settings settings;
    int beat_ms; /* between signs of life; 0: 5000 */
};

/* Copies what it needs. -EINVAL: see ret_sentence. */
MUST_USE int kafka_directory_new(const struct kafka_directory_config *config,
                                 struct membership **ret_membership,
                                 char ret_sentence[static KAFKA_SENTENCE_SIZE]);

/* Waits until both topics have been read to their ends. False: deadline; the tables may lack something. */
MUST_USE bool kafka_directory_wait_ready(struct membership *membership, int64_t deadline_ns);
