/* fs/fuse/quota.h — the volume's limit against what is published and what is being written here.
 *
 *     used = what published files occupy (the tree: the same on every host) + growth of the files being written here
 *
 * A file counts for the blocks it occupies, so holes are free. Where the daemon sees every write it reserves what the
 * write may take before it is made, and settles with what it took: many writers never pass the limit together. Where
 * the content's filesystem holds the limit itself (fs/store/image.h) nothing is asked here: the kernel answers, for
 * passed-through writes and maps too, and quota_room() is what it is told to leave.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/tree/tree.h"
#include "proto/base/list.h"
#include "proto/base/mutex.h"

struct node;

struct quota {
    /* fixed */
    struct tree *tree;
    bool is_kernels; /* the kernel holds the limit */

    struct mutex lock;
    /* under lock */
    struct list writers;     /* nodes being written here */
    int64_t growth_bytes;    /* sum of their counted_bytes */
    uint64_t reserved_bytes; /* of writes under way */
};

void quota_init(struct quota *quota, struct tree *tree, bool is_kernels);
void quota_done(struct quota *quota);

/* The node is being written from now on; published_bytes is what the tree counts for it. */
void quota_join(struct quota *quota, struct node *node, uint64_t published_bytes);
void quota_leave(struct quota *quota, struct node *node);
/* Around a publication: while it is under way the tree may count the old or the new occupation. published_bytes: what
 * the tree counts from now on. */
void quota_publishing(struct quota *quota, struct node *node);
void quota_published(struct quota *quota, struct node *node, uint64_t published_bytes);

/* Before [offset, offset + size) of the node is written or allocated: reserves what that may take. Returns how much
 * of size may be written, or -ENOSPC when that is nothing. Pair each success with quota_settle(*ret_reserved). */
MUST_USE int64_t quota_reserve(struct quota *quota, struct node *node, uint64_t offset,
                               uint64_t size, uint64_t *ret_reserved);
/* The node occupies what it occupies now; reserved_bytes are not needed any more. */
void quota_settle(struct quota *quota, struct node *node, uint64_t reserved_bytes);

struct quota_state {
    uint64_t limit_bytes; /* 0: none */
    uint64_t used_bytes;
    uint64_t limit_inodes; /* 0: none */
    uint64_t n_inodes;
};
void quota_state(struct quota *quota, struct quota_state *ret_state);
bool quota_has_writers(struct quota *quota);
/* Bytes below the limit; UINT64_MAX without one. */
uint64_t quota_room(struct quota *quota);
