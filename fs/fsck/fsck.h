/* fs/fsck/fsck.h — checks the directory of a volume that nobody has open, and the store of one that is open.
 *
 * Log, checkpoint, state and maps of content are each compared with their checksums and with one another: the state must be
 * what the checkpoint and the log make, its inodes and names must agree, and what this host keeps must lie in the store.
 * Files that are sealed (fs/store/seal.h) are read and compared with their seals. Copies of what other hosts keep have none.
 */
#pragma once

#include <stdbool.h>

#include "fs/identity.h"
#include "proto/base/check.h"

/* One sentence for each finding, and for each repair. */
typedef void fsck_say_f(void *ctx, const char *sentence);

struct fsck_options {
    const char *directory; /* STATE/volumes/NAME */
    struct host_id self;
    /* Puts aside, into lost+found, what can be made again: a bad state, bad copies of other hosts' content, orphans. */
    bool repairs;
    fsck_say_f *say;
    void *ctx;
};

struct fsck_result {
    unsigned n_found, n_repaired;
};

/* May not run beside other threads: it forks. -EBUSY: it is open; -ENOENT: no volume is there. */
MUST_USE int fsck_volume(const struct fsck_options *options, struct fsck_result *ret_result);

/* The store of an open volume, while it is used: what is looked at may change at any moment, so what seems wrong is looked at
 * again, under the volume's lock and when what was removed has gone, and is found only if it is wrong each time. What
 * somebody has open is left out. Blocks are the scrub's (fs/volume/scrub.h); the log, the checkpoint and the state are checked
 * by fsck_volume of a snapshot (fs/volume/snapshot.h). options->directory is not used. -ETIMEDOUT: removals do not end. */
struct volume;
MUST_USE int fsck_live_store(struct volume *volume, const struct fsck_options *options,
                             struct fsck_result *ret_result);
