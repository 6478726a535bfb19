/* daemon/replica/core/core.h — the replication of one volume on one host, as a state machine.
 *
 * Pure: no sockets, threads, clocks or files. What happens (a frame, a closed connection, an entry that was applied
 * or synced, the passing of time) is told by calls; what is to be done is asked for by others. The driver (../) does
 * it on real hosts, tests/sim on simulated ones. Not thread-safe: the driver holds its lock.
 *
 * Times are of this host's monotonic clock. A *link* is a connection over which a host has joined; only what comes
 * over its present link, and is of its present epoch, counts. The core owns the references that it is given to links
 * and gives them back by `put_link`.
 */
#pragma once

#include "daemon/replica/core/followers.h"
#include "daemon/replica/core/work.h"
#include "proto/base/cleanup.h"

#define PUSH_WINDOW 4096u /* entries sent and not acknowledged, per follower */
#define NO_FENCE UINT64_MAX

struct core {
    struct host_id self;
    void (*put_link)(void *link);
    struct turn turn;   /* as of the last entry that was applied */
    struct leads leads; /* as on its disk, beside the log */
    uint64_t applied;   /* entries applied here, certain in this host's kernel */

    /* the home's side; a home that has stopped still sends what it had and collects acknowledgements */
    struct followers followers;
    uint64_t last; /* last entry that this host appended as home */
    uint64_t
        fence; /* entries from here on are neither sent nor answered: not durable yet, and must be */
    bool is_taking_over; /* between an accepted offer and a durable start */
    bool has_successor_left;
    struct work work;
    uint64_t newer;   /* an epoch in which another host orders, so they say; 0: none */
    bool has_yielded; /* what was not answered by then is not */

    /* the replica's side */
    void *link; /* to the home, or NULL */
    struct host_id link_host;
    uint64_t link_epoch;
    bool is_joined;
    bool is_member;
    bool tries_stopper;      /* while a home is offered: whom to join at next */
    struct host_id hint;     /* somebody says that it is the home; or NO_HOST */
    int64_t member_since_ns; /* when the last promotion was answered */
    int64_t lease_until_ns;  /* counted from sending the renewal */
    uint64_t home_index;     /* last known of the home */
    int64_t
        heard_ns; /* when the home last answered over this link; 0: it has only just let this host join */
    uint64_t answer_from; /* nothing is answered before this is applied */
    int64_t
        claim_at_ns; /* when this host may take the place of a lost home; 0: it does not want to */
};

void core_init(struct core *c, struct host_id self, void (*put_link)(void *link));
void core_done(struct core *c);
/* The volume was opened: its log ends at applied and says who orders. */
void core_open(struct core *c, const struct turn *turn, const struct leads *leads, uint64_t applied,
               int64_t now_ns);

bool core_is_home(const struct core *c);
bool core_has_stopped(const struct core *c); /* was the home and offers it */

/* May this host answer its kernel from its copy? *ret_valid_ns: how long the kernel may keep the answer. */
MUST_USE bool core_may_answer(const struct core *c, int64_t now_ns, int64_t *ret_valid_ns);

/* A lease that has not ended, although it may not be of use yet. */
MUST_USE bool core_has_lease(const struct core *c, int64_t now_ns);

/* Gives back the link to the home, if there is one. */
void core_leave_link(struct core *c);
/* The connection has ended, whichever side it served. True: it was the link to the home. */
bool core_unlink(struct core *c, void *link);

/* ---- home.c ---- */

/* A member of before a restart: waited for until it joins and acknowledges, or its lease must have ended. */
MUST_USE int core_restore_member(struct core *c, const char *name, int64_t until_ns);
/* May a host whose log is of that epoch join here? -ENOTCONN: not yet, this host is about to be the home, or knows less
 * than the asker; -EREMOTE: it is not the home. */
MUST_USE int core_may_join(const struct core *c, uint64_t epoch);
/* Entries follow from have_index + 1. has_applied: it holds them all; else it is sent a checkpoint, and its kernel may
 * show something else until it acknowledges. Takes over a reference to link. -ENOSPC, -ENOMEM: it was put. */
MUST_USE int core_join(struct core *c, struct host_id host, const char *name, void *link,
                       uint64_t have_index, bool has_applied);
/* 0, -ENOTCONN: it must join (again), -EREMOTE. */
MUST_USE int core_check_follower(const struct core *c, struct host_id host, const void *link,
                                 uint64_t epoch);
void core_ack(struct core *c, struct host_id host, const void *link, uint64_t index);
/* *ret_is_member: else it is a learner and has no lease. */
MUST_USE int core_renew(struct core *c, struct host_id host, const void *link, uint64_t epoch,
                        uint64_t applied, int64_t now_ns, bool *ret_is_member);
/* The table with it is durable. *ret_was_alone: the home's own kernel must ask again before this is answered. */
MUST_USE int core_promote(struct core *c, struct host_id host, const void *link, uint64_t epoch,
                          int64_t now_ns, bool *ret_was_alone, uint64_t *ret_index);
void core_leave(struct core *c, struct host_id host, const void *link);

void core_appended(struct core *c, uint64_t index); /* by this host as home */
/* May a change with this entry be answered? Else look again at *ret_until_ns, or when something changed. */
MUST_USE bool core_settled(const struct core *c, uint64_t index, int64_t now_ns,
                           int64_t *ret_until_ns);
/* A follower that lacks entries from *ret_from on, and up to *ret_to at most; NULL: none. turn: kept by the caller. */
MUST_USE struct follower *core_next_push(struct core *c, size_t *turn, uint64_t *ret_from,
                                         uint64_t *ret_to);
/* Notes that entries were sent, before they are; with to < from: that they were not. False: not over this link. */
MUST_USE bool core_sent(struct core *c, struct host_id host, const void *link, uint64_t from,
                        uint64_t to);
/* Time passes: a member whose lease and margin have ended, now a learner; or NULL. */
MUST_USE bool core_expire_member(struct core *c, int64_t now_ns,
                                 char ret_name[HOST_NAME_MAX_BYTES + 1]);

/* ---- member.c ---- */

/* Whom to join at; NO_HOST: nobody (this host is the home), or ask around. */
struct host_id core_home_to_join(const struct core *c);
/* Takes over a reference to link: entries may come over it from now on. */
void core_joining(struct core *c, struct host_id host, void *link);
/* False: the link has ended meanwhile, or the log there is of an older epoch than the one here: leave it. */
MUST_USE bool core_joined(struct core *c, const void *link, uint64_t epoch, uint64_t home_index);
/* What is here is of another volume, made anew under the same name. */
void core_forget(struct core *c);
void core_join_failed(struct core *c);
/* This host is about to say LEAVE, over the link that is returned; the caller puts it. Its kernel shows nothing any more.
 * Nothing that comes over that link counts from here on, an offer neither. NULL: there is none, or an offer was taken. */
MUST_USE void *core_let_go(struct core *c);
/* Somebody says who the home is. */
void core_hint(struct core *c, struct host_id home);
/* Entries up to applied are certain here; the log now says turn. True: acknowledge over the link. */
MUST_USE bool core_applied(struct core *c, uint64_t applied, const struct turn *turn);
/* After joining and after acknowledging. True: the link was left, another host is to be joined at. */
bool core_move_on(struct core *c);

/* A learner asks to become a member only when it has caught up: from then on changes wait for it. */
MUST_USE bool core_may_promote(const struct core *c);
void core_promoted(struct core *c, const void *link, int64_t sent_ns, int64_t now_ns,
                   int64_t lease_ns, uint64_t index);
/* lease_ns 0: the home takes this host for a learner. */
void core_renewed(struct core *c, const void *link, int64_t sent_ns, int64_t now_ns,
                  int64_t lease_ns, uint64_t home_index);
/* True once when a lease has ended: kernel caches must go. */
MUST_USE bool core_lease_ended(struct core *c, int64_t now_ns);
/* An answer of the home's relies on entries up to seen. */
MUST_USE bool core_may_pass_on(const struct core *c, uint64_t seen);

/* ---- handover.c ---- */

MUST_USE bool core_may_hand_to(const struct core *c, struct host_id host);
/* A host that should be the home instead of this one; NO_HOST: none. */
struct host_id core_earned(const struct core *c, int64_t now_ns);
/* The home is about to log that it stops: what it logs from now on is fenced. */
void core_stopping(struct core *c);
/* It did, or could not (index 0). From here on this host is a member like others, of whoever goes on. */
void core_stopped(struct core *c, uint64_t index, const struct turn *turn, int64_t now_ns);
/* The log is on stable storage up to here. */
void core_synced(struct core *c, uint64_t index);
/* Has the successor applied everything, and not yet been sent the offer over its present link? */
MUST_USE bool core_offer_is_due(const struct core *c);
/* The successor, marked as sent the offer; NULL: it is not due. */
MUST_USE struct follower *core_next_offer(struct core *c);
/* What is left of a lease that the successor has to wait for; 0: nothing. self: this host's own. */
int64_t core_lease_left(const struct follower *member, int64_t now_ns);
int64_t core_own_lease_left(const struct core *c, int64_t now_ns);

/* An offer came: may this host take the epoch after turn.epoch? Nothing is answered here until core_started.
 * -ESTALE: not (any more) what the log says; -EALREADY: it has. */
MUST_USE int core_take_over(struct core *c, const void *link, uint64_t epoch, uint64_t stop_index);
void core_forget_followers(struct core *c); /* a new table begins */
/* The successor has left, and will not start. This host goes on, with a turn higher than the one it offered. Once that
 * is decided, and recorded on its disk, it offers that turn to nobody again; so a crash meanwhile leads here, too. */
MUST_USE bool core_must_resume(const struct core *c);
MUST_USE bool core_resume(struct core *c); /* False: it need not */
/* START is logged and durable at index; or it could not be (0). */
void core_started(struct core *c, uint64_t index, const struct turn *turn, int64_t now_ns);

/* ---- claim.c ---- */

/* The home is lost, and this host is to take its place: once nobody can have a lease from it any more, and unless it is
 * back by then. A link over which it was silent for a whole lease is left. -EALREADY: this host is the home; -EBUSY: it
 * follows the home, or is about to be it. */
MUST_USE int core_claim(struct core *c, int64_t now_ns);
/* 0: core_begin_term; -EAGAIN: not yet; -ECANCELED: the home is back. */
MUST_USE int core_claim_is_due(const struct core *c, int64_t now_ns);
void core_end_claim(struct core *c);
/* The epoch that this host is to start; core_started ends it. */
MUST_USE uint64_t core_begin_term(struct core *c, uint16_t drawn);

/* Somebody says that home orders in that epoch. True: a link was left. */
bool core_hear(struct core *c, uint64_t epoch, struct host_id home);
/* This host has been the home, and another has taken its place. */
MUST_USE bool core_must_yield(const struct core *c);
MUST_USE bool
core_yield(struct core *c); /* False: it need not. Nothing is answered until core_yielded */
void core_yielded(struct core *c, bool is_recorded); /* on its disk; else it tries again */

/* A replica's log that is to be replaced, and what its home says of it. */
struct comparison {
    uint64_t epoch, last; /* of the replica's log */
    uint64_t home_epoch, home_first;
    uint64_t shared; /* the last of the samples that the home's log holds, too; 0: none */
};
/* The entry of the n-th sample of a log: its last, and ever further back. 0: there are no more. */
uint64_t core_sample(uint64_t last, uint64_t first, unsigned n);
/* From where on the replica's log is not part of its home's, or perhaps not. NO_FENCE: it is. */
uint64_t core_diverges_at(const struct comparison *comparison);
