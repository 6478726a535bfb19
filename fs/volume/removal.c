#include "fs/volume/removal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* Long enough that one sync covers many removals, short enough that nobody misses the space. */
#define COLLECT_NS (100 * NS_PER_MS)

void removals_init(struct removals *removals)
{
    mutex_init(&removals->lock, LOCK_leaf);
    cond_init(&removals->changed);
}

void removals_done(struct removals *removals)
{
    free(removals->items);
    cond_done(&removals->changed);
    mutex_done(&removals->lock);
}

static bool make_room_locked(struct removals *r) REQUIRES(r->lock)
{
    if (r->n < r->room)
        return true;
    size_t room = r->room ? r->room * 2 : 64;
    struct removal *items =
        room > REMOVALS_MAX ? NULL : reallocarray(r->items, room, sizeof *items);
    if (!items)
        return false;
    r->items = items;
    r->room = room;
    return true;
}

static bool queue(struct removals *r, uint64_t index, const struct removal *item)
{
    SCOPED_LOCK(&r->lock);
    if (!make_room_locked(r)) {
        r->n_left_out++;
        return false;
    }
    r->items[r->n++] = *item;
    r->n_queued++;
    r->index = index;
    if (r->n == 1)
        cond_broadcast(&r->changed);
    return true;
}

void removals_add(struct volume *volume, uint64_t index, uint64_t ino, uint64_t version)
{
    struct removal item = {.ino = ino, .version = version};
    if (version == UINT64_MAX)
        item.pending_bytes = store_pending(volume->store, ino);
    if (!queue(&volume->removals, index, &item))
        store_not_pending(volume->store, item.pending_bytes);
}

/* ---- the thread ---- */

/* Takes all that is queued, once it has been collected for a moment. False: nothing is left and it is time to end. */
static bool take(struct removals *r, struct removals *ret_taken)
{
    SCOPED_LOCK(&r->lock);
    r->n_done += ret_taken->n;
    cond_broadcast(&r->changed);
    while (r->n == 0 && !r->is_stopping)
        cond_wait(&r->changed, &r->lock);
    int64_t deadline_ns = clock_mono_ns() + COLLECT_NS;
    while (!r->is_stopping && r->n_hurried == 0 &&
           cond_wait_until(&r->changed, &r->lock, deadline_ns))
        continue;
    ret_taken->items = TAKE(r->items);
    ret_taken->n = r->n;
    ret_taken->index = r->index;
    r->n = r->room = 0;
    return ret_taken->n > 0;
}

static void remove_one(struct volume *volume, const struct removal *item)
{
    int error = item->version == UINT64_MAX
                    ? store_remove_pending(volume->store, item->ino, item->pending_bytes)
                    : store_superseded(volume->store, item->ino, item->version);
    if (error < 0)
        log_warning("volume",
                    "cannot remove old content of inode %" PRIu64
                    ": %s; the next start tries again",
                    item->ino, strerror(-error));
}

static void *removals_run(void *arg)
{
    struct volume *volume = arg;
    struct removals taken = {0};
    while (take(&volume->removals, &taken)) {
        AUTO_FREE struct removal *items = taken.items;
        if (log_sync(volume->log, taken.index) < 0)
            continue; /* said already; the next start sweeps */
        for (size_t i = 0; i < taken.n; i++)
            remove_one(volume, &items[i]);
    }
    return NULL;
}

int removals_start(struct volume *volume)
{
    struct removals *r = &volume->removals;
    int error = thread_start(&r->thread, "volume-remove", removals_run, volume);
    r->is_started = error == 0;
    return error;
}

static void tell_stopping(struct removals *r)
{
    SCOPED_LOCK(&r->lock);
    r->is_stopping = true;
    cond_broadcast(&r->changed);
}

void removals_stop(struct volume *volume)
{
    struct removals *r = &volume->removals;
    if (!r->is_started)
        return;
    tell_stopping(r);
    thread_join(r->thread);
    r->is_started = false;
    if (r->n_left_out > 0)
        log_warning("volume", "content of %" PRIu64 " removed files waits for the next start",
                    r->n_left_out);
}

bool volume_wait_removed(struct volume *volume, int64_t deadline_ns)
{
    struct removals *r = &volume->removals;
    SCOPED_LOCK(&r->lock);
    uint64_t wanted = r->n_queued;
    r->n_hurried++;
    cond_broadcast(&r->changed);
    while (r->n_done < wanted) {
        if (!cond_wait_until(&r->changed, &r->lock, deadline_ns))
            break;
    }
    r->n_hurried--;
    return r->n_done >= wanted;
}
