/* Frames about volumes: each goes to the attachment of the volume it names. */
#include <errno.h>
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

/* A replica that hears -ENOENT forgets the volume and what it keeps of it, so that is said only when the volume is gone
 * from this disk: not while this host starts, stops or cannot open it. */
static int why_absent(struct volumes *volumes, const char *name)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (volume_name_check(name) < 0)
        return -ENOENT;
    if (making_of(volumes, name) == MAKING_DECIDED)
        return -ENOTCONN;
    int r = volume_directory_home(&volumes->directories, name, home);
    return r == -ENOENT ? -ENOENT : -ENOTCONN;
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
    if (entry) {
        attachment_frame(entry->attachment, conn, frame);
        volumes_unuse(volumes, entry);
    } else if (frame->id != 0) {
        conn_refuse(conn, frame->id, why_absent(volumes, query->volume), "not open here");
    }
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
                         char *name, bool asker_makes)
{
    Whiskfs__VolumeInfo info = WHISKFS__VOLUME_INFO__INIT;
    if (!is_home_of(volumes, name) &&
        !(asker_makes && comes_first(volumes, name, conn_host(conn)))) {
        conn_refuse(conn, frame->id, -ENOENT, "this host is not its home");
        return;
    }
    info.volume = name;
    info.home = volumes->self;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_VOLUME_INFO, frame->id, &info.base,
                      (struct span){0}, clock_mono_ns() + NS_PER_S);
    if (r < 0)
        log_debug("volumes", "cannot answer host '%s': %s", conn_name(conn), strerror(-r));
}

static void on_query(void *ctx, struct conn *conn, const struct frame *frame)
{
    Whiskfs__VolumeQuery *query = NULL;
    if (volume_of_frame(frame, &query) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    answer_query(ctx, conn, frame, query->volume, query->is_making);
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
        {FRAME_CHECKPOINT, true}, {FRAME_ENTRIES, true},
    };
    for (size_t i = 0; i < N_ELEMENTS(handled); i++)
        peers_handle(volumes->peers, handled[i].type, handled[i].is_inline, on_frame, volumes);
    peers_handle(volumes->peers, FRAME_VOLUME_QUERY, true, on_query, volumes);
    peers_on_close(volumes->peers, on_conn_closed, volumes);
}
