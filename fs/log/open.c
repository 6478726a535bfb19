/* Opening the log: every entry of every segment is checked, the end is found. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/log/impl.h"
#include "proto/base/log.h"

static int load_segment(struct log *log, uint64_t first, bool is_last)
{
    AUTO(segment_unrefp) struct segment *s = NULL;
    int error = segment_load(log->dirfd, first, is_last, &s);
    if (error < 0)
        return error;
    if (log->n_segments > 0 && log->last + 1 != first) {
        log_error("log", "entries are missing: %" PRIu64 " is followed by segment %016" PRIx64,
                  log->last, first);
        return -EBADMSG;
    }
    SCOPED_LOCK(&log->lock);
    error = log_add_segment_locked(log, s);
    if (error < 0)
        return error;
    log->last = first + s->n - 1;
    s = NULL;
    return 0;
}

/* All that the log holds is in the checkpoint at start_index. */
static int begin_anew(struct log *log, uint64_t start_index)
{
    log_warning("log",
                "ends at entry %" PRIu64 ", before the checkpoint at %" PRIu64 ": begins anew",
                log->last, start_index);
    size_t n = log->n_segments;
    log->n_segments = 0;
    return log_remove_segments(log, log->segments, n);
}

static int load(struct log *log, uint64_t start_index)
{
    AUTO(segment_list_done) struct segment_list list = {.max = SEGMENTS_MAX};
    int error = segment_list_read(&list, log->dirfd);
    for (size_t i = 0; error == 0 && i < list.n; i++)
        error = load_segment(log, list.firsts[i], i == list.n - 1);
    if (error < 0)
        return error;
    if (list.n > 0 && log->last < start_index)
        error = begin_anew(log, start_index);
    if (error == 0 && log->n_segments == 0) {
        log->last = start_index;
        error = log_make_segment(log, start_index + 1);
    }
    if (error < 0)
        return error;
    /* What is in the page cache may not be on the disk yet. */
    log->durable = log->segments[0]->first - 1;
    log->dir_changed = true;
    return 0;
}

static int open_directory(int dirfd)
{
    AUTO_CLOSE int fd = directory_make(dirfd, "log");
    if (fd < 0)
        return fd;
    /* The name "log" itself; the names in it are synced with the first entries. */
    return disk_sync(dirfd) < 0 ? -EIO : TAKE_FD(fd);
}

int log_open(int dirfd, uint64_t start_index, struct log **ret_log)
{
    AUTO(log_freep) struct log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    mutex_init(&log->lock, LOCK_log_sync);
    cond_init(&log->synced);
    log->dirfd = -1;
    log->scratch = malloc(LOG_ENTRY_BYTES_MAX);
    if (!log->scratch)
        return -ENOMEM;
    int fd = open_directory(dirfd);
    if (fd < 0)
        return fd;
    log->dirfd = fd;
    int error = load(log, start_index);
    if (error < 0)
        return error;
    *ret_log = TAKE(log);
    return 0;
}

void log_free(struct log *log)
{
    if (!log)
        return;
    for (size_t i = 0; i < log->n_segments; i++)
        segment_unref(log->segments[i]);
    free(log->segments);
    free(log->scratch);
    close_fd(&log->dirfd);
    cond_done(&log->synced);
    mutex_done(&log->lock);
    free(log);
}
