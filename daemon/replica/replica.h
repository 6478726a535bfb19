/* daemon/replica/replica.h — the replication of one volume on one host: home, member or learner, as the log has it.
 *
 * What is decided is decided by core/; here are the threads, frames and files around it:
 *
 *     push     sends followers what they lack, offers the home to who has earned it
 *     follow   joins at the home (and again whenever the connection is lost), applies what comes and acknowledges it
 *     lease    renews each LEASE_RENEW_NS and lets the kernel's caches end with the lease
 *
 * Members are written to STATE/volumes/NAME/members before a promotion is answered: a home that restarts waits for
 * the same members or for the end of their leases.
 */
#pragma once

#include "daemon/replica/env.h"
#include "fs/source.h"

struct replica;

MUST_USE int replica_new(const struct replica_env *env, const char *name, const char *directory,
                         struct replica **ret_replica);
struct source *replica_source(struct replica *replica);

/* A volume that is not (open) here: joins at home, or at the host that is the home instead, with what `have` of the
 * volume is here (NULL: nothing yet). With *ret_checkpoint_fd >= 0 the volume must be installed from that file before
 * replica_start. -ENOENT: no host has such a volume; -EREMCHG: it has another name, of which env->renamed was told;
 * -EHOSTUNREACH, -ETIMEDOUT. */
MUST_USE int replica_join(struct replica *replica, struct host_id home, struct volume *have,
                          int64_t deadline_ns, int *ret_checkpoint_fd);
/* After replica_join with a checkpoint: from this entry on what is here is not in the home's log, or may not be, and is to be
 * kept for the operator. UINT64_MAX: all is. */
uint64_t replica_diverges_at(struct replica *replica);
/* Starts. After replica_join: returns when everything that the home had then is applied here. -ETIMEDOUT. */
MUST_USE int replica_start(struct replica *replica, struct volume *volume, int64_t deadline_ns);
/* This host's kernel shows nothing of the volume any more: follows on as a learner, whom nobody waits for. */
void replica_demote(struct replica *replica);
void replica_stop(struct replica *replica); /* says LEAVE; no request waits longer */
void replica_free(struct replica *replica);

/* The home is lost, and this host takes its place: after the longest lease that it can have granted. may_take(ctx), which
 * asks the other hosts, must say 0 at the end of that, too. -EALREADY: this host is the home; -EBUSY: its home answers;
 * -ECANCELED: it came back meanwhile; what may_take said. */
typedef int may_take_f(void *ctx);
MUST_USE int replica_take_home(struct replica *replica, may_take_f *may_take, void *ctx);
/* Another host says, or was asked and answers, that home orders the volume in that epoch. */
void replica_hear(struct replica *replica, uint64_t epoch, struct host_id home);

/* All frames about replication. JOIN, PROMOTE, FORWARD and OFFER may block. */
void replica_frame(struct replica *replica, struct conn *conn, const struct frame *frame);
void replica_conn_closed(struct replica *replica, struct conn *conn);
void replica_status(struct replica *replica, struct replica_status *ret_status);
/* Must this host keep the volume whatever its content: is it the home, or about to be? */
bool replica_orders(struct replica *replica);
