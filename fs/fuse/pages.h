/* fs/fuse/pages.h — what is given to the kernel's page cache before it asks. */
#pragma once

#include "fs/fuse/state.h"

/* Larger files are read when they are read: most opens of a small one read all of it, of a large one not. */
#define PAGES_GIVEN_MAX (32u << 10)

/* Gives the kernel all pages of a complete file that nobody else has open, so that reading it needs no request. Under
 * the node's claim, on a worker's thread, before the open is answered. False: it has to ask. */
MUST_USE bool pages_give(struct session *s, struct node *node);
