/* Opening the log: every entry of every segment is checked, the end is found. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/log/impl.h"
#include "proto/base/log.h"

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The first indexes of all segments there are, in order. */
static int list_segments(int dirfd, uint64_t **ret_firsts, size_t *ret_n)
{
    AUTO_CLOSE int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(close_dir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return -errno;
    (void)TAKE_FD(fd);
    AUTO_FREE uint64_t *firsts = NULL;
    size_t n = 0;
    for (struct dirent *entry; ((void)(errno = 0), entry = readdir(dir));) {
        uint64_t first;
        if (!segment_parse_name(entry->d_name, &first))
            continue;
        uint64_t *more = n < SEGMENTS_MAX ? reallocarray(firsts, n + 1, sizeof *more) : NULL;
        if (!more)
            return -ENOMEM;
        firsts = more;
        firsts[n++] = first;
    }
    if (errno != 0)
        return -EIO;
    if (n > 0)
        qsort(firsts, n, sizeof *firsts, compare_u64);
    *ret_firsts = TAKE(firsts);
    *ret_n = n;
    return 0;
}

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
    AUTO_FREE uint64_t *firsts = NULL;
    size_t n = 0;
    int error = list_segments(log->dirfd, &firsts, &n);
    for (size_t i = 0; error == 0 && i < n; i++)
        error = load_segment(log, firsts[i], i == n - 1);
    if (error < 0)
        return error;
    if (n > 0 && log->last < start_index)
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
    if (mkdirat(dirfd, "log", 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(dirfd, "log", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* The name "log" itself; the names in it are synced with the first entries. */
    if (fsync(dirfd) < 0) {
        (void)close(fd);
        return -EIO;
    }
    return fd;
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
