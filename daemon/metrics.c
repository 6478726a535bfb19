#include "daemon/metrics.h"

#include <string.h>

#include "daemon/hints.h"
#include "daemon/keeper.h"
#include "daemon/openwhisk/events.h"
#include "daemon/reaper.h"
#include "daemon/runs.h"
#include "daemon/space.h"
#include "daemon/transfer/transfer.h"
#include "proto/base/clock.h"

#define VOLUMES_MAX 4096
#define PEERS_MAX 1024

/* Everything that is counted, at one moment. */
struct snapshot {
    struct volume_status *volumes;
    struct peer_counters *peers;
    int n_volumes, n_peers, n_hosts;
    double up_s;
    bool is_connected, has_autofs;
    struct access_counters accesses;
    const struct transfer_counters *transfer;
    const struct hints_counters *hints;
    struct hint_delays delays;
    const struct keeper_counters *keeper;
    const struct space_counters *space;
    const struct reaper_counters *reaper;
    struct runs_totals runs;
    const struct observer_counters *observer; /* or NULL */
};

static const char *const fetch_names[FETCH_N_CLASSES] = {
    [FETCH_DEMAND] = "demand",
    [FETCH_STREAM] = "stream",
    [FETCH_PREFETCH] = "prefetch",
};

static const char *const class_names[FRAME_N_CLASSES] = {
    [FRAME_CONTROL] = "control",
    [FRAME_DEMAND] = "demand",
    [FRAME_STREAM] = "stream",
    [FRAME_PREFETCH] = "prefetch",
};

struct label {
    const char *name, *value;
};

/* Where samples go: text or JSON. Samples of one family come together. */
struct sink {
    void (*family)(struct sink *sink, const char *name, const char *type, const char *help);
    void (*sample)(struct sink *sink, const struct label *labels, size_t n, double value);
};

static void snapshot_done(struct snapshot *s)
{
    free(s->volumes);
    free(s->peers);
}

static bool snapshot_take(struct host *host, struct snapshot *s)
{
    s->volumes = calloc(VOLUMES_MAX, sizeof *s->volumes);
    s->peers = calloc(PEERS_MAX, sizeof *s->peers);
    if (!s->volumes || !s->peers)
        return false;
    s->n_volumes = MIN(volumes_list(host->volumes, s->volumes, VOLUMES_MAX), VOLUMES_MAX);
    s->n_peers = MIN(peers_counters(host->peers, s->peers, PEERS_MAX), PEERS_MAX);
    s->n_hosts = host->membership->ops->hosts(host->membership, NULL, 0);
    s->is_connected = host->membership->ops->connected(host->membership);
    s->has_autofs = volumes_has_autofs(host->volumes);
    volumes_access_counters(host->volumes, &s->accesses);
    s->transfer = transfer_counters(host->transfer);
    s->hints = hints_counters(host->hints);
    hints_delays(host->hints, &s->delays);
    s->keeper = keeper_counters(host->keeper);
    s->space = space_counters(host->space);
    s->reaper = reaper_counters(host->reaper);
    runs_read_totals(host->runs, &s->runs);
    s->observer = host->events ? events_counters(host->events) : NULL;
    s->up_s = (double)(clock_mono_ns() - host->started_ns) / (double)NS_PER_S;
    return true;
}

static void emit(const struct snapshot *s, struct sink *sink)
{
#define HOST_METRIC(metric, type, help, expression)                                                \
    sink->family(sink, "whiskfs_" #metric, #type, help);                                           \
    sink->sample(sink, NULL, 0, expression);
#define VOLUME_METRIC(metric, type, help, expression)                                              \
    sink->family(sink, "whiskfs_" #metric, #type, help);                                           \
    for (const struct volume_status *v = s->volumes; v < s->volumes + s->n_volumes; v++)           \
        sink->sample(sink, &(struct label){"volume", v->name}, 1, expression);
#define PEER_METRIC(metric, type, help, expression)                                                \
    sink->family(sink, "whiskfs_" #metric, #type, help);                                           \
    for (const struct peer_counters *p = s->peers; p < s->peers + s->n_peers; p++)                 \
        sink->sample(sink, &(struct label){"peer", p->name}, 1, expression);
#define CLASS_METRIC(metric, type, help, expression)                                               \
    sink->family(sink, "whiskfs_" #metric, #type, help);                                           \
    for (const struct peer_counters *p = s->peers; p < s->peers + s->n_peers; p++)                 \
        for (int class = 0; class < FRAME_N_CLASSES; class ++)                                     \
            sink->sample(sink, (struct label[]){{"peer", p->name}, {"class", class_names[class]}}, \
                         2, expression);
#define FETCH_METRIC(metric, type, help, expression)                                               \
    sink->family(sink, "whiskfs_" #metric, #type, help);                                           \
    for (int class = 0; class < FETCH_N_CLASSES; class ++)                                         \
        sink->sample(sink, &(struct label){"class", fetch_names[class]}, 1, expression);
#define OPENWHISK_METRIC(metric, type, help, expression)                                           \
    if (o) {                                                                                       \
        sink->family(sink, "whiskfs_" #metric, #type, help);                                       \
        sink->sample(sink, NULL, 0, expression);                                                   \
    }
    const struct transfer_counters *t = s->transfer;
    const struct observer_counters *o = s->observer;
    const struct accounts_totals *a = &s->runs.accounts;
#include "daemon/metrics.def"
#undef FETCH_METRIC
#undef OPENWHISK_METRIC
#undef HOST_METRIC
#undef VOLUME_METRIC
#undef PEER_METRIC
#undef CLASS_METRIC
}

/* ---- text ---- */

struct text_sink {
    struct sink sink;
    FILE *out;
    const char *name;
};

static void text_family(struct sink *sink, const char *name, const char *type, const char *help)
{
    struct text_sink *text = container_of(sink, struct text_sink, sink);
    text->name = name;
    (void)fprintf(text->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Label values are names that were checked: nothing in them needs an escape. */
static void text_sample(struct sink *sink, const struct label *labels, size_t n, double value)
{
    struct text_sink *text = container_of(sink, struct text_sink, sink);
    (void)fputs(text->name, text->out);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(text->out, "%s%s=\"%s\"%s", i == 0 ? "{" : ",", labels[i].name,
                      labels[i].value, i + 1 == n ? "}" : "");
    (void)fprintf(text->out, " %.17g\n", value);
}

void metrics_print(struct host *host, FILE *out)
{
    struct text_sink text = {{text_family, text_sample}, out, NULL};
    struct snapshot s = {0};
    if (snapshot_take(host, &s))
        emit(&s, &text.sink);
    snapshot_done(&s);
}

/* ---- JSON ---- */

struct json_sink {
    struct sink sink;
    json_t *object, *family;
};

static void json_family(struct sink *sink, const char *name, const char *type, const char *help)
{
    (void)type, (void)help;
    struct json_sink *json = container_of(sink, struct json_sink, sink);
    json->family = json_array();
    (void)json_object_set_new(json->object, name, json->family);
}

static void json_sample(struct sink *sink, const struct label *labels, size_t n, double value)
{
    struct json_sink *json = container_of(sink, struct json_sink, sink);
    json_t *names = json_object();
    for (size_t i = 0; i < n; i++)
        (void)json_object_set_new(names, labels[i].name, json_string(labels[i].value));
    (void)json_array_append_new(json->family,
                                json_pack("{s:o, s:f}", "labels", names, "value", value));
}

json_t *metrics_json(struct host *host)
{
    struct json_sink json = {{json_family, json_sample}, json_object(), NULL};
    struct snapshot s = {0};
    if (json.object && snapshot_take(host, &s))
        emit(&s, &json.sink);
    snapshot_done(&s);
    return json.object;
}
