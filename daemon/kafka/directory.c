#include "daemon/kafka/directory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/kafka/consumer.h"
#include "daemon/kafka/directory_record.h"
#include "daemon/kafka/directory_table.h"
#include "daemon/kafka/producer.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"

#define SUBSYSTEM "directory"
#define BEAT_MS 5000
#define ROUND_MS 1000 /* how often the thread looks at the connection */
#define ANNOUNCE_MS 5000
#define CREATE_MS 500 /* a stop waits for this at most */
#define TOPIC_SIZE 250

struct kafka_directory {
    /* Fixed after kafka_directory_new. */
    struct membership membership;
    struct member_host self;
    char hosts_topic[TOPIC_SIZE], volumes_topic[TOPIC_SIZE];
    int beat_ms;
    struct kafka_consumer *consumer;
    struct kafka_producer *producer;
    pthread_t thread;
    bool has_thread;

    struct log_limit malformed, refused, lost_beats, no_topics; /* atomic */

    struct mutex lock; /* leaf; of all below */
    struct cond changed;
    struct directory_table table;
    bool is_stopping, has_topics;
};

static struct kafka_directory *of(struct membership *m)
{
    return container_of(m, struct kafka_directory, membership);
}

static int64_t now_ms(void)
{
    return clock_mono_ns() / NS_PER_MS;
}

/* ---- what is read ---- */

/* Records from before we had caught up are as old as they say; later ones have just come. */
static int64_t seen_at(const struct kafka_record *record)
{
    int64_t now = now_ms();
    if (record->is_live || record->timestamp_ms < 0)
        return now;
    int64_t age_ms = clock_real_ns() / NS_PER_MS - record->timestamp_ms;
    return now - MAX(age_ms, (int64_t)0);
}

static int read_host(struct kafka_directory *d, const struct kafka_record *record)
{
    struct member_host host;
    int r = directory_host_decode(record->key, record->key_size, record->payload,
                                  record->payload_size, &host);
    if (r < 0)
        return r;
    SCOPED_LOCK(&d->lock);
    return directory_table_put_host(&d->table, &host, seen_at(record));
}

static int read_volume(struct kafka_directory *d, const struct kafka_record *record)
{
    struct member_volume volume;
    int r = directory_volume_decode(record->key, record->key_size, record->payload,
                                    record->payload_size, &volume);
    if (r < 0)
        return r;
    SCOPED_LOCK(&d->lock);
    return directory_table_put_volume(&d->table, &volume);
}

static int read_tombstone(struct kafka_directory *d, const struct kafka_record *record,
                          bool is_host)
{
    char name[VOLUME_NAME_MAX_BYTES + 1];
    if (!record->key || record->key_size >= sizeof name)
        return -EBADMSG;
    memcpy(name, record->key, record->key_size);
    name[record->key_size] = '\0';
    SCOPED_LOCK(&d->lock);
    if (is_host)
        directory_table_drop_host(&d->table, name);
    else
        directory_table_drop_volume(&d->table, name);
    return 0;
}

static void on_record(void *arg, const struct kafka_record *record)
{
    struct kafka_directory *d = arg;
    bool is_host = strcmp(record->topic, d->hosts_topic) == 0;
    int r = !record->key       ? -EBADMSG
            : !record->payload ? read_tombstone(d, record, is_host)
            : is_host          ? read_host(d, record)
                               : read_volume(d, record);
    uint64_t suppressed;
    if (r < 0 && log_allow(r == -EBADMSG ? &d->malformed : &d->refused, &suppressed))
        log_warning(
            SUBSYSTEM, "a record of '%s' is dropped: %s offset=%lld suppressed=%llu", record->topic,
            r == -EEXIST ? "its host's name has the id of another host's: rename one of them"
                         : strerror(-r),
            (long long)record->offset, (unsigned long long)suppressed);
}

/* ---- what is written ---- */

static void beat(struct kafka_directory *d)
{
    char text[DIRECTORY_RECORD_MAX];
    int r = directory_host_encode(&d->self, text, sizeof text);
    if (r == 0)
        r = kafka_producer_send(d->producer, d->hosts_topic, d->self.name, text, strlen(text));
    uint64_t suppressed;
    if (r < 0 && log_allow(&d->lost_beats, &suppressed))
        log_warning(SUBSYSTEM,
                    "cannot tell the other hosts that this one is alive: %s suppressed=%llu",
                    strerror(-r), (unsigned long long)suppressed);
}

/* Where the broker makes no topics on request, an operator, or the first record, has to. */
static bool make_topics(struct kafka_directory *d)
{
    const char *topics[] = {d->hosts_topic, d->volumes_topic};
    for (unsigned i = 0; i < N_ELEMENTS(topics); i++) {
        int r = kafka_producer_ensure_compacted(d->producer, topics[i], CREATE_MS);
        if (r == -ETIMEDOUT)
            return false; /* the consumer says that the broker is away */
        uint64_t suppressed;
        if (r < 0 && log_allow(&d->no_topics, &suppressed))
            log_warning(
                SUBSYSTEM,
                "cannot make topic '%s': %s; make it with cleanup.policy=compact and one partition",
                topics[i], strerror(-r));
    }
    SCOPED_LOCK(&d->lock);
    d->has_topics = true;
    cond_broadcast(&d->changed);
    return true;
}

/* False: time to stop. */
static bool pause_until(struct kafka_directory *d, int64_t deadline_ns)
{
    SCOPED_LOCK(&d->lock);
    while (!d->is_stopping)
        if (!cond_wait_until(&d->changed, &d->lock, deadline_ns))
            return true;
    return false;
}

static void hold_while_away(struct kafka_directory *d, int64_t last_ms)
{
    if (kafka_consumer_is_connected(d->consumer))
        return;
    SCOPED_LOCK(&d->lock);
    directory_table_hold(&d->table, last_ms, now_ms());
}

static void *directory_thread(void *arg)
{
    struct kafka_directory *d = arg;
    bool has_topics = false;
    int64_t beat_at = 0, last_ms;
    do {
        last_ms = now_ms();
        if (!has_topics)
            has_topics = make_topics(d);
        if (has_topics && last_ms >= beat_at) {
            beat(d);
            beat_at = last_ms + d->beat_ms;
        }
        if (!pause_until(d, clock_mono_ns() + MIN(ROUND_MS, d->beat_ms) * NS_PER_MS))
            break;
        hold_while_away(d, last_ms);
    } while (true);
    return NULL;
}

/* ---- membership ---- */

static int directory_host_by_name(struct membership *m, const char *name,
                                  struct member_host *ret_host)
{
    SCOPED_LOCK(&of(m)->lock);
    return directory_table_host(&of(m)->table, name, now_ms(), ret_host);
}

static int directory_host_by_id(struct membership *m, struct host_id id,
                                struct member_host *ret_host)
{
    SCOPED_LOCK(&of(m)->lock);
    return directory_table_host_by_id(&of(m)->table, id, now_ms(), ret_host);
}

static int directory_host_by_invoker(struct membership *m, int invoker,
                                     struct member_host *ret_host)
{
    SCOPED_LOCK(&of(m)->lock);
    return directory_table_host_by_invoker(&of(m)->table, invoker, now_ms(), ret_host);
}

static int directory_hosts(struct membership *m, struct member_host *ret_hosts, int max)
{
    SCOPED_LOCK(&of(m)->lock);
    return directory_table_hosts(&of(m)->table, of(m)->self.name, now_ms(), ret_hosts, max);
}

static int directory_volume(struct membership *m, const char *name,
                            struct member_volume *ret_volume)
{
    SCOPED_LOCK(&of(m)->lock);
    return directory_table_volume(&of(m)->table, name, ret_volume);
}

static int directory_volumes(struct membership *m, struct member_volume *ret_volumes, int max)
{
    SCOPED_LOCK(&of(m)->lock);
    return directory_table_volumes(&of(m)->table, ret_volumes, max);
}

static int wait_for_topics(struct kafka_directory *d, int64_t deadline_ns)
{
    SCOPED_LOCK(&d->lock);
    while (!d->has_topics && !d->is_stopping)
        if (!cond_wait_until(&d->changed, &d->lock, deadline_ns))
            return -ETIMEDOUT;
    return d->has_topics ? 0 : -ESHUTDOWN;
}

static int publish_volume(struct kafka_directory *d, const char *name, const char *text)
{
    int64_t deadline_ns = clock_mono_ns() + ANNOUNCE_MS * NS_PER_MS;
    int r = wait_for_topics(d, deadline_ns);
    if (r < 0)
        return r;
    return kafka_producer_send_wait(d->producer, d->volumes_topic, name, text,
                                    text ? strlen(text) : 0, clock_left_ms(deadline_ns));
}

static int directory_announce(struct membership *m, const struct member_volume *volume)
{
    char text[DIRECTORY_RECORD_MAX];
    int r = directory_volume_encode(volume, text, sizeof text);
    if (r < 0)
        return r;
    r = publish_volume(of(m), volume->name, text);
    if (r < 0)
        return r;
    SCOPED_LOCK(&of(m)->lock); /* before the record comes back */
    return directory_table_put_volume(&of(m)->table, volume);
}

static int directory_retract(struct membership *m, const char *volume)
{
    int r = publish_volume(of(m), volume, NULL);
    if (r < 0)
        return r;
    SCOPED_LOCK(&of(m)->lock);
    directory_table_drop_volume(&of(m)->table, volume);
    return 0;
}

static bool directory_connected(struct membership *m)
{
    return kafka_consumer_is_connected(of(m)->consumer);
}

bool kafka_directory_wait_ready(struct membership *membership, int64_t deadline_ns)
{
    return wait_for_topics(of(membership), deadline_ns) == 0 &&
           kafka_consumer_wait_ready(of(membership)->consumer, deadline_ns);
}

static void directory_free(struct membership *m)
{
    struct kafka_directory *d = of(m);
    {
        SCOPED_LOCK(&d->lock);
        d->is_stopping = true;
        cond_broadcast(&d->changed);
    }
    if (d->has_thread)
        thread_join(d->thread);
    kafka_consumer_free(d->consumer);
    kafka_producer_free(d->producer);
    directory_table_done(&d->table);
    cond_done(&d->changed);
    mutex_done(&d->lock);
    free(d);
}

static const struct membership_ops directory_ops = {
    .free = directory_free,
    .host_by_name = directory_host_by_name,
    .host_by_id = directory_host_by_id,
    .host_by_invoker = directory_host_by_invoker,
    .hosts = directory_hosts,
    .volume = directory_volume,
    .volumes = directory_volumes,
    .announce = directory_announce,
    .retract = directory_retract,
    .connected = directory_connected,
};

/* ---- construction ---- */

static int set_names(struct kafka_directory *d, const struct kafka_directory_config *config,
                     char *sentence)
{
    d->self.invoker = config->invoker;
    d->beat_ms = config->beat_ms > 0 ? config->beat_ms : BEAT_MS;
    int name = snprintf(d->self.name, sizeof d->self.name, "%s", config->name);
    int address = snprintf(d->self.address, sizeof d->self.address, "%s", config->address);
    int hosts = snprintf(d->hosts_topic, TOPIC_SIZE, "%shosts", config->topic_prefix);
    int volumes = snprintf(d->volumes_topic, TOPIC_SIZE, "%svolumes", config->topic_prefix);
    bool is_cut = (size_t)name >= sizeof d->self.name ||
                  (size_t)address >= sizeof d->self.address || hosts >= TOPIC_SIZE ||
                  volumes >= TOPIC_SIZE;
    char text[DIRECTORY_RECORD_MAX];
    if (is_cut || directory_host_encode(&d->self, text, sizeof text) < 0) {
        (void)snprintf(sentence, KAFKA_SENTENCE_SIZE,
                       "'%s' at '%s' cannot be told to other hosts: a name has at most %d "
                       "letters, digits and . _ - @, an address is host:port",
                       config->name, config->address, HOST_NAME_MAX_BYTES);
        return -EINVAL;
    }
    d->self.id = host_id_of(d->self.name);
    return 0;
}

/* The prefix is taken literally: a topic that only looks like ours in a regular expression is not read. */
static int quote(const char *topic, char *ret_pattern, size_t size)
{
    size_t used = 0;
    ret_pattern[used++] = '^';
    for (; *topic != '\0' && used + 4 < size; topic++) {
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", *topic))
            ret_pattern[used++] = '\\';
        ret_pattern[used++] = *topic;
    }
    if (*topic != '\0')
        return -ENAMETOOLONG;
    ret_pattern[used++] = '$';
    ret_pattern[used] = '\0';
    return 0;
}

static int start_consumer(struct kafka_directory *d, const struct kafka_directory_config *config,
                          char *sentence)
{
    static const struct kafka_consumer_ops ops = {.on_record = on_record};
    char group[HOST_NAME_MAX_BYTES + 32], hosts[2 * TOPIC_SIZE + 8], volumes[2 * TOPIC_SIZE + 8];
    (void)snprintf(group, sizeof group, "whiskfs-%s", d->self.name);
    int r = quote(d->hosts_topic, hosts, sizeof hosts);
    if (r < 0)
        return r;
    r = quote(d->volumes_topic, volumes, sizeof volumes);
    if (r < 0)
        return r;
    const char *patterns[] = {hosts, volumes};
    struct kafka_consumer_config consumer = {
        .name = SUBSYSTEM,
        .group = group,
        .settings = config->settings,
        .patterns = patterns,
        .n_patterns = N_ELEMENTS(patterns),
        .is_from_beginning = true,
        .ops = &ops,
        .arg = d,
    };
    return kafka_consumer_new(&consumer, &d->consumer, sentence);
}

static int start(struct kafka_directory *d, const struct kafka_directory_config *config,
                 char *sentence)
{
    int r = set_names(d, config, sentence);
    if (r < 0)
        return r;
    r = kafka_producer_new(SUBSYSTEM, &config->settings, &d->producer, sentence);
    if (r < 0)
        return r;
    r = start_consumer(d, config, sentence);
    if (r < 0)
        return r;
    r = thread_start(&d->thread, "beat", directory_thread, d);
    if (r < 0)
        return r;
    d->has_thread = true;
    return 0;
}

int kafka_directory_new(const struct kafka_directory_config *config,
                        struct membership **ret_membership,
                        char ret_sentence[static KAFKA_SENTENCE_SIZE])
{
    ret_sentence[0] = '\0';
    struct kafka_directory *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->membership.ops = &directory_ops;
    mutex_init(&d->lock, LOCK_leaf);
    cond_init(&d->changed);
    int r = start(d, config, ret_sentence);
    if (r < 0) {
        directory_free(&d->membership);
        return r;
    }
    *ret_membership = &d->membership;
    return 0;
}
