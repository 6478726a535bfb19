/* fs/log/segment.h — one segment file of the log, and where its entries are. Private to the log.
 *
 * A segment is counted: a reader or a sync keeps the file open while log_trim unlinks it.
 * `marks` holds the offset of every SEGMENT_STRIDE-th entry, so finding one reads at most that many headers.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/log/log.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"

#define SEGMENT_STRIDE 32
#define SEGMENT_BYTES_MAX (LOG_SEGMENT_BYTES + LOG_ENTRY_BYTES_MAX)
#define SEGMENT_MARKS (SEGMENT_BYTES_MAX / LOG_HEADER_BYTES / SEGMENT_STRIDE + 1)
#define SEGMENT_NAME_BYTES 21 /* 16 digits, ".log", NUL */

struct segment {
    int fd;
    uint64_t first; /* index of its first entry, also its name */
    atomic_uint references;
    /* Under the log's lock; the appending thread alone changes them. */
    uint64_t n;    /* entries */
    uint32_t size; /* bytes of whole entries */
    /* The appending thread's: the disk has given room up to here. */
    uint32_t allocated;
    uint32_t marks[SEGMENT_MARKS];
};

void segment_name(uint64_t first, char ret_name[static SEGMENT_NAME_BYTES]);
/* False for a file that is no segment's. */
MUST_USE bool segment_parse_name(const char *name, uint64_t *ret_first);

/* The first indexes of the segments in a directory, in order. max: -ENOMEM if there are more. */
struct segment_list {
    size_t max;
    uint64_t *firsts;
    size_t n;
};
MUST_USE int segment_list_read(struct segment_list *list, int dirfd);
void segment_list_done(struct segment_list *list);

/* Makes an empty segment in the log's directory. -EEXIST, -ENOSPC, -EIO. */
MUST_USE int segment_make(int dirfd, uint64_t first, struct segment **ret_segment);

/* Opens a segment and checks every entry. is_last: a torn end is cut off. -EBADMSG, named in the log line. */
MUST_USE int segment_load(int dirfd, uint64_t first, bool is_last, struct segment **ret_segment);

struct segment *segment_ref(struct segment *segment);
void segment_unref(struct segment *segment);
static inline void segment_unrefp(struct segment **p)
{
    if (*p)
        segment_unref(*p);
}

/* An entry of size bytes now ends the segment. */
void segment_count(struct segment *segment, uint32_t size);

/* Writes an entry at the end, without counting it. On failure the file is as it was. -ENOSPC, -EIO. */
MUST_USE int segment_write(struct segment *segment, struct span bytes);

/* Makes sure of the disk's room for `ahead` bytes more. -ENOSPC, -EIO. */
MUST_USE int segment_allocate(struct segment *segment, uint32_t ahead);
/* It is closed: gives back the room behind its end. */
void segment_release(struct segment *segment);

/* Walks headers from an entry's offset on until index is found. -EIO, -EBADMSG. */
MUST_USE int segment_seek(struct segment *segment, uint64_t index, uint64_t at_index,
                          uint32_t at_offset, uint32_t *ret_offset);
