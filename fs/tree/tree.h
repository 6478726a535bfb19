/* fs/tree/tree.h — the queryable state of a volume: inodes, names, xattrs, results. An LMDB environment.
 *
 * Derived from the log: it runs without syncs of its own (MDB_NOSYNC), knows the index it has applied, and is
 * rebuilt from a checkpoint (a copy of it) plus the log. A checkpoint's file becomes the state by being put in place
 * as TREE_FILE of an otherwise empty TREE_DIRECTORY while no tree is open there.
 * Directory cookies are the log index of the entry that made the name, so they are stable and never reused in a
 * directory. A rename over a name keeps that name's cookie, one to a new name in the same directory keeps its own, and
 * an exchange keeps both: a reader of the directory meets a name that was there all along exactly once.
 * Reads are consistent snapshots and may run on any thread; tree_decide and tree_apply need the volume's lock. Entries
 * that are applied one after the other are committed together, by a thread of the tree's own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/inode.h"
#include "fs/request.h"
#include "proto/base/cleanup.h"

#define TREE_DIRECTORY "state"
#define TREE_FILE TREE_DIRECTORY "/data.mdb"
#define TREE_LINK_MAX 0x7fffffffu /* names of a file, subdirectories of a directory; then -EMLINK */

struct tree;

struct tree_usage {
    uint64_t limit_bytes, used_bytes; /* used: what published files occupy */
    uint64_t limit_inodes, n_inodes;  /* limit 0: none */
    uint32_t copies;                  /* hosts that are to keep each file */
    bool is_suid, is_dev;             /* set-id programs, device files have an effect */
};

/* Opens or makes dirfd/"state". map_bytes bounds the environment's address space; 0: 16 GiB. -EBADMSG: what is there is
 * no state, or a damaged one: rebuild it. */
MUST_USE int tree_open(int dirfd, uint64_t map_bytes, struct tree **ret_tree);
void tree_free(struct tree *tree);
DEFINE_FREEP(tree, struct tree)

uint64_t
tree_applied(struct tree *tree); /* index of the last entry applied, which readers see; 0: empty */
struct host_id tree_home(struct tree *tree);
struct turn tree_turn(struct tree *tree);
uint64_t tree_next_ino(struct tree *tree); /* inodes from here on have not been made yet */
void tree_usage(struct tree *tree, struct tree_usage *ret_usage);

/* Reading. -ENOENT, -ENOTDIR, -ENODATA (xattrs), -ERANGE (value larger than size; size 0 asks for the size), -EIO. */
MUST_USE int tree_get(struct tree *tree, uint64_t ino, struct inode *ret_inode);
MUST_USE int tree_lookup(struct tree *tree, uint64_t parent, struct span name,
                         struct inode *ret_inode);
/* A path of ino, "" for the root, into the buffer: for people, as it looks at every name. -ENOENT: it has no name;
 * -ENAMETOOLONG. */
MUST_USE int tree_path(struct tree *tree, uint64_t ino, char *buffer, size_t size);
MUST_USE int tree_readlink(struct tree *tree, uint64_t ino, char *buffer, size_t size,
                           size_t *ret_used);
MUST_USE int tree_getxattr(struct tree *tree, uint64_t ino, struct span name, void *buffer,
                           size_t size, size_t *ret_used);
/* Names, each with its NUL, as listxattr(2). */
MUST_USE int tree_listxattr(struct tree *tree, uint64_t ino, char *buffer, size_t size,
                            size_t *ret_used);

/* Calls entry for each name of dir after cookie (0: from the start), in cookie order, until it returns false.
 * "." and ".." are the caller's. One snapshot a call. */
typedef bool tree_entry_f(void *ctx, struct span name, uint64_t cookie, const struct inode *inode);
MUST_USE int tree_readdir(struct tree *tree, uint64_t dir, uint64_t cookie, tree_entry_f *entry,
                          void *ctx);

/* Inodes that host holds open for writing (writer), and those that it holds open though they are unlinked (held);
 * for recovery: before SESSION, each held one needs a DROP. -EAGAIN from any read: over 1000 reads at a time. */
typedef bool tree_inode_f(void *ctx, const struct inode *inode);
MUST_USE int tree_each_writer(struct tree *tree, struct host_id host, tree_inode_f *each,
                              void *ctx);
MUST_USE int tree_each_held(struct tree *tree, struct host_id host, tree_inode_f *each, void *ctx);
/* Inodes whose keeper is host and lacks blocks of their current version: until its KEEP. */
MUST_USE int tree_each_incomplete(struct tree *tree, struct host_id host, tree_inode_f *each,
                                  void *ctx);
/* The uniques of a session of host whose results are in the state. */
typedef bool tree_result_f(void *ctx, uint64_t unique);
MUST_USE int tree_each_result(struct tree *tree, struct host_id host, uint64_t session,
                              tree_result_f *each, void *ctx);
/* Every inode, in number order, from the given one on. */
MUST_USE int tree_each(struct tree *tree, uint64_t from, tree_inode_f *each, void *ctx);

/* False: the disk is full, and what was set aside for the state gets less. Under the volume's lock. */
bool tree_has_room(struct tree *tree);

/* Deciding: validates request against the state and fills ret_change with everything decided but the index.
 * 0: log and apply ret_change. 1: this identity is known: *ret_outcome is what was answered.
 * 2: nothing to change: *ret_outcome (success) is the answer, no entry (an OPEN_WRITE by the writer, an empty SETATTR…).
 * Negative: the errno for the caller. */
MUST_USE int tree_decide(struct tree *tree, const struct request *request, int64_t now_ns,
                         struct change *ret_change, struct outcome *ret_outcome);

/* Applies change (index tree_applied() + 1) and records its result under its identity. Readers see it at once and
 * whole; a kill may take the last few that were applied out of the state again (the log has them) but no part of one.
 * An index at or below tree_applied() is a no-op that returns the recorded outcome where there is one.
 * *ret_gone: the inode whose content is no longer needed (0: none); *ret_before: the inode as it was before for
 * PUBLISH, OPEN_WRITE and inodes that lost a name. -ENOSPC: the map is full; -EIO, -EBADMSG: state and change do not fit;
 * then the tree has failed: everything is -EIO until it is opened again. */
struct tree_effect {
    struct outcome outcome;
    uint64_t gone;       /* this inode is no more: its content goes */
    struct inode before; /* ino 0 if nothing existed before */
    struct inode after;  /* ino 0 if it is gone */
    uint64_t touched[6]; /* inodes whose attributes changed, 0-terminated */
};
MUST_USE int tree_apply(struct tree *tree, const struct change *change,
                        struct tree_effect *ret_effect);
/* Returns when all that was applied is in the state's file, where a kill leaves it. */
MUST_USE int tree_commit(struct tree *tree);

/* Writes a consistent, compact and synced copy to dirfd/name (made with O_EXCL), and the index it stands at. */
MUST_USE int tree_checkpoint(struct tree *tree, int dirfd, const char *name, uint64_t *ret_index);
/* Compares a copy with the checksum that it carries, and says its index. -EBADMSG: damaged, or no copy. */
MUST_USE int tree_check_copy(int fd, uint64_t *ret_index);
/* A copy to look into, known to be what was written; fd stays the caller's. -EBADMSG: damaged, or no copy. */
struct tree_copy;
MUST_USE int tree_copy_open(int fd, struct tree_copy **ret_copy);
MUST_USE int tree_copy_get(const struct tree_copy *copy, uint64_t ino, struct inode *ret_inode);
void tree_copy_free(struct tree_copy *copy);
DEFINE_FREEP(tree_copy, struct tree_copy)
/* fdatasync of the environment itself: for a clean shutdown. */
MUST_USE int tree_sync(struct tree *tree);
