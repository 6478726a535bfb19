#include "daemon/kafka/producer.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mutex.h"

#define POLL_MS 100
#define FLUSH_MS 500

struct kafka_producer {
    struct kafka_log log;
    rd_kafka_t *client;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
    atomic_uint_least64_t n_delivered, n_failed;
    struct mutex lock; /* leaf: all deliveries that somebody waits for */
    struct cond delivered;
};

/* What a record carries whose sender waits. Belongs to the sender and to the delivery report; the second frees it. */
struct delivery {
    bool is_done, is_abandoned;
    rd_kafka_resp_err_t error;
};

static int errno_of(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return 0;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return -ENOBUFS;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return -EMSGSIZE;
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        return -ETIMEDOUT;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return -EACCES;
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
        return -EOPNOTSUPP;
    default:
        return -EIO;
    }
}

static void finish(struct kafka_producer *p, struct delivery *delivery, rd_kafka_resp_err_t error)
{
    SCOPED_LOCK(&p->lock);
    if (delivery->is_abandoned) {
        free(delivery);
        return;
    }
    delivery->error = error;
    delivery->is_done = true;
    cond_broadcast(&p->delivered);
}

static void delivery_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    struct kafka_log *log = opaque;
    struct kafka_producer *p = container_of(log, struct kafka_producer, log);
    atomic_fetch_add(message->err ? &p->n_failed : &p->n_delivered, 1);
    uint64_t suppressed;
    if (message->err && log_allow(&log->other, &suppressed))
        log_warning(log->subsystem, "cannot deliver a record to '%s': %s suppressed=%llu",
                    rd_kafka_topic_name(message->rkt), rd_kafka_err2str(message->err),
                    (unsigned long long)suppressed);
    if (message->_private)
        finish(p, message->_private, message->err);
}

static void *producer_thread(void *arg)
{
    struct kafka_producer *p = arg;
    while (!atomic_load(&p->is_stopping))
        (void)rd_kafka_poll(p->client, POLL_MS);
    return NULL;
}

static int make_client(struct kafka_producer *p, const struct kafka_settings *settings,
                       char *sentence)
{
    static const struct kafka_setting list[] = {{"acks", "all"}};
    struct kafka_settings fixed = {list, N_ELEMENTS(list)};
    rd_kafka_conf_t *conf;
    int r = kafka_conf_make(settings, &fixed, &p->log, &conf, sentence);
    if (r < 0)
        return r;
    rd_kafka_conf_set_dr_msg_cb(conf, delivery_report);
    p->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, sentence, KAFKA_SENTENCE_SIZE);
    if (!p->client) {
        rd_kafka_conf_destroy(conf);
        return -EINVAL;
    }
    return 0;
}

int kafka_producer_new(const char *name, const struct kafka_settings *settings,
                       struct kafka_producer **ret_producer,
                       char ret_sentence[static KAFKA_SENTENCE_SIZE])
{
    ret_sentence[0] = '\0';
    struct kafka_producer *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    mutex_init(&made->lock, LOCK_leaf);
    cond_init(&made->delivered);
    AUTO(kafka_producer_freep) struct kafka_producer *p = made;
    p->log.subsystem = name;
    int r = make_client(p, settings, ret_sentence);
    if (r < 0)
        return r;
    r = thread_start(&p->thread, name, producer_thread, p);
    if (r < 0)
        return r;
    p->has_thread = true;
    *ret_producer = TAKE(p);
    return 0;
}

void kafka_producer_free(struct kafka_producer *p)
{
    if (!p)
        return;
    atomic_store(&p->is_stopping, true);
    if (p->has_thread)
        thread_join(p->thread);
    if (p->client) {
        (void)rd_kafka_flush(p->client, FLUSH_MS);
        (void)rd_kafka_purge(p->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        (void)rd_kafka_flush(p->client, FLUSH_MS); /* reports of what was purged */
        rd_kafka_destroy(p->client);
    }
    cond_done(&p->delivered);
    mutex_done(&p->lock);
    free(p);
}

static int produce(struct kafka_producer *p, const char *topic, const char *key,
                   const void *payload, size_t size, struct delivery *delivery)
{
    rd_kafka_vu_t fields[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)key, strlen(key)}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)payload, payload ? size : 0}},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = delivery},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(p->client, fields, N_ELEMENTS(fields));
    if (!error)
        return 0;
    int r = errno_of(rd_kafka_error_code(error));
    rd_kafka_error_destroy(error);
    return r;
}

int kafka_producer_send(struct kafka_producer *p, const char *topic, const char *key,
                        const void *payload, size_t size)
{
    return produce(p, topic, key, payload, size, NULL);
}

static int wait_for(struct kafka_producer *p, struct delivery *delivery, int64_t deadline_ns)
{
    SCOPED_LOCK(&p->lock);
    while (!delivery->is_done) {
        if (cond_wait_until(&p->delivered, &p->lock, deadline_ns) || delivery->is_done)
            continue;
        delivery->is_abandoned = true; /* its report frees it */
        return -ETIMEDOUT;
    }
    int r = errno_of(delivery->error);
    free(delivery);
    return r;
}

/* Made under the lock that its report takes: what librdkafka does in between orders nothing that
 * ThreadSanitizer sees. */
static struct delivery *delivery_new(struct kafka_producer *p)
{
    SCOPED_LOCK(&p->lock);
    return calloc(1, sizeof(struct delivery));
}

int kafka_producer_send_wait(struct kafka_producer *p, const char *topic, const char *key,
                             const void *payload, size_t size, int timeout_ms)
{
    int64_t deadline_ns = clock_mono_ns() + timeout_ms * NS_PER_MS;
    struct delivery *delivery = delivery_new(p);
    if (!delivery)
        return -ENOMEM;
    int r = produce(p, topic, key, payload, size, delivery);
    if (r < 0) {
        free(delivery);
        return r;
    }
    return wait_for(p, delivery, deadline_ns);
}

/* Hosts say that they are there every few seconds: small segments let compaction keep the topic short. A factor of -1
 * is the broker's default. */
static rd_kafka_NewTopic_t *compacted_topic(const char *topic)
{
    static const struct kafka_setting config[] = {{"cleanup.policy", "compact"},
                                                  {"segment.ms", "3600000"},
                                                  {"segment.bytes", "16777216"},
                                                  {"min.cleanable.dirty.ratio", "0.1"}};
    char sentence[KAFKA_SENTENCE_SIZE];
    rd_kafka_NewTopic_t *made = rd_kafka_NewTopic_new(topic, 1, -1, sentence, sizeof sentence);
    for (unsigned i = 0; made && i < N_ELEMENTS(config); i++)
        (void)rd_kafka_NewTopic_set_config(made, config[i].name, config[i].value);
    return made;
}

static int read_creation(rd_kafka_event_t *event)
{
    if (!event)
        return -ETIMEDOUT;
    if (rd_kafka_event_error(event))
        return errno_of(rd_kafka_event_error(event));
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    size_t n = 0;
    const rd_kafka_topic_result_t **topics =
        result ? rd_kafka_CreateTopics_result_topics(result, &n) : NULL;
    if (n != 1)
        return -EIO;
    rd_kafka_resp_err_t error = rd_kafka_topic_result_error(topics[0]);
    return error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS ? 0 : errno_of(error);
}

/* Asks for all topics: a request that names one may create it, and not as we want it. */
static int find_topic(struct kafka_producer *p, const char *topic, int timeout_ms)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t error = rd_kafka_metadata(p->client, 1, NULL, &metadata, timeout_ms);
    if (error)
        return errno_of(error);
    int r = -ENOENT;
    for (int i = 0; i < metadata->topic_cnt && r < 0; i++)
        r = strcmp(metadata->topics[i].topic, topic) == 0 ? 0 : -ENOENT;
    rd_kafka_metadata_destroy(metadata);
    return r;
}

static int create_topic(struct kafka_producer *p, const char *topic, int timeout_ms)
{
    rd_kafka_NewTopic_t *wanted = compacted_topic(topic);
    if (!wanted)
        return -EINVAL;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(p->client);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(p->client, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    char sentence[KAFKA_SENTENCE_SIZE];
    (void)rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, sentence, sizeof sentence);
    (void)rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms, sentence,
                                                      sizeof sentence);
    rd_kafka_CreateTopics(p->client, &wanted, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms);
    int r = read_creation(event);
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(wanted);
    return r;
}

int kafka_producer_ensure_compacted(struct kafka_producer *p, const char *topic, int timeout_ms)
{
    int64_t deadline_ns = clock_mono_ns() + timeout_ms * NS_PER_MS;
    int r = find_topic(p, topic, timeout_ms);
    return r == -ENOENT ? create_topic(p, topic, MAX(1, clock_left_ms(deadline_ns))) : r;
}

void kafka_producer_stats(const struct kafka_producer *p, struct kafka_producer_stats *ret_stats)
{
    *ret_stats =
        (struct kafka_producer_stats){atomic_load(&p->n_delivered), atomic_load(&p->n_failed)};
}
