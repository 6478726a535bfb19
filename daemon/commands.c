#include "daemon/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "daemon/fsck.h"
#include "daemon/host.h"
#include "daemon/metrics.h"
#include "daemon/openwhisk/events.h"
#include "daemon/paths.h"
#include "daemon/runs.h"
#include "daemon/transfer/draw.h"
#include "daemon/volumes/saved.h"
#include "proto/base/clock.h"

#define VOLUMES_MAX 4096
#define HOSTS_MAX 1024
#define DAMAGE_SHOWN 64u
#define SAVED_SHOWN 256
#define ATTACH_TIMEOUT_MAX_S 60
#define VOLUME_MODE 01777 /* actions run as any user */

/* ---- arguments and failures ---- */

static int take_name_as(const json_t *arguments, const char *key, struct control_call *call,
                        const char **ret_name)
{
    const char *name = json_string_value(json_object_get(arguments, key));
    if (!name)
        return control_fail(call, -EINVAL, "no volume was named");
    if (volume_name_check(name) < 0)
        return control_fail(
            call, -EINVAL,
            "'%s' is no name for a volume: use 1 to 200 of A-Z a-z 0-9 . _ @ - and begin "
            "with a letter or digit",
            name);
    *ret_name = name;
    return 0;
}

static int take_name(const json_t *arguments, struct control_call *call, const char **ret_name)
{
    return take_name_as(arguments, "name", call, ret_name);
}

static uint64_t number_or(const json_t *arguments, const char *key, uint64_t preset)
{
    const json_t *value = json_object_get(arguments, key);
    return json_is_integer(value) && json_integer_value(value) >= 0
               ? (uint64_t)json_integer_value(value)
               : preset;
}

static bool flag(const json_t *arguments, const char *key)
{
    return json_is_true(json_object_get(arguments, key));
}

static int fail_volume(struct control_call *call, int error, const char *verb, const char *name)
{
    switch (error) {
    case -ENOENT:
        return control_fail(call, error,
                            "cannot %s volume '%s': no host knows it: see 'whiskfs volume list'",
                            verb, name);
    case -EEXIST:
        return control_fail(call, error, "cannot %s volume '%s': it exists already", verb, name);
    case -EBUSY:
        return control_fail(
            call, error,
            "cannot %s volume '%s': it is in use: close its files, or use --force and cut them off",
            verb, name);
    case -EREMOTE:
        return control_fail(
            call, error,
            "cannot %s volume '%s' here: do it on its home, see 'whiskfs volume show %s'", verb,
            name, name);
    case -EREMCHG:
        return control_fail(
            call, error,
            "cannot %s volume '%s': it has another name now: see 'whiskfs volume list'", verb,
            name);
    case -EHOSTUNREACH:
    case -ETIMEDOUT:
        return control_fail(
            call, error,
            "cannot %s volume '%s': a host that may have it is silent: see 'whiskfs peers'", verb,
            name);
    default:
        return control_fail(call, error, "cannot %s volume '%s': %s", verb, name, strerror(-error));
    }
}

/* ---- volumes ---- */

static json_t *volume_json(const struct volume_status *v)
{
    const struct replica_status *replica = &v->replica;
    return json_pack(
        "{s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:I, s:I, s:i, s:i, s:I, "
        "s:I, s:I, s:I, s:I, s:i, s:s, s:b, s:b, s:I, "
        "s:I, s:I}",
        "name", v->name, "home", v->home, "mountpoint", v->mountpoint, "mounted", v->is_mounted,
        "kept", v->is_kept, "passthrough", v->has_passthrough, "is_home", replica->is_home,
        "member", replica->is_member, "lease", replica->has_lease, "connected",
        replica->is_connected, "applied", (json_int_t)v->applied, "home_index",
        (json_int_t)replica->home_index, "members", (int)replica->n_members, "learners",
        (int)replica->n_learners, "limit_bytes", (json_int_t)v->usage.limit_bytes, "used_bytes",
        (json_int_t)v->usage.used_bytes, "inodes", (json_int_t)v->usage.n_inodes, "durable",
        (json_int_t)v->durable, "limit_inodes", (json_int_t)v->usage.limit_inodes, "copies",
        (int)v->usage.copies, "limit_held_by", v->is_image ? "kernel" : "daemon", "suid",
        v->usage.is_suid, "dev", v->usage.is_dev, "epoch", (json_int_t)replica->turn.epoch,
        "forwarded", (json_int_t)replica->n_forwarded, "handovers",
        (json_int_t)replica->n_handovers);
}

/* The blocks that are known to be damaged, or the first of them. */
static json_t *damage_json(struct host *host, const char *name)
{
    struct damage damage[DAMAGE_SHOWN];
    char path[512] = "";
    json_t *list = json_array();
    struct volume *volume = volumes_find(host->volumes, name);
    if (!volume)
        return list;
    size_t n = MIN(store_damage(volume_store(volume), damage, DAMAGE_SHOWN), DAMAGE_SHOWN);
    for (size_t i = 0; i < n; i++) {
        bool is_next = i > 0 && damage[i].ino == damage[i - 1].ino;
        if (!is_next && tree_path(volume_tree(volume), damage[i].ino, path, sizeof path) < 0)
            path[0] = '\0';
        (void)json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "path", path, "inode",
                                                    (json_int_t)damage[i].ino, "block",
                                                    (json_int_t)damage[i].block));
    }
    volumes_put(host->volumes, volume);
    return list;
}

static json_t *scrub_json(const struct scrub_status *s)
{
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "running", s->is_running, "passes",
                     (json_int_t)s->passes, "files", (json_int_t)s->files, "bytes",
                     (json_int_t)s->bytes, "sealed", (json_int_t)s->sealed, "busy",
                     (json_int_t)s->busy, "bad_seals", (json_int_t)s->bad_seals, "ended",
                     (double)s->ended_ns / 1e9);
}

static json_t *attached_json(struct host *host, const struct volume_status *v)
{
    json_t *json = volume_json(v);
    (void)json_object_set_new(json, "scrub", scrub_json(&v->scrub));
    (void)json_object_set_new(json, "damaged", json_integer((json_int_t)v->damaged));
    (void)json_object_set_new(json, "damage",
                              v->damaged > 0 ? damage_json(host, v->name) : json_array());
    return json;
}

static json_t *attached_volumes(struct host *host)
{
    AUTO_FREE struct volume_status *all = calloc(VOLUMES_MAX, sizeof *all);
    json_t *list = json_array();
    int n = all ? MIN(volumes_list(host->volumes, all, VOLUMES_MAX), VOLUMES_MAX) : 0;
    for (int i = 0; i < n; i++)
        (void)json_array_append_new(list, attached_json(host, &all[i]));
    return list;
}

static int run_volume_create(void *ctx, const json_t *arguments, struct control_call *call,
                             json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    const struct volume_genesis genesis = {
        .limit_bytes = number_or(arguments, "size", 0),
        .limit_inodes = number_or(arguments, "inodes", 0),
        .copies = (uint32_t)number_or(arguments, "copies", 0),
        .mode = (uint32_t)number_or(arguments, "mode", VOLUME_MODE) & 07777u,
        .uid = (uint32_t)number_or(arguments, "uid", 0),
        .gid = (uint32_t)number_or(arguments, "gid", 0),
        .is_suid = flag(arguments, "suid"),
        .is_dev = flag(arguments, "dev"),
    };
    r = volumes_create(host->volumes, name, &genesis);
    if (r < 0)
        return fail_volume(call, r, "create", name);
    *ret_result = json_pack("{s:s, s:s}", "name", name, "home", host->config->name);
    return 0;
}

/* Those that are attached here, and those that membership knows elsewhere. */
static int run_volume_list(void *ctx, const json_t *arguments, struct control_call *call,
                           json_t **ret_result)
{
    struct host *host = ctx;
    (void)arguments, (void)call;
    AUTO_FREE struct member_volume *known = calloc(VOLUMES_MAX, sizeof *known);
    if (!known)
        return -ENOMEM;
    json_t *elsewhere = json_array();
    int n = MIN(host->membership->ops->volumes(host->membership, known, VOLUMES_MAX), VOLUMES_MAX);
    for (int i = 0; i < n; i++)
        (void)json_array_append_new(elsewhere, json_pack("{s:s, s:s, s:I}", "name", known[i].name,
                                                         "home", known[i].home, "limit_bytes",
                                                         (json_int_t)known[i].limit_bytes));
    *ret_result = json_pack("{s:o, s:o}", "attached", attached_volumes(host), "known", elsewhere);
    return 0;
}

static int run_volume_show(void *ctx, const json_t *arguments, struct control_call *call,
                           json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    struct volume_status status;
    struct member_volume known;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    if (volumes_status(host->volumes, name, &status) == 0) {
        *ret_result = attached_json(host, &status);
        return 0;
    }
    if (host->membership->ops->volume(host->membership, name, &known) < 0)
        return control_fail(call, -ENOENT,
                            "volume '%s' is not attached here and membership does not know it",
                            name);
    *ret_result = json_pack("{s:s, s:s, s:I}", "name", known.name, "home", known.home,
                            "limit_bytes", (json_int_t)known.limit_bytes);
    return 0;
}

/* What the volume is now that it was attached, resized …; or how that failed. */
static int answer_volume(struct host *host, struct control_call *call, int r, const char *doing,
                         const char *name, json_t **ret_result)
{
    struct volume_status status;
    if (r == 0)
        r = volumes_status(host->volumes, name, &status);
    if (r < 0)
        return fail_volume(call, r, doing, name);
    *ret_result = volume_json(&status);
    return 0;
}

static int run_volume_resize(void *ctx, const json_t *arguments, struct control_call *call,
                             json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    r = volumes_resize(host->volumes, name, number_or(arguments, "size", 0),
                       number_or(arguments, "inodes", 0));
    if (r == -EDQUOT)
        return control_fail(
            call, r, "cannot resize volume '%s': more than that is in use: remove files first",
            name);
    return answer_volume(host, call, r, "resize", name, ret_result);
}

static enum choice choice_of(const json_t *arguments, const char *key)
{
    const json_t *value = json_object_get(arguments, key);
    return json_is_true(value) ? CHOICE_ON : json_is_false(value) ? CHOICE_OFF : CHOICE_AS_IT_IS;
}

static int run_volume_set(void *ctx, const json_t *arguments, struct control_call *call,
                          json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    r = volumes_set_effects(host->volumes, name, choice_of(arguments, "suid"),
                            choice_of(arguments, "dev"));
    return answer_volume(host, call, r, "set options of", name, ret_result);
}

static int run_volume_rename(void *ctx, const json_t *arguments, struct control_call *call,
                             json_t **ret_result)
{
    struct host *host = ctx;
    const char *name, *new_name;
    int r = take_name(arguments, call, &name);
    if (r == 0)
        r = take_name_as(arguments, "new_name", call, &new_name);
    if (r < 0)
        return r;
    r = volumes_rename(host->volumes, name, new_name);
    if (r == -EEXIST)
        return control_fail(call, r, "cannot rename volume '%s': '%s' exists already", name,
                            new_name);
    if (r == -EBUSY)
        return control_fail(call, r,
                            "cannot rename volume '%s': it is in use: close its files here, and "
                            "'whiskfs detach %s' on the other hosts that use it",
                            name, name);
    return r < 0 ? fail_volume(call, r, "rename", name)
                 : answer_volume(host, call, r, "rename", new_name, ret_result);
}

static int run_volume_remove(void *ctx, const json_t *arguments, struct control_call *call,
                             json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    (void)ret_result;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    r = volumes_remove(host->volumes, name, flag(arguments, "force"));
    return r < 0 ? fail_volume(call, r, "remove", name) : 0;
}

/* Sentences say what to do; what is at risk is in whiskfs(1). */
static int fail_taking(struct control_call *call, const char *name, const struct obstacles *o)
{
    switch (o->kind) {
    case OBSTACLE_HOME:
        return control_fail(call, -EPERM,
                            "cannot take the home of volume '%s': it answers%s%s: to move it from "
                            "a host that works use the volume here, or stop that host's daemon",
                            name, o->host[0] ? ", on host " : "", o->host);
    case OBSTACLE_NEWER:
        return control_fail(call, -EPERM,
                            "cannot take the home of volume '%s' here: host '%s' has changes that "
                            "this host lacks: do it there",
                            name, o->host);
    case OBSTACLE_BACK:
        return control_fail(call, -EPERM,
                            "did not take the home of volume '%s': it came back meanwhile", name);
    default:
        return control_fail(
            call, -EPERM,
            "cannot take the home of volume '%s': %u hosts do not answer, first '%s': if the home "
            "is among them and still runs, it goes on without this host; what only they have is "
            "put aside when they are back, not merged. Make sure that they are down, then use "
            "--force",
            name, o->n_silent, o->host);
    }
}

static int run_volume_take_home(void *ctx, const json_t *arguments, struct control_call *call,
                                json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    struct obstacles obstacles;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    r = volumes_take_home(host->volumes, name, flag(arguments, "force"), &obstacles);
    if (r == -EPERM)
        return fail_taking(call, name, &obstacles);
    if (r == -EALREADY)
        return control_fail(call, r, "this host is the home of volume '%s' already", name);
    if (r == -ENOENT)
        return control_fail(call, r, "volume '%s' is not attached here", name);
    return answer_volume(host, call, r, "take the home of", name, ret_result);
}

static int run_attach(void *ctx, const json_t *arguments, struct control_call *call,
                      json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    int64_t seconds = (int64_t)MIN(number_or(arguments, "timeout_s", 8), ATTACH_TIMEOUT_MAX_S);
    int64_t deadline = clock_mono_ns() + seconds * NS_PER_S;
    r = flag(arguments, "create") ? volumes_attach_or_create(host->volumes, name, deadline)
                                  : volumes_attach(host->volumes, name, deadline);
    return answer_volume(host, call, r, "attach", name, ret_result);
}

static int run_detach(void *ctx, const json_t *arguments, struct control_call *call,
                      json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    (void)ret_result;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    r = volumes_detach(host->volumes, name, flag(arguments, "force"));
    if (r == -ENOENT)
        return control_fail(call, r, "volume '%s' is not attached here", name);
    return r < 0 ? fail_volume(call, r, "detach", name) : 0;
}

/* ---- prefetch ---- */

struct drawing {
    struct volumes *volumes;
    const char *name;
    struct control_call *call;
};

/* Stops when the client is gone or the volume is to be closed. */
static bool report_draw(void *ctx, const struct draw_progress *progress)
{
    const struct drawing *drawing = ctx;
    if (!volumes_is_wanted(drawing->volumes, drawing->name))
        return false;
    return control_progress(
        drawing->call,
        json_pack("{s:I, s:I, s:I, s:I}", "bytes", (json_int_t)progress->done_bytes, "total_bytes",
                  (json_int_t)progress->total_bytes, "files", (json_int_t)progress->done_files,
                  "total_files", (json_int_t)progress->total_files));
}

static int find_files(struct volume *volume, const json_t *paths, struct control_call *call,
                      struct ino_list *list)
{
    size_t i;
    const json_t *path;
    json_array_foreach(paths, i, path)
    {
        const char *text = json_string_value(path);
        int r = text ? paths_add(volume_tree(volume), text, list) : -EINVAL;
        if (r < 0)
            return control_fail(call, r, "cannot prefetch '%s': %s", text ? text : "",
                                strerror(-r));
    }
    return 0;
}

static int draw(struct host *host, const char *name, struct volume *volume, const json_t *paths,
                struct control_call *call, struct draw_progress *ret_progress)
{
    struct ino_list list = {0};
    struct drawing drawing = {host->volumes, name, call};
    int r = find_files(volume, paths, call, &list);
    if (r == 0) {
        const struct draw all = {
            .volume_name = name,
            .volume = volume,
            .inos = json_array_size(paths) > 0 ? list.inos : NULL,
            .n_inos = list.n,
            .class = FETCH_PREFETCH,
            .report = report_draw,
            .ctx = &drawing,
        };
        r = transfer_draw(host->transfer, &all, ret_progress);
        if (r < 0)
            r = control_fail(call, r, "cannot prefetch all of volume '%s': %s", name, strerror(-r));
    }
    free(list.inos);
    return r;
}

static int run_prefetch(void *ctx, const json_t *arguments, struct control_call *call,
                        json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    struct draw_progress progress = {0};
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    struct volume *volume = volumes_find(host->volumes, name);
    if (!volume)
        return control_fail(call, -ENOENT,
                            "volume '%s' is not attached here: 'whiskfs attach %s' first", name,
                            name);
    r = draw(host, name, volume, json_object_get(arguments, "paths"), call, &progress);
    volumes_put(host->volumes, volume);
    if (r < 0)
        return r;
    *ret_result = json_pack("{s:I, s:I}", "bytes", (json_int_t)progress.done_bytes, "files",
                            (json_int_t)progress.done_files);
    return 0;
}

/* ---- scrub ---- */

static int run_scrub(void *ctx, const json_t *arguments, struct control_call *call,
                     json_t **ret_result)
{
    struct host *host = ctx;
    const char *name;
    int r = take_name(arguments, call, &name);
    if (r < 0)
        return r;
    struct volume *volume = volumes_find(host->volumes, name);
    if (!volume)
        return control_fail(call, -ENOENT, "volume '%s' is not attached here", name);
    r = volume_scrub(volume, host->config->scrub_rate);
    volumes_put(host->volumes, volume);
    if (r == -EALREADY)
        return control_fail(call, r, "volume '%s' is being scrubbed already: see 'whiskfs status'",
                            name);
    if (r < 0)
        return fail_volume(call, r, "scrub", name);
    *ret_result = json_pack("{s:s}", "name", name);
    return 0;
}

/* ---- the host ---- */

static json_t *hosts_json(struct host *host)
{
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_MAX, sizeof *hosts);
    json_t *list = json_array();
    int n = hosts ? MIN(host->membership->ops->hosts(host->membership, hosts, HOSTS_MAX), HOSTS_MAX)
                  : 0;
    for (int i = 0; i < n; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:b}", "name", hosts[i].name,
                                                    "address", hosts[i].address, "invoker",
                                                    hosts[i].invoker, "alive", hosts[i].alive));
    return list;
}

static json_t *saved_json(struct host *host)
{
    AUTO_FREE struct saved *all = calloc(SAVED_SHOWN, sizeof *all);
    json_t *list = json_array();
    int n = all ? MIN(volumes_saved(host->volumes, all, SAVED_SHOWN), SAVED_SHOWN) : 0;
    for (int i = 0; i < n; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:I, s:I, s:I}", "name", all[i].name, "volume",
                            all[i].volume, "path",
                            json_sprintf("%s/saved/%s", host->config->state, all[i].name),
                            "entries", (json_int_t)all[i].entries, "files",
                            (json_int_t)all[i].files, "bytes", (json_int_t)all[i].bytes));
    return list;
}

static int run_status(void *ctx, const json_t *arguments, struct control_call *call,
                      json_t **ret_result)
{
    struct host *host = ctx;
    (void)arguments, (void)call;
    *ret_result =
        json_pack("{s:s, s:s, s:s, s:b, s:f, s:o, s:o}", "host", host->config->name, "address",
                  host->config->advertise, "membership", host->config->membership_mode,
                  "membership_connected", host->membership->ops->connected(host->membership),
                  "up_seconds", (double)(clock_mono_ns() - host->started_ns) / (double)NS_PER_S,
                  "volumes", attached_volumes(host), "saved", saved_json(host));
    return 0;
}

static json_t *peer_json(const struct peer_counters *p)
{
    uint64_t sent = 0, received = 0;
    for (int class = 0; class < FRAME_N_CLASSES; class ++) {
        sent += p->sent_bytes[class];
        received += p->received_bytes[class];
    }
    return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "name", p->name, "connections",
                     (int)p->n_connections, "sent_bytes", (json_int_t)sent, "received_bytes",
                     (json_int_t)received, "dials", (json_int_t)p->dials, "failures",
                     (json_int_t)p->failures, "refused_frames", (json_int_t)p->refused_frames);
}

static int run_peers(void *ctx, const json_t *arguments, struct control_call *call,
                     json_t **ret_result)
{
    struct host *host = ctx;
    (void)arguments, (void)call;
    AUTO_FREE struct peer_counters *counters = calloc(HOSTS_MAX, sizeof *counters);
    if (!counters)
        return -ENOMEM;
    json_t *seen = json_array();
    int n = MIN(peers_counters(host->peers, counters, HOSTS_MAX), HOSTS_MAX);
    for (int i = 0; i < n; i++)
        (void)json_array_append_new(seen, peer_json(&counters[i]));
    *ret_result = json_pack("{s:o, s:o}", "hosts", hosts_json(host), "seen", seen);
    return 0;
}

static int run_stats(void *ctx, const json_t *arguments, struct control_call *call,
                     json_t **ret_result)
{
    (void)arguments, (void)call;
    *ret_result = metrics_json(ctx);
    return *ret_result ? 0 : -ENOMEM;
}

static json_t *predictions_json(const struct observer_counters *counters)
{
    return json_pack("{s:I, s:I, s:I}", "checked", (json_int_t)atomic_load(&counters->checked),
                     "action_right", (json_int_t)atomic_load(&counters->action_right),
                     "invoker_right", (json_int_t)atomic_load(&counters->invoker_right));
}

static int run_runs(void *ctx, const json_t *arguments, struct control_call *call,
                    json_t **ret_result)
{
    struct host *host = ctx;
    struct runs_totals totals;
    json_t *result = runs_json(host->runs);
    (void)arguments, (void)call;
    if (!result)
        return -ENOMEM;
    runs_read_totals(host->runs, &totals);
    (void)json_object_set_new(result, "wasted_bytes",
                              json_integer((json_int_t)totals.accounts.wasted_bytes));
    if (host->events)
        (void)json_object_set_new(result, "predictions",
                                  predictions_json(events_counters(host->events)));
    *ret_result = result;
    return 0;
}

/* Which peers answer now: one dial each. */
static json_t *reach_peers(struct host *host)
{
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_MAX, sizeof *hosts);
    json_t *list = json_array();
    int n = hosts ? MIN(host->membership->ops->hosts(host->membership, hosts, HOSTS_MAX), HOSTS_MAX)
                  : 0;
    int64_t deadline = clock_mono_ns() + 5 * NS_PER_S;
    for (int i = 0; i < n; i++) {
        struct conn *conn;
        int r = peers_get(host->peers, hosts[i].id, CHANNEL_CONTROL, 0, deadline, &conn);
        if (r == 0)
            conn_put(conn);
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s}", "name", hosts[i].name,
                                                    "address", hosts[i].address, "reached", r == 0,
                                                    "error", r == 0 ? "" : strerror(-r)));
    }
    return list;
}

static json_t *disk_json(const struct config *config)
{
    struct statvfs fs;
    if (statvfs(config->state, &fs) < 0)
        return json_pack("{s:s, s:s}", "path", config->state, "error", strerror(errno));
    return json_pack("{s:s, s:I, s:I}", "path", config->state, "free_bytes",
                     (json_int_t)fs.f_bavail * (json_int_t)fs.f_frsize, "total_bytes",
                     (json_int_t)fs.f_blocks * (json_int_t)fs.f_frsize);
}

/* What only the daemon can look at; the rest of `whiskfs doctor` is the client's. */
static int run_doctor(void *ctx, const json_t *arguments, struct control_call *call,
                      json_t **ret_result)
{
    struct host *host = ctx;
    const struct config *config = host->config;
    (void)arguments, (void)call;
    *ret_result =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:o, s:o, s:o, s:f}", "host",
                  config->name, "mount", config->mount, "ca", config->ca, "cert", config->cert,
                  "key", config->key, "membership", config->membership_mode, "membership_connected",
                  host->membership->ops->connected(host->membership), "openwhisk",
                  config->openwhisk, "autofs", volumes_has_autofs(host->volumes), "peers",
                  reach_peers(host), "disk", disk_json(config), "volumes", attached_volumes(host),
                  "clock", (double)clock_real_ns() / 1e9);
    return 0;
}

/* For tests, and only where the daemon was started with WHISKFS_FAULTS: the next blocks that it serves are damaged. */
static int run_fault(void *ctx, const json_t *arguments, struct control_call *call,
                     json_t **ret_result)
{
    struct host *host = ctx;
    (void)ret_result;
    if (!getenv("WHISKFS_FAULTS"))
        return control_fail(call, -EPERM, "this whiskfsd was not started with WHISKFS_FAULTS");
    transfer_corrupt_served(host->transfer, (unsigned)number_or(arguments, "corrupt_blocks", 0));
    return 0;
}

const struct control_command host_commands[] = {
    {"volume create", run_volume_create},
    {"volume list", run_volume_list},
    {"volume show", run_volume_show},
    {"volume resize", run_volume_resize},
    {"volume set", run_volume_set},
    {"volume rename", run_volume_rename},
    {"volume take-home", run_volume_take_home},
    {"volume remove", run_volume_remove},
    {"attach", run_attach},
    {"detach", run_detach},
    {"prefetch", run_prefetch},
    {"scrub", run_scrub},
    {"fsck", fsck_command},
    {"status", run_status},
    {"peers", run_peers},
    {"stats", run_stats},
    {"runs", run_runs},
    {"doctor", run_doctor},
    {"fault", run_fault},
    {NULL, NULL},
};
