/* fs/fuse/record.h — between what is open here and the ledger: noted as it opens and closes, and taken up again by the
 * next daemon.
 */
#pragma once

#include "fs/fuse/state.h"

/* The handle among its node's, whose opens it counts by mode. Under claim. */
void handle_count(struct node *node, struct handle *h);
void handle_uncount(struct node *node, struct handle *h);

/* Notes the handle, and its node if that had none. Under claim, before the open is answered. -ENFILE, -ENOMEM. */
MUST_USE int record_open(struct session *s, struct node *node, struct handle *h);
/* The kernel lets it go: what follows is not to be undone by a kill. */
void record_closing(struct handle *h);
/* Under claim, before the close is answered. */
void record_close(struct session *s, struct handle *h);
/* Nothing of the node is open any more. Under claim. */
void record_forget(struct session *s, struct node *node);

/* Makes nodes and handles of what the ledger holds. -ENOMEM. */
MUST_USE int record_resume(struct session *s);
/* Lets go of what is open without closing it: the next daemon goes on with it. */
void record_leave(struct session *s);

/* Closes the backing id of a node that nothing is passed through of. */
void record_drop_backing(struct session *s, struct node *node);
