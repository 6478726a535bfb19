/* Many threads ask the directory and announce volumes while records come, the broker goes and returns, and an events
 * thread follows along. A plain program, for ThreadSanitizer's sake.
 *
 * At the end both hosts must know the same volumes, and every record must have been counted. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/kafka/directory.h"
#include "daemon/openwhisk/events.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"
#include "tests/unit/openwhisk/mock_kafka.h"

#define N_ASKERS 3
#define N_ANNOUNCERS 2
#define N_VOLUMES 40
#define N_MESSAGES 400
#define WAIT_NS (60 * NS_PER_S)

static atomic_bool is_over;
static atomic_uint n_answers, n_hints;

struct announcer {
    struct membership *membership;
    unsigned number;
};

static void *ask(void *arg)
{
    struct membership *m = arg;
    struct member_host hosts[4];
    struct member_volume volumes[8];
    while (!atomic_load(&is_over)) {
        (void)m->ops->hosts(m, hosts, 4);
        (void)m->ops->volumes(m, volumes, 8);
        (void)m->ops->connected(m);
        if (m->ops->host_by_invoker(m, 1, &hosts[0]) == 0)
            CHECK(strcmp(hosts[0].name, "h1") == 0);
        atomic_fetch_add(&n_answers, 1);
    }
    return NULL;
}

/* Announces all, then retracts every second one; a broker that is away is tried again. */
static void *announce(void *arg)
{
    const struct announcer *a = arg;
    const struct membership_ops *ops = a->membership->ops;
    for (unsigned i = 0; i < N_VOLUMES; i++) {
        struct member_volume volume = {.home = "h0"};
        (void)snprintf(volume.name, sizeof volume.name, "v%u-%u", a->number, i);
        while (ops->announce(a->membership, &volume) < 0)
            continue;
        while (i % 2 == 1 && ops->retract(a->membership, volume.name) < 0)
            continue;
    }
    return NULL;
}

static void on_activation(void *arg, const struct ow_activation *activation,
                          const struct observed_volume *volumes, unsigned n)
{
    (void)arg, (void)activation, (void)volumes, (void)n;
}

static void on_hint(void *arg, const struct member_host *host, const struct prediction *prediction,
                    const struct observed_volume *volumes, unsigned n)
{
    (void)arg, (void)prediction, (void)volumes, (void)n;
    CHECK(strcmp(host->name, "h1") == 0);
    atomic_fetch_add(&n_hints, 1);
}

static struct membership *join(const struct mock_kafka *mock, const char *name, int invoker)
{
    struct kafka_directory_config config = {.name = name,
                                            .address = "127.0.0.1:7433",
                                            .invoker = invoker,
                                            .topic_prefix = "whiskfs-",
                                            .settings = mock_kafka_settings(mock),
                                            .beat_ms = 100};
    struct membership *m;
    char sentence[KAFKA_SENTENCE_SIZE];
    CHECK(kafka_directory_new(&config, &m, sentence) == 0);
    CHECK(kafka_directory_wait_ready(m, clock_mono_ns() + WAIT_NS));
    return m;
}

static struct events *follow(const struct mock_kafka *mock, struct membership *m)
{
    static const struct observer_ops ops = {.activation = on_activation, .hint = on_hint};
    struct events_config config = {.host = "h0",
                                   .settings = mock_kafka_settings(mock),
                                   .observer = {.topic_prefix = "",
                                                .invoker = 0,
                                                .predictor = PREDICTOR_DEFAULTS,
                                                .membership = m,
                                                .ops = &ops}};
    struct events *e;
    char sentence[KAFKA_SENTENCE_SIZE];
    CHECK(events_new(&config, &e, sentence) == 0);
    CHECK(events_wait_ready(e, clock_mono_ns() + WAIT_NS));
    return e;
}

static void activate(struct mock_kafka *mock, unsigned run, unsigned step)
{
    char text[512];
    (void)snprintf(
        text, sizeof text,
        "{\"activationId\":\"%016x%016x\",\"cause\":\"%032x\",\"action\":\"guest/%s\","
        "\"user\":{\"namespace\":{\"name\":\"guest\"}},\"content\":{\"__ow_volume\":\"work\"}}",
        run, step + 1, run, step == 0 ? "first" : "second");
    mock_kafka_produce(mock, step == 0 ? "invoker0" : "invoker1", NULL, text, 0);
}

static void talk(struct mock_kafka *mock)
{
    for (unsigned i = 0; i < N_MESSAGES; i++) {
        if (i % 4 == 0)
            mock_kafka_produce(mock, "health", NULL, "{\"name\":{\"instance\":1}}", 0);
        else
            activate(mock, i / 4, i % 2);
        if (i == N_MESSAGES / 2) {
            mock_kafka_down(mock);
            mock_kafka_up(mock);
        }
    }
}

static void wait_for_count(const struct events *e, struct membership *a, struct membership *b)
{
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    struct member_volume unused;
    int wanted = N_ANNOUNCERS * N_VOLUMES / 2;
    while (atomic_load(&events_counters(e)->messages) < N_MESSAGES ||
           a->ops->volumes(a, &unused, 1) != wanted || b->ops->volumes(b, &unused, 1) != wanted)
        CHECK(clock_mono_ns() < deadline_ns);
}

int main(void)
{
    static const char *const topics[] = {"whiskfs-hosts", "whiskfs-volumes", "invoker0", "invoker1",
                                         "health"};
    struct mock_kafka *mock = mock_kafka_start();
    for (unsigned i = 0; i < N_ELEMENTS(topics); i++)
        mock_kafka_create(mock, topics[i]);
    struct membership *a = join(mock, "h0", 0), *b = join(mock, "h1", 1);
    struct events *e = follow(mock, a);
    pthread_t askers[N_ASKERS], announcers[N_ANNOUNCERS];
    struct announcer args[N_ANNOUNCERS];
    for (unsigned i = 0; i < N_ASKERS; i++)
        CHECK(thread_start(&askers[i], "ask", ask, i % 2 ? a : b) == 0);
    for (unsigned i = 0; i < N_ANNOUNCERS; i++) {
        args[i] = (struct announcer){a, i};
        CHECK(thread_start(&announcers[i], "announce", announce, &args[i]) == 0);
    }
    talk(mock);
    for (unsigned i = 0; i < N_ANNOUNCERS; i++)
        thread_join(announcers[i]);
    wait_for_count(e, a, b);
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < N_ASKERS; i++)
        thread_join(askers[i]);
    CHECK(atomic_load(&events_counters(e)->malformed) == 0);
    (void)printf("%u answers, %u hints\n", atomic_load(&n_answers), atomic_load(&n_hints));
    events_free(e);
    a->ops->free(a);
    b->ops->free(b);
    mock_kafka_stop(mock);
    return EXIT_SUCCESS;
}
