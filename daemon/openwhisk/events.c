#include "daemon/openwhisk/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/kafka/consumer.h"
#include "daemon/openwhisk/learned.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define SAVE_NS (60 * NS_PER_S)

struct events {
    struct observer *observer; /* the consumer's thread's own, but for its counters */
    struct kafka_consumer *consumer;
    char *learned;    /* path, or NULL */
    uint64_t n_saved; /* transitions_learned() as it was saved */
    int64_t save_at_ns;
};

static struct transitions *transitions_of(struct events *e)
{
    return predictor_transitions(observer_predictor(e->observer));
}

static void save(struct events *e)
{
    static struct log_limit limit;
    uint64_t n_learned = transitions_learned(transitions_of(e)), suppressed;
    if (!e->learned || n_learned == e->n_saved)
        return;
    int r = learned_save(transitions_of(e), e->learned);
    if (r == 0)
        e->n_saved = n_learned;
    else if (log_allow(&limit, &suppressed))
        log_warning("openwhisk", "cannot write down in '%s' what was learned of sequences: %s",
                    e->learned, strerror(-r));
}

static int load(struct events *e, const char *state)
{
    if (!state)
        return 0;
    if (asprintf(&e->learned, "%s/transitions.json", state) < 0) {
        e->learned = NULL;
        return -ENOMEM;
    }
    int r = learned_load(transitions_of(e), e->learned);
    if (r < 0 && r != -ENOENT)
        log_warning("openwhisk",
                    "cannot read '%s', what was learned of sequences: %s: it is learned anew",
                    e->learned, strerror(-r));
    e->n_saved = transitions_learned(transitions_of(e));
    return 0;
}

static void on_record(void *arg, const struct kafka_record *record)
{
    struct events *e = arg;
    observer_record(e->observer, record->topic, record->offset, record->payload,
                    record->payload_size, clock_mono_ns() / NS_PER_MS);
}

static void on_tick(void *arg)
{
    struct events *e = arg;
    int64_t now_ns = clock_mono_ns();
    observer_tick(e->observer, now_ns / NS_PER_MS);
    if (now_ns < e->save_at_ns)
        return;
    e->save_at_ns = now_ns + SAVE_NS;
    save(e);
}

static int start_consumer(struct events *e, const struct events_config *config, char *sentence)
{
    static const enum ow_topic topics[] = {OW_TOPIC_INVOKER, OW_TOPIC_SCHEDULER,
                                           OW_TOPIC_CREATED, OW_TOPIC_COMPLETED,
                                           OW_TOPIC_HEALTH,  OW_TOPIC_INVALIDATION};
    static const struct kafka_consumer_ops ops = {.on_record = on_record, .on_tick = on_tick};
    char group[HOST_NAME_MAX_BYTES + 16], text[N_ELEMENTS(topics)][512];
    const char *patterns[N_ELEMENTS(topics)];
    for (unsigned i = 0; i < N_ELEMENTS(topics); i++) {
        int r = ow_topic_pattern(config->observer.topic_prefix, topics[i], text[i], sizeof text[i]);
        if (r < 0) {
            (void)snprintf(sentence, KAFKA_SENTENCE_SIZE,
                           "the topic prefix of OpenWhisk is too long");
            return r;
        }
        patterns[i] = text[i];
    }
    (void)snprintf(group, sizeof group, "whiskfs-%s", config->host);
    struct kafka_consumer_config consumer = {
        .name = "events",
        .group = group,
        .settings = config->settings,
        .patterns = patterns,
        .n_patterns = N_ELEMENTS(patterns),
        .ops = &ops,
        .arg = e,
    };
    return kafka_consumer_new(&consumer, &e->consumer, sentence);
}

int events_new(const struct events_config *config, struct events **ret_events,
               char ret_sentence[static KAFKA_SENTENCE_SIZE])
{
    ret_sentence[0] = '\0';
    AUTO(events_freep) struct events *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    int r = observer_new(&config->observer, &e->observer);
    if (r < 0)
        return r;
    r = load(e, config->state);
    if (r < 0)
        return r;
    e->save_at_ns = clock_mono_ns() + SAVE_NS;
    r = start_consumer(e, config, ret_sentence);
    if (r < 0)
        return r;
    *ret_events = TAKE(e);
    return 0;
}

void events_free(struct events *e)
{
    if (!e)
        return;
    kafka_consumer_free(e->consumer);
    if (e->observer)
        save(e);
    observer_free(e->observer);
    free(e->learned);
    free(e);
}

const struct observer_counters *events_counters(const struct events *e)
{
    return observer_counters(e->observer);
}

bool events_is_connected(const struct events *e)
{
    return kafka_consumer_is_connected(e->consumer);
}

bool events_wait_ready(struct events *e, int64_t deadline_ns)
{
    return kafka_consumer_wait_ready(e->consumer, deadline_ns);
}
