/* daemon/mountd/server.h — the socket of whiskfs-mountd: one daemon at a time asks, and is answered. */
#pragma once

#include "daemon/mountd/mounts.h"

struct server {
    int listener;
    int daemon; /* the connection; -1: no daemon */
    struct mounts *mounts;
};

/* Makes the socket; one that an earlier process left is replaced. -EADDRINUSE: another process listens there. */
MUST_USE int server_open(struct server *server, const char *path, struct mounts *mounts);
void server_close(struct server *server);
/* Something came in on the listener, or on the connection. */
void server_accept(struct server *server);
void server_answer(struct server *server);
