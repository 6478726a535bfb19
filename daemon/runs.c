#include "daemon/runs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

struct runs {
    struct volumes *volumes;
    int invoker;
    char *path;
    pthread_t thread;
    bool is_started;

    struct mutex lock;
    struct cond changed;
    struct accounts *accounts;
    uint64_t n_written;   /* of those closed: written, or given up */
    uint64_t n_unwritten; /* given up */
    bool is_stopping;
};

/* ---- what is heard ---- */

/* Of a volume that is not here: nothing. */
static void read_flow(struct runs *runs, const char *volume_name, struct flow_totals *ret_flow)
{
    *ret_flow = (struct flow_totals){0};
    struct volume *volume = volumes_find(runs->volumes, volume_name);
    if (!volume)
        return;
    flow_read(store_flow(volume_store(volume)), clock_mono_ns(), ret_flow);
    volumes_put(runs->volumes, volume);
}

void runs_announce(struct runs *runs, const char *volume)
{
    struct flow_totals flow;
    if (strlen(volume) >= OW_INSTANCE_NAME_SIZE)
        return;
    read_flow(runs, volume, &flow);
    SCOPED_LOCK(&runs->lock);
    accounts_announce(runs->accounts, volume, &flow, clock_mono_ns() / NS_PER_MS);
}

void runs_begin(struct runs *runs, const struct ow_activation *activation,
                const struct observed_volume *volumes, unsigned n)
{
    struct flow_totals flows[OBSERVER_VOLUMES_MAX];
    n = MIN(n, (unsigned)OBSERVER_VOLUMES_MAX);
    for (unsigned i = 0; i < n; i++)
        read_flow(runs, volumes[i].name, &flows[i]);
    SCOPED_LOCK(&runs->lock);
    accounts_begin(runs->accounts, activation, volumes, flows, n, clock_mono_ns() / NS_PER_MS,
                   clock_real_ns() / NS_PER_MS);
}

static bool copy_open(struct runs *runs, const char *id, struct account *ret_account)
{
    SCOPED_LOCK(&runs->lock);
    const struct account *account = accounts_find(runs->accounts, id);
    if (account)
        *ret_account = *account;
    else
        accounts_end_early(runs->accounts, id);
    return account != NULL;
}

/* Whoever reports a failure without a container names an invoker without memory. */
static bool ran_elsewhere(const struct runs *runs, const struct ow_ack *ack)
{
    return ack->has_invoker && ack->invoker.user_memory_bytes > 0 &&
           (int)ack->invoker.id != runs->invoker;
}

void runs_end(struct runs *runs, const struct ow_ack *ack)
{
    struct account account;
    struct flow_totals all = {0};
    if (!copy_open(runs, ack->id, &account))
        return;
    for (unsigned i = 0; i < account.n_volumes; i++) {
        struct flow_totals flow;
        read_flow(runs, account.volumes[i], &flow);
        flow_add(&all, &flow);
    }
    SCOPED_LOCK(&runs->lock);
    if (ran_elsewhere(runs, ack)) {
        accounts_discard(runs->accounts, ack->id);
        return;
    }
    accounts_end(runs->accounts, ack->id, ack->is_error, &all, clock_mono_ns() / NS_PER_MS);
    if (ack->has_invoker)
        accounts_close(runs->accounts, ack->id);
    cond_broadcast(&runs->changed);
}

/* ---- how it is told ---- */

static json_t *volumes_json(const struct account *account)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < account->n_volumes; i++)
        (void)json_array_append_new(list, json_string(account->volumes[i]));
    return list;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* Shares of waiting may add up to more than the whole, and waiting to more than the activation took when another one waits
 * for the same volume. */
static json_t *account_json(const struct account *account)
{
    const struct flow_totals *flow = &account->flow;
    double ran_s = (double)(account->ended_ms - account->began_ms) / 1e3;
    double waited_s = MIN(seconds(flow->waited_ns), ran_s);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f}, s:{s:I, s:I, s:I, s:I}, "
        "s:f, s:b}",
        "activation", account->id, "run", account->run, "namespace", account->namespace_name,
        "action", account->action, "volumes", volumes_json(account), "began",
        (double)account->began_real_ms / 1e3, "ran_s", ran_s, "waited_s", waited_s, "computing_s",
        ran_s - waited_s, "waited_for_s", "demand", seconds(flow->waited_for_ns[FETCH_DEMAND]),
        "stream", seconds(flow->waited_for_ns[FETCH_STREAM]), "prefetch",
        seconds(flow->waited_for_ns[FETCH_PREFETCH]), "bytes", "ahead",
        (json_int_t)account->ahead_bytes, "late", (json_int_t)flow->bytes[FETCH_PREFETCH], "demand",
        (json_int_t)flow->bytes[FETCH_DEMAND], "stream", (json_int_t)flow->bytes[FETCH_STREAM],
        "lead_s", account->lead_ms < 0 ? -1.0 : (double)account->lead_ms / 1e3, "error",
        account->is_error);
}

static uint64_t oldest(const struct accounts *accounts)
{
    uint64_t n = accounts_totals(accounts)->n_closed;
    return n > ACCOUNTS_CLOSED_MAX ? n - ACCOUNTS_CLOSED_MAX : 0;
}

static json_t *closed_json(struct runs *runs)
{
    json_t *list = json_array();
    SCOPED_LOCK(&runs->lock);
    const struct account *account;
    for (uint64_t i = oldest(runs->accounts); (account = accounts_closed(runs->accounts, i)); i++)
        (void)json_array_append_new(list, account_json(account));
    return list;
}

static void add_number(json_t *sums, const char *key, const json_t *more)
{
    const json_t *sum = json_object_get(sums, key);
    if (json_is_real(more))
        (void)json_object_set_new(sums, key,
                                  json_real(json_real_value(sum) + json_real_value(more)));
    else
        (void)json_object_set_new(sums, key,
                                  json_integer(json_integer_value(sum) + json_integer_value(more)));
}

/* The run that the activation is of, in the list; put there if it is not. NULL: no memory. */
static json_t *sums_of(json_t *list, const json_t *activation)
{
    const json_t *run = json_object_get(activation, "run");
    for (size_t i = json_array_size(list); i-- > 0;)
        if (json_equal(json_object_get(json_array_get(list, i), "run"), run))
            return json_array_get(list, i);
    json_t *made = json_pack("{s:O, s:O, s:i, s:{}}", "run", run, "namespace",
                             json_object_get(activation, "namespace"), "activations", 0, "bytes");
    return json_array_append_new(list, made) < 0 ? NULL : made;
}

static void add_activation(json_t *list, json_t *activation)
{
    static const char *const times[] = {"ran_s", "waited_s", "computing_s"};
    json_t *sums = sums_of(list, activation), *bytes;
    const char *key;
    if (!sums)
        return;
    for (size_t i = 0; i < N_ELEMENTS(times); i++)
        add_number(sums, times[i], json_object_get(activation, times[i]));
    json_object_foreach(json_object_get(activation, "bytes"), key, bytes)
        add_number(json_object_get(sums, "bytes"), key, bytes);
    (void)json_object_set_new(
        sums, "activations",
        json_integer(json_integer_value(json_object_get(sums, "activations")) + 1));
}

json_t *runs_json(struct runs *runs)
{
    size_t i;
    json_t *activation, *sums = json_array(), *closed = closed_json(runs);
    json_array_foreach(closed, i, activation) add_activation(sums, activation);
    return json_pack("{s:o, s:o}", "activations", closed, "runs", sums);
}

void runs_read_totals(struct runs *runs, struct runs_totals *ret_totals)
{
    SCOPED_LOCK(&runs->lock);
    ret_totals->accounts = *accounts_totals(runs->accounts);
    ret_totals->n_unwritten = runs->n_unwritten;
}

/* ---- the file ---- */

/* What is to be written now, each with a newline; "" if nothing is. NULL: no memory. */
static char *take_lines(struct runs *runs, uint64_t *ret_n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    *ret_n = 0;
    if (!out)
        return NULL;
    SCOPED_LOCK(&runs->lock);
    uint64_t first = MAX(runs->n_written, oldest(runs->accounts));
    runs->n_unwritten += first - runs->n_written;
    const struct account *account;
    for (runs->n_written = first; (account = accounts_closed(runs->accounts, runs->n_written));
         runs->n_written++) {
        json_t *line = account_json(account);
        (void)json_dumpf(line, out, JSON_COMPACT);
        (void)fputc('\n', out);
        json_decref(line);
        (*ret_n)++;
    }
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static int append(const char *path, const char *text)
{
    FILE *file = fopen(path, "ae");
    if (!file)
        return -errno;
    errno = EIO;
    int r = fputs(text, file) < 0 ? -errno : 0;
    if (fclose(file) != 0 && r == 0)
        r = -errno;
    return r;
}

static void write_lines(struct runs *runs)
{
    static struct log_limit limit;
    uint64_t n, suppressed;
    AUTO_FREE char *text = take_lines(runs, &n);
    int r = !text ? -ENOMEM : n > 0 ? append(runs->path, text) : 0;
    if (r == 0)
        return;
    {
        SCOPED_LOCK(&runs->lock);
        runs->n_unwritten += n;
    }
    if (log_allow(&limit, &suppressed))
        log_warning("openwhisk", "cannot write down activations in '%s': %s", runs->path,
                    strerror(-r));
}

static void settle_unclaimed(struct runs *runs)
{
    char volume[OW_INSTANCE_NAME_SIZE];
    for (unsigned i = 0; i < ACCOUNTS_ANNOUNCED_MAX; i++) {
        struct flow_totals flow;
        {
            SCOPED_LOCK(&runs->lock);
            if (!accounts_unclaimed(runs->accounts, clock_mono_ns() / NS_PER_MS, volume))
                return;
        }
        read_flow(runs, volume, &flow);
        SCOPED_LOCK(&runs->lock);
        accounts_waste(runs->accounts, volume, &flow);
    }
}

/* ---- life ---- */

/* For a second at most; until something has ended. False: stopping. */
static bool wait(struct runs *runs)
{
    int64_t until = clock_mono_ns() + NS_PER_S;
    SCOPED_LOCK(&runs->lock);
    while (!runs->is_stopping && runs->n_written == accounts_totals(runs->accounts)->n_closed &&
           cond_wait_until(&runs->changed, &runs->lock, until))
        continue;
    accounts_expire(runs->accounts, clock_mono_ns() / NS_PER_MS);
    return !runs->is_stopping;
}

static void skip_lines(struct runs *runs)
{
    SCOPED_LOCK(&runs->lock);
    runs->n_written = accounts_totals(runs->accounts)->n_closed;
}

static void *runs_main(void *arg)
{
    struct runs *runs = arg;
    bool is_on;
    do {
        is_on = wait(runs);
        settle_unclaimed(runs);
        if (runs->path[0] != '\0')
            write_lines(runs);
        else
            skip_lines(runs);
    } while (is_on);
    return NULL;
}

int runs_new(const struct runs_options *options, struct runs **ret_runs)
{
    AUTO_FREE struct runs *runs = calloc(1, sizeof *runs);
    AUTO_FREE char *path = strdup(options->path);
    if (!runs || !path)
        return -ENOMEM;
    int r = accounts_new(options->step_limit_ms, &runs->accounts);
    if (r < 0)
        return r;
    runs->volumes = options->volumes;
    runs->invoker = options->invoker;
    runs->path = TAKE(path);
    mutex_init(&runs->lock, LOCK_predictor);
    cond_init(&runs->changed);
    *ret_runs = TAKE(runs);
    return 0;
}

int runs_start(struct runs *runs)
{
    int r = thread_start(&runs->thread, "whiskfs-acct", runs_main, runs);
    runs->is_started = r == 0;
    return r;
}

void runs_stop(struct runs *runs)
{
    if (!runs || !runs->is_started)
        return;
    {
        SCOPED_LOCK(&runs->lock);
        runs->is_stopping = true;
        cond_broadcast(&runs->changed);
    }
    thread_join(runs->thread);
    runs->is_started = false;
}

void runs_free(struct runs *runs)
{
    if (!runs)
        return;
    accounts_free(runs->accounts);
    free(runs->path);
    cond_done(&runs->changed);
    mutex_done(&runs->lock);
    free(runs);
}
