/* tests/model/real.h — the real filesystem: operations become system calls.
 *
 * Paths are resolved below a root of the calling thread's own (chroot), and as the operation's user (setfsuid); so
 * ".." and absolute links stay inside. The thread must not share its root with others: real_begin unshares it.
 */
#pragma once

#include "tests/model/model.h"

struct real_map {
    uint8_t *address;
    size_t size;
};

struct real_stream {
    int fd;
    int64_t *cookies; /* behind each name that was read */
    size_t n_cookies;
};

struct real {
    int outside; /* the thread's root before */
    unsigned n_roots, host, user;
    int roots[N_HOSTS_MAX]; /* of the same tree on each host; -1: away */
    int fds[N_FDS];
    struct real_map maps[N_MAPS];
    struct real_stream streams[N_STREAMS];
};

/* Root directories are given with real_enter; until then no operation may be done. -EPERM: not root. */
MUST_USE int real_begin(struct real *real, unsigned n_roots);
MUST_USE int real_enter(struct real *real, unsigned host, const char *root);
/* What was stored in maps is written, and the maps are gone. */
void real_unmap(struct real *real);
/* Closes everything, roots as well, and leaves them. */
void real_leave(struct real *real);
void real_end(struct real *real);
void real_do(struct real *real, const struct op *op, struct answer *ret_answer);
/* On that host, as that user, from here on. */
void real_as(struct real *real, unsigned host, unsigned user);
