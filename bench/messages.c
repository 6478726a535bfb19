/* How many of OpenWhisk's messages one core handles: decoded, learned from, predicted from. A JSON object on standard output:
 * messages a second, by what they are. It says nothing of the consumer's own cost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/openwhisk/observer.h"
#include "proto/base/clock.h"

#define MEASURE_NS (2 * NS_PER_S)
#define INVOKERS 100
#define STEPS 3

static int no_host(struct membership *m, int invoker, struct member_host *ret_host)
{
    (void)m, (void)invoker, (void)ret_host;
    return -ENOENT;
}

static void ignore_activation(void *arg, const struct ow_activation *activation,
                              const struct observed_volume *volumes, unsigned n)
{
    (void)arg, (void)activation, (void)volumes, (void)n;
}

static void ignore_hint(void *arg, const struct member_host *host,
                        const struct prediction *prediction, const struct observed_volume *volumes,
                        unsigned n)
{
    (void)arg, (void)host, (void)prediction, (void)volumes, (void)n;
}

static void ignore_expectation(void *arg, const struct prediction *prediction,
                               const struct observed_volume *volumes, unsigned n)
{
    (void)arg, (void)prediction, (void)volumes, (void)n;
}

struct load {
    struct observer *observer;
    char *text;
    size_t size;
    size_t padding; /* of the parameters, bytes */
    unsigned n;     /* made so far */
};

/* Step n % STEPS of run n / STEPS. */
static const char *make_activation(struct load *load, char topic[static 16])
{
    static const char *const actions[STEPS] = {"split", "infer", "merge"};
    unsigned step = load->n % STEPS, run = load->n / STEPS;
    load->size = (size_t)snprintf(
        load->text, load->padding + 2048,
        "{\"transid\":[\"Xk3vT0bQ9aZr5mPq7Lw2Yd8Hs1Ge4NcU\",1785970001500,"
        "[\"%032x\",1785970001200]],\"action\":{\"path\":\"guest/manual\",\"name\":\"%s\","
        "\"version\":\"0.0.3\"},\"revision\":\"3-5c2f0d1e7a9b4c6d8e0f1a2b3c4d5e6f\","
        "\"user\":{\"subject\":\"guest\",\"namespace\":{\"name\":\"guest\",\"uuid\":\"x\"},"
        "\"authkey\":{\"api_key\":\"x:y\"},\"rights\":[\"READ\"],\"limits\":{}},"
        "\"activationId\":\"%031x%x\",\"rootControllerIndex\":{\"asString\":\"0\","
        "\"instanceType\":\"controller\"},\"blocking\":true,\"content\":{\"__ow_volume\":"
        "{\"name\":\"pages\",\"scope\":\"sequence\"},\"data\":\"%0*d\"},\"initArgs\":[],"
        "\"lockedArgs\":{},\"cause\":\"%032x\"}",
        run, actions[step], run, step, (int)load->padding, 0, run);
    (void)snprintf(topic, 16, "invoker%u", load->n++ % INVOKERS);
    return topic;
}

static void ping_all(struct observer *observer)
{
    char text[256];
    for (unsigned i = 0; i < INVOKERS; i++) {
        int size =
            snprintf(text, sizeof text,
                     "{\"name\":{\"instance\":%u,\"userMemory\":\"2 GB\",\"instanceType\":"
                     "\"invoker\",\"tags\":[],\"dedicatedNamespaces\":[],\"uniqueName\":\"%u\"}}",
                     i, i);
        observer_record(observer, "health", 0, text, (size_t)size, 0);
    }
}

/* Only the time in observer_record counts. */
static double measure(struct load *load)
{
    int64_t spent_ns = 0;
    uint64_t n = 0;
    char topic[16];
    while (spent_ns < MEASURE_NS) {
        (void)make_activation(load, topic);
        int64_t began_ns = clock_mono_ns();
        observer_record(load->observer, topic, load->n, load->text, load->size, load->n);
        spent_ns += clock_mono_ns() - began_ns;
        n++;
    }
    return (double)n * 1e9 / (double)spent_ns;
}

int main(void)
{
    static const struct membership_ops membership_ops = {.host_by_invoker = no_host};
    static const struct observer_ops ops = {
        .activation = ignore_activation, .hint = ignore_hint, .expect = ignore_expectation};
    static const struct {
        const char *name;
        size_t padding;
    } kinds[] = {{"1 KiB", 200}, {"64 KiB", 64 << 10}, {"1 MiB", (1 << 20) - 1024}};
    struct membership membership = {&membership_ops};
    struct observer_config config = {.topic_prefix = "",
                                     .invoker = 0,
                                     .predictor = PREDICTOR_DEFAULTS,
                                     .membership = &membership,
                                     .ops = &ops};
    for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
        AUTO(observer_freep) struct observer *observer = NULL;
        AUTO_FREE char *text = malloc(kinds[i].padding + 2048);
        if (!text || observer_new(&config, &observer) < 0)
            return 1;
        ping_all(observer);
        struct load load = {.observer = observer, .text = text, .padding = kinds[i].padding};
        (void)printf("%s\"%s\": %.0f", i == 0 ? "{" : ", ", kinds[i].name, measure(&load));
    }
    (void)puts("}");
    return 0;
}
