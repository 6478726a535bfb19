/* fs/fuse/closer.h — tries again to give up write ownerships that could not be given up at close.
 *
 * A close must end in bounded time even while the home is unreachable; until the home hears of it, nobody else may
 * write the file. One thread, woken when there is something, then once a second until there is nothing.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "proto/base/list.h"
#include "proto/base/mutex.h"

struct node;
struct session;

struct closer {
    struct session *session;
    struct mutex lock; /* leaf */
    struct cond changed;
    struct list nodes; /* node.in_closer; each pinned */
    bool stopping;
    pthread_t thread;
};

MUST_USE int closer_start(struct closer *closer, struct session *session);
/* Unpins what is left. */
void closer_stop(struct closer *closer);
/* The node is still writing though nobody has it open for writing. Its claim is held. */
void closer_add(struct closer *closer, struct node *node);
