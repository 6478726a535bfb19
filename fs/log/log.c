/* The log: a table of segments, the last of which is appended to.
 *
 *     segments[0] … segments[n - 1]          each: file, first index, entries, sparse offsets
 *                   ^ appended to
 *
 * `lock` (class log_sync) covers the table and the counts of each segment, and is not held across I/O: a reader or
 * a sync takes references and works on the files. The appending thread writes past what is counted, then counts.
 */
#include "fs/log/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/disk/disk.h"
#include "fs/log/entry.h"
#include "fs/log/impl.h"
#include "proto/base/log.h"

/* Writing back starts this often, so that a sync finds little left. */
#define WRITEBACK_BYTES (1u << 20)
#define PEEK_BYTES 4096u /* most entries are smaller */

static uint32_t segment_bytes = LOG_SEGMENT_BYTES;

void log_set_segment_bytes(uint32_t bytes)
{
    CHECK(bytes <= LOG_SEGMENT_BYTES);
    segment_bytes = bytes;
}

/* ---- the table ---- */

int log_add_segment_locked(struct log *log, struct segment *segment)
{
    if (log->n_segments == SEGMENTS_MAX)
        return -ENOSPC;
    struct segment **segments =
        reallocarray(log->segments, log->n_segments + 1, sizeof(struct segment *));
    if (!segments)
        return -ENOMEM;
    log->segments = segments;
    log->segments[log->n_segments++] = segment;
    log->tail = segment;
    return 0;
}

int log_make_segment(struct log *log, uint64_t first)
{
    AUTO(segment_unrefp) struct segment *s = NULL;
    int error = segment_make(log->dirfd, first, &s);
    if (error < 0)
        return error;
    SCOPED_LOCK(&log->lock);
    error = log_add_segment_locked(log, s);
    if (error < 0) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(first, name);
        (void)!disk_unlink(log->dirfd, name);
        return error;
    }
    s = NULL;
    log->dir_changed = true;
    return 0;
}

/* Takes the first n segments out of the table. */
static void forget_segments_locked(struct log *log, size_t n)
{
    log->n_segments -= n;
    memmove(log->segments, log->segments + n, log->n_segments * sizeof(struct segment *));
}

/* Oldest first, so that what a crash leaves has no gap. */
int log_remove_segments(struct log *log, struct segment **segments, size_t n)
{
    int error = 0;
    for (size_t i = 0; i < n; i++) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(segments[i]->first, name);
        if (error == 0)
            error = disk_unlink(log->dirfd, name);
        if (error == -ENOENT)
            error = 0;
        segment_unref(segments[i]);
    }
    return error;
}

/* ---- what it holds ---- */

/* Asking does not change a log, but its lock does. */
static struct log *lockable(const struct log *log)
{
    union {
        const struct log *in;
        struct log *out;
    } u = {.in = log};
    return u.out;
}

uint64_t log_first(const struct log *log)
{
    SCOPED_LOCK(&lockable(log)->lock);
    return log->segments[0]->first;
}

uint64_t log_last(const struct log *log)
{
    SCOPED_LOCK(&lockable(log)->lock);
    return log->last;
}

uint64_t log_durable(const struct log *log)
{
    SCOPED_LOCK(&lockable(log)->lock);
    return log->durable;
}

uint64_t log_bytes_from(const struct log *log, uint64_t index)
{
    SCOPED_LOCK(&lockable(log)->lock);
    uint64_t bytes = 0;
    for (size_t i = 0; i < log->n_segments; i++)
        if (log->segments[i]->first + log->segments[i]->n > index)
            bytes += log->segments[i]->size;
    return bytes;
}

/* ---- appending ---- */

/* A closed segment is on stable storage before the next one begins, so a power cut can tear the last one only. */
static int roll(struct log *log)
{
    uint64_t last = log_last(log);
    struct segment *closed = log->tail;
    int error = log_sync(log, last);
    if (error == 0)
        error = log_make_segment(log, last + 1);
    if (error == 0)
        segment_release(closed);
    return error;
}

/* On a full disk there is no new segment, but room behind the old one. */
static int find_tail(struct log *log, size_t size)
{
    if (log->tail->size < segment_bytes)
        return 0;
    int error = roll(log);
    bool fits = log->tail->size + size <= SEGMENT_BYTES_MAX;
    return error == -ENOSPC && fits ? 0 : error;
}

bool log_has_room(struct log *log)
{
    struct segment *tail = log->tail;
    if (tail->allocated >= tail->size + LOG_AHEAD_BYTES / 2)
        return true;
    return segment_allocate(tail, LOG_AHEAD_BYTES) == 0;
}

static int sync_error(struct log *log)
{
    SCOPED_LOCK(&log->lock);
    return log->error;
}

static void count(struct log *log, uint32_t size)
{
    SCOPED_LOCK(&log->lock);
    segment_count(log->tail, size);
    log->last++;
}

static int append(struct log *log, struct span bytes)
{
    int error = find_tail(log, bytes.size);
    if (error == 0)
        error = sync_error(log);
    if (error == 0)
        error = segment_write(log->tail, bytes);
    if (error < 0)
        return error;
    uint32_t before = log->tail->size;
    count(log, (uint32_t)bytes.size);
    if (before / WRITEBACK_BYTES != log->tail->size / WRITEBACK_BYTES)
        disk_write_back(log->tail->fd);
    return 0;
}

int log_append(struct log *log, uint64_t epoch, struct span payload, struct log_entry *ret_entry)
{
    struct log_entry entry;
    int error = log_entry_put(log->scratch, log_last(log) + 1, epoch, payload, &entry);
    if (error < 0)
        return error;
    error = append(log, entry.bytes);
    if (error < 0)
        return error;
    *ret_entry = entry;
    return 0;
}

int log_append_entry(struct log *log, const struct log_entry *entry)
{
    if (entry->index != log_last(log) + 1)
        return -EINVAL;
    return append(log, entry->bytes);
}

/* ---- reading ---- */

/* The segment that holds index, with the nearest marked entry before it. */
struct place {
    struct segment *segment;
    uint64_t at_index;
    uint32_t at_offset, end;
};

static int find(struct log *log, uint64_t index, struct place *ret_place)
{
    SCOPED_LOCK(&log->lock);
    if (index < log->segments[0]->first)
        return -ENOENT;
    if (index > log->last)
        return -ENODATA;
    size_t low = 0;
    size_t high = log->n_segments;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (log->segments[middle]->first <= index)
            low = middle;
        else
            high = middle;
    }
    struct segment *s = log->segments[low];
    uint64_t mark = (index - s->first) / SEGMENT_STRIDE;
    *ret_place = (struct place){
        .segment = segment_ref(s),
        .at_index = s->first + mark * SEGMENT_STRIDE,
        .at_offset = s->marks[mark],
        .end = s->size,
    };
    return 0;
}

/* Bytes of whole, checked entries from index on. -ENOBUFS: not even one is whole. */
static int whole_entries(struct span bytes, uint64_t index, size_t *ret_used, uint64_t *ret_next)
{
    struct reader r = reader_over(bytes.data, bytes.size);
    while (reader_left(&r) > 0) {
        struct log_entry entry;
        uint32_t size;
        uint64_t found;
        if (reader_left(&r) < LOG_HEADER_BYTES)
            break;
        if (log_header_get((struct span){r.at, reader_left(&r)}, &size, &found) < 0)
            return -EBADMSG;
        if (size > reader_left(&r))
            break;
        if (log_entry_get(&r, &entry) < 0 || entry.index != index)
            return -EBADMSG;
        index++;
    }
    *ret_used = (size_t)(r.at - bytes.data);
    *ret_next = index;
    return *ret_used > 0 ? 0 : -ENOBUFS;
}

static int read_segment(struct log *log, uint64_t index, uint8_t *buffer, size_t size,
                        size_t *ret_used, uint64_t *ret_next)
{
    struct place place;
    uint32_t offset;
    int error = find(log, index, &place);
    if (error < 0)
        return error;
    AUTO(segment_unrefp) struct segment *s = place.segment;
    error = segment_seek(s, index, place.at_index, place.at_offset, &offset);
    if (error < 0)
        return error;
    int64_t n = disk_read(s->fd, buffer, MIN(size, (size_t)(place.end - offset)), offset);
    if (n < 0)
        return -EIO;
    return whole_entries((struct span){buffer, (size_t)n}, index, ret_used, ret_next);
}

int log_read(struct log *log, uint64_t index, void *buffer, size_t size, size_t *ret_used)
{
    size_t used = 0;
    for (;;) {
        size_t more = 0;
        int error = read_segment(log, index, (uint8_t *)buffer + used, size - used, &more, &index);
        if (error == -EBADMSG)
            log_error("log", "cannot read entry %" PRIu64 ": it is damaged", index);
        if (error < 0 && used == 0)
            return error;
        if (error < 0)
            break; /* the next call meets it again */
        used += more;
    }
    *ret_used = used;
    return 0;
}

static int read_checksum(struct log *log, uint64_t index, size_t size, uint64_t *ret_checksum)
{
    AUTO_FREE uint8_t *buffer = malloc(size);
    size_t used;
    if (!buffer)
        return -ENOMEM;
    int error = log_read(log, index, buffer, size, &used);
    if (error < 0)
        return error;
    struct log_entry entry;
    struct reader reader = reader_over(buffer, used);
    error = log_entry_get(&reader, &entry);
    if (error == 0)
        *ret_checksum = entry.checksum;
    return error;
}

int log_checksum(struct log *log, uint64_t index, uint64_t *ret_checksum)
{
    int error = read_checksum(log, index, PEEK_BYTES, ret_checksum);
    return error == -ENOBUFS ? read_checksum(log, index, LOG_ENTRY_BYTES_MAX, ret_checksum) : error;
}

/* ---- syncing ---- */

/* What one fdatasync round has to cover. */
struct round {
    struct segment *segments[64];
    size_t n;
    uint64_t last;
    bool dir_changed;
};

/* Takes references on the segments that hold unsynced entries: one, or after an open a few. */
static void round_begin_locked(struct log *log, struct round *round)
{
    *round = (struct round){.last = log->last, .dir_changed = log->dir_changed};
    for (size_t i = 0; i < log->n_segments; i++) {
        struct segment *s = log->segments[i];
        if (s->n == 0 || s->first + s->n - 1 <= log->durable)
            continue;
        if (round->n == N_ELEMENTS(round->segments)) {
            round->last = s->first - 1;
            break;
        }
        round->segments[round->n++] = segment_ref(s);
    }
    log->dir_changed = false;
    log->is_syncing = true;
}

static int round_run(struct log *log, struct round *round)
{
    int error = 0;
    for (size_t i = 0; i < round->n; i++) {
        if (disk_sync_data(round->segments[i]->fd) < 0)
            error = -EIO;
        segment_unref(round->segments[i]);
    }
    if (round->dir_changed && disk_sync(log->dirfd) < 0)
        error = -EIO;
    return error;
}

static void round_end_locked(struct log *log, const struct round *round, int error)
{
    log->is_syncing = false;
    if (error < 0)
        log->error = error;
    else
        log->durable = MAX(log->durable, round->last);
    cond_broadcast(&log->synced);
}

/* Waits for the round under way, or becomes the one who runs the next. 1: run *ret_round. */
static int join_round(struct log *log, uint64_t index, struct round *ret_round)
{
    SCOPED_LOCK(&log->lock);
    if (index > log->last)
        return -EINVAL;
    while (log->error == 0 && log->durable < index && log->is_syncing)
        cond_wait(&log->synced, &log->lock);
    if (log->error < 0)
        return log->error;
    if (log->durable >= index)
        return 0;
    round_begin_locked(log, ret_round);
    return 1;
}

static void end_round(struct log *log, const struct round *round, int error)
{
    SCOPED_LOCK(&log->lock);
    round_end_locked(log, round, error);
}

int log_sync(struct log *log, uint64_t index)
{
    for (;;) {
        struct round round;
        int joined = join_round(log, index, &round);
        if (joined <= 0)
            return joined;
        int error = round_run(log, &round);
        if (error < 0)
            log_error("log", "cannot make entries durable: %s; restart to recover", strerror(EIO));
        end_round(log, &round, error);
    }
}

/* ---- trimming ---- */

/* The segments to go, taken out of the table; *ret_removed is the caller's to free. */
static int take_below(struct log *log, uint64_t index, struct segment ***ret_removed, size_t *ret_n)
{
    SCOPED_LOCK(&log->lock);
    size_t n = 0;
    while (n + 1 < log->n_segments && log->segments[n + 1]->first <= index)
        n++;
    struct segment **removed = calloc(n + 1, sizeof(struct segment *));
    if (!removed)
        return -ENOMEM;
    memcpy(removed, log->segments, n * sizeof(struct segment *));
    forget_segments_locked(log, n);
    *ret_removed = removed;
    *ret_n = n;
    return 0;
}

int log_trim(struct log *log, uint64_t index)
{
    AUTO_FREE struct segment **removed = NULL;
    size_t n;
    int error = take_below(log, index, &removed, &n);
    return error < 0 ? error : log_remove_segments(log, removed, n);
}
