/* fs/fuse/state.h — what the parts of a mounted session share. Private to fs/fuse. */
#pragma once

#include <fuse_lowlevel.h>
#include <stdatomic.h>

#include "fs/fuse/closer.h"
#include "fs/fuse/ledger.h"
#include "fs/fuse/node.h"
#include "fs/fuse/quota.h"
#include "fs/fuse/session.h"
#include "fs/fuse/tune.h"
#include "fs/fuse/workers.h"

/* What FUSE calls "as long as you like": nobody else can change the volume. */
#define CACHE_FOREVER_S 86400.0

struct session {
    /* fixed after session_start */
    struct volume *volume;
    struct tree *tree;
    struct store *store;
    struct source *source; /* or NULL: alone */
    struct host_id self;
    struct fuse_session *fuse;
    char *name, *mountpoint;
    uint64_t id; /* drawn at mount: identity.session of what this kernel asks for */
    struct ledger *ledger;
    bool owns_ledger; /* it ends with the session */
    bool is_resumed;  /* the kernel knows what a daemon before told it */
    bool want_passthrough;
    bool is_mounted;
    bool needs_helper; /* only fusermount3 may unmount it */
    struct volume_watcher watcher;

    /* written while INIT is answered, read later */
    _Atomic bool passthrough, has_epoch;
    _Atomic bool opens_directories; /* the kernel can by itself */
    _Atomic bool maps_direct;       /* files opened for direct I/O can be mapped */
    _Atomic enum backing_clock
        backing_clock; /* of the store's files, once one was opened for writing */

    struct node_table nodes;
    struct quota quota;
    struct workers workers;
    struct closer closer;
    struct session_counters counters;
    _Atomic unsigned naming; /* replies under way that tell the kernel a name or a new inode */

    /* the session's end, on the thread that stops it */
    bool is_ending;
    bool is_cut_off; /* a change could not be made since: no other is tried */

    /* results of requests that a daemon before may have answered: theirs to keep until leftover_until_ns */
    uint64_t *leftover;
    size_t n_leftover;
    _Atomic int64_t leftover_until_ns; /* 0: there are none */

    struct mutex lock; /* leaf */
    struct cond changed;
    bool initialized; /* INIT was answered; under lock */
    int init_error;   /* of what was negotiated, against what a daemon before did */
};

/* A file is being written from now on. */
void session_writes(struct session *s);
/* The volume's usage may have grown: by another host's change, or by what was written here. */
void session_used(struct session *s);
/* A change made the volume's usage smaller. */
void session_freed(struct session *s);

/* One open file. Its number in the ledger is fuse_file_info.fh. */
struct handle {
    struct node *node;
    struct ledger_slot *slot; /* once it is open */
    uint64_t opened_by;       /* `unique` of the request */
    bool write;
    bool
        may_map; /* open for reading and writing: only such a one can be written through a shared map */
    bool sees_writes; /* passed through, but read and written by way of the daemon */
    enum node_mode mode;
    struct list in_node; /* of the node's handles, once it is open */
};

/* NULL: it was closed, and the kernel did not hear of it. */
static inline struct handle *handle_of(struct session *s, const struct fuse_file_info *fi)
{
    return ledger_object(s->ledger, fi->fh);
}
