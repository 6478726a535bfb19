/* fs/fuse/quota.h — the volume's limit against what is published and what grows here.
 *
 * The tree counts published sizes. Files being written here grow before they are published; each carries what it has
 * grown by (counted_bytes), and the sum of both never passes the limit where the daemon sees the write. Writes that are
 * passed through are not seen: they are allowed only while the volume has headroom.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/tree/tree.h"
#include "proto/base/list.h"
#include "proto/base/mutex.h"

struct node;

struct quota {
    struct tree *tree;
    struct mutex lock;
    struct list writers;   /* nodes being written here */
    uint64_t growth_bytes; /* sum of their counted_bytes */
};

void quota_init(struct quota *quota, struct tree *tree);
void quota_done(struct quota *quota);

/* The node is being written from now on; published_size is what the tree counts for it. */
void quota_join(struct quota *quota, struct node *node, uint64_t published_size);
/* The tree counts published_size from now on. */
void quota_published(struct quota *quota, struct node *node, uint64_t published_size,
                     uint64_t size_now);
void quota_leave(struct quota *quota, struct node *node);

/* May node grow to new_size? Counts it and says up to which size: new_size, or less when the volume is full.
 * -ENOSPC: not beyond size_now. */
MUST_USE int quota_grow(struct quota *quota, struct node *node, uint64_t size_now,
                        uint64_t new_size, uint64_t *ret_size);
/* The node turned out to have this size (a failed write, a truncation). */
void quota_settle(struct quota *quota, struct node *node, uint64_t size_now);

/* Enough is free that what is passed through for a while stays within the limit. */
MUST_USE bool quota_has_headroom(struct quota *quota);

struct quota_state {
    uint64_t limit_bytes; /* 0: none */
    uint64_t used_bytes, n_inodes;
};
void quota_state(struct quota *quota, struct quota_state *ret_state);
