/* fs/source.h — what a volume needs from the world above it: other hosts.
 *
 * `fs` knows nothing of peers or Kafka; the daemon implements this table per volume. A volume without a source is
 * alone: it is its own home and nothing is ever missing. Every call that waits is bounded by its deadline.
 */
#pragma once

#include <stdint.h>

#include "fs/log/log.h"
#include "fs/request.h"
#include "fs/store/store.h"

#define FOREVER_NS INT64_MAX

struct source {
    const struct source_ops *ops;
};

struct source_ops {
    /* Not the home: sends request to the home and waits until it has been decided and, if it led to an entry,
     * applied here (volume_applied() >= outcome.index). Retries with the same identity over reconnects.
     * 0: *ret_outcome is the home's answer. -EIO at the deadline: the log line says which host was silent. -EREMOTE:
     * this host has become the home. */
    int (*forward)(struct source *source, const struct request *request, int64_t deadline_ns,
                   struct outcome *ret_outcome);
    /* The home: entry was appended and applied. Called under the volume's lock, in index order; must not block. */
    void (*appended)(struct source *source, const struct log_entry *entry);
    /* The home: returns when every member has applied index and its kernel cannot show older state, or its lease
     * has ended. -EIO at the deadline. */
    int (*settle)(struct source *source, uint64_t index, int64_t deadline_ns);
    /* Before the volume answers its kernel: becomes a member if it is a learner; waits, bounded, for a lease.
     * *ret_valid_ns: how long from now the kernel may cache names and attributes; FOREVER_NS: this host alone has
     * the volume. -EIO: no lease. */
    int (*admit)(struct source *source, int64_t *ret_valid_ns);
    /* Brings blocks [first, first + n) of content here: content_fill for each, checked, then 0.
     * A block is never fetched twice at a time on this host: joins a fetch under way. */
    int (*fetch)(struct source *source, struct content *content, uint64_t first, uint64_t n,
                 enum fetch_class class, int64_t deadline_ns);
    /* Somebody reads blocks [first, first + n) of content, and they are here: what follows them may be drawn ahead. A drawn
     * content that is complete: somebody opens it, and what lies beside it may be drawn ahead. Waits for no other host. May be NULL. */
    void (*reading)(struct source *source, struct content *content, uint64_t first, uint64_t n);
};
