/* daemon/kafka/directory_table.h — the hosts and volumes that the directory's topics speak of. Pure: no lock, and time is
 * passed in (a steady clock, in milliseconds).
 *
 * Bounded. A host is alive for DIRECTORY_ALIVE_MS after its last sign of life; dead hosts stay known, for their address
 * is still the right one when they return.
 */
#pragma once

#include <stdint.h>

#include "daemon/membership.h"

#define DIRECTORY_ALIVE_MS 15000
#define DIRECTORY_HOSTS_MAX 4096
#define DIRECTORY_VOLUMES_MAX 65536

struct directory_host;
struct directory_volume;

struct directory_table {
    struct directory_host *hosts, *hosts_by_id;
    struct directory_volume *volumes;
};

void directory_table_done(struct directory_table *t);

/* A sign of life at seen_ms; one older than the last changes nothing. -EEXIST: another name has this id. -ENOSPC. -ENOMEM. */
MUST_USE int directory_table_put_host(struct directory_table *t, const struct member_host *host,
                                      int64_t seen_ms);
void directory_table_drop_host(struct directory_table *t, const char *name);
/* The broker is away, nobody can give a sign: who was alive at last_ms is alive at now_ms. */
void directory_table_hold(struct directory_table *t, int64_t last_ms, int64_t now_ms);

/* -ENOENT */
MUST_USE int directory_table_host(const struct directory_table *t, const char *name, int64_t now_ms,
                                  struct member_host *ret_host);
MUST_USE int directory_table_host_by_id(const struct directory_table *t, struct host_id id,
                                        int64_t now_ms, struct member_host *ret_host);
/* Of several hosts that claim an invoker, the one seen last. */
MUST_USE int directory_table_host_by_invoker(const struct directory_table *t, int invoker,
                                             int64_t now_ms, struct member_host *ret_host);
/* Copies at most max hosts but `self`; returns how many there are. */
int directory_table_hosts(const struct directory_table *t, const char *self, int64_t now_ms,
                          struct member_host *ret_hosts, int max);

MUST_USE int directory_table_put_volume(struct directory_table *t,
                                        const struct member_volume *volume);
void directory_table_drop_volume(struct directory_table *t, const char *name);
MUST_USE int directory_table_volume(const struct directory_table *t, const char *name,
                                    struct member_volume *ret_volume);
int directory_table_volumes(const struct directory_table *t, struct member_volume *ret_volumes,
                            int max);
