/* From a broker's record to a hint: consumer, decoder, predictor and membership together. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/openwhisk/events.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"
#include "tests/unit/openwhisk/fake_membership.h"
#include "tests/unit/openwhisk/mock_kafka.h"

TestSuite(events, .timeout = 60);

#define WAIT_NS (15 * NS_PER_S)

struct calls {
    struct mutex lock;
    struct cond changed;
    char attached[256], hinted[256], host[64];
    int64_t hinted_ns;
};

static void on_activation(void *arg, const struct ow_activation *activation,
                          const struct observed_volume *volumes, unsigned n)
{
    struct calls *calls = arg;
    SCOPED_LOCK(&calls->lock);
    cr_assert_eq(n, 1);
    cr_assert_str_eq(activation->namespace_name, "guest");
    (void)snprintf(calls->attached, sizeof calls->attached, "%s", volumes[0].name);
    cond_broadcast(&calls->changed);
}

static void on_hint(void *arg, const struct member_host *host, const struct prediction *prediction,
                    const struct observed_volume *volumes, unsigned n)
{
    struct calls *calls = arg;
    SCOPED_LOCK(&calls->lock);
    cr_assert_eq(n, 1);
    cr_assert_str_eq(prediction->action, "guest/merge");
    (void)snprintf(calls->hinted, sizeof calls->hinted, "%s", volumes[0].name);
    (void)snprintf(calls->host, sizeof calls->host, "%s", host->name);
    calls->hinted_ns = clock_mono_ns();
    cond_broadcast(&calls->changed);
}

static const struct observer_ops ops = {.activation = on_activation, .hint = on_hint};

static void activate(struct mock_kafka *mock, const char *topic, unsigned run, unsigned step,
                     const char *action)
{
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "{\"activationId\":\"%016x%016x\",\"cause\":\"%032x\",\"action\":{\"path\":"
                   "\"guest\",\"name\":\"%s\"},"
                   "\"user\":{\"namespace\":{\"name\":\"guest\"}},\"content\":{\"__ow_volume\":{"
                   "\"name\":\"work\","
                   "\"scope\":\"sequence\"}}}",
                   run, step + 1, run, action);
    mock_kafka_produce(mock, topic, NULL, text, 0);
}

static void wait_until_seen(const struct events *e, uint64_t n)
{
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    while (atomic_load(&events_counters(e)->messages) < n)
        cr_assert_lt(clock_mono_ns(), deadline_ns);
}

/* With OpenWhisk's own topics under a prefix: the second run of a sequence hints the third host from the second's step. */
Test(events, message_to_hint, .init = cr_redirect_stderr)
{
    struct mock_kafka *mock = mock_kafka_start();
    static const char *const topics[] = {"p.invoker1", "p.invoker3", "p.completed0", "p.health",
                                         "pXinvoker2"};
    for (unsigned i = 0; i < N_ELEMENTS(topics); i++)
        mock_kafka_create(mock, topics[i]);
    struct fake_membership membership;
    fake_membership_init(&membership, 4);
    struct calls calls = {0};
    mutex_init(&calls.lock, LOCK_leaf);
    cond_init(&calls.changed);
    struct events_config config = {.host = "h3",
                                   .settings = mock_kafka_settings(mock),
                                   .observer = {.topic_prefix = "p.",
                                                .invoker = 3,
                                                .predictor = PREDICTOR_DEFAULTS,
                                                .membership = &membership.membership,
                                                .ops = &ops,
                                                .arg = &calls}};
    struct events *e;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(events_new(&config, &e, sentence), 0, "%s", sentence);
    cr_assert(events_wait_ready(e, clock_mono_ns() + WAIT_NS));
    cr_assert(events_is_connected(e));
    for (unsigned i = 0; i < 4; i++) {
        char ping[128];
        (void)snprintf(ping, sizeof ping, "{\"name\":{\"instance\":%u}}", i);
        mock_kafka_produce(mock, "p.health", NULL, ping, 0);
    }
    mock_kafka_produce(mock, "pXinvoker2", NULL, "{}", 0);
    wait_until_seen(e, 4);
    activate(mock, "p.invoker3", 1, 0, "infer");
    wait_until_seen(e, 5);
    activate(mock, "p.invoker1", 1, 1, "merge");
    wait_until_seen(e, 6);
    activate(mock, "p.invoker3", 2, 0, "infer");
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    {
        SCOPED_LOCK(&calls.lock);
        while (calls.hinted[0] == '\0')
            cr_assert(cond_wait_until(&calls.changed, &calls.lock, deadline_ns));
        cr_assert_str_eq(calls.attached, "work--guest--00000000000000000000000000000002");
        cr_assert_str_eq(calls.hinted, calls.attached);
        cr_assert_str_eq(calls.host, "h1");
    }
    cr_assert_eq(atomic_load(&events_counters(e)->messages), 7);
    int64_t before_ns = clock_mono_ns();
    events_free(e);
    cr_assert_lt(clock_mono_ns() - before_ns, NS_PER_S);
    mock_kafka_stop(mock);
}

/* Settings that librdkafka refuses are refused here, in its words. */
Test(events, refused_settings)
{
    struct kafka_setting wrong = {"bootstrap.server", "x"};
    struct events_config config = {
        .host = "h",
        .settings = {&wrong, 1},
        .observer = {.topic_prefix = "", .predictor = PREDICTOR_DEFAULTS, .ops = &ops}};
    struct events *e;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(events_new(&config, &e, sentence), -EINVAL);
    cr_assert(strstr(sentence, "bootstrap.server"), "%s", sentence);
}
