/* daemon/volumes/volumes.h — the volumes of this host: made, attached, mounted, followed, served, removed.
 *
 * STATE/volumes/NAME is one volume; its file `home` holds the name of the host that orders its changes. A volume
 * whose home is this host is served from start to end of the daemon; others are attached when asked for, and again
 * after a restart. Operations on one volume exclude each other; a `maintenance` thread attaches what must be attached
 * again and takes away what its home has removed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/membership.h"
#include "daemon/net/peers.h"
#include "daemon/replica/env.h"
#include "fs/fuse/session.h"
#include "fs/volume/volume.h"

struct volumes;

struct volumes_options {
    const char *self; /* this host's name */
    const char *state, *mount;
    const char *mountd; /* where whiskfs-mountd listens; NULL: mounts end with this process */
    bool autofs;        /* `mount` is to be an autofs: needs mountd */
    struct peers *peers;
    struct membership *membership;
    bool passthrough;
    bool image; /* content lies in images */
    uint64_t default_limit_bytes;
    uint64_t default_limit_inodes; /* 0: in proportion to the bytes */
};

MUST_USE int volumes_new(const struct volumes_options *options, struct volumes **ret_volumes);
/* The transfer engine looks volumes up here, and volumes fetch through it: it is given after both exist. */
void volumes_set_transfer(struct volumes *volumes, struct transfer *transfer);
/* Registers the handlers of JOIN … FORWARD and VOLUME_QUERY. Before peers_start. */
void volumes_handle_frames(struct volumes *volumes);
/* Opens what is in STATE/volumes: own volumes before it returns, others in the background. */
MUST_USE int volumes_start(struct volumes *volumes);
/* Unmounts, or leaves the mounts to whiskfs-mountd for the next daemon; closes, joins. Frames are refused from now on. */
void volumes_stop(struct volumes *volumes);
void volumes_free(struct volumes *volumes);

/* Checks a volume's name: 1-200 bytes of [A-Za-z0-9._@-], begins with a letter or digit: what a namespace of OpenWhisk may
 * be called, less blanks and '&'. -EINVAL. */
MUST_USE int volume_name_check(const char *name);

/* Makes a volume whose home is this host, and mounts it. -EEXIST here or elsewhere. limit 0: the default. */
MUST_USE int volumes_create(struct volumes *volumes, const char *name,
                            const struct volume_genesis *genesis);
/* Idempotent; returns when the volume is mounted, at most at the deadline. -ENOENT: nobody knows it;
 * -EHOSTUNREACH: its home is silent; -ETIMEDOUT. */
MUST_USE int volumes_attach(struct volumes *volumes, const char *name, int64_t deadline_ns);
/* Makes the volume here unless it exists anywhere, then attaches. */
MUST_USE int volumes_attach_or_create(struct volumes *volumes, const char *name,
                                      int64_t deadline_ns);
/* Unmounts. A replica that keeps no content leaves its home and forgets the volume; one that keeps content goes on
 * serving it. -ENOENT: not attached. -EBUSY: open files, unless force. */
MUST_USE int volumes_detach(struct volumes *volumes, const char *name, bool force);
/* At the home only (-EREMOTE). -EBUSY: members or open files here, unless force. */
MUST_USE int volumes_remove(struct volumes *volumes, const char *name, bool force);

/* The volume has served its time. The home removes it when nobody uses it on any host; another host lets go of it when nobody
 * uses it there. 0: removed. -EREMOTE: not in use here. -EBUSY: in use. */
MUST_USE int volumes_retire(struct volumes *volumes, const char *name, int64_t deadline_ns);

/* At the home only (-EREMOTE). -EBUSY: open files here, or members elsewhere. -EEXIST: the new name is taken. A learner
 * follows: its mount appears under the new name. Killed at any moment, the volume has one of the names. */
MUST_USE int volumes_rename(struct volumes *volumes, const char *name, const char *new_name);

/* Why a host does not become the home of a volume. */
enum obstacle {
    OBSTACLE_NONE,
    OBSTACLE_HOME,   /* the home answers */
    OBSTACLE_NEWER,  /* that host has entries that this one lacks */
    OBSTACLE_SILENT, /* that host does not answer: it may be the home, or have such entries */
    OBSTACLE_BACK    /* the home came back meanwhile */
};
struct obstacles {
    enum obstacle kind;
    char host[HOST_NAME_MAX_BYTES + 1]; /* OBSTACLE_SILENT: the first of n_silent */
    unsigned n_silent;
};
/* This host becomes the home of a volume whose home is lost. -EALREADY: it is; -ENOENT: not attached here; -EPERM: see
 * *ret_obstacles. is_forced: hosts that are silent are no obstacle. What they have, and this host lacks, is put aside when they
 * are back (saved.h). Takes as long as the longest lease. */
MUST_USE int volumes_take_home(struct volumes *volumes, const char *name, bool is_forced,
                               struct obstacles *ret_obstacles);
struct saved;
/* What was put aside on this host. Copies at most max; returns how many there are. */
int volumes_saved(struct volumes *volumes, struct saved *ret_saved, int max);

/* Sets new limits; 0: as it is. At the home only (-EREMOTE). -EDQUOT: more is in use. */
MUST_USE int volumes_resize(struct volumes *volumes, const char *name, uint64_t limit_bytes,
                            uint64_t limit_inodes);
/* Whether set-id programs and device files have an effect, from the next mount on each host. At the home only (-EREMOTE). */
enum choice {
    CHOICE_AS_IT_IS,
    CHOICE_ON,
    CHOICE_OFF
};
MUST_USE int volumes_set_effects(struct volumes *volumes, const char *name, enum choice suid,
                                 enum choice dev);
/* Tells all images what may be written to them (session_balance). */
void volumes_balance(struct volumes *volumes);

/* An open volume by name, or NULL; put it soon: stopping waits for it. */
struct volume *volumes_find(void *volumes, const char *name);
void volumes_put(void *volumes, struct volume *volume);
/* False: the volume is to be closed. Who works on it for long asks now and then, and puts it soon. */
bool volumes_is_wanted(struct volumes *volumes, const char *name);

/* Where the logs of the open volumes stand. Copies at most max; returns how many there are. */
struct volume_position {
    char name[VOLUME_NAME_MAX_BYTES + 1];
    uint64_t applied;
};
int volumes_positions(struct volumes *volumes, struct volume_position *ret_positions, int max);
/* Of all, *ret_n of them; freed by the caller. NULL, with *ret_n 0: no memory. */
struct volume_position *volumes_all_positions(struct volumes *volumes, int *ret_n);

struct volume_status {
    char name[VOLUME_NAME_MAX_BYTES + 1];
    char home[HOST_NAME_MAX_BYTES + 1];
    char mountpoint[512];
    bool is_mounted, has_passthrough;
    bool is_image; /* the kernel holds the limit */
    bool is_kept;  /* the mount outlives this daemon */
    struct replica_status replica;
    struct tree_usage usage;
    uint64_t applied, durable, log_first;
    int64_t born_ns; /* 0: it is not open yet */
    uint64_t sealed; /* files, since the volume was opened */
    struct scrub_status scrub;
    uint64_t damaged; /* blocks that this host keeps: see store_damage */
    uint64_t reads_bytes, read_requests, writes_bytes, write_requests, wait_ns;
    uint64_t opens_passthrough, opens_cached, requests, errors;
};
MUST_USE int volumes_status(struct volumes *volumes, const char *name,
                            struct volume_status *ret_status);
/* Whether naming a volume attaches it. */
bool volumes_has_autofs(struct volumes *volumes);
struct access_counters {
    uint64_t attached, failed; /* first accesses */
};
void volumes_access_counters(const struct volumes *volumes, struct access_counters *ret_counters);
/* Copies at most max; returns how many volumes are attached here. */
int volumes_list(struct volumes *volumes, struct volume_status *ret_list, int max);
