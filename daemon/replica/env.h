/* daemon/replica/env.h — what the replication of a volume leans on; fixed while volumes run. */
#pragma once

#include "daemon/membership.h"
#include "daemon/net/peers.h"
#include "fs/volume/volume.h"

struct transfer;

struct replica_env {
    struct host_id self;
    struct peers *peers;
    struct transfer *transfer;
    /* Called without locks of ours, from a replica's own threads. */
    void *ctx;
    void (*expire)(
        void *ctx,
        const char *volume); /* kernel caches must ask again: alone -> shared, lease lost */
    void (*gone)(void *ctx, const char *volume);                      /* its home has removed it */
    void (*renamed)(void *ctx, const char *volume, const char *name); /* by its home, to name */
    void (*stale)(void *ctx,
                  const char *volume); /* too far behind: must be attached anew from a checkpoint */
};

/* What `status` shows of a volume's replication. */
struct replica_status {
    bool is_home, is_member, has_lease;
    bool is_connected;   /* replicas: joined at the home */
    uint64_t home_index; /* last index known of the home */
    unsigned n_members, n_learners;
};
