/* Entries go in in one order: log, store, tree; what the store may lose goes last, once the log is durable. The store's
 * part is idempotent and comes before the tree's commit, so whatever a crash leaves out is done by the replay.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define BATCH_ENTRIES 64
#define REPLAY_BYTES (2u * LOG_ENTRY_BYTES_MAX)

int volume_check(struct volume *volume)
{
    if (!atomic_load(&volume->is_failed))
        return 0;
    uint64_t suppressed;
    if (log_allow(&volume->failed_lines, &suppressed))
        log_error("volume",
                  "refused: state and log have parted; restart the daemon to recover from the log "
                  "suppressed=%" PRIu64,
                  suppressed);
    return -EIO;
}

/* The log has what the state could not take. */
static int fail(struct volume *volume, uint64_t index, const char *what, int error)
{
    atomic_store(&volume->is_failed, true);
    log_error("volume",
              "cannot apply entry %" PRIu64 ": %s: %s; restart the daemon to recover from the log",
              index, what, strerror(-error));
    return -EIO;
}

/* Drawn copies of ino up to version are needed no more. Mostly there are none. */
static void supersede(struct volume *volume, uint64_t index, uint64_t ino, uint64_t version)
{
    if (store_has_drawn(volume->store, ino, version))
        removals_add(volume, index, ino, version);
}

/* What another host publishes takes the place of our own file, which stays as a drawn copy of its version: a host that
 * draws the blocks it lacks asks us for the one it began from. */
static bool is_replacing(const struct volume *volume, const struct request *q)
{
    return q->kind == REQUEST_PUBLISH && !host_equal(q->identity.host, volume->self);
}

static int demote(struct volume *volume, const struct change *change)
{
    struct inode inode;
    int error = tree_get(volume->tree, change->ino, &inode);
    return error < 0 ? error : store_demote(volume->store, change->ino, inode.version);
}

/* What this host is about to write, or has written, loses its seal; what it has ended to write gets one, later. */
static int apply_to_seals(struct volume *volume, const struct change *change)
{
    const struct request *q = &change->request;
    bool publishes = q->kind == REQUEST_PUBLISH;
    if (!host_equal(q->identity.host, volume->self))
        return 0;
    if (q->kind == REQUEST_CLOSE_WRITE || (publishes && (q->flags & REQUEST_LAST_CLOSE)))
        sealer_add(&volume->sealer, change->ino);
    return q->kind == REQUEST_OPEN_WRITE || publishes ? store_unseal(volume->store, change->ino)
                                                      : 0;
}

static void remove_from_store(struct volume *volume, const struct applied_entry *entry)
{
    const struct change *change = &entry->change;
    const struct request *q = &change->request;
    if (q->kind == REQUEST_PUBLISH && !(q->flags & REQUEST_INCOMPLETE))
        supersede(volume, change->index, change->ino, change->index - 1);
    if (q->kind == REQUEST_KEEP && q->base_version > 0)
        supersede(volume, change->index, change->ino, q->base_version - 1);
    if (entry->effect.gone != 0)
        removals_add(volume, change->index, entry->effect.gone, UINT64_MAX);
}

/* A change that is in the log already; entry->change is set, effect is filled in. A demotion is committed with its entry
 * at once: done again after the file became our own once more, it would name the wrong version. */
static int apply_locked(struct volume *volume, struct applied_entry *entry)
{
    bool is_demotion = is_replacing(volume, &entry->change.request);
    int error =
        is_demotion ? demote(volume, &entry->change) : apply_to_seals(volume, &entry->change);
    if (error == 0)
        error = tree_apply(volume->tree, &entry->change, &entry->effect);
    if (error == 0 && is_demotion)
        error = tree_commit(volume->tree);
    if (error == 0)
        remove_from_store(volume, entry);
    return error;
}

static int apply_batch_locked(struct volume *volume, struct applied_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct change *change = &entries[i].change;
        int error = apply_locked(volume, &entries[i]);
        if (error < 0)
            return fail(volume, change->index, request_kind_name(change->request.kind), error);
    }
    return 0;
}

/* ---- a full disk ---- */

static bool makes_more(const struct request *request)
{
    return request->kind == REQUEST_MAKE || request->kind == REQUEST_LINK ||
           request->kind == REQUEST_SETXATTR;
}

int volume_check_store(struct volume *volume, const struct request *request)
{
    bool is_file = request->kind == REQUEST_MAKE && S_ISREG(request->mode);
    return !is_file || store_has_room(volume->store) ? 0 : -ENOSPC;
}

/* The log and the state have room of their own; when the disk gives them no more, it is for what frees some. */
static int check_room(struct volume *volume, const struct request *request)
{
    bool has_room = log_has_room(volume->log) && tree_has_room(volume->tree);
    if (!has_room && makes_more(request))
        return -ENOSPC;
    return volume->store && host_equal(request->identity.host, volume->self)
               ? volume_check_store(volume, request)
               : 0;
}

/* ---- deciding ---- */

/* What goes into the log is what comes out of it: the state gets the decoded change, as a replica or a replay does. */
static int encode(struct volume *volume, const struct change *change, struct span *ret_payload,
                  struct change *ret_decoded)
{
    struct writer w = writer_over(volume->scratch, REQUEST_BYTES_MAX);
    put_change(&w, change);
    if (w.bad)
        return -EMSGSIZE;
    struct span payload = {.data = volume->scratch, .size = writer_used(&w)};
    struct reader r = reader_over(payload.data, payload.size);
    if (get_change(&r, ret_decoded) < 0)
        return -EINVAL;
    *ret_payload = payload;
    return 0;
}

static char *kill_kind; /* NULL: never */
static atomic_long kill_countdown;

static void read_kill_after(void)
{
    const char *text = getenv("WHISKFS_KILL_AFTER");
    const char *colon = text ? strchr(text, ':') : NULL;

    if (!colon)
        return;
    kill_countdown = strtol(colon + 1, NULL, 10);
    kill_kind = strndup(text, (size_t)(colon - text));
}

/* For tests: WHISKFS_KILL_AFTER=KIND:N in the environment ends the process as kill -9 does, when the N-th entry of that
 * kind is in the log and nobody has heard of it. */
static void kill_after(enum request_kind kind)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    CHECK(pthread_once(&once, read_kill_after) == 0);
    if (kill_kind && strcmp(kill_kind, request_kind_name(kind)) == 0 &&
        atomic_fetch_sub(&kill_countdown, 1) == 1)
        (void)raise(SIGKILL);
}

/* A start is the first entry of its epoch. */
static uint64_t epoch_of(struct volume *volume, const struct change *change)
{
    if (change->request.kind == REQUEST_START)
        return change->request.epoch;
    return change->request.kind == REQUEST_CONFIGURE && tree_applied(volume->tree) == 0
               ? FIRST_EPOCH
               : tree_turn(volume->tree).epoch;
}

/* Nobody decides for a volume whose home is elsewhere but who starts; a volume that is being made has no home yet. */
static bool may_decide(struct volume *volume, const struct request *request)
{
    return volume_is_home(volume) || request->kind == REQUEST_START ||
           host_equal(tree_home(volume->tree), NO_HOST);
}

static int log_and_apply_locked(struct volume *volume, struct change *change,
                                struct applied_entry *ret_entry)
{
    struct span payload;
    struct log_entry logged;
    struct applied_entry entry = {};
    change->index = log_last(volume->log) + 1;
    int error = encode(volume, change, &payload, &entry.change);
    if (error == 0)
        error = log_append(volume->log, epoch_of(volume, change), payload, &logged);
    if (error == 0)
        kill_after(change->request.kind);
    if (error == 0)
        error = apply_batch_locked(volume, &entry, 1);
    if (error < 0)
        return error;
    /* The scratch is the next caller's; the request outlives this call. */
    entry.change = *change;
    checkpointer_logged(volume, logged.bytes.size);
    volume_advance(volume, change->index);
    if (volume->source)
        volume->source->ops->appended(volume->source, &logged);
    *ret_entry = entry;
    return 0;
}

int volume_decide(struct volume *volume, const struct request *request,
                  struct applied_entry *ret_entry, bool *ret_is_new, struct outcome *ret_outcome)
{
    SCOPED_LOCK(&volume->lock);
    int error = volume_check(volume);
    if (error < 0)
        return error;
    if (!may_decide(volume, request))
        return -EREMOTE;
    struct change change;
    int decided = tree_decide(volume->tree, request, clock_real_ns(), &change, ret_outcome);
    *ret_is_new = false;
    if (decided == 0)
        decided = check_room(volume, request);
    if (decided != 0)
        return MIN(decided, 0);
    error = log_and_apply_locked(volume, &change, ret_entry);
    if (error < 0)
        return error;
    *ret_is_new = true;
    *ret_outcome = ret_entry->effect.outcome;
    return 0;
}

/* ---- following ---- */

/* Appends entries from the reader until max are collected. Those that are here already are passed over. */
static int append_some_locked(struct volume *volume, struct reader *r,
                              struct applied_entry *entries, size_t max, size_t *ret_n)
{
    *ret_n = 0;
    while (*ret_n < max) {
        struct log_entry logged;
        int error = log_entry_get(r, &logged);
        if (error < 0)
            return error == -ENODATA ? 0 : error;
        if (logged.index <= log_last(volume->log))
            continue;
        struct change *change = &entries[*ret_n].change;
        struct reader payload = reader_over(logged.payload.data, logged.payload.size);
        if (get_change(&payload, change) < 0 || change->index != logged.index)
            return -EBADMSG;
        error = log_append_entry(volume->log, &logged);
        if (error < 0)
            return error;
        checkpointer_logged(volume, logged.bytes.size);
        (*ret_n)++;
    }
    return 0;
}

/* An error of appending counts once what was appended before it is applied. */
static int follow_some(struct volume *volume, struct reader *r, struct applied_entry *entries,
                       size_t max, size_t *ret_n)
{
    SCOPED_LOCK(&volume->lock);
    *ret_n = 0;
    int error = volume_is_home(volume) ? -EINVAL : volume_check(volume);
    if (error < 0)
        return error;
    (void)log_has_room(volume->log);
    (void)tree_has_room(volume->tree);
    error = append_some_locked(volume, r, entries, max, ret_n);
    int applied = apply_batch_locked(volume, entries, *ret_n);
    if (applied < 0)
        *ret_n = 0;
    return applied < 0 ? applied : error;
}

int volume_follow(struct volume *volume, struct span bytes, uint64_t *ret_applied)
{
    AUTO_FREE struct applied_entry *entries = calloc(BATCH_ENTRIES, sizeof *entries);
    if (!entries)
        return -ENOMEM;
    struct reader r = reader_over(bytes.data, bytes.size);
    int error = 0;
    while (error == 0 && reader_left(&r) > 0) {
        size_t n;
        error = follow_some(volume, &r, entries, BATCH_ENTRIES, &n);
        for (size_t i = 0; i < n; i++)
            volume_tell(volume, &entries[i]);
        if (n > 0)
            volume_advance(volume, entries[n - 1].change.index);
    }
    if (error < 0)
        return error;
    *ret_applied = volume_applied(volume);
    return 0;
}

/* ---- replaying ---- */

static int replay_some(struct volume *volume, struct reader *r, struct applied_entry *entries,
                       uint64_t *next)
{
    SCOPED_LOCK(&volume->lock);
    size_t n = 0;
    for (; n < BATCH_ENTRIES && reader_left(r) > 0; n++) {
        struct log_entry logged;
        struct change *change = &entries[n].change;
        if (log_entry_get(r, &logged) < 0)
            return -EBADMSG;
        struct reader payload = reader_over(logged.payload.data, logged.payload.size);
        if (get_change(&payload, change) < 0 || change->index != logged.index ||
            change->index != *next + n) {
            log_error("volume", "entry %" PRIu64 " of the log is no change that this version knows",
                      logged.index);
            return -EBADMSG;
        }
    }
    *next += n;
    return apply_batch_locked(volume, entries, n);
}

int volume_replay(struct volume *volume)
{
    AUTO_FREE struct applied_entry *entries = calloc(BATCH_ENTRIES, sizeof *entries);
    AUTO_FREE uint8_t *buffer = malloc(REPLAY_BYTES);
    if (!entries || !buffer)
        return -ENOMEM;
    uint64_t next = tree_applied(volume->tree) + 1;
    uint64_t from = next;
    while (next <= log_last(volume->log)) {
        size_t used;
        int error = log_read(volume->log, next, buffer, REPLAY_BYTES, &used);
        struct reader r = reader_over(buffer, error < 0 ? 0 : used);
        while (error == 0 && reader_left(&r) > 0)
            error = replay_some(volume, &r, entries, &next);
        if (error < 0)
            return error;
    }
    if (next > from)
        log_info("volume", "replayed entries %" PRIu64 " to %" PRIu64 " of the log", from,
                 next - 1);
    return 0;
}
