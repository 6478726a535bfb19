/* fs/volume/impl.h — private to the volume: what its files share.
 *
 *     volume.c           who decides, reading accessors, the watcher
 *     apply.c     entries into log, tree and store: decided here, followed, replayed
 *     recover.c   create, install, open, free, delete
 *     resume.c    what this host's earlier sessions left
 *     checkpoint.c, snapshot.c, removal.c, retired.c, sealer.c, scrub.c
 */
#pragma once

#include <stdatomic.h>

#include "fs/volume/removal.h"
#include "fs/volume/retired.h"
#include "fs/volume/scrub.h"
#include "fs/volume/sealer.h"
#include "fs/volume/volume.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define CHECKPOINT_NAME_BYTES 21 /* 16 digits, ".mdb", NUL */

struct checkpointer {
    int dirfd; /* DIRECTORY/checkpoint */
    pthread_t thread;
    bool is_started;
    atomic_uint_least64_t logged_bytes; /* since the newest checkpoint */

    struct mutex lock; /* leaf */
    struct cond changed;
    bool is_wanted, is_stopping;
    bool is_running; /* somebody writes one: one at a time */
    uint64_t newest; /* index of the newest checkpoint; 0: none */
    uint64_t kept;   /* the log reaches back to here */
};

struct volume {
    /* fixed while open */
    int dirfd;
    struct host_id self;
    struct source *source;
    struct volume_survivors *survivors; /* or NULL */
    uint64_t session;
    atomic_uint_least64_t started, resumed, claimed; /* as its file `leads` has it */
    bool is_open;                                    /* volume_open has succeeded */
    bool
        is_new_boot; /* the machine was restarted since it was last open: what was not synced may be gone */
    struct tree *tree;
    struct image *image; /* of the content, or NULL */
    struct store *store;
    struct log *log;

    atomic_bool
        is_failed; /* the log has an entry that the state could not take: only a restart helps */
    atomic_uint_least64_t next_unique; /* odd */
    struct log_limit failed_lines, forward_lines;

    struct mutex lock; /* class volume: log, tree and store change together */
    uint8_t *scratch;  /* under lock: the change being encoded, REQUEST_BYTES_MAX */

    struct mutex seen_lock; /* leaf */
    struct cond seen;       /* applied has grown, or a watcher's call has ended */
    uint64_t applied;       /* under seen_lock: what watchers have been told up to */
    struct volume_watcher *watcher;
    unsigned n_watching; /* calls of a watcher under way */

    struct retired retired;
    struct removals removals;
    struct sealer sealer;
    struct scrub scrub;
    struct checkpointer checkpointer;
};

/* ---- apply.c ---- */

/* One entry as it went in: for the watcher, once no lock is held. */
struct applied_entry {
    struct change change;
    struct tree_effect effect;
};

/* The home: decides request and, if it leads to an entry, logs and applies it. *ret_entry is filled in then (its
 * spans are the request's) and *ret_is_new true. */
MUST_USE int volume_decide(struct volume *volume, const struct request *request,
                           struct applied_entry *ret_entry, bool *ret_is_new,
                           struct outcome *ret_outcome);
/* Before a file is asked for: its content will lie on this host. -ENOSPC. */
MUST_USE int volume_check_store(struct volume *volume, const struct request *request);
/* Applies what the log holds beyond the tree. */
MUST_USE int volume_replay(struct volume *volume);
/* -EIO, with a line now and then, once the volume has failed. */
MUST_USE int volume_check(struct volume *volume);

/* ---- turn.c ---- */

MUST_USE int leads_load(struct volume *volume);
MUST_USE int leads_write(int dirfd, const struct leads *leads);

/* ---- recover.c ---- */

/* Reads a small text file whole; it ends with NUL in buffer. */
MUST_USE int volume_read_small(int dirfd, const char *name, char *buffer, size_t size);

struct boot {
    bool is_same;  /* this boot of the machine has had it open before */
    bool is_clean; /* it was closed in order */
};
/* No boot file: never opened, or not known. */
MUST_USE int volume_boot(int dirfd, struct boot *ret_boot);

/* ---- volume.c ---- */

/* *ret_is_new: it led to an entry now, and not when it was asked for before. */
MUST_USE int volume_decide_and_tell(struct volume *volume, const struct request *request,
                                    bool *ret_is_new, struct outcome *ret_outcome);
/* Fills in who asks. True: the identity was drawn here. */
bool volume_identify(struct volume *volume, struct request *request);

void volume_tell(struct volume *volume, const struct applied_entry *entry);
void volume_advance(struct volume *volume, uint64_t applied);

/* ---- checkpoint.c ---- */

/* Finds the newest checkpoint below dirfd. 0 with index 0: none. */
MUST_USE int checkpoint_newest(int checkpoint_dirfd, uint64_t *ret_index);
void checkpoint_name(uint64_t index, char ret_name[static CHECKPOINT_NAME_BYTES]);
MUST_USE int checkpointer_start(struct volume *volume);
void checkpointer_stop(struct volume *volume);
/* From here on no checkpoint is written, until it is released: the index of the newest, which stays. */
uint64_t checkpointer_hold(struct volume *volume);
void checkpointer_release(struct volume *volume);
/* size bytes were logged: wakes the maintenance thread when it is time. Never waits. */
void checkpointer_logged(struct volume *volume, uint64_t size);
