/* daemon/mountd/server.h — the socket of whiskfs-mountd: one daemon at a time asks, and is answered. */
#pragma once

#include "daemon/mountd/autofs.h"
#include "daemon/mountd/mounts.h"

struct server {
    int listener;
    int daemon;   /* the connection; -1: no daemon */
    bool is_told; /* the daemon asked to hear of first accesses */
    struct mounts *mounts;
    struct autofs *autofs;
};

/* Makes the socket; one that an earlier process left is replaced. -EADDRINUSE: another process listens there. */
MUST_USE int server_open(struct server *server, const char *path, struct mounts *mounts,
                         struct autofs *autofs);
void server_close(struct server *server);
/* Something came in on the listener, or on the connection. */
void server_accept(struct server *server);
void server_answer(struct server *server);
/* Tells the daemon who waits. */
void server_tell(struct server *server);
