/* Consumer and producer against librdkafka's mock broker. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "daemon/kafka/consumer.h"
#include "daemon/kafka/producer.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"
#include "tests/unit/openwhisk/mock_kafka.h"

TestSuite(kafka, .timeout = 60);

#define WAIT_NS (15 * NS_PER_S)
#define PROMPTLY_NS (5 * NS_PER_S) /* under a sanitizer on a busy machine, too */

/* What the consumer's thread saw, one "topic:key:payload" per record. */
struct inbox {
    struct mutex lock;
    struct cond changed;
    char seen[64][96];
    unsigned n, n_live;
    bool is_held, is_holding; /* the consumer is to wait in its tick; it does */
    atomic_uint n_ticks;
};

static void on_record(void *arg, const struct kafka_record *record)
{
    struct inbox *inbox = arg;
    SCOPED_LOCK(&inbox->lock);
    cr_assert_lt(inbox->n, 64);
    (void)snprintf(inbox->seen[inbox->n++], sizeof inbox->seen[0], "%s:%.*s:%.*s", record->topic,
                   (int)record->key_size, record->key ? (const char *)record->key : "",
                   record->payload ? (int)record->payload_size : 1,
                   record->payload ? (const char *)record->payload : "-");
    inbox->n_live += record->is_live;
    cond_broadcast(&inbox->changed);
}

static void on_tick(void *arg)
{
    struct inbox *inbox = arg;
    SCOPED_LOCK(&inbox->lock);
    atomic_fetch_add(&inbox->n_ticks, 1);
    while (inbox->is_held) {
        inbox->is_holding = true;
        cond_broadcast(&inbox->changed);
        cond_wait(&inbox->changed, &inbox->lock);
    }
}

static void hold(struct inbox *inbox)
{
    SCOPED_LOCK(&inbox->lock);
    inbox->is_held = true;
    while (!inbox->is_holding)
        cond_wait(&inbox->changed, &inbox->lock);
}

static void let_go(struct inbox *inbox)
{
    SCOPED_LOCK(&inbox->lock);
    inbox->is_held = false;
    cond_broadcast(&inbox->changed);
}

static const struct kafka_consumer_ops ops = {on_record, on_tick};

static void inbox_init(struct inbox *inbox)
{
    memset(inbox, 0, sizeof *inbox);
    mutex_init(&inbox->lock, LOCK_leaf);
    cond_init(&inbox->changed);
}

/* Waits until n records are there; more than n is a failure. */
static void expect(struct inbox *inbox, unsigned n)
{
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    SCOPED_LOCK(&inbox->lock);
    while (inbox->n < n)
        cr_assert(cond_wait_until(&inbox->changed, &inbox->lock, deadline_ns), "%u of %u records",
                  inbox->n, n);
    cr_assert_eq(inbox->n, n, "last: %s", inbox->seen[inbox->n - 1]);
}

static struct kafka_consumer *consume(struct mock_kafka *mock, struct inbox *inbox,
                                      const char *pattern, bool is_from_beginning)
{
    struct kafka_consumer_config config = {
        .name = "test-consumer",
        .group = "whiskfs-test",
        .settings = mock_kafka_settings(mock),
        .patterns = &pattern,
        .n_patterns = 1,
        .is_from_beginning = is_from_beginning,
        .discover_ms = 100,
        .ops = &ops,
        .arg = inbox,
    };
    struct kafka_consumer *c;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(kafka_consumer_new(&config, &c, sentence), 0, "%s", sentence);
    return c;
}

static void wait_ready(struct kafka_consumer *c)
{
    cr_assert(kafka_consumer_wait_ready(c, clock_mono_ns() + WAIT_NS));
}

/* Only what is new, and only topics that match; free ends the thread within a second. */
Test(kafka, reads_what_is_new)
{
    struct mock_kafka *mock = mock_kafka_start();
    struct inbox inbox;
    inbox_init(&inbox);
    mock_kafka_create(mock, "invoker0");
    mock_kafka_create(mock, "invokerX");
    mock_kafka_produce(mock, "invoker0", NULL, "old", 0);
    struct kafka_consumer *c = consume(mock, &inbox, "^invoker[0-9]+$", false);
    wait_ready(c);
    cr_assert(kafka_consumer_is_connected(c));
    mock_kafka_produce(mock, "invokerX", NULL, "other", 0);
    mock_kafka_produce(mock, "invoker0", NULL, "new", 0);
    mock_kafka_produce(mock, "invoker0", NULL, "newer", 0);
    expect(&inbox, 2);
    cr_assert_str_eq(inbox.seen[0], "invoker0::new");
    cr_assert_str_eq(inbox.seen[1], "invoker0::newer");
    cr_assert_eq(inbox.n_live, 2);
    cr_assert_gt(atomic_load(&inbox.n_ticks), 0);
    int64_t before_ns = clock_mono_ns();
    kafka_consumer_free(c);
    cr_assert_lt(clock_mono_ns() - before_ns, PROMPTLY_NS);
    mock_kafka_stop(mock);
}

/* A topic that appears later loses neither its first messages nor brings up what is older than we are. */
Test(kafka, late_topic)
{
    struct mock_kafka *mock = mock_kafka_start();
    struct inbox inbox;
    inbox_init(&inbox);
    struct kafka_consumer *c = consume(mock, &inbox, "^invoker[0-9]+$", false);
    wait_ready(c);
    int64_t now_ms = clock_real_ns() / NS_PER_MS;
    hold(&inbox); /* so that it finds the topic with both records in it */
    mock_kafka_create(mock, "invoker7");
    mock_kafka_produce(mock, "invoker7", NULL, "ancient", now_ms - 3600 * 1000);
    mock_kafka_produce(mock, "invoker7", NULL, "first", now_ms);
    let_go(&inbox);
    expect(&inbox, 1);
    cr_assert_str_eq(inbox.seen[0], "invoker7::first");
    wait_ready(c);
    mock_kafka_produce(mock, "invoker7", NULL, "skewed", now_ms - 3600 * 1000);
    expect(&inbox, 2); /* once caught up, a sender's wrong clock does no harm */
    kafka_consumer_free(c);
    mock_kafka_stop(mock);
}

/* From the beginning: all there is, then what comes; keys and tombstones too. */
Test(kafka, reads_all)
{
    struct mock_kafka *mock = mock_kafka_start();
    struct inbox inbox;
    inbox_init(&inbox);
    mock_kafka_create(mock, "t-hosts");
    mock_kafka_produce(mock, "t-hosts", "h1", "{}", 1000);
    mock_kafka_produce(mock, "t-hosts", "h1", NULL, 0);
    struct kafka_consumer *c = consume(mock, &inbox, "^t-(hosts|volumes)$", true);
    wait_ready(c);
    expect(&inbox, 2);
    cr_assert_str_eq(inbox.seen[0], "t-hosts:h1:{}");
    cr_assert_str_eq(inbox.seen[1], "t-hosts:h1:-");
    cr_assert_eq(inbox.n_live, 0);
    mock_kafka_create(mock, "t-volumes");
    mock_kafka_produce(mock, "t-volumes", "v", "1", 1000);
    expect(&inbox, 3);
    kafka_consumer_free(c);
    mock_kafka_stop(mock);
}

/* A broker that goes and returns costs nothing but time, and one line in the log. */
Test(kafka, broker_restarts, .init = cr_redirect_stderr)
{
    struct mock_kafka *mock = mock_kafka_start();
    struct inbox inbox;
    inbox_init(&inbox);
    mock_kafka_create(mock, "invoker0");
    struct kafka_consumer *c = consume(mock, &inbox, "^invoker[0-9]+$", false);
    wait_ready(c);
    mock_kafka_produce(mock, "invoker0", NULL, "one", 0);
    expect(&inbox, 1);
    mock_kafka_down(mock);
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    unsigned ticks = atomic_load(&inbox.n_ticks);
    while (kafka_consumer_is_connected(c) || atomic_load(&inbox.n_ticks) < ticks + 2)
        cr_assert_lt(clock_mono_ns(), deadline_ns);
    mock_kafka_up(mock);
    mock_kafka_produce(mock, "invoker0", NULL, "two", 0);
    expect(&inbox, 2);
    while (!kafka_consumer_is_connected(c))
        cr_assert_lt(clock_mono_ns(), deadline_ns);
    kafka_consumer_free(c);
    mock_kafka_stop(mock);
    (void)fflush(stderr);
    FILE *log = cr_get_redirected_stderr();
    char line[2048];
    unsigned n_lost = 0;
    while (fgets(line, sizeof line, log))
        n_lost += strstr(line, "no connection to a Kafka broker") != NULL;
    cr_assert_eq(n_lost, 1);
}

/* Without any broker, too, a consumer starts, ticks and stops at once. */
Test(kafka, no_broker)
{
    struct inbox inbox;
    inbox_init(&inbox);
    struct kafka_setting nowhere = {"bootstrap.servers", "127.0.0.1:1"};
    const char *pattern = "^x$";
    struct kafka_consumer_config config = {.name = "test-consumer",
                                           .group = "g",
                                           .settings = {&nowhere, 1},
                                           .patterns = &pattern,
                                           .n_patterns = 1,
                                           .ops = &ops,
                                           .arg = &inbox};
    struct kafka_consumer *c;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(kafka_consumer_new(&config, &c, sentence), 0);
    cr_assert(!kafka_consumer_wait_ready(c, clock_mono_ns() + NS_PER_S / 2));
    cr_assert(!kafka_consumer_is_connected(c));
    cr_assert_gt(atomic_load(&inbox.n_ticks), 0);
    int64_t before_ns = clock_mono_ns();
    kafka_consumer_free(c);
    cr_assert_lt(clock_mono_ns() - before_ns, PROMPTLY_NS);
}

/* Wrong settings are refused in librdkafka's words. */
Test(kafka, settings)
{
    char sentence[KAFKA_SENTENCE_SIZE];
    struct kafka_setting wrong[] = {{"no.such.property", "1"},
                                    {"security.protocol", "carrier-pigeon"}};
    cr_assert_eq(kafka_settings_check(&(struct kafka_settings){wrong, 1}, sentence), -EINVAL);
    cr_assert(strstr(sentence, "no.such.property"), "%s", sentence);
    cr_assert_eq(kafka_settings_check(&(struct kafka_settings){wrong + 1, 1}, sentence), -EINVAL);
    cr_assert(strstr(sentence, "security.protocol"), "%s", sentence);
    struct kafka_setting right[] = {{"security.protocol", "sasl_ssl"},
                                    {"sasl.mechanisms", "SCRAM-SHA-512"},
                                    {"sasl.username", "me"}};
    cr_assert_eq(kafka_settings_check(&(struct kafka_settings){right, 3}, sentence), 0);
    struct kafka_consumer_config config = {
        .name = "t", .group = "g", .settings = {wrong, 1}, .ops = &ops};
    struct kafka_consumer *c;
    cr_assert_eq(kafka_consumer_new(&config, &c, sentence), -EINVAL);
    cr_assert(strstr(sentence, "no.such.property"), "%s", sentence);
    const char *pattern = "[";
    config = (struct kafka_consumer_config){
        .name = "t", .group = "g", .patterns = &pattern, .n_patterns = 1, .ops = &ops};
    cr_assert_eq(kafka_consumer_new(&config, &c, sentence), -EINVAL);
    cr_assert_neq(sentence[0], '\0');
}

/* What the producer says is delivered, a consumer reads. */
Test(kafka, producer)
{
    struct mock_kafka *mock = mock_kafka_start();
    struct inbox inbox;
    inbox_init(&inbox);
    mock_kafka_create(mock, "out");
    struct kafka_producer *p;
    char sentence[KAFKA_SENTENCE_SIZE];
    struct kafka_settings settings = mock_kafka_settings(mock);
    cr_assert_eq(kafka_producer_new("test-producer", &settings, &p, sentence), 0, "%s", sentence);
    cr_assert_eq(kafka_producer_send_wait(p, "out", "k", "v", 1, 5000), 0);
    cr_assert_eq(kafka_producer_send(p, "out", "k", NULL, 0), 0);
    struct kafka_consumer *c = consume(mock, &inbox, "^out$", true);
    expect(&inbox, 2);
    cr_assert_str_eq(inbox.seen[0], "out:k:v");
    cr_assert_str_eq(inbox.seen[1], "out:k:-");
    struct kafka_producer_stats stats;
    kafka_producer_stats(p, &stats);
    cr_assert(stats.n_delivered == 2 && stats.n_failed == 0);
    kafka_consumer_free(c);
    kafka_producer_free(p);
    mock_kafka_stop(mock);
}

/* Without a broker, waiting ends on time, the queue is bounded, and nothing is leaked. */
Test(kafka, producer_without_broker, .init = cr_redirect_stderr)
{
    struct kafka_setting list[] = {{"bootstrap.servers", "127.0.0.1:1"},
                                   {"queue.buffering.max.messages", "10"}};
    struct kafka_settings settings = {list, N_ELEMENTS(list)};
    struct kafka_producer *p;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(kafka_producer_new("test-producer", &settings, &p, sentence), 0);
    int64_t before_ns = clock_mono_ns();
    cr_assert_eq(kafka_producer_send_wait(p, "out", "k", "v", 1, 200), -ETIMEDOUT);
    cr_assert_lt(clock_mono_ns() - before_ns, PROMPTLY_NS);
    int r = 0;
    for (unsigned i = 0; i < 20 && r == 0; i++)
        r = kafka_producer_send(p, "out", "k", "v", 1);
    cr_assert_eq(r, -ENOBUFS);
    cr_assert_eq(kafka_producer_ensure_compacted(p, "out", 200), -ETIMEDOUT);
    kafka_producer_free(p);
    cr_assert_lt(clock_mono_ns() - before_ns, 5 * NS_PER_S);
}
