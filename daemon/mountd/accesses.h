/* daemon/mountd/accesses.h — first accesses that wait below an autofs: from the kernel's packet to the answer.
 *
 *     added ─► told to the daemon ─► taken by its answer
 *       └───────── too old ────────► taken, and failed
 *
 * The kernel has one token for all who wait for one name. Pure; in the order in which they came.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/mountd/autofs_packet.h"

#define ACCESSES_MAX 256u
#define ACCESSES_TOLD_MAX 64u /* then the daemon answers first */

struct access {
    char name[AUTOFS_NAME_MAX + 1];
    uint32_t token;
    bool is_told;
    int64_t since_ns; /* monotonic */
};

struct accesses {
    struct access all[ACCESSES_MAX];
    unsigned n;
};

/* -ENOSPC: too many wait. */
MUST_USE int accesses_add(struct accesses *accesses, const struct autofs_packet *packet,
                          int64_t now_ns);
/* The next one to tell the daemon of; the caller sets is_told. NULL: none, or enough are told. */
struct access *accesses_untold(struct accesses *accesses);
/* The daemon is gone: the next one is told of all. */
void accesses_untell(struct accesses *accesses);
/* Takes the first that waits for name. False: nobody does. */
MUST_USE bool accesses_take(struct accesses *accesses, const char *name, struct access *ret_access);
/* Takes the oldest if it came before then. */
MUST_USE bool accesses_take_older(struct accesses *accesses, int64_t then_ns,
                                  struct access *ret_access);
