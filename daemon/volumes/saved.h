/* daemon/volumes/saved.h — what only this host had of a volume when another home's log took the place of its own.
 *
 *     STATE/saved/VOLUME.FROM-LAST.CHECKSUM/
 *         about      "volume NAME", "entries N", "files N", "bytes N"; a line each
 *         changes    what those entries of the log did, one a line, for people
 *         entries    the entries themselves, as in the log
 *         files/     under their paths of then: what was made, and what this host wrote
 *         by-number/ the same of what had no name, or lay more than 12 directories deep
 *
 * Nobody merges it into the volume; it stays until the operator removes the directory. On the disk before the volume's
 * own copy is touched.
 */
#pragma once

#include "daemon/membership.h"
#include "fs/volume/volume.h"

struct saved_options {
    const char *directory; /* STATE/saved */
    const char *volume_name;
    struct volume *volume; /* open, and used by nobody else */
    uint64_t from;         /* the first entry that only this host may have */
    int checkpoint_fd;     /* of the volume that replaces it */
};

/* Puts aside and durably notes what the volume has from `from` on, and takes away from it the content that the volume of the
 * checkpoint does not have this host keep: it belongs to versions that the other log may give other content. Nothing is made
 * where there is nothing but housekeeping. -ENOSPC, -EIO: the volume is as it was. */
MUST_USE int saved_put(const struct saved_options *options);

#define SAVED_NAME_MAX 320
struct saved {
    char name[SAVED_NAME_MAX]; /* below STATE/saved */
    char volume[VOLUME_NAME_MAX_BYTES + 1];
    uint64_t entries, files, bytes;
};
/* Copies at most max; returns how many there are. */
int saved_list(const char *directory, struct saved *ret_saved, int max);
