#include "daemon/kafka/consumer.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <regex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/kafka/partitions.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"

#define DISCOVER_MS 2000
#define TICK_NS NS_PER_S
/* Between looks until one has succeeded, and while a cluster may be starting with us. */
#define HURRY_MS 200
#define STARTING_MS 15000
#define POLL_MS 50 /* how long a stop, or a new topic, may wait for the reader's loop */
/* A broker answers one request of a connection after the other, and an idle fetch takes its time: a look at the topics
 * waits behind it. So fetches wait briefly, the look has longer, and it has a thread of its own, or records would wait. */
#define FETCH_WAIT_MS "200"
#define METADATA_MS 700
#define PATTERNS_MAX 16
#define CLOCK_SKEW_MS 5000 /* between us and whoever stamps records */

struct kafka_consumer {
    /* Fixed after kafka_consumer_new. */
    struct kafka_consumer_ops ops;
    void *arg;
    struct kafka_log log;
    bool is_from_beginning;
    int64_t discover_ns;
    int64_t started_ms; /* since 1970 */
    regex_t patterns[PATTERNS_MAX];
    size_t n_patterns;
    rd_kafka_t *client;
    pthread_t reader, scout;
    bool has_reader, has_scout;

    /* The reader's own. */
    struct kafka_partitions partitions;
    bool has_discovered; /* once, at least */

    atomic_bool is_stopping, is_connected;

    struct mutex lock; /* leaf; of all below */
    struct cond changed;
    bool is_ready;
    const struct rd_kafka_metadata *found; /* from the scout to the reader, or NULL */
};

static bool matches(const struct kafka_consumer *c, const char *topic)
{
    for (size_t i = 0; i < c->n_patterns; i++)
        if (regexec(&c->patterns[i], topic, 0, NULL, 0) == 0)
            return true;
    return false;
}

static void publish_ready(struct kafka_consumer *c)
{
    bool is_ready = c->has_discovered && c->partitions.n_behind == 0;
    SCOPED_LOCK(&c->lock);
    if (c->is_ready == is_ready)
        return;
    c->is_ready = is_ready;
    cond_broadcast(&c->changed);
}

static void complain(struct kafka_consumer *c, const char *what, const char *why)
{
    uint64_t suppressed;
    if (log_allow(&c->log.other, &suppressed))
        log_warning(c->log.subsystem, "%s: %s suppressed=%llu", what, why,
                    (unsigned long long)suppressed);
}

/* Assignment is incremental: the partitions that are already read keep their positions. */
static void change_assignment(struct kafka_consumer *c, rd_kafka_topic_partition_list_t *list,
                              bool is_added)
{
    if (list->cnt == 0)
        return;
    rd_kafka_error_t *error = is_added ? rd_kafka_incremental_assign(c->client, list)
                                       : rd_kafka_incremental_unassign(c->client, list);
    if (!error)
        return;
    complain(c, is_added ? "cannot read new topics" : "cannot leave old topics",
             rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

static void add_partition(struct kafka_consumer *c, const char *topic, int32_t number,
                          rd_kafka_topic_partition_list_t *added)
{
    struct kafka_partition *known = kafka_partitions_find(&c->partitions, topic, number);
    if (known) {
        known->is_marked = true;
        return;
    }
    bool is_late = c->has_discovered && !c->is_from_beginning;
    int r = kafka_partitions_add(&c->partitions, topic, number, is_late);
    if (r < 0) {
        complain(c, "cannot read a topic", strerror(-r));
        return;
    }
    bool is_whole = is_late || c->is_from_beginning;
    rd_kafka_topic_partition_list_add(added, topic, number)->offset =
        is_whole ? RD_KAFKA_OFFSET_BEGINNING : RD_KAFKA_OFFSET_END;
    log_debug(c->log.subsystem, "reading topic=%s partition=%d from=%s", topic, number,
              is_whole ? "beginning" : "end");
}

static void remove_unmarked(struct kafka_consumer *c, rd_kafka_topic_partition_list_t *removed)
{
    for (size_t i = 0; i < c->partitions.n;) {
        struct kafka_partition *partition = &c->partitions.list[i];
        if (partition->is_marked) {
            i++;
            continue;
        }
        log_debug(c->log.subsystem, "topic is gone topic=%s partition=%d", partition->topic,
                  partition->number);
        (void)rd_kafka_topic_partition_list_add(removed, partition->topic, partition->number);
        kafka_partitions_remove(&c->partitions, i);
    }
}

static void compare(struct kafka_consumer *c, const rd_kafka_metadata_t *metadata)
{
    rd_kafka_topic_partition_list_t *added = rd_kafka_topic_partition_list_new(8);
    rd_kafka_topic_partition_list_t *removed = rd_kafka_topic_partition_list_new(8);
    for (size_t i = 0; i < c->partitions.n; i++)
        c->partitions.list[i].is_marked = false;
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];
        if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR || !matches(c, topic->topic))
            continue;
        for (int k = 0; k < topic->partition_cnt; k++)
            add_partition(c, topic->topic, topic->partitions[k].id, added);
    }
    remove_unmarked(c, removed);
    change_assignment(c, removed, false);
    change_assignment(c, added, true);
    rd_kafka_topic_partition_list_destroy(added);
    rd_kafka_topic_partition_list_destroy(removed);
}

static void hand_over(struct kafka_consumer *c, const struct rd_kafka_metadata *metadata)
{
    const struct rd_kafka_metadata *old;
    {
        SCOPED_LOCK(&c->lock);
        old = c->found;
        c->found = metadata;
    }
    if (old)
        rd_kafka_metadata_destroy(old);
}

/* Asks for all topics: a request that names a topic may create it. */
static bool look_at_topics(struct kafka_consumer *c)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t error = rd_kafka_metadata(c->client, 1, NULL, &metadata, METADATA_MS);
    bool is_connected = error == RD_KAFKA_RESP_ERR_NO_ERROR;
    bool was_connected = atomic_exchange(&c->is_connected, is_connected);
    if (!is_connected)
        return false;
    if (!was_connected)
        log_info(c->log.subsystem, "connected to Kafka brokers=%d", metadata->broker_cnt);
    hand_over(c, metadata);
    return true;
}

static void pause_scout(struct kafka_consumer *c, int64_t deadline_ns)
{
    SCOPED_LOCK(&c->lock);
    while (!atomic_load(&c->is_stopping))
        if (!cond_wait_until(&c->changed, &c->lock, deadline_ns))
            return;
}

static void *scout_thread(void *arg)
{
    struct kafka_consumer *c = arg;
    bool has_looked = false;
    int64_t started_at = clock_mono_ns() + STARTING_MS * NS_PER_MS;
    while (!atomic_load(&c->is_stopping)) {
        if (look_at_topics(c))
            has_looked = true;
        int64_t now = clock_mono_ns();
        bool is_hurried = !has_looked || now < started_at;
        pause_scout(
            c, now + (is_hurried ? MIN(HURRY_MS * NS_PER_MS, c->discover_ns) : c->discover_ns));
    }
    return NULL;
}

static void take_found(struct kafka_consumer *c)
{
    const struct rd_kafka_metadata *metadata;
    {
        SCOPED_LOCK(&c->lock);
        metadata = c->found;
        c->found = NULL;
    }
    if (!metadata)
        return;
    compare(c, metadata);
    rd_kafka_metadata_destroy(metadata);
    c->has_discovered = true;
    publish_ready(c);
}

static bool is_stale(const struct kafka_consumer *c, const struct kafka_partition *partition,
                     int64_t timestamp_ms)
{
    return partition && partition->is_late && !partition->is_caught_up && timestamp_ms >= 0 &&
           timestamp_ms < c->started_ms - CLOCK_SKEW_MS;
}

static void deliver(struct kafka_consumer *c, const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    struct kafka_record record = {
        .topic = rd_kafka_topic_name(message->rkt),
        .partition = message->partition,
        .offset = message->offset,
        .timestamp_ms = rd_kafka_message_timestamp(message, &type),
        .key = message->key,
        .key_size = message->key_len,
        .payload = message->payload,
        .payload_size = message->len,
    };
    const struct kafka_partition *partition =
        kafka_partitions_find(&c->partitions, record.topic, record.partition);
    if (!partition || is_stale(c, partition, record.timestamp_ms))
        return;
    record.is_live = partition->is_caught_up;
    c->ops.on_record(c->arg, &record);
}

static void reached_end(struct kafka_consumer *c, const rd_kafka_message_t *message)
{
    struct kafka_partition *partition = kafka_partitions_find(
        &c->partitions, rd_kafka_topic_name(message->rkt), message->partition);
    if (!partition || partition->is_caught_up)
        return;
    kafka_partitions_caught_up(&c->partitions, partition);
    publish_ready(c);
}

static void handle(struct kafka_consumer *c, const rd_kafka_message_t *message)
{
    switch (message->err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        deliver(c, message);
        break;
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        reached_end(c, message);
        break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: /* removed: the next look at the topics sees to it */
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        break;
    default:
        complain(c, "cannot read from Kafka", rd_kafka_message_errstr(message));
        break;
    }
}

static void *reader_thread(void *arg)
{
    struct kafka_consumer *c = arg;
    int64_t tick_at = 0;
    while (!atomic_load(&c->is_stopping)) {
        take_found(c);
        int64_t now = clock_mono_ns();
        if (now >= tick_at) {
            if (c->ops.on_tick)
                c->ops.on_tick(c->arg);
            tick_at = now + TICK_NS;
        }
        rd_kafka_message_t *message = rd_kafka_consumer_poll(c->client, POLL_MS);
        if (!message)
            continue;
        handle(c, message);
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static int compile_patterns(struct kafka_consumer *c, const struct kafka_consumer_config *config,
                            char *sentence)
{
    if (config->n_patterns > PATTERNS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < config->n_patterns; i++) {
        int r = regcomp(&c->patterns[i], config->patterns[i], REG_EXTENDED | REG_NOSUB);
        if (r != 0) {
            (void)regerror(r, &c->patterns[i], sentence, KAFKA_SENTENCE_SIZE);
            return -EINVAL;
        }
        c->n_patterns++;
    }
    return 0;
}

static int make_client(struct kafka_consumer *c, const struct kafka_consumer_config *config,
                       char *sentence)
{
    const struct kafka_setting list[] = {
        {"group.id", config->group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"allow.auto.create.topics", "false"},
        {"fetch.wait.max.ms", FETCH_WAIT_MS},
        {"auto.offset.reset", config->is_from_beginning ? "earliest" : "latest"},
    };
    struct kafka_settings fixed = {list, N_ELEMENTS(list)};
    rd_kafka_conf_t *conf;
    int r = kafka_conf_make(&config->settings, &fixed, &c->log, &conf, sentence);
    if (r < 0)
        return r;
    c->client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, sentence, KAFKA_SENTENCE_SIZE);
    if (!c->client) {
        rd_kafka_conf_destroy(conf);
        return -EINVAL;
    }
    (void)rd_kafka_poll_set_consumer(c->client);
    return 0;
}

int kafka_consumer_new(const struct kafka_consumer_config *config,
                       struct kafka_consumer **ret_consumer,
                       char ret_sentence[static KAFKA_SENTENCE_SIZE])
{
    ret_sentence[0] = '\0';
    struct kafka_consumer *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    mutex_init(&made->lock, LOCK_leaf);
    cond_init(&made->changed);
    AUTO(kafka_consumer_freep) struct kafka_consumer *c = made;
    c->ops = *config->ops;
    c->arg = config->arg;
    c->log.subsystem = config->name;
    c->is_from_beginning = config->is_from_beginning;
    c->discover_ns = (config->discover_ms > 0 ? config->discover_ms : DISCOVER_MS) * NS_PER_MS;
    c->started_ms = clock_real_ns() / NS_PER_MS;
    int r = compile_patterns(c, config, ret_sentence);
    if (r < 0)
        return r;
    r = make_client(c, config, ret_sentence);
    if (r < 0)
        return r;
    r = thread_start(&c->reader, config->name, reader_thread, c);
    if (r < 0)
        return r;
    c->has_reader = true;
    r = thread_start(&c->scout, "kafka-topics", scout_thread, c);
    if (r < 0)
        return r;
    c->has_scout = true;
    *ret_consumer = TAKE(c);
    return 0;
}

static void stop_threads(struct kafka_consumer *c)
{
    {
        SCOPED_LOCK(&c->lock);
        atomic_store(&c->is_stopping, true);
        cond_broadcast(&c->changed);
    }
    if (c->has_scout)
        thread_join(c->scout);
    if (c->has_reader)
        thread_join(c->reader);
}

void kafka_consumer_free(struct kafka_consumer *c)
{
    if (!c)
        return;
    stop_threads(c);
    hand_over(c, NULL);
    if (c->client)
        rd_kafka_destroy_flags(c->client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    for (size_t i = 0; i < c->n_patterns; i++)
        regfree(&c->patterns[i]);
    kafka_partitions_done(&c->partitions);
    cond_done(&c->changed);
    mutex_done(&c->lock);
    free(c);
}

bool kafka_consumer_is_connected(const struct kafka_consumer *c)
{
    return atomic_load(&c->is_connected);
}

bool kafka_consumer_wait_ready(struct kafka_consumer *c, int64_t deadline_ns)
{
    SCOPED_LOCK(&c->lock);
    while (!c->is_ready)
        if (!cond_wait_until(&c->changed, &c->lock, deadline_ns))
            return c->is_ready;
    return true;
}
