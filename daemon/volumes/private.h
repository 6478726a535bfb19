/* daemon/volumes/private.h — what the files of this folder share: the table of volumes and its entries. */
#pragma once

#include <stdatomic.h>

#include <uthash.h>

#include "daemon/mountd/protocol.h"
#include "daemon/volumes/attachment.h"
#include "daemon/volumes/directory.h"
#include "daemon/volumes/silence.h"
#include "daemon/volumes/volumes.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"

#define ATTACH_NS (8 * NS_PER_S)

enum errand {
    ERRAND_NONE,
    ERRAND_ATTACH,
    ERRAND_REATTACH,
    ERRAND_FORGET,
    ERRAND_RENAME, /* as its home did */
    ERRAND_SETTLE  /* membership may have another of its names */
};

/* Of hosts that make one volume at once each asks the others before it decides; the one with the lowest id goes on. */
enum making {
    MAKING_NOT,
    MAKING_ASKS,
    MAKING_YIELDED, /* to a host with a lower id */
    MAKING_DECIDED
};

/* A volume that this host knows about. */
struct entry {
    UT_hash_handle hh;
    char name[VOLUME_NAME_MAX_BYTES + 1];
    struct attachment *attachment;            /* or NULL: being attached, or waiting to be */
    unsigned n_users;                         /* of attachment; it goes only at 0 */
    bool is_busy;                             /* an operation is under way on it */
    bool is_closing;                          /* no new users */
    enum errand errand;                       /* for the maintenance thread */
    char new_name[VOLUME_NAME_MAX_BYTES + 1]; /* of ERRAND_RENAME */
    enum making making;
};

#define FIRST_ACCESSES_MAX 64 /* whiskfs-mountd tells of no more at a time */
#define FIRST_ACCESS_THREADS 4

/* Names that are waited for, in the order in which they came. */
struct first_accesses {
    pthread_t threads[FIRST_ACCESS_THREADS];
    unsigned n_threads;
    atomic_uint_least64_t n_attached, n_failed;

    struct mutex lock; /* leaf */
    struct cond changed;
    char names[FIRST_ACCESSES_MAX][MOUNTD_NAME_MAX + 1];
    unsigned first, n;
    bool is_stopping;
};

struct volumes {
    struct replica_env env;
    struct attachment_options attachments;
    struct mount_link *mount_link; /* NULL: nobody keeps mounts */
    struct first_accesses first_accesses;
    struct volume_directories directories;
    struct peers *peers;
    struct membership *membership;
    char *self;
    uint64_t default_limit_bytes, default_limit_inodes;
    pthread_t maintainer;
    bool has_maintainer;

    struct mutex lock;
    struct cond changed; /* entries, users, busy, errands, stopping */
    struct entry *entries;
    struct silences silences;
    bool is_stopping;
    unsigned n_renaming; /* directories of own volumes being renamed */
    uint64_t n_renamed;
};

/* ---- entries.c ---- */

struct entry *volumes_find_entry(struct volumes *volumes, const char *name) REQUIRES(volumes->lock);
struct entry *volumes_find_or_add(struct volumes *volumes, const char *name)
    REQUIRES(volumes->lock);
/* Begins an operation on name: nobody else's is under way until volumes_end. -ETIMEDOUT, -ESHUTDOWN, -EINVAL. */
MUST_USE int volumes_begin(struct volumes *volumes, const char *name, int64_t deadline_ns,
                           struct entry **ret_entry);
void volumes_end(struct volumes *volumes, struct entry *entry);
void volumes_show(struct volumes *volumes, struct entry *entry, struct attachment *attachment);
/* Takes the attachment out of sight and waits until nobody uses it. */
struct attachment *volumes_hide(struct volumes *volumes, struct entry *entry);
/* An entry whose attachment stays until volumes_unuse, or NULL. */
struct entry *volumes_use(struct volumes *volumes, const char *name);
void volumes_unuse(struct volumes *volumes, struct entry *entry);

/* ---- locate.c ---- */

/* Who is the home of a volume: this disk, membership, or the hosts themselves say. -ENOENT: nobody knows it;
 * -EHOSTUNREACH: a host that may know is silent. is_making: if nobody knows it, this host makes it. */
MUST_USE int volumes_locate(struct volumes *volumes, const char *name, bool is_making,
                            int64_t deadline_ns, char ret_home[HOST_NAME_MAX_BYTES + 1]);

/* Who could not be asked for that volume, or is its home, is worth waiting for: it has not been silent for long. */
bool volumes_may_pass(struct volumes *volumes, const char *name);

/* Of struct replica_env: the home that a replica knew is silent. */
int volumes_ask_around(void *volumes, const struct home_query *query, int64_t deadline_ns,
                       struct host_id *ret_home);

/* See volumes_take_home. The caller has begun an operation. */
MUST_USE int volumes_take_home_of(struct volumes *volumes, struct entry *entry, bool is_forced,
                                  struct obstacles *ret_obstacles);

/* ---- volumes.c; the caller has begun an operation ---- */

MUST_USE int volumes_attach_entry(struct volumes *volumes, struct entry *entry,
                                  int64_t deadline_ns);
void volumes_close_entry(struct volumes *volumes, struct entry *entry);
/* A moment, for another host. False: stopping, or no time left. */
MUST_USE bool volumes_wait_for_other(struct volumes *volumes, int64_t deadline_ns);
MUST_USE int volumes_open_as_home(struct volumes *volumes, struct entry *entry);
/* This host is about to give the entry's name to a volume, and nobody else has or does. Until volumes_unclaim. -EEXIST. */
MUST_USE int volumes_claim(struct volumes *volumes, struct entry *entry);
void volumes_unclaim(struct volumes *volumes, struct entry *entry);
MUST_USE int volumes_announce(struct volumes *volumes, const char *name, uint64_t limit_bytes);

/* ---- rename.c ---- */

/* Whether the volume, an own one, may have other names in membership. */
bool volumes_was_renamed(struct volumes *volumes, const char *name);
MUST_USE int volumes_settle_names(struct volumes *volumes, struct entry *entry);
/* A replica: the volume is called new_name at its home. -EBUSY, -EEXIST: something is here under that name. */
MUST_USE int volumes_follow_name(struct volumes *volumes, struct entry *entry,
                                 const char *new_name);
/* What this host, the home, calls the volume now that was born then and called `name` once. -ENOENT: no such volume;
 * -ENOTCONN: it may be one that is not open now. */
MUST_USE int volumes_find_renamed(struct volumes *volumes, const char *name, int64_t born_ns,
                                  char ret_name[VOLUME_NAME_MAX_BYTES + 1]);

/* ---- first_access.c ---- */

void first_accesses_init(struct first_accesses *accesses);
void first_accesses_done(struct first_accesses *accesses);
/* Of struct mount_link_options. */
void volumes_on_accessed(void *volumes, const char *name);
MUST_USE int volumes_start_first_accesses(struct volumes *volumes);
void volumes_stop_first_accesses(struct volumes *volumes);

/* ---- errands.c ---- */

void volumes_send_errand(struct volumes *volumes, const char *name, enum errand errand);
void *volumes_maintain(void *volumes); /* the maintenance thread */
/* Of struct replica_env. */
void volumes_on_expire(void *volumes, const char *name);
void volumes_on_gone(void *volumes, const char *name);
void volumes_on_renamed(void *volumes, const char *name, const char *new_name);
void volumes_on_stale(void *volumes, const char *name);
void volumes_on_moved(void *volumes, const char *name, struct host_id home);
