#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/private.h"

#include "proto/messages.pb-c.h"

#define ASK_NS NS_PER_S /* a host that is silent must not use up the time to ask the others */
#define TRY_NS (100 * NS_PER_MS) /* one that has been silent for long is asked last */
#define HOSTS_ASKED_MAX 256

/* What hosts said of a volume's home. */
struct hearsay {
    char name[VOLUME_NAME_MAX_BYTES + 1]; /* what it is called there */
    char home[HOST_NAME_MAX_BYTES + 1];
    uint64_t epoch;
    bool is_known, is_certain; /* certain: the home itself said it */
};

static int call_host(struct volumes *volumes, const struct member_host *host,
                     const Whiskfs__VolumeQuery *query, int64_t deadline_ns,
                     Whiskfs__VolumeInfo **ret_info)
{
    struct conn *conn;
    int r = peers_get(volumes->peers, host->id, CHANNEL_CONTROL, 0, deadline_ns, &conn);
    if (r < 0)
        return r == -ENOENT ? -EHOSTUNREACH : r;
    ProtobufCMessage *answer = NULL;
    r = conn_ask(conn, FRAME_VOLUME_QUERY, &query->base, FRAME_VOLUME_INFO,
                 &whiskfs__volume_info__descriptor, deadline_ns, &answer);
    *ret_info = (void *)answer;
    conn_put(conn);
    return r;
}

static bool is_long_silent(struct volumes *volumes, struct host_id host)
{
    SCOPED_LOCK(&volumes->lock);
    return silence_is_long(&volumes->silences, host, clock_mono_ns());
}

static void note_silence(struct volumes *volumes, struct host_id host, bool is_silent)
{
    SCOPED_LOCK(&volumes->lock);
    silence_note(&volumes->silences, host, is_silent, clock_mono_ns());
}

static int ask_host(struct volumes *volumes, const struct member_host *host, int64_t limit_ns,
                    const Whiskfs__VolumeQuery *query, int64_t deadline_ns,
                    Whiskfs__VolumeInfo **ret_info)
{
    int64_t until = MIN(deadline_ns, clock_mono_ns() + limit_ns);
    int r = call_host(volumes, host, query, until, ret_info);
    bool has_answered = r == 0 || r == -ENOENT;
    if (has_answered || clock_mono_ns() < deadline_ns) /* else it had no time */
        note_silence(volumes, host->id, !has_answered);
    return r;
}

/* A replica says what its log says; of such answers the one of the highest epoch is right. */
static void listen_to(struct hearsay *heard, const struct member_host *host,
                      const Whiskfs__VolumeInfo *info)
{
    bool is_certain = strcmp(info->home, host->name) == 0;
    if (heard->is_known && !is_certain && info->epoch <= heard->epoch)
        return;
    (void)snprintf(heard->name, sizeof heard->name, "%s", info->volume);
    (void)snprintf(heard->home, sizeof heard->home, "%s", info->home);
    heard->epoch = info->epoch;
    heard->is_known = true;
    heard->is_certain = is_certain;
}

struct round {
    struct volumes *volumes;
    const Whiskfs__VolumeQuery *query;
    struct host_id silent; /* as who asks knows */
    int64_t deadline_ns;
    struct hearsay heard;
    bool is_someone_silent;
};

static void ask_one(struct round *round, const struct member_host *host, int64_t limit_ns)
{
    Whiskfs__VolumeInfo *info = NULL;
    int r = ask_host(round->volumes, host, limit_ns, round->query, round->deadline_ns, &info);
    if (r == 0 && !host_equal(host_id_of(info->home), round->silent))
        listen_to(&round->heard, host, info);
    if (r < 0 && r != -ENOENT)
        round->is_someone_silent = true;
    message_free(info ? &info->base : NULL);
}

/* Asks who is alive, until the home itself answers; those that have been silent for long after all others. */
static void ask_all(struct round *round, const struct member_host *hosts, int n)
{
    bool is_late[HOSTS_ASKED_MAX] = {false};
    for (int i = 0; i < n && !round->heard.is_certain; i++) {
        if (!hosts[i].alive || host_equal(hosts[i].id, round->silent))
            continue;
        is_late[i] = is_long_silent(round->volumes, hosts[i].id);
        if (!is_late[i])
            ask_one(round, &hosts[i], ASK_NS);
    }
    for (int i = 0; i < n && !round->heard.is_certain; i++) {
        if (is_late[i])
            ask_one(round, &hosts[i], TRY_NS);
    }
}

/* -ENOENT: every host says no. -EHOSTUNREACH: of those that could be reached every one does. */
static int ask_hosts(struct volumes *volumes, const Whiskfs__VolumeQuery *query,
                     struct host_id silent, int64_t deadline_ns, struct hearsay *ret_heard)
{
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_ASKED_MAX, sizeof *hosts);
    if (!hosts)
        return -ENOMEM;
    int n = volumes->membership->ops->hosts(volumes->membership, hosts, HOSTS_ASKED_MAX);
    struct round round = {
        .volumes = volumes, .query = query, .silent = silent, .deadline_ns = deadline_ns};
    ask_all(&round, hosts, MIN(n, HOSTS_ASKED_MAX));
    *ret_heard = round.heard;
    if (round.heard.is_known)
        return 0;
    return round.is_someone_silent ? -EHOSTUNREACH : -ENOENT;
}

/* What the log here says already is no news, unless the home itself says it. */
int volumes_ask_around(void *ctx, const struct home_query *asked, int64_t deadline_ns,
                       struct host_id *ret_home)
{
    struct volumes *volumes = ctx;
    struct member_volume known;
    struct hearsay heard;
    if (volumes->membership->ops->volume(volumes->membership, asked->volume, &known) == 0 &&
        !host_equal(host_id_of(known.home), asked->silent) &&
        strcmp(known.home, volumes->self) != 0) {
        *ret_home = host_id_of(known.home);
        return 0;
    }
    Whiskfs__VolumeQuery query = WHISKFS__VOLUME_QUERY__INIT;
    query.volume = (char *)(uintptr_t)asked->volume;
    query.born_ns = asked->born_ns;
    int r = ask_hosts(volumes, &query, asked->silent, deadline_ns, &heard);
    if (r < 0)
        return r;
    if (strcmp(heard.name, asked->volume) != 0) {
        volumes_on_renamed(volumes, asked->volume, heard.name);
        return -EREMCHG;
    }
    if (strcmp(heard.home, volumes->self) == 0 ||
        (!heard.is_certain && heard.epoch <= asked->epoch))
        return -EHOSTUNREACH;
    *ret_home = host_id_of(heard.home);
    return 0;
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
    struct hearsay heard;
    int r = ask_hosts(volumes, &query, NO_HOST, deadline_ns, &heard);
    if (r == 0)
        (void)snprintf(ret_home, HOST_NAME_MAX_BYTES + 1, "%s", heard.home);
    return r;
}

bool volumes_may_pass(struct volumes *volumes, const char *name)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    struct member_volume known;
    if (volume_directory_home(&volumes->directories, name, home) == 0 ||
        volumes->membership->ops->volume(volumes->membership, name, &known) == 0)
        return true;
    SCOPED_LOCK(&volumes->lock);
    return silence_is_any_new(&volumes->silences, clock_mono_ns());
}

/* ---- taking the home ---- */

struct taking {
    struct volumes *volumes;
    struct volume *volume;
    const char *name;
    bool is_forced;
    struct obstacles obstacles;
};

static void note_obstacle(struct taking *taking, enum obstacle kind, const char *host)
{
    if (kind == OBSTACLE_SILENT && taking->obstacles.n_silent++ > 0)
        return;
    taking->obstacles.kind = kind;
    (void)snprintf(taking->obstacles.host, sizeof taking->obstacles.host, "%s", host);
}

static enum obstacle obstacle_of(struct taking *taking, const Whiskfs__VolumeInfo *info)
{
    uint64_t epoch = volume_turn(taking->volume).epoch;
    if (info->born_ns == 0) /* it has it, and has not opened it */
        return OBSTACLE_SILENT;
    if (info->born_ns != volume_born_ns(taking->volume))
        return OBSTACLE_NONE;
    if (info->is_home)
        return OBSTACLE_HOME;
    bool is_newer = info->epoch > epoch ||
                    (info->epoch == epoch && info->last_index > volume_applied(taking->volume));
    return is_newer ? OBSTACLE_NEWER : OBSTACLE_NONE;
}

static enum obstacle ask_about(struct taking *taking, const struct member_host *host)
{
    Whiskfs__VolumeInfo *info = NULL;
    Whiskfs__VolumeQuery query = WHISKFS__VOLUME_QUERY__INIT;
    query.volume = (char *)(uintptr_t)taking->name;
    query.born_ns = volume_born_ns(taking->volume);
    int r = call_host(taking->volumes, host, &query, clock_mono_ns() + ASK_NS, &info);
    enum obstacle obstacle = OBSTACLE_NONE;
    if (r == 0)
        obstacle = obstacle_of(taking, info);
    else if (r != -ENOENT)
        obstacle = OBSTACLE_SILENT;
    message_free(info ? &info->base : NULL);
    return obstacle;
}

/* Also those that membership takes for dead: what they say now counts. */
static int look_for_obstacles(void *ctx)
{
    struct taking *taking = ctx;
    struct volumes *volumes = taking->volumes;
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_ASKED_MAX, sizeof *hosts);
    if (!hosts)
        return -ENOMEM;
    taking->obstacles = (struct obstacles){0};
    int n = volumes->membership->ops->hosts(volumes->membership, hosts, HOSTS_ASKED_MAX);
    for (int i = 0; i < MIN(n, HOSTS_ASKED_MAX); i++) {
        enum obstacle obstacle = ask_about(taking, &hosts[i]);
        if (obstacle != OBSTACLE_NONE)
            note_obstacle(taking, obstacle, hosts[i].name);
        if (obstacle == OBSTACLE_HOME || obstacle == OBSTACLE_NEWER)
            return -EPERM;
    }
    return taking->obstacles.n_silent > 0 && !taking->is_forced ? -EPERM : 0;
}

int volumes_take_home_of(struct volumes *volumes, struct entry *entry, bool is_forced,
                         struct obstacles *ret_obstacles)
{
    struct taking taking = {.volumes = volumes, .name = entry->name, .is_forced = is_forced};
    taking.volume = entry->attachment ? attachment_volume(entry->attachment) : NULL;
    if (!taking.volume)
        return -ENOENT;
    int r = volume_is_home(taking.volume) ? -EALREADY : look_for_obstacles(&taking);
    if (r == 0)
        r = attachment_take_home(entry->attachment, look_for_obstacles, &taking);
    if (r == -EBUSY || r == -ECANCELED)
        taking.obstacles.kind = r == -EBUSY ? OBSTACLE_HOME : OBSTACLE_BACK;
    *ret_obstacles = taking.obstacles;
    return r == -EBUSY || r == -ECANCELED ? -EPERM : r;
}
