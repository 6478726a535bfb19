/* What one host does about the messages that all hosts see. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

#include "daemon/openwhisk/observer.h"
#include "proto/base/log.h"
#include "tests/unit/openwhisk/capture.h"
#include "tests/unit/openwhisk/fake_membership.h"

TestSuite(observer, .timeout = 30);

/* One line per callback. */
struct diary {
    char lines[64][2048];
    unsigned n;
};

static void add(struct diary *diary, const char *what, const struct observed_volume *volumes,
                unsigned n)
{
    cr_assert_lt(diary->n, 64);
    char *line = diary->lines[diary->n++];
    int used = snprintf(line, sizeof diary->lines[0], "%s", what);
    for (unsigned i = 0; i < n; i++)
        used +=
            snprintf(line + used, sizeof diary->lines[0] - (size_t)used, " %s", volumes[i].name);
}

static void on_activation(void *arg, const struct ow_activation *activation,
                          const struct observed_volume *volumes, unsigned n)
{
    char what[1024];
    (void)snprintf(what, sizeof what, "run %s:", activation->action);
    add(arg, what, volumes, n);
}

static void on_hint(void *arg, const struct member_host *host, const struct prediction *prediction,
                    const struct observed_volume *volumes, unsigned n)
{
    char what[1024];
    (void)snprintf(what, sizeof what, "hint %s %s:", host->name, prediction->action);
    add(arg, what, volumes, n);
}

static void on_expect(void *arg, const struct prediction *prediction,
                      const struct observed_volume *volumes, unsigned n)
{
    char what[1024];
    (void)snprintf(what, sizeof what, "expect %s:", prediction->action);
    add(arg, what, volumes, n);
}

static void on_cancel(void *arg, const struct member_host *host,
                      const struct prediction *prediction)
{
    char what[1024];
    (void)snprintf(what, sizeof what, "cancel %s %s", host->name, prediction->action);
    add(arg, what, NULL, 0);
}

static const struct observer_ops ops = {
    .activation = on_activation, .hint = on_hint, .expect = on_expect, .cancel = on_cancel};

static void on_begin_step(void *arg, const struct ow_activation *activation, int64_t now_ms)
{
    char what[1024];
    (void)snprintf(what, sizeof what, "begin %s %lld", activation->action, (long long)now_ms);
    add(arg, what, NULL, 0);
}

static void on_end_step(void *arg, const struct ow_ack *ack, int64_t now_ms)
{
    char what[64];
    (void)snprintf(what, sizeof what, "end %s %lld", ack->id, (long long)now_ms);
    add(arg, what, NULL, 0);
}

static void on_missed_step(void *arg, int64_t now_ms)
{
    char what[64];
    (void)snprintf(what, sizeof what, "missed %lld", (long long)now_ms);
    add(arg, what, NULL, 0);
}

struct fixture {
    struct observer *observer;
    struct diary diary;
    struct fake_membership membership;
};

static void set_up_with(struct fixture *f, int invoker, const struct observer_ops *wanted)
{
    memset(&f->diary, 0, sizeof f->diary);
    fake_membership_init(&f->membership, 4);
    struct observer_config config = {.topic_prefix = "",
                                     .invoker = invoker,
                                     .predictor = PREDICTOR_DEFAULTS,
                                     .membership = &f->membership.membership,
                                     .ops = wanted,
                                     .arg = &f->diary};
    cr_assert_eq(observer_new(&config, &f->observer), 0);
}

static void set_up(struct fixture *f, int invoker)
{
    set_up_with(f, invoker, &ops);
}

static void record(struct fixture *f, const char *topic, const char *text)
{
    observer_record(f->observer, topic, 0, text, strlen(text), 1000);
}

static void pings(struct fixture *f)
{
    char text[128];
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(text, sizeof text, "{\"name\":{\"instance\":%u,\"uniqueName\":\"%u\"}}", i,
                       i);
        record(f, "health", text);
    }
}

static void activate(struct fixture *f, unsigned run, unsigned step, const char *action,
                     const char *volume, const char *topic)
{
    char text[1024];
    (void)snprintf(
        text, sizeof text,
        "{\"activationId\":\"%016x%016x\",\"cause\":\"%032x\",\"action\":\"%s\","
        "\"user\":{\"namespace\":{\"name\":\"guest\"},\"authkey\":{\"api_key\":\"SECRET\"}},"
        "\"content\":{\"__ow_volume\":%s},\"transid\":[\"t\",1]}",
        run, step + 1, run, action, volume);
    record(f, topic, text);
}

static void create(struct fixture *f, const char *action, const char *topic)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "{\"creationId\":\"5d4c3b2a19087f6e5d4c3b2a19087f6e\",\"action\":\"%s\","
                   "\"invocationNamespace\":\"guest\",\"whiskActionMetaData\":{}}",
                   action);
    record(f, topic, text);
}

static void complete(struct fixture *f, unsigned run, unsigned step, unsigned invoker)
{
    char text[256];
    (void)snprintf(
        text, sizeof text,
        "{\"activationId\":\"%016x%016x\",\"instance\":{\"instance\":%u,\"userMemory\":\"1 GB\"}}",
        run, step + 1, invoker);
    record(f, "completed0", text);
}

static void fail(struct fixture *f, unsigned run, unsigned step)
{
    char text[256];
    (void)snprintf(text, sizeof text,
                   "{\"response\":{\"activationId\":\"%016x%016x\",\"response\":{\"statusCode\":1}}"
                   ",\"transid\":[\"t\",1]}",
                   run, step + 1);
    record(f, "completed0", text);
}

#define WORK "{\"name\":\"work\",\"scope\":\"sequence\"}"
#define INSTANCE(run) "work--guest--0000000000000000000000000000000" run

/* The second run of a sequence: its steps are attached where they run, and the host of the next one is told of the
 * volumes that its action used last time as well as of the run's own instance. */
Test(observer, hints)
{
    struct fixture f;
    set_up(&f, 3);
    pings(&f);
    for (unsigned run = 1; run <= 2; run++) {
        activate(&f, run, 0, "guest/split", WORK, "invoker3");
        activate(&f, run, 1, "guest/infer", "[\"models\"," WORK "]", "invoker3");
        activate(&f, run, 2, "guest/merge", "[\"album\"," WORK "]", "invoker1");
    }
    static const char *const expected[] = {
        "run guest/split: " INSTANCE("1"),
        "run guest/infer: models " INSTANCE("1"),
        "run guest/split: " INSTANCE("2"), /* infer is expected here as well: no hint to anybody */
        "run guest/infer: models " INSTANCE("2"),
        "hint h1 guest/merge: album " INSTANCE("2") " models",
    };
    cr_assert_eq(f.diary.n, N_ELEMENTS(expected));
    for (unsigned i = 0; i < N_ELEMENTS(expected); i++)
        cr_assert_str_eq(f.diary.lines[i], expected[i]);
    const struct observer_counters *c = observer_counters(f.observer);
    cr_assert_eq(atomic_load(&c->hints), 1);
    cr_assert_eq(atomic_load(&c->hints_local), 1);
    cr_assert_eq(atomic_load(&c->activations), 6);
    cr_assert_eq(atomic_load(&c->activations_here), 4);
    observer_tick(f.observer, 1000);
    cr_assert_eq(atomic_load(&c->invokers_up), 4);
    cr_assert_eq(atomic_load(&c->action_right), 2);
    cr_assert_eq(atomic_load(&c->invoker_right), 2);
    observer_free(f.observer);
}

/* Other hosts see the same messages and say nothing, but know as much. */
Test(observer, only_the_current_host_acts)
{
    for (int invoker = 0; invoker < 4; invoker++) {
        struct fixture f;
        set_up(&f, invoker);
        pings(&f);
        for (unsigned run = 1; run <= 2; run++) {
            activate(&f, run, 0, "guest/infer", WORK, "invoker3");
            activate(&f, run, 1, "guest/merge", WORK, "invoker1");
        }
        const struct observer_counters *c = observer_counters(f.observer);
        cr_assert_eq(atomic_load(&c->hints), invoker == 3);
        cr_assert_eq(atomic_load(&c->predictions), 1);
        cr_assert_eq(f.diary.n, invoker == 3 ? 3 : invoker == 1 ? 2 : 0);
        observer_free(f.observer);
    }
}

/* Every step of OpenWhisk's users is told of, wherever it runs. */
Test(observer, steps, .init = cr_redirect_stderr)
{
    static const struct observer_ops steps = {.activation = on_activation,
                                              .hint = on_hint,
                                              .expect = on_expect,
                                              .begin_step = on_begin_step,
                                              .end_step = on_end_step,
                                              .missed_step = on_missed_step};
    struct fixture f;
    set_up_with(&f, 0, &steps);
    pings(&f);
    activate(&f, 1, 0, "guest/split", WORK, "invoker3");
    complete(&f, 1, 0, 3);
    activate(&f, 1, 1, "guest/infer", WORK, "scheduler0");
    activate(&f, 1, 2, "whisk.system/invokerHealthTestAction0", "null", "invoker3");
    record(&f, "health", "{");
    record(&f, "scheduler0", "{");
    static const char *const expected[] = {"begin guest/split 1000",
                                           "end 00000000000000010000000000000001 1000",
                                           "begin guest/infer 1000", "missed 1000"};
    cr_assert_eq(f.diary.n, N_ELEMENTS(expected));
    for (unsigned i = 0; i < N_ELEMENTS(expected); i++)
        cr_assert_str_eq(f.diary.lines[i], expected[i]);
    observer_free(f.observer);
}

/* A step that fails takes its hint back. */
Test(observer, cancels)
{
    struct fixture f;
    set_up(&f, 3);
    pings(&f);
    activate(&f, 1, 0, "guest/infer", WORK, "invoker3");
    activate(&f, 1, 1, "guest/merge", WORK, "invoker1");
    activate(&f, 2, 0, "guest/infer", WORK, "invoker3");
    fail(&f, 2, 0);
    cr_assert_eq(f.diary.n, 4);
    cr_assert_str_eq(f.diary.lines[3], "cancel h1 guest/merge");
    fail(&f, 1, 1); /* not ours */
    cr_assert_eq(f.diary.n, 4);
    observer_free(f.observer);
}

/* No hint goes to a host that is dead or unknown, or for a run without volumes. */
Test(observer, no_target)
{
    struct fixture f;
    set_up(&f, 3);
    pings(&f);
    f.membership.dead = 1;
    for (unsigned run = 1; run <= 2; run++) {
        activate(&f, run, 0, "guest/infer", WORK, "invoker3");
        activate(&f, run, 1, "guest/merge", WORK, "invoker1");
    }
    const struct observer_counters *c = observer_counters(f.observer);
    cr_assert_eq(atomic_load(&c->hints_unplaced), 1);
    f.membership.dead = -1;
    f.membership.n_hosts = 1;
    activate(&f, 3, 0, "guest/infer", WORK, "invoker3");
    cr_assert_eq(atomic_load(&c->hints_unplaced), 2);
    f.membership.n_hosts = 4;
    for (unsigned run = 4; run <= 5; run++) {
        f.diary.n = 0; /* in run 4 merge is still thought to use what it used before */
        activate(&f, run, 0, "guest/infer", "null", "invoker3");
        activate(&f, run, 1, "guest/merge", "null", "invoker1");
    }
    cr_assert_eq(f.diary.n, 0);
    observer_free(f.observer);
}

/* Malformed messages are counted and dropped; each source is named once a minute, and never quoted. */
Test(observer, malformed, .init = cr_redirect_stderr)
{
    struct fixture f;
    set_up(&f, 3);
    for (unsigned i = 0; i < 100; i++) {
        record(&f, "invoker3", "{\"activationId\":\"SECRET\"}");
        record(&f, "health", "{\"name\":{\"instance\":\"SECRET\"}}");
    }
    observer_record(f.observer, "invoker3", 0, NULL, 0, 0);
    const struct observer_counters *c = observer_counters(f.observer);
    cr_assert_eq(atomic_load(&c->malformed), 201);
    activate(&f, 1, 0, "guest/split", "\"../SECRET\"", "invoker3");
    cr_assert_eq(atomic_load(&c->volumes_refused), 1);
    cr_assert_eq(f.diary.n, 0);
    observer_free(f.observer);
    (void)fflush(stderr);
    char line[2048];
    unsigned n_dropped = 0, n_refused = 0;
    for (FILE *log = cr_get_redirected_stderr(); fgets(line, sizeof line, log);) {
        n_dropped += strstr(line, "is dropped") != NULL;
        n_refused += strstr(line, "can be no volume") != NULL;
        cr_assert_null(strstr(line, "SECRET"));
    }
    cr_assert_eq(n_dropped, 2);
    cr_assert_eq(n_refused, 1);
}

/* A namespace whose name fits no volume's has none of a run, and is told so; its named volumes work. */
Test(observer, namespace_without_instances, .init = cr_redirect_stderr)
{
    struct fixture f;
    set_up(&f, 3);
    record(&f, "invoker3",
           "{\"activationId\":\"7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5\",\"action\":\"me & you/a\","
           "\"user\":{\"namespace\":{\"name\":\"me & "
           "you\"}},\"content\":{\"__ow_volume\":[\"plain\"," WORK "]}}");
    cr_assert_eq(f.diary.n, 1);
    cr_assert_str_eq(f.diary.lines[0], "run me & you/a: plain");
    cr_assert_eq(atomic_load(&observer_counters(f.observer)->volumes_refused), 1);
    observer_free(f.observer);
    (void)fflush(stderr);
    char line[2048];
    cr_assert_not_null(fgets(line, sizeof line, cr_get_redirected_stderr()));
    cr_assert_not_null(strstr(line, "namespace 'me & you' cannot have volumes of a run"), "%s",
                       line);
}

/* With the newer scheduler nobody is told where a step runs. The host that is to start its container makes ready; from the
 * second run on, the hosts that have the containers of this step and of the next make ready by themselves. */
Test(observer, schedulers)
{
    static const char *const expected[4][8] = {
        {NULL},
        {"run guest/merge: album " INSTANCE("1"),
         "expect guest/merge: album " INSTANCE("2") " models",
         "run guest/merge: album " INSTANCE("2"), NULL},
        {NULL},
        {"run guest/infer: models " INSTANCE("1"), "expect guest/infer: models " INSTANCE("2"),
         "run guest/infer: models " INSTANCE("2"), NULL},
    };
    for (int invoker = 0; invoker < 4; invoker++) {
        struct fixture f;
        set_up(&f, invoker);
        for (unsigned run = 1; run <= 2; run++) {
            activate(&f, run, 0, "guest/split", WORK, "scheduler0");
            activate(&f, run, 1, "guest/infer", "[\"models\"," WORK "]", "scheduler0");
            if (run == 1)
                create(&f, "guest/infer", "invoker3");
            complete(&f, run, 1, 3);
            activate(&f, run, 2, "guest/merge", "[\"album\"," WORK "]", "scheduler0");
            if (run == 1)
                create(&f, "guest/merge", "invoker1");
            complete(&f, run, 2, 1);
        }
        unsigned n = 0;
        for (; expected[invoker][n]; n++) {
            cr_assert_lt(n, f.diary.n, "invoker %d misses: %s", invoker, expected[invoker][n]);
            cr_assert_str_eq(f.diary.lines[n], expected[invoker][n]);
        }
        cr_assert_eq(f.diary.n, n, "invoker %d: %s", invoker, f.diary.lines[n]);
        observer_tick(f.observer, 1000);
        cr_assert_eq(atomic_load(&observer_counters(f.observer)->invoker_right), 2);
        observer_free(f.observer);
    }
}

/* A container that is started for something else, or for an activation of long ago, is no reason to act. */
Test(observer, containers_of_others)
{
    struct fixture f;
    set_up(&f, 3);
    create(&f, "guest/split", "invoker3");
    activate(&f, 1, 0, "guest/split", WORK, "scheduler0");
    cr_assert_eq(f.diary.n, 1, "its container is known to be here");
    activate(&f, 1, 1, "guest/infer", WORK, "scheduler0");
    create(&f, "guest/infer", "invoker1");
    create(&f, "guest/merge", "invoker3");
    cr_assert_eq(f.diary.n, 1);
    create(&f, "guest/infer", "invoker3");
    cr_assert_eq(f.diary.n, 2);
    observer_record(f.observer, "invoker3", 0, "x", 1, 1000);
    cr_assert_eq(atomic_load(&observer_counters(f.observer)->containers), 4);
    observer_free(f.observer);
}

/* Messages on topics where they do not belong are skipped. */
Test(observer, wrong_topics)
{
    struct fixture f;
    set_up(&f, 3);
    activate(&f, 1, 0, "guest/split", WORK, "completed3");
    activate(&f, 1, 0, "guest/split", WORK, "health");
    record(&f, "invoker3", "{\"name\":{\"instance\":3}}");
    create(&f, "guest/split", "creationAck0");
    record(&f, "cacheInvalidation",
           "{\"key\":{\"mainId\":\"guest/pipeline\"},\"instanceId\":\"controller0\"}");
    cr_assert_eq(atomic_load(&observer_counters(f.observer)->skipped), 5);
    cr_assert_eq(f.diary.n, 0);
    observer_free(f.observer);
}

static void replay(void *arg, const struct captured *captured)
{
    struct fixture *f = arg;
    observer_record(f->observer, captured->topic, 0, captured->payload, captured->size,
                    captured->timestamp_ms);
    observer_tick(f->observer, captured->timestamp_ms);
}

/* All captured traffic, at debug level: not one line of the log holds a credential. */
Test(observer, logs_hold_no_credentials, .init = cr_redirect_stderr)
{
    log_set_level(LOG_DEBUG);
    struct fixture f;
    set_up(&f, 3);
    unsigned n =
        captured_generation("classic", replay, &f) + captured_generation("fpc", replay, &f);
    const struct observer_counters *c = observer_counters(f.observer);
    cr_assert_eq(atomic_load(&c->messages), n);
    cr_assert_eq(atomic_load(&c->malformed), 0);
    observer_free(f.observer);
    (void)fflush(stderr);
    static char line[1 << 16];
    unsigned n_lines = 0;
    for (FILE *log = cr_get_redirected_stderr(); fgets(line, sizeof line, log); n_lines++) {
        cr_assert_null(strstr(line, "SECRET"));
        cr_assert_null(strstr(line, "U0VDUkVU"));
        cr_assert_null(strstr(line, "11111111-2222"));
    }
    cr_assert_geq(n_lines, n);
}
