/* daemon/replica/env.h — what the replication of a volume leans on; fixed while volumes run. */
#pragma once

#include "daemon/membership.h"
#include "daemon/net/peers.h"
#include "fs/volume/volume.h"

struct transfer;

/* Who is the home of a volume, asked by a host whose copy of it was born then and is of that epoch (0: it has none), and
 * which gets no answer from `silent`. */
struct home_query {
    const char *volume;
    int64_t born_ns;
    uint64_t epoch;
    struct host_id silent;
};

struct replica_env {
    struct host_id self;
    const char *self_name;
    struct peers *peers;
    struct membership *membership;
    struct transfer *transfer;
    /* Called without locks of ours, from a replica's own threads. */
    void *ctx;
    /* kernel caches must ask again: alone -> shared, lease lost */
    void (*expire)(void *ctx, const char *volume);
    void (*gone)(void *ctx, const char *volume);                      /* its home has removed it */
    void (*renamed)(void *ctx, const char *volume, const char *name); /* by its home, to name */
    /* too far behind: must be attached anew from a checkpoint */
    void (*stale)(void *ctx, const char *volume);
    /* the log names another home than before; perhaps this host */
    void (*moved)(void *ctx, const char *volume, struct host_id home);
    /* Asks around. -ENOENT: nobody has it any more; -EHOSTUNREACH: a host that may know is silent, too; -EREMCHG: it has
     * another name, of which `renamed` was told. */
    int (*locate)(void *ctx, const struct home_query *query, int64_t deadline_ns,
                  struct host_id *ret_home);
};

/* What `status` shows of a volume's replication. */
struct replica_status {
    bool is_home, is_member, has_lease;
    bool is_connected;   /* replicas: joined at the home */
    uint64_t home_index; /* last index known of the home */
    struct turn turn;
    bool orders; /* is the home, or about to be */
    unsigned n_members, n_learners;
    uint64_t n_forwarded,
        n_handovers; /* changes asked for at the home; homes that this host took over */
};
