/* fs/log/log.h — the metadata log: append-only, checksummed segments. The log is the truth.
 *
 * A directory of segments NNNNNNNNNNNNNNNN.log, named by their first index in hexadecimal. Indexes start at 1 and
 * have no gaps. An entry on disk, and on the wire to replicas:
 *
 *     u32 size of the whole entry | u32 reserved 0 | u64 index | u64 epoch | u64 checksum | payload
 *
 * checksum: XXH3-64 over the entry with this field zero. Appending leaves the entry in the page cache: it survives
 * the daemon, not a power cut; log_sync makes it durable, many callers with one fdatasync. Opening finds the end:
 * a torn last entry of the last segment is cut off; damage anywhere else is -EBADMSG and named in the log line.
 * Threads: appends by one thread at a time (the volume's lock); reads and syncs by any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/wire.h"

#define LOG_HEADER_BYTES 32
#define LOG_SEGMENT_BYTES (16u << 20)  /* a segment is closed at the first entry past this */
#define LOG_AHEAD_BYTES (1u << 20)     /* of the disk's room that the log keeps for itself */
#define LOG_ENTRY_BYTES_MAX (1u << 20) /* header included; a buffer this large holds any entry */

struct log;

/* For tests: segments end at the first entry past this instead. Before any log is opened. */
void log_set_segment_bytes(uint32_t bytes);

struct log_entry {
    uint64_t index, epoch, checksum;
    struct span payload;
    struct span bytes; /* the whole entry, header included: what goes to replicas */
};

/* Opens or makes the log in directory dirfd/"log". A new log starts after start_index (0, or a checkpoint's); so does
 * one that ends below start_index: all that it holds is in the checkpoint. */
MUST_USE int log_open(int dirfd, uint64_t start_index, struct log **ret_log);
void log_free(struct log *log);
DEFINE_FREEP(log, struct log)

uint64_t log_first(const struct log *log); /* lowest index held; last + 1 when empty */
uint64_t log_last(const struct log *log);
uint64_t log_durable(const struct log *log); /* at least this index is on stable storage */
/* Size of the segments that hold index or anything after it. */
uint64_t log_bytes_from(const struct log *log, uint64_t index);

/* Appends payload as index log_last() + 1 and returns the encoded entry, valid until the next append.
 * -ENOSPC, -EIO: nothing was appended. */
MUST_USE int log_append(struct log *log, uint64_t epoch, struct span payload,
                        struct log_entry *ret_entry);

/* False: the disk is full, and what was set aside for the log gets less: only what frees space should still be appended.
 * For the appending thread. */
bool log_has_room(struct log *log);

/* Appends an entry as a replica got it; its index must be log_last() + 1 (-EINVAL). */
MUST_USE int log_append_entry(struct log *log, const struct log_entry *entry);

/* Parses and checks one entry at the reader. -EBADMSG; -ENODATA at a clean end. */
MUST_USE int log_entry_get(struct reader *r, struct log_entry *ret_entry);

/* Reads whole entries from index on into buffer, as many as fit and at least one.
 * -ENOENT: below log_first(); -ENODATA: above log_last(); -ENOBUFS: buffer too small for that one entry. */
MUST_USE int log_read(struct log *log, uint64_t index, void *buffer, size_t size, size_t *ret_used);

/* The checksum that entry index carries: what two logs compare. Errors as log_read; -ENOMEM. */
MUST_USE int log_checksum(struct log *log, uint64_t index, uint64_t *ret_checksum);

/* Returns when everything up to index is on stable storage. Group commit. -EIO is sticky: see fsync(2). */
MUST_USE int log_sync(struct log *log, uint64_t index);

/* Deletes segments that hold only entries below index; never the one that is being appended to. */
MUST_USE int log_trim(struct log *log, uint64_t index);
