/* Runs, next actions and next hosts, with made-up and with captured traffic. Time is a number here. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/openwhisk/predictor.h"
#include "proto/openwhisk/topic.h"
#include "tests/unit/openwhisk/capture.h"

TestSuite(predictor, .timeout = 30);

static struct predictor *make(void)
{
    struct predictor_config config = PREDICTOR_DEFAULTS;
    struct predictor *p;
    cr_assert_eq(predictor_new(&config, &p), 0);
    return p;
}

static void ping(struct predictor *p, unsigned id, bool is_enabled, int64_t now_ms)
{
    struct ow_ping message = {.invoker = {.id = id}, .is_enabled = is_enabled};
    (void)snprintf(message.invoker.unique_name, sizeof message.invoker.unique_name, "node-%u", id);
    predictor_ping(p, &message, now_ms);
}

static struct ow_activation activation(unsigned run, unsigned step, const char *action)
{
    struct ow_activation a = {.namespace_name = "guest"};
    (void)snprintf(a.cause, sizeof a.cause, "%032x", run);
    (void)snprintf(a.id, sizeof a.id, "%016x%016x", run, step + 1);
    (void)snprintf(a.action, sizeof a.action, "%s", action);
    return a;
}

static bool see(struct predictor *p, unsigned run, unsigned step, const char *action, int invoker,
                int64_t now_ms, struct prediction *prediction)
{
    struct ow_activation a = activation(run, step, action);
    return predictor_activation(p, &a, invoker, now_ms, prediction);
}

static bool acknowledge(struct predictor *p, unsigned run, unsigned step, bool is_error,
                        int64_t now_ms, struct prediction *cancelled)
{
    struct ow_ack ack = {.form = OW_ACK_RESULT, .is_error = is_error};
    (void)snprintf(ack.id, sizeof ack.id, "%016x%016x", run, step + 1);
    return predictor_ack(p, &ack, now_ms, cancelled);
}

static void pipeline(struct predictor *p, unsigned run, int64_t now_ms)
{
    struct prediction unused;
    (void)see(p, run, 0, "guest/split", 3, now_ms, &unused);
    (void)acknowledge(p, run, 0, false, now_ms + 100, &unused);
    (void)see(p, run, 1, "guest/infer", 3, now_ms + 200, &unused);
    (void)acknowledge(p, run, 1, false, now_ms + 300, &unused);
    (void)see(p, run, 2, "guest/merge", 1, now_ms + 400, &unused);
    (void)acknowledge(p, run, 2, false, now_ms + 500, &unused);
}

/* After one run of a sequence its next run is known: the action, and the host that the balancer will choose. */
Test(predictor, second_run)
{
    struct predictor *p = make();
    struct prediction next;
    for (unsigned i = 0; i < 4; i++)
        ping(p, i, true, 0);
    cr_assert(!see(p, 1, 0, "guest/split", 3, 10, &next));
    pipeline(p, 2, 100);
    cr_assert(see(p, 3, 0, "guest/split", 3, 1000, &next));
    cr_assert_str_eq(next.action, "guest/infer");
    cr_assert_str_eq(next.run, "00000000000000000000000000000003");
    cr_assert_eq(next.invoker, 3);
    cr_assert_eq(next.step, 1);
    cr_assert_float_eq(next.probability, 1.0, 1e-9);
    cr_assert(see(p, 3, 1, "guest/infer", 3, 2000, &next));
    cr_assert_str_eq(next.action, "guest/merge");
    cr_assert_eq(next.invoker, 1);
    cr_assert_eq(next.step, 2);
    predictor_free(p);
}

/* The probe order leads past invokers that are silent or disabled. */
Test(predictor, unhealthy_home)
{
    struct predictor *p = make();
    for (unsigned i = 0; i < 4; i++)
        ping(p, i, true, 0);
    cr_assert_eq(predictor_place(p, "guest", "guest/merge", 10000), 1);
    ping(p, 1, false, 100);
    cr_assert_eq(predictor_place(p, "guest", "guest/merge", 200), 0);
    ping(p, 2, true, 5000);
    cr_assert_eq(predictor_place(p, "guest", "guest/merge", 12000), 2);
    cr_assert_eq(predictor_place(p, "guest", "guest/merge", 20000), -1);
    cr_assert_eq(predictor_invoker_named(p, "node-2"), 2);
    cr_assert_eq(predictor_invoker_named(p, "node-9"), -1);
    predictor_free(p);
}

/* Ids that never pinged are part of the pool all the same: the controller pads its list with them. */
Test(predictor, padded_invokers)
{
    struct predictor *p = make();
    ping(p, 3, true, 0);
    cr_assert_eq(predictor_place(p, "guest", "guest/merge", 10), 3);
    struct predictor_stats stats;
    predictor_stats(p, 10, &stats);
    cr_assert(stats.n_invokers == 4 && stats.n_up == 1);
    predictor_free(p);
}

/* A step that fails ends its run: what was predicted is cancelled, once. */
Test(predictor, error_cancels)
{
    struct predictor *p = make();
    struct prediction next, cancelled;
    for (unsigned i = 0; i < 4; i++)
        ping(p, i, true, 0);
    pipeline(p, 1, 0);
    cr_assert(see(p, 2, 0, "guest/split", 3, 1000, &next));
    cr_assert(!acknowledge(p, 9, 0, true, 1001, &cancelled));
    cr_assert(acknowledge(p, 2, 0, true, 1001, &cancelled));
    cr_assert_str_eq(cancelled.run, next.run);
    cr_assert_str_eq(cancelled.action, "guest/infer");
    cr_assert_eq(cancelled.invoker, 3);
    cr_assert(!acknowledge(p, 2, 0, true, 1002, &cancelled));
    predictor_free(p);
}

/* Ends are learned: after the last step of a sequence that has ended before, nothing is predicted. */
Test(predictor, learns_ends)
{
    struct predictor *p = make();
    struct prediction next;
    for (unsigned i = 0; i < 4; i++)
        ping(p, i, true, 0);
    pipeline(p, 1, 0);
    (void)see(p, 2, 0, "guest/merge", 1, 600, &next); /* merge -> extra in another sequence */
    (void)see(p, 2, 1, "guest/extra", 1, 700, &next);
    cr_assert(see(p, 3, 0, "guest/merge", 1, 800, &next));
    pipeline(p, 4, 900);
    pipeline(p, 5, 900);
    predictor_expire(p, 60000);
    (void)see(p, 6, 0, "guest/split", 1, 61000, &next);
    (void)see(p, 6, 1, "guest/infer", 1, 61000, &next);
    cr_assert(!see(p, 6, 2, "guest/merge", 1, 61000, &next));
    struct predictor_stats stats;
    predictor_stats(p, 61000, &stats);
    cr_assert_eq(stats.n_runs, 3); /* 2 and 3 have no result yet, and 6 */
    predictor_expire(p, 10000000);
    predictor_stats(p, 10000000, &stats);
    cr_assert_eq(stats.n_runs, 0);
    predictor_free(p);
}

/* Two sequences that share an action go on each its own way: how a run began tells them apart. */
Test(predictor, shared_actions)
{
    struct predictor *p = make();
    struct prediction next, unused;
    for (unsigned run = 0; run < 10; run += 2) {
        (void)see(p, run, 0, "guest/video", 1, 0, &unused);
        (void)see(p, run, 1, "guest/shrink", 1, 0, &unused);
        (void)see(p, run, 2, "guest/play", 1, 0, &unused);
        (void)see(p, run + 1, 0, "guest/image", 1, 0, &unused);
        (void)see(p, run + 1, 1, "guest/shrink", 1, 0, &unused);
        (void)see(p, run + 1, 2, "guest/show", 1, 0, &unused);
    }
    (void)see(p, 20, 0, "guest/video", 1, 0, &unused);
    cr_assert(see(p, 20, 1, "guest/shrink", 1, 0, &next));
    cr_assert_str_eq(next.action, "guest/play");
    cr_assert_float_eq(next.probability, 1.0, 1e-9);
    (void)see(p, 21, 0, "guest/image", 1, 0, &unused);
    cr_assert(see(p, 21, 1, "guest/shrink", 1, 0, &next));
    cr_assert_str_eq(next.action, "guest/show");
    (void)see(p, 22, 0, "guest/new", 1, 0, &unused); /* like none before: the last action decides */
    cr_assert(see(p, 22, 1, "guest/shrink", 1, 0, &next));
    cr_assert_lt(next.probability, 0.6);
    predictor_free(p);
}

/* Noise, actions outside of sequences and records that are delivered twice teach nothing. */
Test(predictor, filters)
{
    struct predictor *p = make();
    struct prediction next;
    struct ow_activation a = activation(1, 0, "guest/split");
    a.is_noise = true;
    cr_assert(!predictor_activation(p, &a, 0, 0, &next));
    a.is_noise = false;
    a.cause[0] = '\0';
    cr_assert(!predictor_activation(p, &a, 0, 0, &next));
    struct predictor_stats stats;
    predictor_stats(p, 0, &stats);
    cr_assert_eq(stats.n_runs, 0);
    (void)see(p, 1, 0, "guest/split", 0, 0, &next);
    (void)see(p, 1, 0, "guest/split", 0, 0, &next);
    predictor_stats(p, 0, &stats);
    cr_assert(stats.n_runs == 1 && stats.n_contexts == 0);
    predictor_free(p);
}

/* Runs have a limit: the one that was silent for longest goes. */
Test(predictor, bounded_runs)
{
    struct predictor_config config = PREDICTOR_DEFAULTS;
    config.max_runs = 100;
    struct predictor *p;
    cr_assert_eq(predictor_new(&config, &p), 0);
    struct prediction next;
    for (unsigned run = 1; run <= 1000; run++)
        (void)see(p, run, 0, "guest/split", 0, run, &next);
    struct predictor_stats stats;
    predictor_stats(p, 0, &stats);
    cr_assert_eq(stats.n_runs, 100);
    cr_assert_eq(stats.n_evicted, 900);
    (void)see(p, 1000, 1, "guest/infer", 0, 2000, &next);
    cr_assert(see(p, 2000, 0, "guest/split", 0, 2001, &next));
    cr_assert_eq(next.invoker, -1);
    predictor_free(p);
}

struct replay {
    struct predictor *predictor;
    unsigned n_predicted;
};

/* 0: none; of containers' creations the topic says on which. */
static void feed_message(struct replay *replay, const struct ow_message *m, enum ow_topic topic,
                         unsigned invoker, int64_t now_ms)
{
    struct prediction prediction;
    if (m->kind == OW_ACK)
        (void)predictor_ack(replay->predictor, &m->ack, now_ms, &prediction);
    else if (m->kind == OW_CONTAINER && !m->container.is_noise)
        predictor_container(replay->predictor, &m->container, invoker, now_ms);
    else if (m->kind == OW_ACTIVATION && (topic == OW_TOPIC_INVOKER || topic == OW_TOPIC_SCHEDULER))
        replay->n_predicted += predictor_activation(
            replay->predictor, &m->activation,
            topic == OW_TOPIC_INVOKER ? (int)invoker : ANY_INVOKER, now_ms, &prediction);
}

static void feed(void *arg, const struct captured *record)
{
    static const struct ow_limits limits = OW_LIMITS_DEFAULT;
    struct replay *replay = arg;
    struct ow_message m;
    unsigned invoker = 0;
    cr_assert_eq(ow_message_decode(record->payload, record->size, &limits, &m), 0);
    enum ow_topic topic = ow_topic_parse("", record->topic, &invoker);
    predictor_expire(replay->predictor, record->timestamp_ms);
    for (unsigned i = 0; i < 4; i++) /* the capture of `health` ends before the activations begin */
        ping(replay->predictor, i, true, record->timestamp_ms);
    feed_message(replay, &m, topic, invoker, record->timestamp_ms);
}

static struct predictor_stats replayed(const char *generation)
{
    struct replay replay = {.predictor = make()};
    (void)captured_generation(generation, feed, &replay);
    struct predictor_stats stats;
    predictor_stats(replay.predictor, 0, &stats);
    cr_log_info("%s: predicted %u checked %lu action right %lu host right %lu\n", generation,
                replay.n_predicted, (unsigned long)stats.n_checked,
                (unsigned long)stats.n_action_right, (unsigned long)stats.n_invoker_right);
    predictor_free(replay.predictor);
    return stats;
}

/* Over the captured traffic of a real OpenWhisk, most next steps are right and their hosts with them: the capture
 * mixes five sequences that share their actions, which one step of memory cannot always tell apart. */
Test(predictor, captured_traffic)
{
    struct predictor_stats stats = replayed("classic");
    cr_assert_gt(stats.n_checked, 20);
    cr_assert_geq(stats.n_action_right * 10, stats.n_checked * 7);
    cr_assert_eq(stats.n_invoker_right, stats.n_action_right);
}

/* The same of the newer generation, where only containers say what runs where. */
Test(predictor, captured_traffic_of_schedulers)
{
    struct predictor_stats stats = replayed("fpc");
    cr_assert_gt(stats.n_checked, 20);
    cr_assert_geq(stats.n_action_right * 10, stats.n_checked * 7);
    cr_assert_geq(stats.n_invoker_right * 10, stats.n_action_right * 8);
}
