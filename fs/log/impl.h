/* fs/log/impl.h — private to the log: the table of segments, shared by its files. */
#pragma once

#include "fs/log/segment.h"
#include "proto/base/mutex.h"

#define SEGMENTS_MAX 4096 /* 64 GiB of log: checkpoints have failed for long */

struct log {
    int dirfd;
    /* The appending thread's: the entry being appended, and the segment it goes to. */
    uint8_t *scratch;
    struct segment *tail;

    struct mutex lock;
    struct cond synced;
    struct segment **segments; /* under lock, in index order, never empty */
    size_t n_segments;
    uint64_t last;
    uint64_t durable;
    bool is_syncing;  /* somebody is in fdatasync */
    bool dir_changed; /* a segment was made since the directory was synced */
    int error;        /* sticky: the kernel reports a failed write-back once and drops the pages */
};

/* The table takes over the reference. -ENOSPC: too many segments; -ENOMEM. */
MUST_USE int log_add_segment_locked(struct log *log, struct segment *segment) REQUIRES(log->lock);
/* Makes the segment that is appended to from now on. */
MUST_USE int log_make_segment(struct log *log, uint64_t first);
/* Unlinks and lets go of segments that are out of the table: oldest first, so that what a crash leaves has no gap. */
MUST_USE int log_remove_segments(struct log *log, struct segment **segments, size_t n);
