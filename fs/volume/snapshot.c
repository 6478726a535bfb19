#include "fs/volume/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/log/segment.h"
#include "fs/volume/impl.h"

#define COPY_BYTES (256u << 10)

/* ---- the checkpoint and the state ---- */

static int link_checkpoint(struct volume *volume, int dirfd, uint64_t index)
{
    char name[CHECKPOINT_NAME_BYTES];
    AUTO_CLOSE int to = directory_make(dirfd, "checkpoint");
    if (to < 0 || index == 0)
        return MIN(to, 0);
    checkpoint_name(index, name);
    return disk_link(volume->checkpointer.dirfd, name, to, name);
}

static int copy_state(struct volume *volume, int dirfd)
{
    uint64_t index;
    AUTO_CLOSE int to = directory_make(dirfd, TREE_DIRECTORY);
    return to < 0 ? to : tree_checkpoint(volume->tree, dirfd, TREE_FILE, &index);
}

/* ---- the log ---- */

struct segments {
    struct segment_list list;
    uint64_t last_bytes; /* of whole entries in the last one */
};

static void segments_done(struct segments *segments)
{
    segment_list_done(&segments->list);
}

/* Nothing is being appended while the volume's lock is held. */
static int look_at_log(struct volume *volume, int logfd, struct segments *segments)
{
    char name[SEGMENT_NAME_BYTES];
    struct stat st;
    SCOPED_LOCK(&volume->lock);
    int error = segment_list_read(&segments->list, logfd);
    if (error < 0 || segments->list.n == 0)
        return error;
    segment_name(segments->list.firsts[segments->list.n - 1], name);
    AUTO_CLOSE int fd = disk_open(logfd, name, O_RDONLY | O_NOFOLLOW);
    error = fd < 0 ? fd : disk_stat(fd, &st);
    if (error == 0)
        segments->last_bytes = (uint64_t)st.st_size;
    return error;
}

static int copy_bytes(int from, int to, uint64_t size)
{
    AUTO_FREE uint8_t *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return -ENOMEM;
    for (uint64_t at = 0; at < size;) {
        int64_t n = disk_read(from, buffer, MIN(size - at, (uint64_t)COPY_BYTES), at);
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        int error = disk_write(to, buffer, (size_t)n, at);
        if (error < 0)
            return error;
        at += (uint64_t)n;
    }
    return 0;
}

static int copy_last_segment(int logfd, int tofd, const char *name, uint64_t size)
{
    AUTO_CLOSE int from = disk_open(logfd, name, O_RDONLY | O_NOFOLLOW);
    AUTO_CLOSE int to =
        from < 0 ? from : disk_open(tofd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
    return to < 0 ? to : copy_bytes(from, to, size);
}

/* From the end on: what has been trimmed meanwhile is the beginning, which the checkpoint has. */
static int take_log(struct volume *volume, int dirfd)
{
    char name[SEGMENT_NAME_BYTES];
    AUTO(segments_done) struct segments segments = {.list = {.max = SIZE_MAX}};
    AUTO_CLOSE int logfd = directory_open(volume->dirfd, "log");
    AUTO_CLOSE int tofd = logfd < 0 ? logfd : directory_make(dirfd, "log");
    int error = tofd < 0 ? tofd : look_at_log(volume, logfd, &segments);
    for (size_t i = segments.list.n; error == 0 && i-- > 0;) {
        bool is_last = i + 1 == segments.list.n;
        segment_name(segments.list.firsts[i], name);
        error = is_last ? copy_last_segment(logfd, tofd, name, segments.last_bytes)
                        : disk_link(logfd, name, tofd, name);
    }
    return error == -ENOENT ? 0 : error;
}

int volume_snapshot(struct volume *volume)
{
    int error = volume_check(volume);
    if (error == 0)
        error = volume_snapshot_remove(volume);
    AUTO_CLOSE int dirfd = error < 0 ? error : directory_make(volume->dirfd, SNAPSHOT_DIRECTORY);
    if (dirfd < 0)
        return dirfd;
    uint64_t checkpoint = checkpointer_hold(volume);
    error = link_checkpoint(volume, dirfd, checkpoint);
    if (error == 0)
        error = copy_state(volume, dirfd);
    if (error == 0)
        error = take_log(volume, dirfd);
    checkpointer_release(volume);
    return error;
}

int volume_snapshot_remove(struct volume *volume)
{
    return directory_remove(volume->dirfd, SNAPSHOT_DIRECTORY);
}
