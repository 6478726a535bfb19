/* fs/tree/apply.h — private to the tree: what the appliers of all kinds of changes share. */
#pragma once

#include "fs/tree/impl.h"

struct apply {
    struct rows rows;
    struct tree_meta meta; /* as it will be */
    const struct change *change;
    const struct request *request;
    struct tree_effect effect;
};

/* An applier: 0, or an error that ends the transaction. -ENOENT: state and change do not fit. */
typedef int apply_f(struct apply *a);

apply_f apply_make, apply_link, apply_remove, apply_rename;
apply_f apply_open_close, apply_publish, apply_keep, apply_drop, apply_session;

/* The inode's attributes changed: notes it for the effect. */
void apply_touch(struct apply *a, uint64_t ino);
/* Writes the inode and touches it. */
MUST_USE int apply_save(struct apply *a, const struct inode *inode);
/* Makes host, or nobody, the inode's writer; the caller writes the inode. */
MUST_USE int apply_set_writer(struct apply *a, struct inode *inode, struct host_id host);
/* Makes host the inode's keeper; the caller writes the inode. */
MUST_USE int apply_set_keeper(struct apply *a, struct inode *inode, struct host_id host,
                              bool is_complete);
/* The inode is no more. */
MUST_USE int apply_erase(struct apply *a, struct inode *inode);
