/* daemon/mountd/mounts.h — the mounts that outlive whiskfsd: made and unmounted here, their descriptors kept here.
 *
 *     mount ─► not served ── serve ──► served ── the daemon is gone ──► not served ── for too long ──► given up
 *
 * Nothing here walks a path below a mountpoint: that would be a request to whom this process must not wait for.
 * Single-threaded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/fuse/mount_page.h"
#include "proto/base/list.h"

#define MOUNTS_MAX 4096

struct mount {
    struct list link;
    int fuse_fd, ledger_fd;
    struct ledger_header
        *header; /* the ledger's first page: name, mountpoint, session, end of the lease */
    bool is_served;
    int64_t since_ns;         /* not served since then */
    int64_t expired_lease_ns; /* the end of a lease at which names were made to expire */
};

struct mounts {
    struct list all; /* in the order of their names */
    unsigned n;
};

void mounts_init(struct mounts *mounts);
/* The descriptors that systemd kept over a restart of this process. */
void mounts_adopt(struct mounts *mounts);
/* Unmounts everything, lazily where it is in use. */
void mounts_end(struct mounts *mounts);
/* Forgets without unmounting: systemd keeps the descriptors. False: it does not. */
bool mounts_hand_over(struct mounts *mounts);

struct mount *mounts_find(struct mounts *mounts, const char *name); /* or NULL */
struct mount *mounts_after(struct mounts *mounts, const char *name);
/* flags: MS_NOSUID, MS_NODEV of mount(2). -EEXIST, -ENFILE, and what mount(2) says. */
MUST_USE int mounts_make(struct mounts *mounts, const char *name, const char *mountpoint,
                         unsigned long flags, struct mount **ret_mount);
/* Takes the descriptors of a mount that a daemon serves. -EBADMSG, -ENODEV. */
MUST_USE int mounts_keep(struct mounts *mounts, int fuse_fd, int ledger_fd,
                         struct mount **ret_mount);
/* -EBUSY unless lazy. */
MUST_USE int mounts_unmount(struct mounts *mounts, struct mount *mount, bool is_lazy);

/* Below an autofs of this process: what is not in the table goes. */
void mounts_sweep(struct mounts *mounts, const char *path);
/* No daemon is connected any more. */
void mounts_abandon(struct mounts *mounts);
/* Lets names expire whose lease ends, gives up what was not served for timeout_ns. Returns in how many ms to look again;
 * -1: not by itself. */
int mounts_look(struct mounts *mounts, int64_t timeout_ns);
