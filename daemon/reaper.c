#include "daemon/reaper.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ticker.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define LOOK_NS NS_PER_S
#define AWAY_MS 5000
#define RETIRE_NS NS_PER_S /* whoever works on the volume now may take longer: the next look */

struct reaper {
    struct volumes *volumes;
    const struct events *events;
    struct reaper_counters counters;
    struct log_limit complaint;
    struct ticker ticker;
    int64_t looked_ms; /* the thread's */

    struct mutex lock;
    struct lifetimes *lifetimes;
};

const struct reaper_counters *reaper_counters(const struct reaper *reaper)
{
    return &reaper->counters;
}

/* ---- what is heard ---- */

void reaper_begin_step(struct reaper *reaper, const struct ow_activation *activation,
                       int64_t now_ms)
{
    SCOPED_LOCK(&reaper->lock);
    lifetimes_begin_step(reaper->lifetimes, activation, now_ms);
}

void reaper_end_step(struct reaper *reaper, const struct ow_ack *ack, int64_t now_ms)
{
    SCOPED_LOCK(&reaper->lock);
    lifetimes_end_step(reaper->lifetimes, ack, now_ms);
}

void reaper_missed_step(struct reaper *reaper, int64_t now_ms)
{
    SCOPED_LOCK(&reaper->lock);
    lifetimes_miss_step(reaper->lifetimes, now_ms);
}

/* Who was stopped for a while has messages to read that it does not know of. */
static void pass_time(struct reaper *reaper, int64_t now_ms)
{
    bool was_away = reaper->looked_ms != 0 && now_ms - reaper->looked_ms > AWAY_MS;
    bool is_hearing = events_is_connected(reaper->events) && !was_away;
    reaper->looked_ms = now_ms;
    SCOPED_LOCK(&reaper->lock);
    if (!is_hearing)
        lifetimes_miss(reaper->lifetimes, now_ms);
    lifetimes_expire(reaper->lifetimes, now_ms);
}

static bool is_over(struct reaper *reaper, const char *run, int64_t now_ms)
{
    SCOPED_LOCK(&reaper->lock);
    return lifetimes_is_over(reaper->lifetimes, run, now_ms);
}

/* ---- what goes ---- */

static uint64_t used_bytes(struct reaper *reaper, const char *name)
{
    struct tree_usage usage;
    struct volume *volume = volumes_find(reaper->volumes, name);
    if (!volume)
        return 0;
    tree_usage(volume_tree(volume), &usage);
    volumes_put(reaper->volumes, volume);
    return usage.used_bytes;
}

/* True: it is gone. */
static bool retire(struct reaper *reaper, const char *name)
{
    uint64_t suppressed, bytes = used_bytes(reaper, name);
    int r = volumes_retire(reaper->volumes, name, clock_mono_ns() + RETIRE_NS);
    if (r == 0) {
        atomic_fetch_add(&reaper->counters.removed, 1);
        atomic_fetch_add(&reaper->counters.removed_bytes, bytes);
        log_info("volumes", "removed volume '%s': its run is over bytes=%" PRIu64, name, bytes);
    } else if (r != -EREMOTE && r != -EBUSY && r != -ENOENT && r != -ESHUTDOWN &&
               log_allow(&reaper->complaint, &suppressed)) {
        log_warning("volumes",
                    "cannot remove volume '%s', whose run is over: %s: trying again "
                    "suppressed=%" PRIu64,
                    name, strerror(-r), suppressed);
    }
    return r == 0;
}

static void look(void *ctx)
{
    struct reaper *reaper = ctx;
    uint64_t n_runs = 0, n_over = 0;
    char run[OW_ID_SIZE];
    int64_t now_ms = clock_mono_ns() / NS_PER_MS;
    int n;
    AUTO_FREE struct volume_position *all = volumes_all_positions(reaper->volumes, &n);
    pass_time(reaper, now_ms);
    for (int i = 0; i < n && !ticker_is_stopping(&reaper->ticker); i++) {
        if (ow_volume_instance_run(all[i].name, run) < 0)
            continue;
        bool was_over = is_over(reaper, run, now_ms);
        bool is_gone = was_over && retire(reaper, all[i].name);
        n_runs += !is_gone;
        n_over += was_over && !is_gone;
    }
    atomic_store(&reaper->counters.volumes, n_runs);
    atomic_store(&reaper->counters.over, n_over);
}

/* ---- life ---- */

int reaper_new(struct volumes *volumes, const struct lifetimes_config *lifetimes,
               struct reaper **ret_reaper)
{
    AUTO_FREE struct reaper *reaper = calloc(1, sizeof *reaper);
    if (!reaper)
        return -ENOMEM;
    int r = lifetimes_new(lifetimes, &reaper->lifetimes);
    if (r < 0)
        return r;
    reaper->volumes = volumes;
    mutex_init(&reaper->lock, LOCK_predictor);
    ticker_init(&reaper->ticker, LOOK_NS, look, reaper);
    *ret_reaper = TAKE(reaper);
    return 0;
}

int reaper_start(struct reaper *reaper, const struct events *events)
{
    reaper->events = events;
    return ticker_start(&reaper->ticker, "whiskfs-runs");
}

void reaper_stop(struct reaper *reaper)
{
    ticker_stop(&reaper->ticker);
}

void reaper_free(struct reaper *reaper)
{
    if (!reaper)
        return;
    lifetimes_free(reaper->lifetimes);
    ticker_done(&reaper->ticker);
    mutex_done(&reaper->lock);
    free(reaper);
}
