/* The log: every segment, every entry; and the checkpoints, which carry a checksum. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/fsck/impl.h"
#include "fs/log/log.h"
#include "fs/log/segment.h"
#include "fs/request.h"
#include "fs/tree/tree.h"
#include "fs/volume/impl.h"
#include "proto/base/cleanup.h"

static int read_file(int dirfd, const char *name, uint8_t **ret_bytes, size_t *ret_size)
{
    struct stat st;
    AUTO_CLOSE int fd = disk_open(dirfd, name, O_RDONLY | O_NOFOLLOW);
    int error = fd < 0 ? fd : disk_stat(fd, &st);
    if (error < 0)
        return error;
    AUTO_FREE uint8_t *bytes = malloc((size_t)st.st_size + 1);
    if (!bytes)
        return -ENOMEM;
    int64_t n = disk_read(fd, bytes, (size_t)st.st_size, 0);
    if (n < 0)
        return (int)n;
    *ret_bytes = TAKE(bytes);
    *ret_size = (size_t)n;
    return 0;
}

static bool is_change(const struct log_entry *entry)
{
    struct reader r = reader_over(entry->payload.data, entry->payload.size);
    struct change change;
    return get_change(&r, &change) == 0 && change.index == entry->index;
}

/* Walks whole entries; *ret_next is the index after the last of them. */
static void check_entries(struct fsck *f, const char *name, struct span file, uint64_t first,
                          uint64_t *ret_next)
{
    struct reader r = reader_over(file.data, file.size);
    uint64_t next = first;
    for (;;) {
        struct log_entry entry;
        size_t at = (size_t)(r.at - file.data);
        int error = log_entry_get(&r, &entry);
        if (error == -ENODATA)
            break;
        if (error < 0 || entry.index != next || !is_change(&entry)) {
            fsck_found(
                f, "log/%s: entry %" PRIu64 " at offset %zu is damaged or was not written whole",
                name, next, at);
            f->is_log_sound = false;
            break;
        }
        next++;
    }
    *ret_next = next;
}

static int check_segment(struct fsck *f, int logfd, uint64_t first)
{
    char name[SEGMENT_NAME_BYTES];
    AUTO_FREE uint8_t *bytes = NULL;
    size_t size = 0;
    segment_name(first, name);
    int error = read_file(logfd, name, &bytes, &size);
    if (error == -EIO) {
        fsck_found(f, "log/%s: cannot be read", name);
        f->is_log_sound = false;
        return 0;
    }
    if (error < 0)
        return error;
    if (f->first == 0)
        f->first = first;
    else if (f->last + 1 != first && f->is_log_sound) {
        fsck_found(f, "log: entries %" PRIu64 " to %" PRIu64 " are missing", f->last + 1,
                   first - 1);
        f->is_log_sound = false;
    }
    uint64_t next;
    check_entries(f, name, (struct span){bytes, size}, first, &next);
    f->last = next - 1;
    return 0;
}

int fsck_log(struct fsck *f)
{
    AUTO(segment_list_done) struct segment_list list = {.max = SIZE_MAX};
    AUTO_CLOSE int logfd = directory_open(f->dirfd, "log");
    int error = logfd < 0 ? logfd : segment_list_read(&list, logfd);
    if (error < 0)
        return error;
    f->is_log_sound = true;
    if (list.n == 0)
        fsck_found(f, "log: there is no segment");
    for (size_t i = 0; error == 0 && i < list.n; i++)
        error = check_segment(f, logfd, list.firsts[i]);
    return error;
}

/* ---- checkpoints ---- */

int fsck_checkpoints(struct fsck *f)
{
    char name[CHECKPOINT_NAME_BYTES];
    uint64_t said = 0;
    AUTO_CLOSE int dirfd = directory_open(f->dirfd, "checkpoint");
    if (dirfd == -ENOENT)
        dirfd = -1;
    int error = dirfd < 0 ? 0 : checkpoint_newest(dirfd, &f->checkpoint);
    if (error < 0)
        return error;
    f->is_checkpoint_sound = true;
    if (f->checkpoint > 0) {
        checkpoint_name(f->checkpoint, name);
        AUTO_CLOSE int fd = disk_open(dirfd, name, O_RDONLY | O_NOFOLLOW);
        error = fd < 0 ? fd : tree_check_copy(fd, &said);
        f->is_checkpoint_sound = error == 0 && said == f->checkpoint;
    }
    if (!f->is_checkpoint_sound)
        fsck_found(f, "checkpoint/%s is damaged", name);
    if (f->first > f->checkpoint + 1) {
        fsck_found(f, "the log begins at entry %" PRIu64 " and no checkpoint reaches it", f->first);
        f->is_checkpoint_sound = false;
    }
    return error == -EBADMSG || error == -EIO ? 0 : error;
}
