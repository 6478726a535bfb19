/* A home that was cut off, or away, does not know that another host has taken its place: so it asks. And who follows a home
 * that is no more hears of the new one by being asked. */
#include <errno.h>

#include "daemon/replica/impl.h"

#define HOSTS_ASKED_MAX 256
#define ASK_NS (500 * NS_PER_MS)
#define LEASE_TURNS 4 /* of the lease thread, from one host to the next */

struct ask {
    struct host_id host; /* NO_HOST: none this time */
    uint64_t epoch;
    bool is_first_round; /* each is asked at once */
};

static bool is_followed_by(const struct replica *replica, struct host_id host)
    REQUIRES(replica->lock)
{
    const struct follower *follower = followers_find(&replica->core.followers, host);
    return follower && follower->link;
}

/* The next to be asked, of n. False: this host is not the home, or is to be asked nobody now. */
static bool next_to_ask(struct replica *replica, const struct member_host *hosts, unsigned n,
                        struct ask *ask)
{
    SCOPED_LOCK(&replica->lock);
    if (!core_is_home(&replica->core) || replica->is_stopping || n == 0)
        return false;
    const struct member_host *host = &hosts[replica->n_heralded % n];
    ask->is_first_round = replica->n_heralded < n;
    if (!ask->is_first_round && ++replica->n_lease_turns % LEASE_TURNS != 0)
        return false;
    ask->host = host->alive && !is_followed_by(replica, host->id) ? host->id : NO_HOST;
    ask->epoch = replica->core.turn.epoch;
    replica->n_heralded++;
    return true;
}

static int call_query(struct replica *replica, const struct ask *ask,
                      Whiskfs__VolumeInfo **ret_info)
{
    struct conn *conn;
    ProtobufCMessage *answer = NULL;
    int64_t deadline = clock_mono_ns() + ASK_NS;
    Whiskfs__VolumeQuery query = WHISKFS__VOLUME_QUERY__INIT;
    query.volume = replica->name;
    query.born_ns = volume_born_ns(replica->volume);
    query.epoch = ask->epoch;
    query.is_routine = !ask->is_first_round;
    int r = peers_get(replica->env->peers, ask->host, CHANNEL_CONTROL, 0, deadline, &conn);
    if (r < 0)
        return r;
    r = conn_ask(conn, FRAME_VOLUME_QUERY, &query.base, FRAME_VOLUME_INFO,
                 &whiskfs__volume_info__descriptor, deadline, &answer);
    *ret_info = (void *)answer;
    conn_put(conn);
    return r;
}

static void ask_one(struct replica *replica, const struct ask *ask)
{
    Whiskfs__VolumeInfo *info = NULL;
    if (call_query(replica, ask, &info) == 0 && info->born_ns == volume_born_ns(replica->volume))
        replica_hear(replica, info->epoch, host_id_of(info->home));
    message_free(info ? &info->base : NULL);
}

static bool is_home(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    return core_is_home(&replica->core);
}

void herald_ask(struct replica *replica)
{
    struct membership *membership = replica->env->membership;
    struct ask ask = {.is_first_round = true};
    if (!is_home(replica))
        return;
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_ASKED_MAX, sizeof *hosts);
    int known = hosts ? membership->ops->hosts(membership, hosts, HOSTS_ASKED_MAX) : 0;
    unsigned n = (unsigned)MIN(known, HOSTS_ASKED_MAX);
    while (ask.is_first_round && next_to_ask(replica, hosts, n, &ask))
        if (!host_equal(ask.host, NO_HOST))
            ask_one(replica, &ask);
}
