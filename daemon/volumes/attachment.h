/* daemon/volumes/attachment.h — one volume on this host: its replication, its volume and its mount.
 *
 * Not locked: volumes.c lets one operation at a time change it, while any number of threads use it through
 * attachment_frame, _conn_closed, _expire, _volume and the status functions.
 */
#pragma once

#include "daemon/mountd/link.h"
#include "daemon/replica/replica.h"
#include "daemon/volumes/directory.h"

struct attachment;
struct volume_status;

struct attachment_options {
    const struct replica_env *env;
    const char *self; /* this host's name */
    const struct volume_directories *directories;
    const char *mount;             /* volumes are mounted at MOUNT/NAME */
    struct mount_link *mount_link; /* who keeps mounts; NULL: nobody */
    bool passthrough, image;
};

/* home NULL: nobody is joined at, the volume is here. */
MUST_USE int attachment_new(const struct attachment_options *options, const char *name,
                            const struct member_host *home, struct attachment **ret_attachment);
/* Unmounts, stops and closes whatever has been begun. */
void attachment_free(struct attachment *attachment);

/* What is here; most often as its home. */
MUST_USE int attachment_open(struct attachment *attachment, int64_t deadline_ns);
/* The home ends what its earlier sessions left; settled by members, so frames must reach it by then. */
MUST_USE int attachment_resume(struct attachment *attachment);
MUST_USE int attachment_join(struct attachment *attachment, int64_t deadline_ns); /* as replica */
/* Mounts, or goes on with the mount that a daemon before has left; nothing to do when it is mounted. */
MUST_USE int attachment_mount(struct attachment *attachment);
/* -EBUSY: files are open, unless forced. */
MUST_USE int attachment_unmount(struct attachment *attachment, bool is_forced);
/* After unmounting: changes elsewhere wait for this host no more. */
void attachment_demote(struct attachment *attachment);
/* Lets go of the mount for the next daemon. False: nobody would keep it. */
MUST_USE bool attachment_leave_mount(struct attachment *attachment);
/* True if other hosts depend on this one: it is the home, keeps content, or has content to be published. */
bool attachment_is_needed(struct attachment *attachment);

struct volume *attachment_volume(struct attachment *attachment); /* NULL while it is being joined */
void attachment_frame(struct attachment *attachment, struct conn *conn, const struct frame *frame);
void attachment_conn_closed(struct attachment *attachment, struct conn *conn);
/* See replica.h. */
void attachment_hear(struct attachment *attachment, uint64_t epoch, struct host_id home);
MUST_USE int attachment_take_home(struct attachment *attachment, may_take_f *may_take, void *ctx);
void attachment_balance(struct attachment *attachment);
void attachment_expire(struct attachment *attachment);
void attachment_replica_status(struct attachment *attachment, struct replica_status *ret_status);
void attachment_status(struct attachment *attachment, struct volume_status *ret_status);
