/* fs/fuse/session.h — a mounted volume: the FUSE low-level session over struct volume.
 *
 * Threads: libfuse's workers (plain reads of one /dev/fuse descriptor; no clone_fd, no io_uring: both would end the
 * mount with its daemon). A node id is inode number + (content generation << INO_BITS); st_ino is the inode number.
 * Names changed by others reach the kernel by FUSE_NOTIFY_INC_EPOCH, which takes no lock; attributes by inval_inode
 * without a range. Without epochs in the kernel (< 6.16) names are not cached on a volume with other replicas.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/volume/volume.h"

struct ledger;
struct session;

/* A mount that somebody else keeps. Both stay the caller's, and outlive the session. */
struct session_mount {
    int fd; /* of /dev/fuse, mounted at the mountpoint */
    struct ledger *ledger;
};

struct session_options {
    const char *mountpoint;            /* exists, is a directory */
    const char *name;                  /* shown as the source in /proc/mounts: whiskfs:NAME */
    bool passthrough;                  /* where kernel and library can */
    unsigned max_threads;              /* 0: 64 */
    const struct session_mount *mount; /* NULL: mounts by itself, and unmounts at the end */
};

/* Counted where bytes are served; page cache hits and passed-through I/O are the kernel's and not seen here. */
struct session_counters {
    _Atomic uint64_t opens_passthrough, opens_cached;
    _Atomic uint64_t read_bytes, read_requests, write_bytes, write_requests;
    _Atomic uint64_t wait_ns; /* time that requests waited for other hosts */
    _Atomic uint64_t requests;
    _Atomic uint64_t errors; /* that were not the caller's doing: logged, now and then */
};

/* Mounts and serves on threads of its own. A stale mount of a dead daemon at the mountpoint is unmounted first. A mount
 * whose ledger says that a daemon served it before is resumed: what is open goes on, what had been asked is asked again.
 * -EPROTO: it cannot be: it is of another volume, or of a daemon that negotiated something else (logged). */
MUST_USE int session_start(struct volume *volume, const struct session_options *options,
                           struct session **ret_session);
/* Unmounts (lazily when busy; a mount of somebody else's is unmounted already), waits until requests in flight are
 * answered, joins. */
void session_stop(struct session *session);
/* Answers what is in flight and lets go of a mount that somebody else keeps, for the next daemon. */
void session_leave(struct session *session);
/* Makes the kernel ask again for all names of a mount, and for the attributes of what is open there. Before a daemon that
 * takes it over says to other hosts that it has seen what they changed meanwhile. */
void session_mount_expire(const struct session_mount *mount);
const struct session_counters *session_counters(const struct session *session);
/* Its mount is gone: nothing is asked of it any more. */
bool session_has_ended(const struct session *session);
bool session_has_passthrough(const struct session *session);
/* Tells the content's image how much may be written (fs/store/image.h); where there is none, nothing. Now and then:
 * what other hosts publish, and what disks have left, changes it. */
void session_balance(struct session *session);
/* Another host joined or left: what the kernel cached without limit is made to ask again. */
void session_expire(struct session *session);
