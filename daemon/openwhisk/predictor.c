#define HASH_NONFATAL_OOM 1
#include "daemon/openwhisk/predictor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <xxhash.h>

#include "daemon/openwhisk/balancer.h"

/* One run of a sequence: what is known of its latest step. */
struct run {
    UT_hash_handle hh;      /* by cause; in order of the last step: the head is the oldest */
    UT_hash_handle hh_step; /* by the latest step's activation id */
    char cause[OW_ID_SIZE];
    char step_id[OW_ID_SIZE];
    char namespace_name[OW_NAME_SIZE];
    char action[OW_ACTION_SIZE];
    uint64_t prefix;   /* all actions up to the latest step's, as one number */
    unsigned step;     /* index of the latest step */
    int invoker;       /* that it was sent to, or ANY_INVOKER */
    int64_t last_ms;   /* when its message was seen */
    int64_t result_ms; /* when its acknowledgement was; -1: not yet */
    bool is_predicted;
    struct prediction predicted;
};

struct invoker {
    int64_t ping_ms; /* INT64_MIN: never */
    bool is_enabled;
    char unique_name[OW_INSTANCE_SIZE];
};

struct predictor {
    struct predictor_config config;
    struct balancer balancer;
    struct transitions *transitions;
    struct placements *placements;
    struct run *by_cause;
    struct run *by_step;
    struct invoker
        *invokers; /* [n_invokers]; ids that were never seen count as down, as in the balancer */
    unsigned n_invokers;
    uint64_t n_evicted, n_checked, n_action_right, n_invoker_right;
};

int predictor_new(const struct predictor_config *config, struct predictor **ret_predictor)
{
    AUTO(predictor_freep) struct predictor *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->config = *config;
    balancer_init(&p->balancer, config->managed_fraction, config->blackbox_fraction);
    int r = transitions_new(config->max_actions, &p->transitions);
    if (r < 0)
        return r;
    r = placements_new(config->max_actions, &p->placements);
    if (r < 0)
        return r;
    *ret_predictor = TAKE(p);
    return 0;
}

static void run_drop(struct predictor *p, struct run *run)
{
    HASH_DELETE(hh, p->by_cause, run);
    if (run->hh_step.tbl)
        HASH_DELETE(hh_step, p->by_step, run);
    free(run);
}

void predictor_free(struct predictor *p)
{
    if (!p)
        return;
    while (p->by_cause)
        run_drop(p, p->by_cause);
    transitions_free(p->transitions);
    placements_free(p->placements);
    balancer_done(&p->balancer);
    free(p->invokers);
    free(p);
}

/* Ids come from messages but are below OW_INVOKERS_MAX: the decoder sees to it. */
static int grow_invokers(struct predictor *p, unsigned n)
{
    if (n <= p->n_invokers)
        return 0;
    struct invoker *grown = realloc(p->invokers, n * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    p->invokers = grown;
    int r = balancer_resize(&p->balancer, n);
    if (r < 0)
        return r;
    for (unsigned i = p->n_invokers; i < n; i++)
        grown[i] = (struct invoker){.ping_ms = INT64_MIN};
    p->n_invokers = n;
    return 0;
}

void predictor_ping(struct predictor *p, const struct ow_ping *ping, int64_t now_ms)
{
    unsigned id = ping->invoker.id;
    if (id >= OW_INVOKERS_MAX || grow_invokers(p, id + 1) < 0)
        return;
    struct invoker *invoker = &p->invokers[id];
    invoker->ping_ms = now_ms;
    invoker->is_enabled = ping->is_enabled;
    (void)snprintf(invoker->unique_name, sizeof invoker->unique_name, "%s",
                   ping->invoker.unique_name);
}

static bool is_up(const struct predictor *p, unsigned id, int64_t now_ms)
{
    const struct invoker *invoker = &p->invokers[id];
    return invoker->ping_ms != INT64_MIN && invoker->is_enabled &&
           now_ms - invoker->ping_ms <= p->config.ping_fresh_ms;
}

/* Which pool an action uses is not in its messages; nearly all use the managed one. */
int predictor_place(const struct predictor *p, const char *namespace_name, const char *action,
                    int64_t now_ms)
{
    const struct balancer_pool *pool = &p->balancer.managed;
    uint32_t hash = balancer_hash(namespace_name, action);
    for (unsigned k = 0; k < pool->size; k++) {
        unsigned id = balancer_probe(pool, hash, k);
        if (is_up(p, id, now_ms))
            return (int)id;
    }
    return -1;
}

int predictor_container_place(const struct predictor *p, const char *namespace_name,
                              const char *action, int64_t now_ms)
{
    return placements_guess(p->placements, namespace_name, action, now_ms);
}

/* Whoever reports a failure without a container names an invoker without memory. */
static bool is_real(const struct ow_invoker *invoker)
{
    return invoker->user_memory_bytes > 0;
}

void predictor_container(struct predictor *p, const struct ow_container *c, unsigned invoker,
                         int64_t now_ms)
{
    switch (c->form) {
    case OW_CONTAINER_CREATION:
        (void)!placements_seen(p->placements, c->namespace_name, c->action, invoker, now_ms);
        break;
    case OW_CONTAINER_CREATED:
        if (c->is_error)
            placements_gone(p->placements, c->namespace_name, c->action, c->invoker.id);
        else
            (void)!placements_seen(p->placements, c->namespace_name, c->action, c->invoker.id,
                                   now_ms);
        break;
    case OW_CONTAINER_DELETION:
        placements_gone(p->placements, c->namespace_name, c->action, invoker);
        break;
    }
}

int predictor_invoker_named(const struct predictor *p, const char *unique_name)
{
    for (unsigned i = 0; i < p->n_invokers; i++)
        if (p->invokers[i].ping_ms != INT64_MIN &&
            strcmp(p->invokers[i].unique_name, unique_name) == 0)
            return (int)i;
    return -1;
}

static struct run *run_find(struct predictor *p, const char *cause)
{
    struct run *run;
    HASH_FIND(hh, p->by_cause, cause, strlen(cause), run);
    return run;
}

/* -ENOMEM: the run is gone. */
static int run_link(struct predictor *p, struct run *run)
{
    HASH_ADD_KEYPTR(hh, p->by_cause, run->cause, strlen(run->cause), run);
    if (!run->hh.tbl) {
        free(run);
        return -ENOMEM;
    }
    HASH_ADD_KEYPTR(hh_step, p->by_step, run->step_id, strlen(run->step_id), run);
    return 0; /* unlinked by step, it only misses its acknowledgement */
}

static void run_unlink(struct predictor *p, struct run *run)
{
    HASH_DELETE(hh, p->by_cause, run);
    if (run->hh_step.tbl)
        HASH_DELETE(hh_step, p->by_step, run);
    memset(&run->hh, 0, sizeof run->hh);
    memset(&run->hh_step, 0, sizeof run->hh_step);
}

static void set_step(struct run *run, const struct ow_activation *a, int invoker, int64_t now_ms)
{
    memcpy(run->step_id, a->id, sizeof run->step_id);
    memcpy(run->namespace_name, a->namespace_name, sizeof run->namespace_name);
    memcpy(run->action, a->action, sizeof run->action);
    run->prefix = XXH3_64bits_withSeed(a->action, strlen(a->action), run->prefix);
    run->invoker = invoker;
    run->last_ms = now_ms;
    run->result_ms = -1;
    run->is_predicted = false;
}

static struct run *run_begin(struct predictor *p, const struct ow_activation *a, int invoker,
                             int64_t now_ms)
{
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    memcpy(run->cause, a->cause, sizeof run->cause);
    set_step(run, a, invoker, now_ms);
    if (run_link(p, run) < 0)
        return NULL;
    if (HASH_COUNT(p->by_cause) > p->config.max_runs) {
        p->n_evicted++;
        run_drop(p, p->by_cause);
    }
    return run;
}

/* Where the step was expected to run, if the step itself was; else ANY_INVOKER. */
static int check_prediction(struct predictor *p, const struct run *run,
                            const struct ow_activation *a)
{
    if (!run->is_predicted)
        return ANY_INVOKER;
    p->n_checked++;
    if (strcmp(run->predicted.action, a->action) != 0)
        return ANY_INVOKER;
    p->n_action_right++;
    return run->predicted.invoker;
}

/* An invoker's own topic says at once where the step runs, its completion says it for one that a scheduler took. */
static void check_place(struct predictor *p, const struct ow_activation *a, int invoker,
                        int expected)
{
    if (invoker == ANY_INVOKER)
        (void)!placements_started(p->placements, a->id, a->namespace_name, a->action, expected);
    else if (expected == invoker)
        p->n_invoker_right++;
}

/* No action's name begins with a hash sign. */
#define PREFIX_SIZE 18

static void prefix_context(const struct run *run, char ret_context[static PREFIX_SIZE])
{
    (void)snprintf(ret_context, PREFIX_SIZE, "#%016" PRIx64, run->prefix);
}

static void learn(struct predictor *p, const struct run *run, const char *next)
{
    char prefix[PREFIX_SIZE];
    prefix_context(run, prefix);
    (void)!transitions_learn(p->transitions, run->namespace_name, prefix, next, 1);
    (void)!transitions_learn(p->transitions, run->namespace_name, run->action, next, 1);
}

/* Runs that began alike go on alike, whichever sequences share the last action; a run that began like none before is
 * judged by that. */
static int guess_next(struct predictor *p, const struct run *run,
                      struct transition_guess *ret_guess)
{
    char prefix[PREFIX_SIZE];
    prefix_context(run, prefix);
    int r = transitions_guess(p->transitions, run->namespace_name, prefix, ret_guess);
    return r == -ENOENT
               ? transitions_guess(p->transitions, run->namespace_name, run->action, ret_guess)
               : r;
}

static struct run *run_advance(struct predictor *p, struct run *run, const struct ow_activation *a,
                               int invoker, int64_t now_ms)
{
    check_place(p, a, invoker, check_prediction(p, run, a));
    learn(p, run, a->action);
    run_unlink(p, run);
    set_step(run, a, invoker, now_ms);
    run->step++;
    return run_link(p, run) < 0 ? NULL : run;
}

static bool predict(struct predictor *p, struct run *run, int64_t now_ms)
{
    struct transition_guess guess;
    if (guess_next(p, run, &guess) < 0)
        return false;
    struct prediction *predicted = &run->predicted;
    memcpy(predicted->run, run->cause, sizeof predicted->run);
    memcpy(predicted->namespace_name, run->namespace_name, sizeof predicted->namespace_name);
    memcpy(predicted->action, guess.next, sizeof predicted->action);
    predicted->step = run->step + 1;
    predicted->from_invoker = run->invoker;
    predicted->probability = guess.probability;
    predicted->invoker = run->invoker == ANY_INVOKER
                             ? predictor_container_place(p, run->namespace_name, guess.next, now_ms)
                             : predictor_place(p, run->namespace_name, guess.next, now_ms);
    run->is_predicted = true;
    return true;
}

bool predictor_activation(struct predictor *p, const struct ow_activation *activation, int invoker,
                          int64_t now_ms, struct prediction *ret_prediction)
{
    if (activation->is_noise)
        return false;
    struct run *run = activation->cause[0] != '\0' ? run_find(p, activation->cause) : NULL;
    if (run && strcmp(run->step_id, activation->id) == 0)
        return false; /* seen already: a record may be delivered twice */
    if (!run)
        check_place(p, activation, invoker, ANY_INVOKER);
    if (activation->cause[0] == '\0')
        return false;
    run = run ? run_advance(p, run, activation, invoker, now_ms)
              : run_begin(p, activation, invoker, now_ms);
    if (!run || !predict(p, run, now_ms))
        return false;
    *ret_prediction = run->predicted;
    return true;
}

bool predictor_ack(struct predictor *p, const struct ow_ack *ack, int64_t now_ms,
                   struct prediction *ret_cancelled)
{
    struct run *run;
    if (ack->has_invoker && is_real(&ack->invoker))
        p->n_invoker_right += placements_completed(p->placements, ack->id, ack->invoker.id, now_ms);
    HASH_FIND(hh_step, p->by_step, ack->id, strlen(ack->id), run);
    if (!run)
        return false;
    if (!ack->is_error) {
        if (run->result_ms < 0)
            run->result_ms = now_ms;
        return false;
    }
    bool was_predicted = run->is_predicted;
    if (was_predicted)
        *ret_cancelled = run->predicted;
    run_drop(p, run);
    return was_predicted;
}

static bool is_over(const struct predictor *p, const struct run *run, int64_t now_ms)
{
    if (run->result_ms >= 0)
        return now_ms - run->result_ms > p->config.run_end_ms;
    return now_ms - run->last_ms > p->config.run_expiry_ms;
}

void predictor_expire(struct predictor *p, int64_t now_ms)
{
    struct run *run, *next;
    HASH_ITER(hh, p->by_cause, run, next)
    {
        if (!is_over(p, run, now_ms))
            continue;
        /* Without its result it may as well have failed, or we missed messages. */
        if (run->result_ms >= 0)
            learn(p, run, TRANSITION_END);
        run_drop(p, run);
    }
}

struct transitions *predictor_transitions(struct predictor *p)
{
    return p->transitions;
}

void predictor_stats(const struct predictor *p, int64_t now_ms, struct predictor_stats *ret_stats)
{
    *ret_stats = (struct predictor_stats){
        .n_runs = HASH_COUNT(p->by_cause),
        .n_invokers = p->n_invokers,
        .n_contexts = transitions_count(p->transitions),
        .n_evicted = p->n_evicted,
        .n_checked = p->n_checked,
        .n_action_right = p->n_action_right,
        .n_invoker_right = p->n_invoker_right,
    };
    for (unsigned i = 0; i < p->n_invokers; i++)
        ret_stats->n_up += is_up(p, i, now_ms);
}
