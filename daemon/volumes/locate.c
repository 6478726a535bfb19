#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/private.h"

#include "proto/messages.pb-c.h"

#define ASK_NS NS_PER_S /* a host that is silent must not use up the time to ask the others */
#define HOSTS_ASKED_MAX 256

static int ask_host(struct volumes *volumes, const struct member_host *host,
                    const Whiskfs__VolumeQuery *query, char *ret_home, int64_t deadline_ns)
{
    struct conn *conn;
    int r = peers_get(volumes->peers, host->id, CHANNEL_CONTROL, 0, deadline_ns, &conn);
    if (r < 0)
        return r;
    struct frame *frame = NULL;
    ProtobufCMessage *reply = NULL;
    r = conn_call(conn, FRAME_CONTROL, FRAME_VOLUME_QUERY, &query->base, (struct span){0},
                  deadline_ns, &frame);
    if (r == 0)
        r = message_get(frame->body, &whiskfs__volume_info__descriptor, &reply);
    if (r == 0)
        (void)snprintf(ret_home, HOST_NAME_MAX_BYTES + 1, "%s",
                       ((Whiskfs__VolumeInfo *)(void *)reply)->home);
    message_free(reply);
    frame_free(frame);
    conn_put(conn);
    return r;
}

/* -ENOENT: every host that could be reached says no. */
static int ask_hosts(struct volumes *volumes, const Whiskfs__VolumeQuery *query, char *ret_home,
                     int64_t deadline_ns)
{
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_ASKED_MAX, sizeof *hosts);
    if (!hosts)
        return -ENOMEM;
    int n = volumes->membership->ops->hosts(volumes->membership, hosts, HOSTS_ASKED_MAX);
    int worst = -ENOENT;
    for (int i = 0; i < MIN(n, HOSTS_ASKED_MAX); i++) {
        if (!hosts[i].alive)
            continue;
        int64_t until = MIN(deadline_ns, clock_mono_ns() + ASK_NS);
        int r = ask_host(volumes, &hosts[i], query, ret_home, until);
        if (r == 0)
            return 0;
        if (r != -ENOENT)
            worst = -EHOSTUNREACH;
    }
    return worst;
}

int volumes_locate(struct volumes *volumes, const char *name, bool is_making, int64_t deadline_ns,
                   char ret_home[HOST_NAME_MAX_BYTES + 1])
{
    struct member_volume known;
    if (volume_directory_home(&volumes->directories, name, ret_home) == 0)
        return 0;
    if (volumes->membership->ops->volume(volumes->membership, name, &known) == 0) {
        (void)snprintf(ret_home, HOST_NAME_MAX_BYTES + 1, "%s", known.home);
        return 0;
    }
    Whiskfs__VolumeQuery query = WHISKFS__VOLUME_QUERY__INIT;
    query.volume = (char *)(uintptr_t)name;
    query.is_making = is_making;
    return ask_hosts(volumes, &query, ret_home, deadline_ns);
}
