/* Frames about volumes: each goes to the attachment of the volume it names. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/private.h"

#include "proto/base/log.h"
#include "proto/messages.pb-c.h"

/* Field 1 of every message about a volume is its name; the other fields are unknown to VolumeQuery and ignored. */
static int volume_of_frame(const struct frame *frame, Whiskfs__VolumeQuery **ret_query)
{
    ProtobufCMessage *message = NULL;
    int r = message_get(frame->body, &whiskfs__volume_query__descriptor, &message);
    if (r == 0)
        *ret_query = (void *)message;
    return r;
}

static enum making making_of(struct volumes *volumes, const char *name)
{
    SCOPED_LOCK(&volumes->lock);
    const struct entry *entry = volumes_find_entry(volumes, name);
    return entry ? entry->making : MAKING_NOT;
}

static bool is_busy(struct volumes *volumes, const char *name)
{
    SCOPED_LOCK(&volumes->lock);
    const struct entry *entry = volumes_find_entry(volumes, name);
    return entry && entry->is_busy;
}

/* A replica that hears -ENOENT forgets the volume and what it keeps of it, so that is said only when the volume is gone
 * from this disk: not while this host starts, stops, renames or cannot open it, and not to a RENEW: only a JOIN says
 * which volume is meant. */
static int why_absent(struct volumes *volumes, const char *name, enum frame_type type)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (volume_name_check(name) < 0)
        return -ENOENT;
    if (type == FRAME_RENEW || is_busy(volumes, name))
        return -ENOTCONN;
    int r = volume_directory_home(&volumes->directories, name, home);
    return r == -ENOENT ? -ENOENT : -ENOTCONN;
}

static void send_info(struct conn *conn, const struct frame *frame, const Whiskfs__VolumeInfo *info)
{
    int r = conn_send(conn, FRAME_CONTROL, FRAME_VOLUME_INFO, frame->id, &info->base,
                      (struct span){0}, clock_mono_ns() + NS_PER_S);
    if (r < 0)
        log_debug("volumes", "cannot answer host '%s': %s", conn_name(conn), strerror(-r));
}

/* Whether the joiner holds the volume that the entry, if any, stands for. */
static bool holds_this(struct entry *entry, int64_t born_ns)
{
    struct volume *volume = entry ? attachment_volume(entry->attachment) : NULL;
    return volume && volume_born_ns(volume) == born_ns;
}

/* What the log of this host's copy says, and how far it reaches. */
static bool knows_home(struct volumes *volumes, const char *name, char *ret_home,
                       Whiskfs__VolumeInfo *info)
{
    struct volume_status *status = calloc(1, sizeof *status);
    bool is_known = status && volumes_status(volumes, name, status) == 0 &&
                    status->replica.turn.epoch != 0 && status->home[0] != '\0';
    if (is_known) {
        (void)snprintf(ret_home, HOST_NAME_MAX_BYTES + 1, "%s", status->home);
        info->epoch = status->replica.turn.epoch;
        info->born_ns = status->born_ns;
        info->last_index = status->applied;
        info->is_home = status->replica.orders;
    }
    free(status);
    return is_known;
}

/* True: answered. */
static bool answer_by_birth(struct volumes *volumes, struct conn *conn, const struct frame *frame,
                            const char *old_name, int64_t born_ns)
{
    char name[VOLUME_NAME_MAX_BYTES + 1];
    int r = volumes_find_renamed(volumes, old_name, born_ns, name);
    char home[HOST_NAME_MAX_BYTES + 1];
    Whiskfs__VolumeInfo info = WHISKFS__VOLUME_INFO__INIT;
    info.volume = name;
    if (r == 0)
        (void)knows_home(volumes, name, home, &info);
    info.home = volumes->self;
    if (r == 0)
        send_info(conn, frame, &info);
    else if (r != -ENOENT)
        conn_refuse(conn, frame->id, -ENOTCONN, "it may have another name: not open now");
    return r != -ENOENT;
}

/* A replica that slept through a rename asks by the old name, which may be another volume's by now. True: answered. */
static bool answer_join_by_birth(struct volumes *volumes, struct conn *conn,
                                 const struct frame *frame, struct entry *entry)
{
    ProtobufCMessage *body = NULL;
    if (message_get(frame->body, &whiskfs__join__descriptor, &body) < 0)
        return false;
    const Whiskfs__Join *join = (const void *)body;
    bool is_answered = join->born_ns != 0 && !holds_this(entry, join->born_ns) &&
                       answer_by_birth(volumes, conn, frame, join->volume, join->born_ns);
    message_free(body);
    return is_answered;
}

static void on_frame(void *ctx, struct conn *conn, const struct frame *frame)
{
    struct volumes *volumes = ctx;
    Whiskfs__VolumeQuery *query = NULL;
    if (volume_of_frame(frame, &query) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    struct entry *entry = volumes_use(volumes, query->volume);
    bool is_answered =
        frame->type == FRAME_JOIN && answer_join_by_birth(volumes, conn, frame, entry);
    if (entry && !is_answered)
        attachment_frame(entry->attachment, conn, frame);
    else if (!is_answered && frame->id != 0)
        conn_refuse(conn, frame->id, why_absent(volumes, query->volume, frame->type),
                    "not open here");
    if (entry)
        volumes_unuse(volumes, entry);
    message_free(&query->base);
}

/* The asker makes a volume that this host is making: who goes on? */
static bool comes_first(struct volumes *volumes, const char *name, struct host_id asker)
{
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry = volumes_find_entry(volumes, name);
    if (!entry || entry->making == MAKING_NOT)
        return false;
    if (entry->making == MAKING_DECIDED || volumes->env.self.n < asker.n)
        return true;
    entry->making = MAKING_YIELDED;
    return false;
}

/* Also of a volume that is not open (yet): otherwise another host might make it anew. */
static bool is_home_of(struct volumes *volumes, const char *name)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (volume_name_check(name) < 0)
        return false;
    if (making_of(volumes, name) == MAKING_DECIDED)
        return true;
    return volume_directory_home(&volumes->directories, name, home) == 0 &&
           strcmp(home, volumes->self) == 0;
}

static void answer_query(struct volumes *volumes, struct conn *conn, const struct frame *frame,
                         const Whiskfs__VolumeQuery *query)
{
    char *name = query->volume;
    bool asker_makes = query->is_making;
    char home[HOST_NAME_MAX_BYTES + 1];
    Whiskfs__VolumeInfo info = WHISKFS__VOLUME_INFO__INIT;
    info.volume = name;
    info.home = home;
    bool is_known = knows_home(volumes, name, home, &info);
    if (is_home_of(volumes, name) || (asker_makes && comes_first(volumes, name, conn_host(conn))))
        info.home = volumes->self;
    else if (!is_known || asker_makes)
        info.home = NULL;
    if (info.home)
        send_info(conn, frame, &info);
    else if (query->born_ns == 0 || query->is_routine ||
             !answer_by_birth(volumes, conn, frame, name, query->born_ns))
        conn_refuse(conn, frame->id, -ENOENT, "this host is not its home");
}

/* A host that orders a volume asks whether another does: that is news where it does. */
static void hear_asker(struct volumes *volumes, struct conn *conn,
                       const Whiskfs__VolumeQuery *query)
{
    struct entry *entry = query->epoch > 0 ? volumes_use(volumes, query->volume) : NULL;
    if (!entry)
        return;
    if (holds_this(entry, query->born_ns))
        attachment_hear(entry->attachment, query->epoch, conn_host(conn));
    volumes_unuse(volumes, entry);
}

static void on_query(void *ctx, struct conn *conn, const struct frame *frame)
{
    Whiskfs__VolumeQuery *query = NULL;
    if (volume_of_frame(frame, &query) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    answer_query(ctx, conn, frame, query);
    hear_asker(ctx, conn, query);
    message_free(&query->base);
}

static void on_conn_closed(void *ctx, struct conn *conn)
{
    struct volumes *volumes = ctx;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        if (entry->attachment)
            attachment_conn_closed(entry->attachment, conn);
    }
}

void volumes_handle_frames(struct volumes *volumes)
{
    static const struct {
        enum frame_type type;
        bool is_inline;
    } handled[] = {
        {FRAME_JOIN, false},      {FRAME_PROMOTE, false}, {FRAME_FORWARD, false},
        {FRAME_ACK, true},        {FRAME_RENEW, true},    {FRAME_LEAVE, true},
        {FRAME_CHECKPOINT, true}, {FRAME_ENTRIES, true},  {FRAME_OFFER, false},
    };
    for (size_t i = 0; i < N_ELEMENTS(handled); i++)
        peers_handle(volumes->peers, handled[i].type, handled[i].is_inline, on_frame, volumes);
    peers_handle(volumes->peers, FRAME_VOLUME_QUERY, true, on_query, volumes);
    peers_on_close(volumes->peers, on_conn_closed, volumes);
}
