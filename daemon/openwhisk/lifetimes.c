#define HASH_NONFATAL_OOM 1
#include "daemon/openwhisk/lifetimes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "daemon/openwhisk/early_acks.h"

#define ASKED_MS 60000 /* who wants to know asks again by then */
#define NEVER_MS (INT64_MIN / 2)

/* All that one request set off. */
struct request {
    UT_hash_handle hh; /* by root */
    char root[OW_TRANSID_SIZE];
    unsigned n_runs, n_running;
    int64_t quiet_ms; /* when the last step of them began or ended */
};

struct run {
    UT_hash_handle hh;       /* by id; in order of the last step: the head is the oldest */
    UT_hash_handle hh_step;  /* by step */
    struct request *request; /* NULL: nothing was heard of it */
    char id[OW_ID_SIZE];
    char step[OW_ID_SIZE]; /* the latest; "" when nothing was heard */
    bool is_running;       /* that step is */
    int64_t heard_ms;      /* when the step began; without one, when the run was first asked for */
    int64_t asked_ms;      /* NEVER_MS: not yet */
};

struct lifetimes {
    struct lifetimes_config config;
    struct request *requests;
    struct run *by_id, *by_step;
    int64_t missed_ms;
    struct early_acks early;
};

int lifetimes_new(const struct lifetimes_config *config, struct lifetimes **ret_lifetimes)
{
    struct lifetimes *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    l->config = *config;
    l->missed_ms = NEVER_MS;
    *ret_lifetimes = l;
    return 0;
}

/* ---- requests ---- */

static struct request *request_find(struct lifetimes *l, const char *root)
{
    struct request *request;
    HASH_FIND(hh, l->requests, root, strlen(root), request);
    return request;
}

static struct request *request_add(struct lifetimes *l, const char *root)
{
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    (void)snprintf(request->root, sizeof request->root, "%s", root);
    HASH_ADD_KEYPTR(hh, l->requests, request->root, strlen(request->root), request);
    if (!request->hh.tbl) {
        free(request);
        return NULL;
    }
    return request;
}

static void request_put(struct lifetimes *l, struct request *request)
{
    if (--request->n_runs > 0)
        return;
    HASH_DELETE(hh, l->requests, request);
    free(request);
}

/* ---- runs ---- */

static void stop_step(struct run *run, int64_t now_ms)
{
    if (!run->is_running)
        return;
    run->is_running = false;
    run->request->n_running--;
    run->request->quiet_ms = now_ms;
}

static void run_unlink(struct lifetimes *l, struct run *run)
{
    HASH_DELETE(hh, l->by_id, run);
    if (run->hh_step.tbl)
        HASH_DELETE(hh_step, l->by_step, run);
    memset(&run->hh, 0, sizeof run->hh);
    memset(&run->hh_step, 0, sizeof run->hh_step);
}

static void run_free(struct lifetimes *l, struct run *run)
{
    struct request *request = run->request;
    if (request && run->is_running)
        request->n_running--;
    if (request)
        request_put(l, request);
    free(run);
}

static void run_drop(struct lifetimes *l, struct run *run)
{
    run_unlink(l, run);
    run_free(l, run);
}

void lifetimes_free(struct lifetimes *l)
{
    if (!l)
        return;
    while (l->by_id)
        run_drop(l, l->by_id);
    free(l);
}

static struct run *run_find(struct lifetimes *l, const char *id)
{
    struct run *run;
    HASH_FIND(hh, l->by_id, id, strlen(id), run);
    return run;
}

static struct run *run_new(const char *id, int64_t now_ms)
{
    struct run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    (void)snprintf(run->id, sizeof run->id, "%s", id);
    run->heard_ms = now_ms;
    run->asked_ms = NEVER_MS;
    return run;
}

/* Makes it the youngest; takes it over. NULL: no memory, the run is gone. */
static struct run *run_link(struct lifetimes *l, struct run *run)
{
    HASH_ADD_KEYPTR(hh, l->by_id, run->id, strlen(run->id), run);
    if (!run->hh.tbl) {
        run_free(l, run);
        return NULL;
    }
    if (run->step[0] != '\0') /* unlinked by step, its end is only learned by its limit */
        HASH_ADD_KEYPTR(hh_step, l->by_step, run->step, strlen(run->step), run);
    if (HASH_COUNT(l->by_id) > l->config.max_runs)
        run_drop(l, l->by_id);
    return run;
}

static void join_request(struct run *run, struct request *request)
{
    if (run->request)
        return;
    run->request = request;
    request->n_runs++;
}

static void start_step(struct run *run, const struct ow_activation *a, int64_t now_ms)
{
    stop_step(run, now_ms); /* the one before: its acknowledgement was missed */
    memcpy(run->step, a->id, sizeof run->step);
    run->is_running = true;
    run->heard_ms = now_ms;
    run->request->n_running++;
    run->request->quiet_ms = now_ms;
}

static bool names_own_volume(const struct ow_activation *a)
{
    for (unsigned i = 0; i < a->volumes.n; i++)
        if (a->volumes.refs[i].scope == OW_SCOPE_SEQUENCE)
            return true;
    return false;
}

/* What the activation's request is known as, or NULL: nobody will ask for it. */
static struct request *request_of(struct lifetimes *l, const struct ow_activation *a,
                                  const struct run *run)
{
    const char *root = a->root_transid[0] != '\0' ? a->root_transid : ow_activation_run(a);
    if (run && run->request)
        return run->request;
    struct request *request = request_find(l, root);
    return request || (!run && !names_own_volume(a)) ? request : request_add(l, root);
}

void lifetimes_begin_step(struct lifetimes *l, const struct ow_activation *activation,
                          int64_t now_ms)
{
    struct run *run = run_find(l, ow_activation_run(activation));
    if (run && strcmp(run->step, activation->id) == 0)
        return;
    struct request *request = request_of(l, activation, run);
    if (!request)
        return;
    if (run)
        run_unlink(l, run);
    else if (!(run = run_new(ow_activation_run(activation), now_ms))) {
        request->n_runs++;
        request_put(l, request);
        return;
    }
    join_request(run, request);
    start_step(run, activation, now_ms);
    if (early_acks_has(&l->early, activation->id))
        stop_step(run, now_ms);
    (void)run_link(l, run);
}

void lifetimes_end_step(struct lifetimes *l, const struct ow_ack *ack, int64_t now_ms)
{
    struct run *run;
    HASH_FIND(hh_step, l->by_step, ack->id, strlen(ack->id), run);
    if (run)
        stop_step(run, now_ms);
    else
        early_acks_note(&l->early, ack->id);
}

void lifetimes_miss(struct lifetimes *l, int64_t now_ms)
{
    l->missed_ms = MAX(l->missed_ms, now_ms);
}

void lifetimes_miss_step(struct lifetimes *l, int64_t now_ms)
{
    lifetimes_miss(l, now_ms + l->config.step_limit_ms);
}

/* ---- over ---- */

static bool is_over(const struct lifetimes *l, const struct run *run, int64_t now_ms)
{
    const struct request *request = run->request;
    if (now_ms - l->missed_ms < l->config.run_end_ms)
        return false;
    if (request && request->n_running == 0 && now_ms - request->quiet_ms >= l->config.run_end_ms)
        return true;
    return !run->is_running && now_ms - run->heard_ms >= l->config.run_limit_ms;
}

bool lifetimes_is_over(struct lifetimes *l, const char *id, int64_t now_ms)
{
    struct run *run = run_find(l, id);
    if (!run) {
        run = run_new(id, now_ms);
        if (!run || !(run = run_link(l, run)))
            return false;
    }
    run->asked_ms = now_ms;
    return is_over(l, run, now_ms);
}

static bool is_forgotten(const struct lifetimes *l, const struct run *run, int64_t now_ms)
{
    return now_ms - run->asked_ms >= ASKED_MS && now_ms - run->heard_ms >= ASKED_MS &&
           (!run->request || is_over(l, run, now_ms));
}

void lifetimes_expire(struct lifetimes *l, int64_t now_ms)
{
    struct run *run, *next;
    HASH_ITER(hh, l->by_id, run, next)
    {
        if (now_ms - run->heard_ms >= l->config.step_limit_ms)
            stop_step(run, now_ms);
        if (is_forgotten(l, run, now_ms))
            run_drop(l, run);
    }
}

unsigned lifetimes_count(const struct lifetimes *l)
{
    return HASH_COUNT(l->by_id);
}
