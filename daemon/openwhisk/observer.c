#include "daemon/openwhisk/observer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/openwhisk/action_volumes.h"
#include "daemon/openwhisk/balancer.h"
#include "proto/base/log.h"

#define SUBSYSTEM "openwhisk"
#define SOURCES 64 /* of malformed messages, told apart by a hash of the topic */
#define ACTIONS_MAX 4096
#define SCHEDULED_MAX 64
#define SCHEDULED_MS 60000 /* what a scheduler was given this long ago runs, or is over */

/* An activation that a scheduler has, which may be waiting for its container. */
struct scheduled {
    struct ow_activation activation;
    int64_t seen_ms;
};

struct observer {
    struct observer_ops ops;
    void *arg;
    struct membership *membership;
    char *topic_prefix;
    int invoker;
    struct predictor *predictor;
    struct action_volumes *volumes;
    struct scheduled scheduled[SCHEDULED_MAX]; /* ring of those with volumes */
    unsigned n_scheduled;                      /* ever */
    struct observer_counters counters;
    struct log_limit malformed[SOURCES], refused, nameless;
};

static void count(atomic_uint_least64_t *counter)
{
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

int observer_new(const struct observer_config *config, struct observer **ret_observer)
{
    AUTO(observer_freep) struct observer *o = calloc(1, sizeof *o);
    if (!o)
        return -ENOMEM;
    o->ops = *config->ops;
    o->arg = config->arg;
    o->membership = config->membership;
    o->invoker = config->invoker;
    o->topic_prefix = strdup(config->topic_prefix);
    if (!o->topic_prefix)
        return -ENOMEM;
    int r = predictor_new(&config->predictor, &o->predictor);
    if (r < 0)
        return r;
    r = action_volumes_new(ACTIONS_MAX, &o->volumes);
    if (r < 0)
        return r;
    *ret_observer = TAKE(o);
    return 0;
}

void observer_free(struct observer *o)
{
    if (!o)
        return;
    predictor_free(o->predictor);
    action_volumes_free(o->volumes);
    free(o->topic_prefix);
    free(o);
}

/* ---- volumes ---- */

static bool is_listed(const struct observed_volume *list, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return true;
    return false;
}

/* Appends what refs mean in this run to the list; what makes no name is left out. */
static unsigned resolve(const struct ow_volume_refs *refs, const char *namespace_name,
                        const char *run, struct observed_volume *list, unsigned n)
{
    for (unsigned i = 0; i < refs->n && n < OBSERVER_VOLUMES_MAX; i++) {
        const struct ow_volume_ref *ref = &refs->refs[i];
        struct observed_volume *volume = &list[n];
        if (ow_volume_instance_name(ref, namespace_name, run, volume->name) < 0 ||
            is_listed(list, n, volume->name))
            continue;
        volume->scope = ref->scope;
        volume->size_bytes = ref->size_bytes;
        volume->is_read_only = ref->is_read_only;
        n++;
    }
    return n;
}

static void note_refused(struct observer *o, const struct ow_activation *a)
{
    if (a->volumes.n_refused == 0)
        return;
    (void)atomic_fetch_add(&o->counters.volumes_refused, a->volumes.n_refused);
    uint64_t suppressed;
    if (log_allow(&o->refused, &suppressed))
        log_warning(SUBSYSTEM,
                    "parameter %s of an activation names what can be no volume: a name is "
                    "[a-z0-9][a-z0-9._-]* of at most "
                    "%d characters without -- action=%s activation=%s suppressed=%llu",
                    OW_VOLUME_PARAMETER, OW_VOLUME_NAME_SIZE - 1, a->action, a->id,
                    (unsigned long long)suppressed);
}

/* ---- activations ---- */

/* A namespace may have a name that can be no part of a volume's. */
static void note_nameless(struct observer *o, const struct ow_activation *a, unsigned n)
{
    (void)atomic_fetch_add(&o->counters.volumes_refused, n);
    uint64_t suppressed;
    if (log_allow(&o->nameless, &suppressed))
        log_warning(SUBSYSTEM,
                    "namespace '%s' cannot have volumes of a run: its name is too long, or holds "
                    "more than letters, "
                    "digits and . _ - @ action=%s activation=%s suppressed=%llu",
                    a->namespace_name, a->action, a->id, (unsigned long long)suppressed);
}

static void act_here(struct observer *o, const struct ow_activation *a)
{
    count(&o->counters.activations_here);
    note_refused(o, a);
    struct observed_volume list[OBSERVER_VOLUMES_MAX];
    unsigned n = resolve(&a->volumes, a->namespace_name, ow_activation_run(a), list, 0);
    if (n < a->volumes.n)
        note_nameless(o, a, a->volumes.n - n);
    if (n > 0)
        o->ops.activation(o->arg, a, list, n);
}

static bool find_target(struct observer *o, const struct prediction *p,
                        struct member_host *ret_host)
{
    if (p->invoker == o->invoker) {
        count(&o->counters.hints_local);
        return false;
    }
    struct member_host host;
    if (p->invoker < 0 ||
        o->membership->ops->host_by_invoker(o->membership, p->invoker, &host) < 0 || !host.alive) {
        count(&o->counters.hints_unplaced);
        return false;
    }
    *ret_host = host;
    return true;
}

/* The volumes of the next action first: those it will surely want. */
static unsigned next_volumes(struct observer *o, const struct ow_activation *a,
                             const struct prediction *p, struct observed_volume *list)
{
    unsigned n = 0;
    struct ow_volume_refs next;
    if (action_volumes_get(o->volumes, p->namespace_name, p->action, &next) == 0)
        n = resolve(&next, p->namespace_name, p->run, list, n);
    return resolve(&a->volumes, a->namespace_name, p->run, list, n);
}

static void give_hint(struct observer *o, const struct ow_activation *a, const struct prediction *p)
{
    struct member_host host;
    struct observed_volume list[OBSERVER_VOLUMES_MAX];
    if (!find_target(o, p, &host))
        return;
    unsigned n = next_volumes(o, a, p, list);
    if (n == 0)
        return;
    count(&o->counters.hints);
    o->ops.hint(o->arg, &host, p, list, n);
}

static void expect_here(struct observer *o, const struct ow_activation *a,
                        const struct prediction *p)
{
    struct observed_volume list[OBSERVER_VOLUMES_MAX];
    unsigned n = next_volumes(o, a, p, list);
    if (n == 0)
        return;
    count(&o->counters.expected);
    o->ops.expect(o->arg, p, list, n);
}

/* False: it is none of OpenWhisk's users'. */
static bool is_worth_seeing(struct observer *o, const struct ow_activation *a, int64_t now_ms)
{
    count(&o->counters.activations);
    if (a->is_noise)
        count(&o->counters.noise);
    else if (o->ops.begin_step)
        o->ops.begin_step(o->arg, a, now_ms);
    return !a->is_noise;
}

static bool predict(struct observer *o, const struct ow_activation *a, int invoker, int64_t now_ms,
                    struct prediction *ret_prediction)
{
    bool is_predicted = predictor_activation(o->predictor, a, invoker, now_ms, ret_prediction);
    if (is_predicted)
        count(&o->counters.predictions);
    return is_predicted;
}

static void see_activation(struct observer *o, const struct ow_activation *a, unsigned invoker,
                           int64_t now_ms)
{
    struct prediction prediction;
    if (!is_worth_seeing(o, a, now_ms))
        return;
    bool is_predicted = predict(o, a, (int)invoker, now_ms, &prediction);
    if ((int)invoker == o->invoker) {
        act_here(o, a);
        if (is_predicted)
            give_hint(o, a, &prediction);
    }
    (void)!action_volumes_put(o->volumes, a->namespace_name, a->action, &a->volumes);
}

static void see_scheduled(struct observer *o, const struct ow_activation *a, int64_t now_ms)
{
    struct prediction prediction;
    if (!is_worth_seeing(o, a, now_ms))
        return;
    if (predictor_container_place(o->predictor, a->namespace_name, a->action, now_ms) == o->invoker)
        act_here(o, a);
    if (a->volumes.n > 0)
        o->scheduled[o->n_scheduled++ % SCHEDULED_MAX] = (struct scheduled){*a, now_ms};
    if (predict(o, a, ANY_INVOKER, now_ms, &prediction) && prediction.invoker == o->invoker)
        expect_here(o, a, &prediction);
    (void)!action_volumes_put(o->volumes, a->namespace_name, a->action, &a->volumes);
}

/* The youngest that may be what this container is started for, or NULL. */
static const struct scheduled *find_scheduled(const struct observer *o,
                                              const struct ow_container *c, int64_t now_ms)
{
    for (unsigned i = 0; i < MIN(o->n_scheduled, (unsigned)SCHEDULED_MAX); i++) {
        const struct scheduled *s = &o->scheduled[(o->n_scheduled - 1 - i) % SCHEDULED_MAX];
        if (now_ms - s->seen_ms < SCHEDULED_MS && strcmp(s->activation.action, c->action) == 0 &&
            strcmp(s->activation.namespace_name, c->namespace_name) == 0)
            return s;
    }
    return NULL;
}

static void see_container(struct observer *o, const struct ow_container *c, unsigned invoker,
                          int64_t now_ms)
{
    count(&o->counters.containers);
    if (c->is_noise)
        return;
    predictor_container(o->predictor, c, invoker, now_ms);
    const struct scheduled *scheduled = find_scheduled(o, c, now_ms);
    if (c->form == OW_CONTAINER_CREATION && (int)invoker == o->invoker && scheduled)
        act_here(o, &scheduled->activation);
}

static void see_ack(struct observer *o, const struct ow_ack *ack, int64_t now_ms)
{
    count(&o->counters.acks);
    if (o->ops.end_step)
        o->ops.end_step(o->arg, ack, now_ms);
    struct prediction cancelled;
    if (!predictor_ack(o->predictor, ack, now_ms, &cancelled) ||
        cancelled.from_invoker != o->invoker || !o->ops.cancel || cancelled.invoker < 0 ||
        cancelled.invoker == o->invoker)
        return;
    struct member_host host;
    if (o->membership->ops->host_by_invoker(o->membership, cancelled.invoker, &host) < 0)
        return;
    count(&o->counters.cancels);
    o->ops.cancel(o->arg, &host, &cancelled);
}

/* ---- records ---- */

/* Nothing of the payload is said: it may hold anything. */
static void drop_malformed(struct observer *o, const char *topic, int64_t offset, size_t size,
                           int error)
{
    count(&o->counters.malformed);
    uint64_t suppressed;
    if (log_allow(&o->malformed[balancer_jhash(topic) % SOURCES], &suppressed))
        log_warning(SUBSYSTEM,
                    "a message of topic '%s' is dropped: %s offset=%lld bytes=%zu suppressed=%llu",
                    topic, error == -EMSGSIZE ? "it is too large or too deep" : "it is malformed",
                    (long long)offset, size, (unsigned long long)suppressed);
}

static void debug_message(const struct ow_message *m, const char *topic)
{
    if (!log_enabled(LOG_DEBUG))
        return;
    char line[1536];
    ow_message_describe(m, line, sizeof line);
    log_debug(SUBSYSTEM, "%s: %s", topic, line);
}

static void see_message(struct observer *o, enum ow_topic topic, unsigned invoker,
                        const struct ow_message *m, int64_t now_ms)
{
    if (m->kind == OW_ACTIVATION && topic == OW_TOPIC_INVOKER) {
        see_activation(o, &m->activation, invoker, now_ms);
    } else if (m->kind == OW_ACTIVATION && topic == OW_TOPIC_SCHEDULER) {
        see_scheduled(o, &m->activation, now_ms);
    } else if (m->kind == OW_CONTAINER &&
               topic == (m->container.form == OW_CONTAINER_CREATED ? OW_TOPIC_CREATED
                                                                   : OW_TOPIC_INVOKER)) {
        see_container(o, &m->container, invoker, now_ms);
    } else if (m->kind == OW_ACK && topic == OW_TOPIC_COMPLETED) {
        see_ack(o, &m->ack, now_ms);
    } else if (m->kind == OW_PING && topic == OW_TOPIC_HEALTH) {
        count(&o->counters.pings);
        predictor_ping(o->predictor, &m->ping, now_ms);
    } else {
        count(&o->counters.skipped);
    }
}

void observer_record(struct observer *o, const char *topic, int64_t offset, const void *payload,
                     size_t size, int64_t now_ms)
{
    static const struct ow_limits limits = OW_LIMITS_DEFAULT;
    count(&o->counters.messages);
    unsigned invoker = 0;
    enum ow_topic kind = ow_topic_parse(o->topic_prefix, topic, &invoker);
    struct ow_message m;
    int r = payload ? ow_message_decode(payload, size, &limits, &m) : -EBADMSG;
    if (r < 0) {
        drop_malformed(o, topic, offset, size, r);
        if ((kind == OW_TOPIC_INVOKER || kind == OW_TOPIC_SCHEDULER) && o->ops.missed_step)
            o->ops.missed_step(o->arg, now_ms);
        return;
    }
    debug_message(&m, topic);
    see_message(o, kind, invoker, &m, now_ms);
}

void observer_tick(struct observer *o, int64_t now_ms)
{
    predictor_expire(o->predictor, now_ms);
    struct predictor_stats stats;
    predictor_stats(o->predictor, now_ms, &stats);
    struct observer_counters *c = &o->counters;
    atomic_store(&c->runs, stats.n_runs);
    atomic_store(&c->runs_evicted, stats.n_evicted);
    atomic_store(&c->invokers, stats.n_invokers);
    atomic_store(&c->invokers_up, stats.n_up);
    atomic_store(&c->known_contexts, stats.n_contexts);
    atomic_store(&c->checked, stats.n_checked);
    atomic_store(&c->action_right, stats.n_action_right);
    atomic_store(&c->invoker_right, stats.n_invoker_right);
}

const struct observer_counters *observer_counters(const struct observer *o)
{
    return &o->counters;
}

struct predictor *observer_predictor(struct observer *o)
{
    return o->predictor;
}
