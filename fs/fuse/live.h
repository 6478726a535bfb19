/* fs/fuse/live.h — files that are open here: their content, the right to write it, and publishing what was written.
 *
 *     nobody ── live_use ──► content held ── live_write ──► writing ── live_publish ──► writing
 *                                ▲                             └──── live_end_write ───────┐
 *                                └──────────────────────────────────────────────────────◄──┘
 *
 * Passed-through writes are not seen here, so whether there is something to publish is told by the backing file: its
 * size and modification time against a sample taken when it was opened for writing or last published. All functions
 * that take a call or session need the node's claim.
 */
#pragma once

#include "fs/fuse/call.h"

/* Holds the node's content, pinned at the version the kernel looked up. -ESTALE: the kernel has to look it up again. */
MUST_USE int live_use(struct call *c, struct node *node);
/* Lets it go unless somebody has it open or is writing. */
void live_unuse(struct node *node);

/* Makes this host the writer (a no-op if it is): OPEN_WRITE, own file, sample. -EBUSY: another host writes it,
 * and goes on doing so for a moment. */
MUST_USE int live_write(struct call *c, struct node *node);
/* Before a write that keeps some of what the file has. -EIO: its disk has damaged that, and nobody could tell any more. */
MUST_USE int live_check(struct session *s, struct node *node);
/* As live_write for a file that was just made open for writing here. */
MUST_USE int live_made(struct session *s, struct node *node, const struct inode *inode);
/* Goes on writing what a daemon before wrote: inode is as the tree has it, and so is the sample. */
void live_resume(struct session *s, struct node *node, const struct inode *inode, bool is_dirty);

/* Publishes if the content differs from the sample; flags: REQUEST_DURABLE. *ret_published may be NULL. */
MUST_USE int live_publish(struct session *s, struct node *node, uint32_t flags,
                          bool *ret_published);
/* Publishes if necessary and gives the ownership back. On an error this host remains the writer. */
MUST_USE int live_end_write(struct session *s, struct node *node);
/* live_end_write where nobody hears of a failure: it is logged, and tried again. */
void live_close(struct session *s, struct node *node);
/* The session is over: what could not be published is left to the recovery at the next start. */
void live_abandon(struct session *s, struct node *node);

/* Returns when what this session changed so far is durable at the volume's home. */
MUST_USE int session_sync_log(struct session *s);

/* Times that were set on a file being written are its backing file's too, and no change to publish. */
MUST_USE int live_set_times(struct node *node, const struct timespec times[2]);

/* inode as read from the tree -> as it is here now: size and times of what is being written, or of an old version. */
void live_overlay(struct session *s, struct node *node, struct inode *inode);
