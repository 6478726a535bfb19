/* daemon/mountd/link.h — whiskfsd's side of whiskfs-mountd: mounts that it keeps for this daemon and the next one.
 *
 * Requests are made one at a time and end within seconds. A thread watches the connection: when whiskfs-mountd is gone the
 * mounts go on here, with the descriptors of this process, and are given back to it when it is there again.
 */
#pragma once

#include <stdbool.h>

#include "fs/fuse/session.h"

struct mount_link;

/* One mount, with descriptors of this process. */
struct kept_mount;

struct mount_link_options {
    const char *path; /* of the socket */
    /* A mount that was served was unmounted behind our back. On the link's thread, without locks. */
    void (*lost)(void *ctx, const char *name);
    /* The directory of the volumes, to be an autofs; NULL: a plain one. */
    const char *autofs;
    /* Somebody waits there for name: to be answered by mount_link_answer, once. On any thread that uses the link; must not
     * wait, nor use the link. */
    void (*accessed)(void *ctx, const char *name);
    void *ctx;
};

/* Without anybody at the socket the link is down, tries on, and says so. -EBUSY: another daemon is connected. */
MUST_USE int mount_link_new(const struct mount_link_options *options, struct mount_link **ret_link);
void mount_link_free(struct mount_link *link); /* whiskfs-mountd keeps what is mounted */
bool mount_link_is_up(struct mount_link *link);
/* Waits until it is up, a few seconds at most: an upgrade restarts both processes at once. */
MUST_USE bool mount_link_wait_up(struct mount_link *link);

/* Whether the directory is an autofs; stays so while the link is down. */
bool mount_link_has_autofs(struct mount_link *link);
/* 0: name is mounted; else why not. While the link is down nothing: who waits is told of again, or has failed. */
void mount_link_answer(struct mount_link *link, const char *name, int error);

/* A mount that a daemon before has left. -ENOENT: there is none. -ENOTCONN: the link is down. */
MUST_USE int mount_link_take(struct mount_link *link, const char *name,
                             struct kept_mount **ret_mount);
/* Mounts; set-id programs and device files have an effect where it is said. -ENOTCONN; -EHOSTDOWN: the link is down and only
 * whiskfs-mountd can mount there; -EEXIST, and what mount(2) says. */
MUST_USE int mount_link_mount(struct mount_link *link, const char *name, const char *mountpoint,
                              bool is_suid, bool is_dev, struct kept_mount **ret_mount);
/* Its requests are answered from now on. -ENOENT: it was given up meanwhile. */
MUST_USE int mount_link_serve(struct mount_link *link, struct kept_mount *mount);
/* Unmounts and frees; while the link is down by itself. -EBUSY unless lazy: it stays. */
MUST_USE int mount_link_unmount(struct mount_link *link, struct kept_mount *mount, bool is_lazy);
/* Frees without unmounting. */
void mount_link_leave(struct mount_link *link, struct kept_mount *mount);

int kept_mount_fuse_fd(const struct kept_mount *mount);
int kept_mount_ledger_fd(const struct kept_mount *mount);
