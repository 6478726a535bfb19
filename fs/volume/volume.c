/* fs/volume/volume.c — one volume: who decides, who is told. */
#include "fs/volume/volume.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* ---- reading ---- */

struct tree *volume_tree(struct volume *volume)
{
    return volume->tree;
}

struct store *volume_store(struct volume *volume)
{
    return volume->store;
}

struct log *volume_log(struct volume *volume)
{
    return volume->log;
}

struct source *volume_source(struct volume *volume)
{
    return volume->source;
}

struct host_id volume_self(const struct volume *volume)
{
    return volume->self;
}

uint64_t volume_session(const struct volume *volume)
{
    return volume->session;
}

/* ---- what has been applied ---- */

uint64_t volume_applied(struct volume *volume)
{
    SCOPED_LOCK(&volume->seen_lock);
    return volume->applied;
}

void volume_advance(struct volume *volume, uint64_t applied)
{
    SCOPED_LOCK(&volume->seen_lock);
    if (applied <= volume->applied)
        return;
    volume->applied = applied;
    cond_broadcast(&volume->seen);
}

bool volume_wait_applied(struct volume *volume, uint64_t index, int64_t deadline_ns)
{
    SCOPED_LOCK(&volume->seen_lock);
    while (volume->applied < index)
        if (!cond_wait_until(&volume->seen, &volume->seen_lock, deadline_ns))
            return volume->applied >= index;
    return true;
}

/* ---- the watcher ---- */

void volume_watch(struct volume *volume, struct volume_watcher *watcher)
{
    SCOPED_LOCK(&volume->seen_lock);
    volume->watcher = watcher;
    while (volume->n_watching > 0)
        cond_wait(&volume->seen, &volume->seen_lock);
}

static struct volume_watcher *watcher_enter(struct volume *volume, uint64_t session)
{
    SCOPED_LOCK(&volume->seen_lock);
    if (!volume->watcher || volume->watcher->session == session)
        return NULL;
    volume->n_watching++;
    return volume->watcher;
}

static void watcher_leave(struct volume *volume)
{
    SCOPED_LOCK(&volume->seen_lock);
    if (--volume->n_watching == 0)
        cond_broadcast(&volume->seen);
}

void volume_tell(struct volume *volume, const struct applied_entry *entry)
{
    struct volume_watcher *watcher = watcher_enter(volume, entry->change.request.identity.session);
    if (!watcher)
        return;
    watcher->changed(watcher, &entry->change, &entry->effect);
    watcher_leave(volume);
}

/* ---- changing ---- */

int volume_decide_and_tell(struct volume *volume, const struct request *request, bool *ret_is_new,
                           struct outcome *ret_outcome)
{
    struct applied_entry entry;
    int error = volume_decide(volume, request, &entry, ret_is_new, ret_outcome);
    if (error == 0 && *ret_is_new)
        volume_tell(volume, &entry);
    return error;
}

/* A request that found nothing to change is durable when all that it relied on is. */
static int make_durable(struct volume *volume, const struct request *request, uint64_t index)
{
    if (!(request->flags & REQUEST_DURABLE))
        return 0;
    return log_sync(volume->log, index != 0 ? index : log_last(volume->log));
}

static int change_as_home(struct volume *volume, const struct request *request, int64_t deadline_ns,
                          struct outcome *ret_outcome)
{
    bool is_new = false;
    int error = volume_decide_and_tell(volume, request, &is_new, ret_outcome);
    if (!is_new && error != -EREMOTE)
        retired_return(&volume->retired, request);
    if (error < 0)
        return error;
    uint64_t index = ret_outcome->index;
    if (volume->source && index != 0)
        error = volume->source->ops->settle(volume->source, index, deadline_ns);
    int synced = make_durable(volume, request, index);
    return error < 0 ? error : synced;
}

static int change_elsewhere(struct volume *volume, const struct request *request,
                            int64_t deadline_ns, struct outcome *ret_outcome)
{
    int error = volume_check(volume);
    if (error < 0)
        return error;
    error = volume_check_store(volume, request);
    if (error < 0) {
        retired_return(&volume->retired, request);
        return error;
    }
    if (volume->source) {
        error = volume->source->ops->forward(volume->source, request, deadline_ns, ret_outcome);
        if (error != -EREMOTE && (error < 0 || ret_outcome->index == 0))
            retired_return(&volume->retired, request);
        return error;
    }
    uint64_t suppressed;
    if (log_allow(&volume->forward_lines, &suppressed))
        log_error("volume", "cannot ask for %s: the home is another host and there is no way to it",
                  request_kind_name(request->kind));
    return -EIO;
}

bool volume_identify(struct volume *volume, struct request *request)
{
    request->identity.host = volume->self;
    if (request->identity.session != 0 || request->identity.unique != 0)
        return false;
    request->identity.session = volume->session;
    request->identity.unique = atomic_fetch_add(&volume->next_unique, 2);
    return true;
}

int volume_change(struct volume *volume, struct request *request, struct outcome *ret_outcome)
{
    int64_t deadline_ns = clock_mono_ns() + REQUEST_TIMEOUT_NS;
    struct outcome outcome = {0};
    bool is_own = volume_identify(volume, request);
    retired_attach(&volume->retired, request);
    int error;
    do /* the home may move meanwhile */
        error = volume_is_home(volume) ? change_as_home(volume, request, deadline_ns, &outcome)
                                       : change_elsewhere(volume, request, deadline_ns, &outcome);
    while (error == -EREMOTE && clock_mono_ns() < deadline_ns);
    if (error == -EREMOTE) {
        retired_return(&volume->retired, request);
        error = -EIO;
    }
    if (error < 0)
        outcome.error = error;
    if (outcome.index != 0 && is_own)
        volume_answered(volume, request->identity.session, request->identity.unique);
    *ret_outcome = outcome;
    return outcome.error;
}

void volume_answered(struct volume *volume, uint64_t session, uint64_t unique)
{
    retired_add(&volume->retired, session, unique);
}

int volume_execute(struct volume *volume, const struct request *request,
                   struct outcome *ret_outcome)
{
    struct outcome outcome = {0};
    bool is_new = false;
    int error = volume_decide_and_tell(volume, request, &is_new, &outcome);
    if (error == 0)
        error = make_durable(volume, request, outcome.index);
    if (error < 0)
        outcome.error = error;
    *ret_outcome = outcome;
    return outcome.error;
}
