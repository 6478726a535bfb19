/* fs/fuse/notify.h — what others change reaches this host's kernel.
 *
 * Names: the connection's epoch goes up, which takes no lock, never waits, and covers replies that are under way.
 * Attributes: inval_inode without a range, which takes no lock that a request holds either. So both are written on the
 * thread that applies the change, and their effect is certain when it goes on.
 */
#pragma once

struct session;

/* volume_watcher.changed of the session's watcher. */
void notify_watch(struct session *s);
/* Everything that the kernel remembers has to be asked for again. */
void notify_all(struct session *s);
