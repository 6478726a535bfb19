#include "daemon/membership_static.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"

/* Volumes are asked for from host to host (VOLUME_QUERY), so nothing need be kept of what is announced. */
struct membership_static {
    struct membership membership;
    int n;
    struct member_host hosts[];
};

static struct membership_static *of(struct membership *m)
{
    return container_of(m, struct membership_static, membership);
}

static void static_free(struct membership *m)
{
    free(of(m));
}

static int static_host_by_name(struct membership *m, const char *name, struct member_host *ret_host)
{
    return of(m)->membership.ops->host_by_id(m, host_id_of(name), ret_host);
}

static int static_host_by_id(struct membership *m, struct host_id id, struct member_host *ret_host)
{
    for (int i = 0; i < of(m)->n; i++) {
        if (host_equal(of(m)->hosts[i].id, id)) {
            *ret_host = of(m)->hosts[i];
            return 0;
        }
    }
    return -ENOENT;
}

static int static_host_by_invoker(struct membership *m, int invoker, struct member_host *ret_host)
{
    for (int i = 0; i < of(m)->n; i++) {
        if (invoker >= 0 && of(m)->hosts[i].invoker == invoker) {
            *ret_host = of(m)->hosts[i];
            return 0;
        }
    }
    return -ENOENT;
}

static int static_hosts(struct membership *m, struct member_host *ret_hosts, int max)
{
    for (int i = 0; i < MIN(max, of(m)->n); i++)
        ret_hosts[i] = of(m)->hosts[i];
    return of(m)->n;
}

static int static_volume(struct membership *m, const char *name, struct member_volume *ret_volume)
{
    (void)m, (void)name, (void)ret_volume;
    return -ENOENT;
}

static int static_volumes(struct membership *m, struct member_volume *ret_volumes, int max)
{
    (void)m, (void)ret_volumes, (void)max;
    return 0;
}

static int static_announce(struct membership *m, const struct member_volume *volume)
{
    (void)m, (void)volume;
    return 0;
}

static int static_retract(struct membership *m, const char *volume)
{
    (void)m, (void)volume;
    return 0;
}

static bool static_connected(struct membership *m)
{
    (void)m;
    return true;
}

static const struct membership_ops static_ops = {
    .free = static_free,
    .host_by_name = static_host_by_name,
    .host_by_id = static_host_by_id,
    .host_by_invoker = static_host_by_invoker,
    .hosts = static_hosts,
    .volume = static_volume,
    .volumes = static_volumes,
    .announce = static_announce,
    .retract = static_retract,
    .connected = static_connected,
};

int membership_static_new(const struct member_host *hosts, int n,
                          struct membership **ret_membership)
{
    AUTO_FREE struct membership_static *m = calloc(1, sizeof *m + (size_t)n * sizeof *hosts);
    if (!m)
        return -ENOMEM;
    m->membership.ops = &static_ops;
    struct member_host other;
    for (int i = 0; i < n; i++) {
        if (static_host_by_id(&m->membership, hosts[i].id, &other) == 0)
            return -EEXIST;
        m->hosts[m->n] = hosts[i];
        m->hosts[m->n++].alive = true;
    }
    *ret_membership = &TAKE(m)->membership;
    return 0;
}
