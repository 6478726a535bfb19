#include "daemon/space.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ticker.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define LOOK_NS NS_PER_S
#define CACHED_MAX (1u << 20) /* copies of one look; the rest at the next */

struct space {
    struct volumes *volumes;
    uint64_t limit_bytes;
    struct space_counters counters;
    struct ticker ticker;
};

const struct space_counters *space_counters(const struct space *space)
{
    return &space->counters;
}

/* ---- what there is ---- */

struct cached {
    struct store_cached copy;
    int volume; /* of the look's */
};

struct look {
    struct space *space;
    struct volume_position *volumes;
    int n_volumes;
    struct cached *all;
    size_t n, room;
    int volume; /* being collected */
};

static void look_done(struct look *look)
{
    free(look->volumes);
    free(look->all);
}

static uint64_t measure(struct look *look)
{
    uint64_t all = 0, bytes;
    for (int i = 0; i < look->n_volumes; i++) {
        struct volume *volume = volumes_find(look->space->volumes, look->volumes[i].name);
        if (!volume)
            continue;
        if (store_occupied(volume_store(volume), &bytes) == 0)
            all += bytes;
        volumes_put(look->space->volumes, volume);
    }
    return all;
}

static void collect(void *ctx, const struct store_cached *copy)
{
    struct look *look = ctx;
    if (look->n == look->room) {
        size_t room = look->room ? 2 * look->room : 256;
        struct cached *more =
            room > CACHED_MAX ? NULL : reallocarray(look->all, room, sizeof *look->all);
        if (!more)
            return;
        look->all = more;
        look->room = room;
    }
    look->all[look->n++] = (struct cached){.copy = *copy, .volume = look->volume};
}

static void collect_all(struct look *look)
{
    for (int i = 0; i < look->n_volumes; i++) {
        struct volume *volume = volumes_find(look->space->volumes, look->volumes[i].name);
        if (!volume)
            continue;
        look->volume = i;
        store_each_cached(volume_store(volume), collect, look);
        volumes_put(look->space->volumes, volume);
    }
}

static int by_use(const void *a, const void *b)
{
    const struct cached *x = a, *y = b;
    return (x->copy.used_ns > y->copy.used_ns) - (x->copy.used_ns < y->copy.used_ns);
}

/* ---- what goes ---- */

/* Until the keeper of the newest version has all blocks, older copies may be the only ones of some. */
static bool is_spare(struct volume *volume, uint64_t ino)
{
    struct inode inode;
    return tree_get(volume_tree(volume), ino, &inode) == 0 && inode.keeper_complete &&
           !host_equal(inode.keeper, volume_self(volume));
}

/* What it freed. */
static uint64_t evict(struct look *look, const struct cached *cached)
{
    struct space *space = look->space;
    struct volume *volume = volumes_find(space->volumes, look->volumes[cached->volume].name);
    if (!volume)
        return 0;
    int r = is_spare(volume, cached->copy.ino)
                ? store_evict(volume_store(volume), cached->copy.ino, cached->copy.version)
                : -EBUSY;
    volumes_put(space->volumes, volume);
    if (r < 0)
        return 0;
    atomic_fetch_add(&space->counters.evicted_files, 1);
    atomic_fetch_add(&space->counters.evicted_bytes, cached->copy.bytes);
    return cached->copy.bytes;
}

static void evict_some(struct look *look, uint64_t wanted_bytes)
{
    uint64_t freed = 0;
    collect_all(look);
    if (look->n > 0)
        qsort(look->all, look->n, sizeof *look->all, by_use);
    for (size_t i = 0; i < look->n && freed < wanted_bytes; i++)
        freed += evict(look, &look->all[i]);
    if (freed > 0)
        log_debug("space", "evicted %" PRIu64 " bytes of cache", freed);
}

static void keep_limit(struct space *space)
{
    AUTO(look_done) struct look look = {.space = space};
    uint64_t limit = space->limit_bytes;
    if (limit == 0)
        return;
    look.volumes = volumes_all_positions(space->volumes, &look.n_volumes);
    if (!look.volumes)
        return;
    uint64_t occupied = measure(&look);
    atomic_store(&space->counters.occupied_bytes, occupied);
    if (occupied > limit - limit / 20)
        evict_some(&look, occupied - (limit - limit / 10));
}

/* ---- life ---- */

static void tick(void *ctx)
{
    struct space *space = ctx;
    volumes_balance(space->volumes);
    keep_limit(space);
}

int space_new(struct volumes *volumes, uint64_t limit_bytes, struct space **ret_space)
{
    struct space *space = calloc(1, sizeof *space);
    if (!space)
        return -ENOMEM;
    space->volumes = volumes;
    space->limit_bytes = limit_bytes;
    ticker_init(&space->ticker, LOOK_NS, tick, space);
    *ret_space = space;
    return 0;
}

int space_start(struct space *space)
{
    return ticker_start(&space->ticker, "whiskfs-space");
}

void space_stop(struct space *space)
{
    ticker_stop(&space->ticker);
}

void space_free(struct space *space)
{
    if (!space)
        return;
    ticker_done(&space->ticker);
    free(space);
}
