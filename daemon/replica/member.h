/* daemon/replica/member.h — the other side: a volume whose home is elsewhere, as learner or member.
 *
 * Two threads: `follow` joins at the home (and again whenever the connection is lost), applies what comes and
 * acknowledges it; `lease` renews each LEASE_RENEW_NS and lets the kernel's caches end with the lease. Entries wait
 * in an inbox that the home's push window bounds.
 */
#pragma once

#include "daemon/replica/env.h"
#include "fs/source.h"

struct member;

MUST_USE int member_new(const struct replica_env *env, const char *name,
                        const struct member_host *home, struct member **ret_member);
struct source *member_source(struct member *member);

/* Joins with what `have` of the volume is here (NULL: nothing yet). With *ret_checkpoint_fd >= 0 the volume must be
 * installed from that file before member_start. -ENOENT: the home has no such volume; -EREMCHG: it has it under another name, of which
 * env->renamed was told; -EHOSTUNREACH, -ETIMEDOUT. */
MUST_USE int member_join(struct member *member, struct volume *have, int64_t deadline_ns,
                         int *ret_checkpoint_fd);
/* Starts to follow; returns when everything that the home had at the join is applied here. -ETIMEDOUT. */
MUST_USE int member_start(struct member *member, struct volume *volume, int64_t deadline_ns);
/* This host's kernel shows nothing of the volume any more: follows on as a learner, whom nobody waits for. */
void member_demote(struct member *member);
void member_stop(struct member *member); /* says LEAVE; no request waits longer */
void member_free(struct member *member);

/* CHECKPOINT and ENTRIES; neither blocks. */
void member_frame(struct member *member, struct conn *conn, const struct frame *frame);
void member_conn_closed(struct member *member, struct conn *conn);
void member_status(struct member *member, struct replica_status *ret_status);
