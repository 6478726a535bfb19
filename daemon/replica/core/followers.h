/* daemon/replica/core/followers.h — who follows a volume at its home.
 *
 * A learner gets the log and is not waited for. A member serves its kernel: a change is settled when every member
 * has acknowledged it or has been without a lease for LEASE_MARGIN_NS. The member counts its lease from sending the
 * renewal, the home from receiving it and a margin longer, so the member stops first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/membership.h"
#include "fs/identity.h"

#define LEASE_NS (3 * 1000000000LL)
#define LEASE_MARGIN_NS (500 * 1000000LL)
#define LEASE_RENEW_NS (500 * 1000000LL)
#define FOLLOWERS_MAX 1024

struct follower {
    struct host_id host;
    char name[HOST_NAME_MAX_BYTES + 1];
    bool is_member;
    uint64_t acked;         /* applied there, certain in its kernel */
    uint64_t sent;          /* sent to it over `link` */
    uint64_t joined;        /* what it joined with, or was sent as a checkpoint */
    int64_t lease_until_ns; /* members: of the home's clock, margin not counted */
    void *link;             /* the caller's connection, or NULL while there is none */
    void *handed;           /* the link over which it was offered the home, or NULL */
};

struct followers {
    struct follower *all;
    size_t n, capacity;
};

void followers_done(struct followers *f);
struct follower *followers_find(const struct followers *f, struct host_id host); /* or NULL */

/* A host that joins with everything up to have_index; one that is known stays what it was. -ENOSPC: too many. */
MUST_USE int followers_join(struct followers *f, struct host_id host, const char *name,
                            uint64_t have_index, struct follower **ret_follower);
void followers_remove(struct followers *f, struct host_id host);

/* until_ns: the end of the lease that the member may think it has. False: the host is unknown (it must join first). */
MUST_USE bool followers_promote(struct followers *f, struct host_id host, int64_t until_ns);
MUST_USE bool followers_renew(struct followers *f, struct host_id host, uint64_t applied,
                              int64_t now_ns);
void followers_ack(struct followers *f, struct host_id host, uint64_t index);

/* True when no member can still show a state older than index. Else *ret_until_ns is when to look again at the
 * latest: the end of the first lease that is waited for. */
MUST_USE bool followers_settled(const struct followers *f, uint64_t index, int64_t now_ns,
                                int64_t *ret_until_ns);
/* Turns members whose lease and margin have ended into learners; *ret_lost is one of them, or NULL. */
MUST_USE bool followers_expire(struct followers *f, int64_t now_ns, struct follower **ret_lost);
size_t followers_members(const struct followers *f);
