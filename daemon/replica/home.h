/* daemon/replica/home.h — the home's side of a volume's replication: pushes the log, counts acknowledgements.
 *
 * One thread (`push`) reads the log and sends each follower what it lacks, so a joiner that catches up and a member
 * that is up to date take the same path and entries go in batches by themselves. At most PUSH_WINDOW entries are
 * under way to a follower. Members are written to STATE/volumes/NAME/members before a promotion is answered: a home
 * that restarts waits for the same members or for the end of their leases.
 */
#pragma once

#include "daemon/replica/env.h"
#include "fs/source.h"

struct home;

MUST_USE int home_new(const struct replica_env *env, const char *name, const char *directory,
                      struct home **ret_home);
struct source *home_source(struct home *home);
MUST_USE int home_start(struct home *home, struct volume *volume);
void home_stop(struct home *home); /* no settle waits longer, the thread ends */
void home_free(struct home *home);

/* Frames JOIN, PROMOTE, FORWARD (may block), ACK, RENEW, LEAVE (do not). */
void home_frame(struct home *home, struct conn *conn, const struct frame *frame);
void home_conn_closed(struct home *home, struct conn *conn);
void home_status(struct home *home, struct replica_status *ret_status);
