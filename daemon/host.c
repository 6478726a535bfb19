#include "daemon/host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/commands.h"
#include "daemon/hints.h"
#include "daemon/http.h"
#include "daemon/kafka/directory.h"
#include "daemon/keeper.h"
#include "daemon/membership_static.h"
#include "daemon/openwhisk/events.h"
#include "daemon/reaper.h"
#include "daemon/runs.h"
#include "daemon/scrubber.h"
#include "daemon/space.h"
#include "daemon/transfer/transfer.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define DAY_NS (24 * 3600 * NS_PER_S)
#define MEMBERSHIP_WAIT_NS (5 * NS_PER_S)
#define MS_PER_S 1000
#define RUNS_MAX 16384

static int fail(int error, const char *what, const char *subject)
{
    log_error("daemon", "cannot %s '%s': %s", what, subject, strerror(-error));
    return error;
}

/* ---- one start function a part, in the order of struct host ---- */

static int start_settings(struct host *host)
{
    const struct config *config = host->config;
    struct kafka_setting *settings = calloc((size_t)config->n_kafka + 1, sizeof *settings);
    if (!settings)
        return -ENOMEM;
    for (int i = 0; i < config->n_kafka; i++)
        settings[i] = (struct kafka_setting){config->kafka[i].name, config->kafka[i].value};
    host->kafka = (struct kafka_settings){settings, (size_t)config->n_kafka};
    return 0;
}

static int start_membership(struct host *host)
{
    const struct config *config = host->config;
    if (strcmp(config->membership_mode, "static") == 0) {
        int r = membership_static_new(config->peers, config->n_peers, &host->membership);
        return r < 0 ? fail(r, "use the list of", "[peers]") : 0;
    }
    char sentence[KAFKA_SENTENCE_SIZE] = "";
    const struct kafka_directory_config directory = {
        .name = config->name,
        .address = config->advertise,
        .invoker = config->invoker,
        .topic_prefix = config->membership_prefix,
        .settings = host->kafka,
    };
    int r = kafka_directory_new(&directory, &host->membership, sentence);
    if (r < 0) {
        log_error("daemon", "cannot join the cluster through Kafka: %s",
                  sentence[0] ? sentence : strerror(-r));
        return r;
    }
    if (!kafka_directory_wait_ready(host->membership, clock_mono_ns() + MEMBERSHIP_WAIT_NS))
        log_warning("daemon",
                    "no Kafka broker answers: hosts and volumes will be known when one does");
    return 0;
}

static int start_peers(struct host *host)
{
    const struct config *config = host->config;
    const struct peers_options options = {
        .name = config->name,
        .listen = config->listen,
        .ca_file = config->ca,
        .cert_file = config->cert,
        .key_file = config->key,
        .streams = (unsigned)config->streams,
        .membership = host->membership,
    };
    int r = peers_new(&options, &host->peers);
    return r < 0 ? fail(r, "listen on", config->listen) : 0;
}

static int start_volumes(struct host *host)
{
    const struct config *config = host->config;
    const struct volumes_options options = {
        .self = config->name,
        .state = config->state,
        .mount = config->mount,
        .mountd = strcmp(config->mountd, "off") == 0 ? NULL : config->mountd,
        .autofs = strcmp(config->autofs, "off") != 0,
        .peers = host->peers,
        .membership = host->membership,
        .passthrough = config->passthrough,
        .image = config->image,
        .default_limit_inodes = config->volume_inodes,
        .default_limit_bytes = config->volume_bytes,
    };
    if (mkdir(config->mount, 0755) < 0 && errno != EEXIST)
        return fail(-errno, "make", config->mount);
    int r = volumes_new(&options, &host->volumes);
    if (r == -EBUSY) {
        log_error("daemon",
                  "another whiskfsd is connected to whiskfs-mountd at '%s': stop it first",
                  config->mountd);
        return r;
    }
    if (r < 0)
        return fail(r, "use the state directory", config->state);
    if (strcmp(config->autofs, "on") == 0 && !volumes_has_autofs(host->volumes))
        return fail(-EOPNOTSUPP, "have an autofs, as [mounts] autofs = on wants, at",
                    config->mount);
    volumes_handle_frames(host->volumes);
    return 0;
}

static int start_transfer(struct host *host)
{
    const struct transfer_options options = {
        .peers = host->peers,
        .memory_bytes = host->config->transfer_bytes,
        .streams = (unsigned)host->config->streams,
        .serve_rate = host->config->serve_rate,
        .prefetch_rate = host->config->prefetch_rate,
        .find = volumes_find,
        .put = volumes_put,
        .ctx = host->volumes,
    };
    int r = transfer_new(&options, &host->transfer);
    if (r < 0)
        return fail(r, "start the transfer of", "blocks");
    volumes_set_transfer(host->volumes, host->transfer);
    return 0;
}

static int start_runs(struct host *host)
{
    const struct config *config = host->config;
    const struct runs_options options = {
        .volumes = host->volumes,
        .invoker = config->invoker,
        .step_limit_ms = (int64_t)config->step_limit_s * MS_PER_S,
        .path = config->activation_log,
    };
    int r = runs_new(&options, &host->runs);
    if (r == 0)
        r = runs_start(host->runs);
    return r < 0 ? fail(r, "keep the accounts of", "activations") : 0;
}

static void on_expected(void *ctx, const char *volume)
{
    struct host *host = ctx;
    runs_announce(host->runs, volume);
}

static int start_hints(struct host *host)
{
    const struct hints_options options = {
        .volumes = host->volumes,
        .transfer = host->transfer,
        .peers = host->peers,
        .membership = host->membership,
        .budget_bytes = host->config->prefetch_bytes,
        .is_drawing = host->config->prefetch,
        .expected = on_expected,
        .ctx = host,
    };
    int r = hints_new(&options, &host->hints);
    return r < 0 ? fail(r, "start", "prefetch") : 0;
}

static int start_keeper(struct host *host)
{
    int r = keeper_new(host->volumes, &host->keeper);
    return r < 0 ? fail(r, "start the keeper of", "files") : 0;
}

static int start_space(struct host *host)
{
    int r = space_new(host->volumes, host->config->content_bytes, &host->space);
    return r < 0 ? fail(r, "watch the room of", host->config->state) : 0;
}

static int start_reaper(struct host *host)
{
    const struct config *config = host->config;
    const struct lifetimes_config lifetimes = {
        .run_end_ms = (int64_t)config->run_end_s * MS_PER_S,
        .step_limit_ms = (int64_t)config->step_limit_s * MS_PER_S,
        .run_limit_ms = (int64_t)config->run_limit_s * MS_PER_S,
        .max_runs = RUNS_MAX,
    };
    int r = reaper_new(host->volumes, &lifetimes, &host->reaper);
    return r < 0 ? fail(r, "watch the volumes of", "runs") : 0;
}

static int start_scrubber(struct host *host)
{
    const struct config *config = host->config;
    int r = scrubber_new(host->volumes, config->scrub_days * DAY_NS, config->scrub_rate,
                         &host->scrubber);
    return r < 0 ? fail(r, "scrub the volumes in", config->state) : 0;
}

/* From here on other hosts are answered. */
static int open_doors(struct host *host)
{
    int r = peers_start(host->peers);
    if (r < 0)
        return fail(r, "listen on", host->config->listen);
    r = volumes_start(host->volumes);
    if (r < 0)
        return fail(r, "open the volumes in", host->config->state);
    r = hints_start(host->hints);
    if (r < 0)
        return fail(r, "start", "prefetch");
    r = keeper_start(host->keeper);
    if (r < 0)
        return fail(r, "start the keeper of", "files");
    r = space_start(host->space);
    if (r < 0)
        return fail(r, "watch the room of", host->config->state);
    r = scrubber_start(host->scrubber);
    return r < 0 ? fail(r, "scrub the volumes in", host->config->state) : 0;
}

static void on_activation(void *ctx, const struct ow_activation *activation,
                          const struct observed_volume *volumes, unsigned n)
{
    struct host *host = ctx;
    runs_begin(host->runs, activation, volumes, n);
    for (unsigned i = 0; i < n; i++)
        hints_begin(host->hints, volumes[i].name);
}

static void on_prediction(void *ctx, const struct member_host *to,
                          const struct prediction *prediction,
                          const struct observed_volume *volumes, unsigned n)
{
    struct host *host = ctx;
    for (unsigned i = 0; i < n; i++)
        hints_send(host->hints, to->name, volumes[i].name,
                   (unsigned)(prediction->probability * 1000.0));
}

static void on_expectation(void *ctx, const struct prediction *prediction,
                           const struct observed_volume *volumes, unsigned n)
{
    struct host *host = ctx;
    for (unsigned i = 0; i < n; i++)
        hints_expect(host->hints, volumes[i].name, (unsigned)(prediction->probability * 1000.0));
}

static void on_begin_step(void *ctx, const struct ow_activation *activation, int64_t now_ms)
{
    struct host *host = ctx;
    reaper_begin_step(host->reaper, activation, now_ms);
}

static void on_end_step(void *ctx, const struct ow_ack *ack, int64_t now_ms)
{
    struct host *host = ctx;
    reaper_end_step(host->reaper, ack, now_ms);
    runs_end(host->runs, ack);
}

static void on_missed_step(void *ctx, int64_t now_ms)
{
    struct host *host = ctx;
    reaper_missed_step(host->reaper, now_ms);
}

static int start_events(struct host *host)
{
    static const struct observer_ops ops = {
        .activation = on_activation,
        .hint = on_prediction,
        .expect = on_expectation,
        .begin_step = on_begin_step,
        .end_step = on_end_step,
        .missed_step = on_missed_step,
    };
    const struct config *config = host->config;
    char sentence[KAFKA_SENTENCE_SIZE] = "";
    if (!config->openwhisk)
        return 0;
    struct events_config events = {
        .host = config->name,
        .state = config->state,
        .settings = host->kafka,
        .observer =
            {
                .topic_prefix = config->openwhisk_prefix,
                .invoker = config->invoker,
                .predictor = PREDICTOR_DEFAULTS,
                .membership = host->membership,
                .ops = &ops,
                .arg = host,
            },
    };
    events.observer.predictor.managed_fraction = config->managed_fraction;
    events.observer.predictor.blackbox_fraction = config->blackbox_fraction;
    events.observer.predictor.run_end_ms = (int64_t)config->run_end_s * MS_PER_S;
    events.observer.predictor.run_expiry_ms = (int64_t)config->step_limit_s * MS_PER_S;
    int r = events_new(&events, &host->events, sentence);
    if (r < 0) {
        log_error("daemon", "cannot follow OpenWhisk's topics: %s",
                  sentence[0] ? sentence : strerror(-r));
        return r;
    }
    r = reaper_start(host->reaper, host->events);
    return r < 0 ? fail(r, "watch the volumes of", "runs") : 0;
}

static int start_http(struct host *host)
{
    const char *address = host->config->metrics;
    if (*address == '\0')
        return 0;
    int r = http_start(host, address, &host->http);
    return r < 0 ? fail(r, "serve metrics on", address) : 0;
}

static int start_control(struct host *host)
{
    int r = control_start(host->config->control, host_commands, host, &host->control);
    return r < 0 ? fail(r, "make the control socket", host->config->control) : 0;
}

int host_start(const struct config *config, struct host **ret_host)
{
    static int (*const parts[])(struct host * host) = {
        start_settings, start_membership, start_peers,  start_volumes, start_transfer,
        start_runs,     start_hints,      start_keeper, start_space,   start_reaper,
        start_scrubber, open_doors,       start_events, start_http,    start_control,
    };
    struct host *host = calloc(1, sizeof *host);
    if (!host)
        return -ENOMEM;
    host->config = config;
    host->started_ns = clock_mono_ns();
    for (size_t i = 0; i < N_ELEMENTS(parts); i++) {
        int r = parts[i](host);
        if (r < 0) {
            host_stop(host);
            return r;
        }
    }
    *ret_host = host;
    return 0;
}

void host_stop(struct host *host)
{
    control_stop(host->control);
    http_stop(host->http);
    if (host->reaper)
        reaper_stop(host->reaper); /* looks at events */
    events_free(host->events);
    if (host->hints)
        hints_stop(host->hints);
    if (host->keeper)
        keeper_stop(host->keeper);
    if (host->space)
        space_stop(host->space);
    if (host->scrubber)
        scrubber_stop(host->scrubber);
    runs_stop(host->runs);
    if (host->transfer) /* first: closing a volume waits for what is fetched into it and served from it */
        transfer_stop(host->transfer);
    if (host->volumes)
        volumes_stop(host->volumes);
    if (host->peers)
        peers_stop(host->peers);
    reaper_free(host->reaper);
    space_free(host->space);
    scrubber_free(host->scrubber);
    keeper_free(host->keeper);
    hints_free(host->hints);
    runs_free(host->runs);
    transfer_free(host->transfer);
    volumes_free(host->volumes);
    peers_free(host->peers);
    if (host->membership)
        host->membership->ops->free(host->membership);
    free((void *)(uintptr_t)host->kafka.list);
    free(host);
}
