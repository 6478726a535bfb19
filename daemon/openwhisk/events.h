/* daemon/openwhisk/events.h — follows OpenWhisk on Kafka: one consumer, whose thread drives an observer.
 *
 * Topics of both generations: PREFIXinvokerN, PREFIXcompletedC, PREFIXhealth, PREFIXcacheInvalidation, PREFIXschedulerM,
 * PREFIXcreationAckM. Read as an observer with a group of our own name, only what is new.
 */
#pragma once

#include "daemon/kafka/settings.h"
#include "daemon/openwhisk/observer.h"

struct events;

struct events_config {
    const char *host;  /* this host's name: the group is whiskfs-HOST */
    const char *state; /* directory in which it keeps what it learned; NULL: nowhere */
    struct kafka_settings settings;
    struct observer_config observer;
};

/* Copies what it needs of config but for membership, ops and arg. Callbacks begin at once. -EINVAL: see ret_sentence.
 * What was learned is written down each minute in which there was something new, and at the end. */
MUST_USE int events_new(const struct events_config *config, struct events **ret_events,
                        char ret_sentence[static KAFKA_SENTENCE_SIZE]);
/* No callback runs when it returns; within a second, if callbacks do not wait. */
void events_free(struct events *e);
DEFINE_FREEP(events, struct events)

const struct observer_counters *events_counters(const struct events *e);
bool events_is_connected(const struct events *e);
/* Waits until all that is produced from now on will be seen. False: deadline. */
MUST_USE bool events_wait_ready(struct events *e, int64_t deadline_ns);
