/* daemon/replica/impl.h — private to the replication of a volume: what its files share.
 *
 *     replica.c   life, the volume's source, frames to who handles them
 *     serve.c     the home's answers: JOIN, PROMOTE, RENEW, FORWARD …
 *     push.c      the push thread
 *     turn.c      the home moves: STOP, OFFER, START; or yields
 *     claim.c     this host takes the place of a lost home
 *     herald.c    a home asks the others whether it still is
 *     join.c      joining at the home
 *     follow.c    the follow thread
 *     lease.c     the lease thread, promotion, forwarding
 */
#pragma once

#include "daemon/replica/core/core.h"
#include "daemon/replica/inbox.h"
#include "daemon/replica/replica.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"
#include "proto/messages.pb-c.h"

#define PUSH_BATCH_BYTES (256u << 10)
#define CALL_NS NS_PER_S

struct replica {
    struct source source;
    const struct replica_env *env;
    char *name, *directory;
    _Atomic(struct volume *) volume; /* set once, by replica_start */
    pthread_t pusher, follower, renewer;
    bool has_pusher, has_follower, has_renewer;
    uint8_t *batch; /* the push thread's */

    struct mutex lock;
    struct cond changed; /* everything below */
    struct core core;
    struct inbox inbox; /* entries that came over core.link */
    bool is_saving;     /* somebody writes the table of members: one at a time */
    bool is_promoting;  /* this host asks to become a member */
    unsigned n_lease_turns;
    unsigned
        n_heralded; /* hosts that were asked whether this one is still the home, since it became that */
    bool is_stopping;
    uint64_t target;      /* what replica_start waits for */
    uint64_t diverges_at; /* of the last join: see replica_diverges_at */
    struct host_id told;  /* the home that env->moved was told of */
    int checkpoint_fd;    /* being received, or -1 */
    uint64_t checkpoint_got;
    uint64_t n_forwarded, n_handovers;
};

/* ---- replica.c ---- */

void replica_host_name(const struct replica *replica, struct host_id host,
                       char ret_name[HOST_NAME_MAX_BYTES + 1]);
/* The connection counts no more; entries that came over it go. */
void replica_unlink(struct replica *replica, struct conn *conn);
/* Tells env where the home is now, if it has not been told. */
void replica_tell_home(struct replica *replica);
/* False: stopping. */
bool replica_pause(struct replica *replica, int64_t ns);

/* ---- serve.c ---- */

void serve_frame(struct replica *replica, struct conn *conn, const struct frame *frame);
/* Writes the table of members, with `extra` among them (or NULL), durably. One at a time: when *ret_is_saving,
 * serve_end_saving() is to follow. */
MUST_USE int serve_save_members(struct replica *replica, const char *extra, bool *ret_is_saving);
void serve_end_saving(struct replica *replica) REQUIRES(replica->lock);

/* ---- push.c ---- */

void *push_main(void *replica);

/* ---- turn.c ---- */

/* The home stops if another host has earned it. */
void turn_pass_on(struct replica *replica);
/* Sends the successor its offer, once it has all entries. */
void turn_offer(struct replica *replica);
MUST_USE int turn_on_offer(struct replica *replica, struct conn *conn, const Whiskfs__Offer *offer);
/* The successor has left: this host goes on as the home. */
void turn_resume(struct replica *replica);

/* Another host has taken this one's place. */
void turn_yield(struct replica *replica);
MUST_USE int turn_start(struct replica *replica, uint64_t epoch);

/* ---- herald.c ---- */

/* Asks all others once this host has become the home; then one now and then, of those that do not follow it. */
void herald_ask(struct replica *replica);

/* ---- join.c ---- */

/* One attempt at one host. -ESTALE: what is open here cannot become what the home has. -EREMOTE: see *ret_home (NO_HOST: it
 * does not know either). */
MUST_USE int join_at(struct replica *replica, struct host_id home, struct volume *have,
                     int64_t deadline_ns, int *ret_checkpoint_fd, struct host_id *ret_home);
void join_checkpoint_frame(struct replica *replica, struct conn *conn, const struct frame *frame);
void join_entries_frame(struct replica *replica, struct conn *conn, const struct frame *frame);

/* ---- follow.c ---- */

void *follow_main(void *replica);

/* ---- lease.c ---- */

void *lease_main(void *replica);
MUST_USE int lease_admit(struct replica *replica, int64_t *ret_valid_ns);
MUST_USE int lease_forward(struct replica *replica, const struct request *request,
                           int64_t deadline_ns, struct outcome *ret_outcome);
