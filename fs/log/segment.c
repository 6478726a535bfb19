#include "fs/log/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/disk/disk.h"
#include "fs/log/entry.h"
#include "proto/base/log.h"

#define SCAN_BYTES 4096
#define HOLE_BYTES 512 /* what a power cut leaves out is whole sectors, read as zeros */

void segment_name(uint64_t first, char ret_name[static SEGMENT_NAME_BYTES])
{
    (void)snprintf(ret_name, SEGMENT_NAME_BYTES, "%016" PRIx64 ".log", first);
}

bool segment_parse_name(const char *name, uint64_t *ret_first)
{
    uint64_t first;
    char again[SEGMENT_NAME_BYTES];
    if (sscanf(name, "%16" SCNx64, &first) != 1)
        return false;
    segment_name(first, again);
    if (first == 0 || strcmp(name, again) != 0)
        return false;
    *ret_first = first;
    return true;
}

struct segment *segment_ref(struct segment *segment)
{
    atomic_fetch_add(&segment->references, 1);
    return segment;
}

static void segment_free(struct segment *segment)
{
    if (!segment)
        return;
    close_fd(&segment->fd);
    free(segment);
}
DEFINE_FREEP(segment, struct segment)

void segment_unref(struct segment *segment)
{
    if (atomic_fetch_sub(&segment->references, 1) == 1)
        segment_free(segment);
}

static int segment_new(int dirfd, uint64_t first, int flags, struct segment **ret_segment)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(first, name);
    AUTO(segment_freep) struct segment *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    atomic_init(&s->references, 1);
    s->first = first;
    s->fd = disk_open(dirfd, name, O_RDWR | flags);
    if (s->fd < 0)
        return s->fd == -EDQUOT ? -ENOSPC : s->fd;
    *ret_segment = TAKE(s);
    return 0;
}

void segment_list_done(struct segment_list *list)
{
    free(list->firsts);
}

static int add_first(void *ctx, const char *name)
{
    struct segment_list *list = ctx;
    uint64_t first;
    if (!segment_parse_name(name, &first))
        return 0;
    uint64_t *firsts =
        list->n < list->max ? reallocarray(list->firsts, list->n + 1, sizeof *firsts) : NULL;
    if (!firsts)
        return -ENOMEM;
    list->firsts = firsts;
    firsts[list->n++] = first;
    return 0;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int segment_list_read(struct segment_list *list, int dirfd)
{
    int error = disk_list(dirfd, add_first, list);
    if (error == 0 && list->n > 0)
        qsort(list->firsts, list->n, sizeof *list->firsts, compare_u64);
    return error;
}

int segment_make(int dirfd, uint64_t first, struct segment **ret_segment)
{
    return segment_new(dirfd, first, O_CREAT | O_EXCL, ret_segment);
}

void segment_count(struct segment *s, uint32_t size)
{
    if (s->n % SEGMENT_STRIDE == 0)
        s->marks[s->n / SEGMENT_STRIDE] = s->size;
    s->n++;
    s->size += size;
}

int segment_write(struct segment *s, struct span bytes)
{
    int error = disk_write(s->fd, bytes.data, bytes.size, s->size);
    if (error == 0)
        return 0;
    /* What is left behind if this fails too is overwritten by the next entry or cut off at open. */
    (void)!disk_truncate(s->fd, s->size);
    s->allocated = s->size;
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG ? -ENOSPC : -EIO;
}

int segment_allocate(struct segment *s, uint32_t ahead)
{
    if (s->allocated >= s->size + ahead)
        return 0;
    int error = disk_allocate(s->fd, FALLOC_FL_KEEP_SIZE, s->size, ahead);
    if (error < 0 && error != -EOPNOTSUPP)
        return error == -EDQUOT ? -ENOSPC : error;
    s->allocated = s->size + ahead;
    return 0;
}

void segment_release(struct segment *s)
{
    (void)!disk_truncate(s->fd, s->size);
    s->allocated = s->size;
}

/* ---- finding an entry ---- */

int segment_seek(struct segment *s, uint64_t index, uint64_t at_index, uint32_t at_offset,
                 uint32_t *ret_offset)
{
    uint8_t buffer[SCAN_BYTES];
    struct span have = {.data = buffer, .size = 0};
    while (at_index < index) {
        uint32_t size;
        uint64_t found;
        if (have.size < LOG_HEADER_BYTES) {
            int64_t n = disk_read(s->fd, buffer, sizeof buffer, at_offset);
            if (n < 0)
                return -EIO;
            have = (struct span){.data = buffer, .size = (size_t)n};
        }
        int error = log_header_get(have, &size, &found);
        if (error < 0 || found != at_index)
            return -EBADMSG;
        at_index++;
        at_offset += size;
        size_t step = MIN((size_t)size, have.size);
        have = (struct span){.data = have.data + step, .size = have.size - step};
    }
    *ret_offset = at_offset;
    return 0;
}

/* ---- loading ---- */

/* Is there a whole entry anywhere behind offset? Then what is at offset was not the torn end. */
static bool has_entry_after(struct span file, size_t offset, uint64_t index)
{
    for (size_t at = offset + 1; at + LOG_HEADER_BYTES <= file.size; at++) {
        struct reader r = reader_over(file.data + at, file.size - at);
        uint32_t size;
        uint64_t found;
        struct log_entry entry;
        if (log_header_get((struct span){r.at, reader_left(&r)}, &size, &found) < 0)
            continue;
        if (found >= index && found - index <= file.size / LOG_HEADER_BYTES &&
            log_entry_get(&r, &entry) == 0)
            return true;
    }
    return false;
}

/* A power cut writes the sectors of the unsynced end in any order, and each as it was at some moment: one that is left out
 * reads as zeros, from where the file ended then. Zeros from the damage to the end of its sector, or a whole sector of
 * them, tell it from a bit that flipped in what was written. */
static bool has_hole_at(struct span file, size_t offset)
{
    size_t at = (offset + HOLE_BYTES - 1) / HOLE_BYTES * HOLE_BYTES;
    size_t end = MIN(file.size, offset + LOG_ENTRY_BYTES_MAX);
    static const uint8_t zeros[HOLE_BYTES];
    if (memcmp(file.data + offset, zeros, MIN(at, file.size) - offset) == 0 && at > offset)
        return true;
    struct reader r = reader_over(file.data + offset, file.size - offset);
    uint32_t size;
    uint64_t index;
    if (log_header_get((struct span){r.at, reader_left(&r)}, &size, &index) == 0)
        end = MIN(end, offset + size);
    else
        end = MIN(end, at + HOLE_BYTES);
    for (; at < end; at += HOLE_BYTES)
        if (memcmp(file.data + at, zeros, MIN(HOLE_BYTES, file.size - at)) == 0)
            return true;
    return false;
}

static int cut_tail(struct segment *s, struct span file)
{
    uint64_t index = s->first + s->n;
    char name[SEGMENT_NAME_BYTES];
    segment_name(s->first, name);
    if (has_entry_after(file, s->size, index) && !has_hole_at(file, s->size))
        return -EBADMSG;
    log_warning("log",
                "cut the torn end off %s: entry %" PRIu64 " was not written whole offset=%" PRIu32
                " bytes=%zu",
                name, index, s->size, file.size - s->size);
    return disk_truncate(s->fd, s->size) < 0 ? -EIO : 0;
}

/* Counts the whole entries from the start of the file. -EBADMSG at the first that is not. */
static int scan(struct segment *s, struct span file)
{
    struct reader r = reader_over(file.data, file.size);
    for (;;) {
        struct log_entry entry;
        int error = log_entry_get(&r, &entry);
        if (error == -ENODATA)
            return 0;
        if (error < 0)
            return error;
        if (entry.index != s->first + s->n)
            return -EBADMSG;
        segment_count(s, (uint32_t)entry.bytes.size);
    }
}

static int damaged(const struct segment *s)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(s->first, name);
    log_error("log", "segment %s is damaged at entry %" PRIu64 " offset=%" PRIu32, name,
              s->first + s->n, s->size);
    return -EBADMSG;
}

int segment_load(int dirfd, uint64_t first, bool is_last, struct segment **ret_segment)
{
    AUTO(segment_freep) struct segment *s = NULL;
    int error = segment_new(dirfd, first, 0, &s);
    if (!s)
        return error;
    struct stat st;
    if (disk_stat(s->fd, &st) < 0)
        return -EIO;
    if (st.st_size > SEGMENT_BYTES_MAX)
        return damaged(s);
    AUTO_FREE uint8_t *buffer = malloc((size_t)st.st_size + 1);
    if (!buffer)
        return -ENOMEM;
    struct span file = {.data = buffer, .size = (size_t)st.st_size};
    if (disk_read(s->fd, buffer, file.size, 0) != (int64_t)file.size)
        return -EIO;
    error = scan(s, file);
    if (error == -EBADMSG && is_last)
        error = cut_tail(s, file);
    if (error == -EBADMSG)
        return damaged(s);
    if (error < 0)
        return error;
    *ret_segment = TAKE(s);
    return 0;
}
