/* Joining at a home, and what comes from it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/replica/impl.h"
#include "proto/base/log.h"

#define SAMPLES_MAX 64

struct join_request {
    Whiskfs__Join message;
    Whiskfs__Sample samples[SAMPLES_MAX], *list[SAMPLES_MAX];
};

static int add_samples(struct log *log, struct join_request *join)
{
    uint64_t index, last = join->message.have_index;
    for (unsigned n = 1; n < SAMPLES_MAX && (index = core_sample(last, log_first(log), n)) != 0;
         n++) {
        Whiskfs__Sample *sample = &join->samples[join->message.n_samples];
        whiskfs__sample__init(sample);
        sample->index = index;
        int r = log_checksum(log, index, &sample->checksum);
        if (r < 0)
            return r == -ENOENT ? 0 : r; /* trimmed meanwhile */
        join->list[join->message.n_samples++] = sample;
    }
    join->message.samples = join->list;
    return 0;
}

static int describe_log(struct volume *volume, struct join_request *join)
{
    struct log *log = volume_log(volume);
    join->message.epoch = volume_turn(volume).epoch;
    join->message.born_ns = volume_born_ns(volume);
    uint64_t last = log_last(log);
    int r = log_checksum(log, last, &join->message.have_checksum);
    if (r == -ENOENT || r == -ENODATA)
        return 0; /* an empty log: join with nothing */
    join->message.have_index = last;
    return r < 0 ? r : add_samples(log, join);
}

/* Entries may come right behind the answer: the inbox takes them from the moment the connection is noted. */
static void begin(struct replica *replica, struct host_id home, struct conn *conn, int fd)
{
    SCOPED_LOCK(&replica->lock);
    core_joining(&replica->core, home, conn_ref(conn));
    inbox_clear(&replica->inbox);
    replica->checkpoint_fd = fd;
    replica->checkpoint_got = 0;
}

/* In place of a JOIN_REPLY: the host that was asked has that volume under another name. */
static int take_name(struct replica *replica, const struct frame *frame)
{
    ProtobufCMessage *info = NULL;
    if (frame->type != FRAME_VOLUME_INFO)
        return -EBADMSG;
    int r = message_get(frame->body, &whiskfs__volume_info__descriptor, &info);
    if (r < 0)
        return r;
    replica->env->renamed(replica->env->ctx, replica->name,
                          ((const Whiskfs__VolumeInfo *)(const void *)info)->volume);
    message_free(info);
    return -EREMCHG;
}

static int call_join(struct replica *replica, struct conn *conn, const Whiskfs__Join *join,
                     int64_t deadline_ns, Whiskfs__JoinReply **ret_reply)
{
    struct frame *frame = NULL;
    int r = conn_call(conn, FRAME_CONTROL, FRAME_JOIN, &join->base, (struct span){0}, deadline_ns,
                      &frame);
    if (r < 0)
        return r;
    ProtobufCMessage *reply = NULL;
    r = frame->type == FRAME_JOIN_REPLY
            ? message_get(frame->body, &whiskfs__join_reply__descriptor, &reply)
            : take_name(replica, frame);
    frame_free(frame);
    if (r == 0)
        *ret_reply = (void *)reply;
    return r;
}

/* Older homes do not say how far the logs are the same. */
static uint64_t diverges_at(const Whiskfs__Join *join, const Whiskfs__JoinReply *reply)
{
    const struct comparison comparison = {
        .epoch = join->epoch,
        .last = join->have_index,
        .home_epoch = reply->epoch,
        .home_first = reply->first_index,
        .shared = reply->shared_index,
    };
    bool is_replaced = reply->checkpoint_bytes > 0 && reply->born_ns == join->born_ns;
    return is_replaced && reply->first_index > 0 ? core_diverges_at(&comparison) : NO_FENCE;
}

static int take_reply(struct replica *replica, struct conn *conn, const Whiskfs__Join *join,
                      const Whiskfs__JoinReply *reply)
{
    SCOPED_LOCK(&replica->lock);
    if (reply->born_ns != join->born_ns) /* another volume of that name: it replaces this one */
        core_forget(&replica->core);
    replica->diverges_at = diverges_at(join, reply);
    if (replica->checkpoint_got != reply->checkpoint_bytes)
        return -EIO; /* it came before the answer, on the same connection */
    if (reply->checkpoint_bytes > 0 && atomic_load(&replica->volume))
        return -ESTALE; /* what is open does not become that, and must not take what follows it */
    if (!core_joined(&replica->core, conn, reply->epoch, reply->last_index))
        return -ENOTCONN;
    replica->target = reply->last_index;
    return 0;
}

static void end(struct replica *replica, struct conn *conn, int error)
{
    SCOPED_LOCK(&replica->lock);
    replica->checkpoint_fd = -1;
    if (error < 0) {
        if (core_unlink(&replica->core, conn))
            inbox_clear(&replica->inbox);
        core_join_failed(&replica->core);
    } else {
        (void)core_move_on(&replica->core);
    }
    cond_broadcast(&replica->changed);
}

static int join_over(struct replica *replica, struct host_id home, struct conn *conn,
                     struct volume *have, int64_t deadline_ns, int *ret_checkpoint_fd)
{
    struct join_request join = {.message = WHISKFS__JOIN__INIT};
    Whiskfs__JoinReply *reply = NULL;
    AUTO_CLOSE int fd = memfd_create("whiskfs-checkpoint", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    join.message.volume = replica->name;
    int r = have ? describe_log(have, &join) : 0;
    if (r < 0)
        return r;
    begin(replica, home, conn, fd);
    r = call_join(replica, conn, &join.message, deadline_ns, &reply);
    if (r == 0)
        r = take_reply(replica, conn, &join.message, reply);
    end(replica, conn, r);
    if (r == 0)
        *ret_checkpoint_fd = reply->checkpoint_bytes > 0 ? TAKE_FD(fd) : -1;
    message_free(reply ? &reply->base : NULL);
    return r;
}

/* Who is the home, as far as the host at the other end knows. */
static struct host_id ask_for_home(struct replica *replica, struct conn *conn, int64_t deadline_ns)
{
    ProtobufCMessage *answer = NULL;
    struct host_id home = NO_HOST;
    Whiskfs__VolumeQuery query = WHISKFS__VOLUME_QUERY__INIT;
    query.volume = replica->name;
    int r = conn_ask(conn, FRAME_VOLUME_QUERY, &query.base, FRAME_VOLUME_INFO,
                     &whiskfs__volume_info__descriptor, deadline_ns, &answer);
    if (r == 0)
        home = host_id_of(((Whiskfs__VolumeInfo *)(void *)answer)->home);
    message_free(answer);
    return host_equal(home, conn_host(conn)) ? NO_HOST : home;
}

int join_at(struct replica *replica, struct host_id home, struct volume *have, int64_t deadline_ns,
            int *ret_checkpoint_fd, struct host_id *ret_home)
{
    struct conn *conn;
    *ret_home = NO_HOST;
    int r = peers_get(replica->env->peers, home, CHANNEL_CONTROL, 0, deadline_ns, &conn);
    if (r < 0) {
        SCOPED_LOCK(&replica->lock);
        core_join_failed(&replica->core);
        return r == -ENOENT ? -EHOSTUNREACH : r;
    }
    r = join_over(replica, home, conn, have, deadline_ns, ret_checkpoint_fd);
    if (r == -EREMOTE)
        *ret_home = ask_for_home(replica, conn, deadline_ns);
    conn_put(conn);
    return r;
}

/* ---- frames ---- */

static void take_checkpoint_locked(struct replica *replica, const struct frame *frame,
                                   const Whiskfs__Checkpoint *message) REQUIRES(replica->lock)
{
    if (replica->checkpoint_fd < 0 || message->offset != replica->checkpoint_got)
        return;
    ssize_t n =
        pwrite(replica->checkpoint_fd, frame->raw.data, frame->raw.size, (off_t)message->offset);
    if (n > 0) /* a short one is noticed when the join is answered */
        replica->checkpoint_got += (uint64_t)n;
}

void join_checkpoint_frame(struct replica *replica, struct conn *conn, const struct frame *frame)
{
    ProtobufCMessage *body = NULL;
    if (message_get(frame->body, &whiskfs__checkpoint__descriptor, &body) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    {
        SCOPED_LOCK(&replica->lock);
        if (replica->core.link == conn)
            take_checkpoint_locked(replica, frame, (const void *)body);
    }
    message_free(body);
}

void join_entries_frame(struct replica *replica, struct conn *conn, const struct frame *frame)
{
    bool is_flooded = false;
    {
        SCOPED_LOCK(&replica->lock);
        if (replica->core.link == conn)
            is_flooded = inbox_put(&replica->inbox, frame->raw) < 0;
        cond_broadcast(&replica->changed);
    }
    if (is_flooded)
        conn_close(conn, "more log entries than its window allows");
}
