/* daemon/membership.h — which hosts and volumes there are. Two implementations: Kafka topics of whiskfs's own
 * (kafka/directory.c) and the static list of [peers] (membership_static.c). Results are copies: no locks leak out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/identity.h"
#include "proto/base/check.h"

#define HOST_NAME_MAX_BYTES 63
#define ADDRESS_MAX_BYTES 127
#define VOLUME_NAME_MAX_BYTES 200 /* an instance is NAME--NAMESPACE--RUN */

struct member_host {
    char name[HOST_NAME_MAX_BYTES + 1];
    char address[ADDRESS_MAX_BYTES + 1]; /* host:port */
    struct host_id id;
    int invoker; /* OpenWhisk invoker id that runs there, or -1 */
    bool alive;  /* static hosts always */
};

struct member_volume {
    char name[VOLUME_NAME_MAX_BYTES + 1];
    char home[HOST_NAME_MAX_BYTES + 1];
    uint64_t limit_bytes;
};

struct membership {
    const struct membership_ops *ops;
};

/* All -ENOENT when unknown; names compare exactly. */
struct membership_ops {
    void (*free)(struct membership *m);
    int (*host_by_name)(struct membership *m, const char *name, struct member_host *ret_host);
    int (*host_by_id)(struct membership *m, struct host_id id, struct member_host *ret_host);
    int (*host_by_invoker)(struct membership *m, int invoker, struct member_host *ret_host);
    /* Copies at most max hosts (this one left out); returns how many there are. */
    int (*hosts)(struct membership *m, struct member_host *ret_hosts, int max);
    /* Who is the home of a volume. Static: -ENOENT unless announced here; the caller then asks the peers. */
    int (*volume)(struct membership *m, const char *name, struct member_volume *ret_volume);
    int (*volumes)(struct membership *m, struct member_volume *ret_volumes, int max);
    /* This host made (or removed) a volume. Kafka: returns when the record is acknowledged, at most 5 s. */
    int (*announce)(struct membership *m, const struct member_volume *volume);
    int (*retract)(struct membership *m, const char *volume);
    bool (*connected)(struct membership *m); /* the broker answers; static: true */
};
