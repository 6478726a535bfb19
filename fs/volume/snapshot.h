/* fs/volume/snapshot.h — what an open volume's log, checkpoint and state are at one moment, as a directory for fsck.
 *
 *     log/ checkpoint/   closed segments and the newest checkpoint, by links; the last segment as a copy up to its last entry
 *     state/             a copy of the state
 *
 * No change waits for it but for the moment in which the last segment's size is taken. Meanwhile no checkpoint is written.
 */
#pragma once

#include "proto/base/check.h"

#define SNAPSHOT_DIRECTORY                                                                         \
    "fsck.snapshot" /* in the volume's; what a kill leaves of it goes at the next open */

struct volume;

/* Makes SNAPSHOT_DIRECTORY; what was there is removed before. One at a time. -EBADMSG, -EIO: the state cannot be read. */
MUST_USE int volume_snapshot(struct volume *volume);
MUST_USE int volume_snapshot_remove(struct volume *volume);
