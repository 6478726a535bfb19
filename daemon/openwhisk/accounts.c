#include "daemon/openwhisk/accounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/openwhisk/early_acks.h"

#define CLOSE_MS 5000 /* after the first acknowledgement: the second is lost */

struct announced {
    char volume[OW_INSTANCE_NAME_SIZE]; /* "": free */
    int64_t first_ms, last_ms;
    uint64_t drawn_bytes; /* before that */
};

struct accounts {
    int64_t step_limit_ms;
    struct announced announced[ACCOUNTS_ANNOUNCED_MAX];
    struct account open[ACCOUNTS_OPEN_MAX]; /* the oldest first */
    unsigned n_open;
    struct account closed[ACCOUNTS_CLOSED_MAX];
    struct accounts_totals totals;
    struct early_acks early;
};

int accounts_new(int64_t step_limit_ms, struct accounts **ret_accounts)
{
    struct accounts *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    a->step_limit_ms = step_limit_ms;
    *ret_accounts = a;
    return 0;
}

void accounts_free(struct accounts *a)
{
    free(a);
}

/* ---- what is announced ---- */

static struct announced *find_announced(struct accounts *a, const char *volume)
{
    for (unsigned i = 0; i < ACCOUNTS_ANNOUNCED_MAX; i++)
        if (strcmp(a->announced[i].volume, volume) == 0)
            return &a->announced[i];
    return NULL;
}

static uint64_t drawn_since(const struct announced *announced, const struct flow_totals *flow)
{
    uint64_t now = flow->bytes[FETCH_PREFETCH];
    return now >= announced->drawn_bytes ? now - announced->drawn_bytes : now;
}

void accounts_announce(struct accounts *a, const char *volume, const struct flow_totals *flow,
                       int64_t now_ms)
{
    struct announced *announced = find_announced(a, volume);
    if (announced) {
        announced->last_ms = now_ms;
        return;
    }
    announced = find_announced(a, "");
    if (!announced)
        return;
    *announced = (struct announced){
        .first_ms = now_ms, .last_ms = now_ms, .drawn_bytes = flow->bytes[FETCH_PREFETCH]};
    (void)snprintf(announced->volume, sizeof announced->volume, "%s", volume);
}

static void claim(struct accounts *a, struct account *account, const char *volume,
                  const struct flow_totals *flow)
{
    struct announced *announced = find_announced(a, volume);
    if (!announced)
        return;
    account->lead_ms = MAX(account->lead_ms, account->began_ms - announced->first_ms);
    account->ahead_bytes += drawn_since(announced, flow);
    announced->volume[0] = '\0';
}

bool accounts_unclaimed(const struct accounts *a, int64_t now_ms, char *ret_volume)
{
    for (unsigned i = 0; i < ACCOUNTS_ANNOUNCED_MAX; i++) {
        const struct announced *announced = &a->announced[i];
        if (announced->volume[0] == '\0' || now_ms - announced->last_ms < ACCOUNT_ANNOUNCED_MS)
            continue;
        memcpy(ret_volume, announced->volume, sizeof announced->volume);
        return true;
    }
    return false;
}

void accounts_waste(struct accounts *a, const char *volume, const struct flow_totals *flow)
{
    struct announced *announced = find_announced(a, volume);
    if (!announced)
        return;
    a->totals.wasted_bytes += drawn_since(announced, flow);
    announced->volume[0] = '\0';
}

/* ---- activations ---- */

static struct account *find_open(const struct accounts *a, const char *id)
{
    for (unsigned i = 0; i < a->n_open; i++)
        if (strcmp(a->open[i].id, id) == 0)
            return (struct account *)(uintptr_t)&a->open[i];
    return NULL;
}

static void drop(struct accounts *a, struct account *account)
{
    size_t i = (size_t)(account - a->open);
    memmove(account, account + 1, (a->n_open - i - 1) * sizeof *account);
    a->n_open--;
}

static void close_account(struct accounts *a, struct account *account)
{
    struct accounts_totals *totals = &a->totals;
    totals->n_errors += account->is_error;
    totals->n_announced += account->lead_ms >= 0;
    totals->lead_ms += (uint64_t)MAX(account->lead_ms, 0);
    totals->ran_ms += (uint64_t)(account->ended_ms - account->began_ms);
    totals->ahead_bytes += account->ahead_bytes;
    flow_add(&totals->flow, &account->flow);
    a->closed[totals->n_closed++ % ACCOUNTS_CLOSED_MAX] = *account;
    drop(a, account);
}

void accounts_begin(struct accounts *a, const struct ow_activation *activation,
                    const struct observed_volume *volumes, const struct flow_totals *flows,
                    unsigned n, int64_t now_ms, int64_t real_ms)
{
    if (find_open(a, activation->id))
        return;
    if (a->n_open == ACCOUNTS_OPEN_MAX) {
        a->totals.n_lost++;
        drop(a, &a->open[0]);
    }
    struct account *account = &a->open[a->n_open++];
    *account = (struct account){.n_volumes = MIN(n, (unsigned)OBSERVER_VOLUMES_MAX),
                                .began_ms = now_ms,
                                .ended_ms = -1,
                                .began_real_ms = real_ms,
                                .lead_ms = -1};
    memcpy(account->id, activation->id, sizeof account->id);
    memcpy(account->run, ow_activation_run(activation), sizeof account->run);
    memcpy(account->namespace_name, activation->namespace_name, sizeof account->namespace_name);
    memcpy(account->action, activation->action, sizeof account->action);
    for (unsigned i = 0; i < account->n_volumes; i++) {
        memcpy(account->volumes[i], volumes[i].name, sizeof account->volumes[i]);
        claim(a, account, volumes[i].name, &flows[i]);
        flow_add(&account->flow, &flows[i]);
    }
    if (early_acks_has(&a->early, activation->id)) {
        struct flow_totals flow = account->flow;
        accounts_end(a, activation->id, false, &flow, now_ms);
    }
}

const struct account *accounts_find(const struct accounts *a, const char *id)
{
    return find_open(a, id);
}

void accounts_end(struct accounts *a, const char *id, bool is_error, const struct flow_totals *flow,
                  int64_t now_ms)
{
    struct account *account = find_open(a, id);
    if (!account || account->ended_ms >= 0)
        return;
    struct flow_totals took = *flow;
    flow_subtract(&took, &account->flow);
    account->flow = took;
    account->ended_ms = now_ms;
    account->is_error = is_error;
}

void accounts_close(struct accounts *a, const char *id)
{
    struct account *account = find_open(a, id);
    if (account && account->ended_ms >= 0)
        close_account(a, account);
}

void accounts_discard(struct accounts *a, const char *id)
{
    struct account *account = find_open(a, id);
    if (account)
        drop(a, account);
}

void accounts_end_early(struct accounts *a, const char *id)
{
    early_acks_note(&a->early, id);
}

void accounts_expire(struct accounts *a, int64_t now_ms)
{
    for (unsigned i = a->n_open; i-- > 0;) {
        struct account *account = &a->open[i];
        if (account->ended_ms >= 0 && now_ms - account->ended_ms >= CLOSE_MS) {
            close_account(a, account);
        } else if (account->ended_ms < 0 && now_ms - account->began_ms >= a->step_limit_ms) {
            a->totals.n_lost++;
            drop(a, account);
        }
    }
}

const struct account *accounts_closed(const struct accounts *a, uint64_t i)
{
    bool is_there = i < a->totals.n_closed && a->totals.n_closed - i <= ACCOUNTS_CLOSED_MAX;
    return is_there ? &a->closed[i % ACCOUNTS_CLOSED_MAX] : NULL;
}

const struct accounts_totals *accounts_totals(const struct accounts *a)
{
    return &a->totals;
}
