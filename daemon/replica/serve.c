/* The home's answers to those who follow it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/replica/impl.h"
#include "daemon/replica/member_table.h"
#include "proto/base/log.h"

static void answer(struct conn *conn, const struct frame *frame, enum frame_type type,
                   const ProtobufCMessage *body)
{
    int r = conn_send(conn, FRAME_CONTROL, type, frame->id, body, (struct span){0},
                      clock_mono_ns() + REQUEST_TIMEOUT_NS);
    if (r < 0)
        log_debug("replica", "cannot answer %s to host '%s': %s", frame_type_name(frame->type),
                  conn_name(conn), strerror(-r));
}

/* True if the home's log holds exactly the entry that the joiner holds last. */
static bool holds_entry(struct replica *replica, uint64_t index, uint64_t checksum)
{
    uint64_t own;
    return log_checksum(volume_log(replica->volume), index, &own) == 0 && own == checksum;
}

static bool can_tail(struct replica *replica, const Whiskfs__Join *join)
{
    if (join->have_index == 0)
        return log_first(volume_log(replica->volume)) == 1;
    return holds_entry(replica, join->have_index, join->have_checksum);
}

static uint64_t shared_with(struct replica *replica, const Whiskfs__Join *join)
{
    for (size_t i = 0; i < join->n_samples; i++)
        if (holds_entry(replica, join->samples[i]->index, join->samples[i]->checksum))
            return join->samples[i]->index;
    return 0;
}

/* What the joiner needs to know to keep what only it has. */
static void compare_logs(struct replica *replica, const Whiskfs__Join *join,
                         Whiskfs__JoinReply *reply)
{
    bool holds_last = holds_entry(replica, join->have_index, join->have_checksum);
    reply->first_index = log_first(volume_log(replica->volume));
    reply->shared_index = holds_last ? join->have_index : shared_with(replica, join);
}

static int send_checkpoint(struct replica *replica, struct conn *conn, int fd, uint64_t size)
{
    AUTO_FREE uint8_t *buffer = malloc(CHECKPOINT_RAW_MAX);
    if (!buffer)
        return -ENOMEM;
    for (uint64_t offset = 0; offset < size;) {
        ssize_t n = pread(fd, buffer, MIN(CHECKPOINT_RAW_MAX, size - offset), (off_t)offset);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        Whiskfs__Checkpoint message = WHISKFS__CHECKPOINT__INIT;
        message.volume = replica->name;
        message.offset = offset;
        int r = conn_send(conn, FRAME_CONTROL, FRAME_CHECKPOINT, 0, &message.base,
                          (struct span){buffer, (size_t)n}, clock_mono_ns() + REQUEST_TIMEOUT_NS);
        if (r < 0)
            return r;
        offset += (uint64_t)n;
    }
    return 0;
}

/* A replica of another volume of that name knows nothing of this one, and its epoch counts for nothing here. */
static uint64_t epoch_of_joiner(struct replica *replica, const Whiskfs__Join *join)
{
    return join->born_ns == volume_born_ns(replica->volume) ? join->epoch : 0;
}

static int begin_following(struct replica *replica, struct conn *conn, const Whiskfs__Join *join,
                           uint64_t from_index, bool has_applied)
{
    uint64_t epoch = epoch_of_joiner(replica, join);
    SCOPED_LOCK(&replica->lock);
    int r = core_may_join(&replica->core, epoch);
    if (r == 0)
        r = core_join(&replica->core, conn_host(conn), conn_name(conn), conn_ref(conn), from_index,
                      has_applied);
    cond_broadcast(&replica->changed);
    return r;
}

/* The joiner follows before it is answered, so that nothing it asks next can find it unknown. */
static int answer_join(struct replica *replica, struct conn *conn, const struct frame *frame,
                       const Whiskfs__Join *join, uint64_t from_index, uint64_t checkpoint_bytes)
{
    int r = begin_following(replica, conn, join, from_index, checkpoint_bytes == 0);
    if (r < 0)
        return r;
    Whiskfs__JoinReply reply = WHISKFS__JOIN_REPLY__INIT;
    reply.epoch = volume_turn(replica->volume).epoch;
    reply.born_ns = volume_born_ns(replica->volume);
    reply.checkpoint_index = from_index;
    reply.checkpoint_bytes = checkpoint_bytes;
    reply.last_index = volume_applied(replica->volume);
    if (checkpoint_bytes > 0)
        compare_logs(replica, join, &reply);
    answer(conn, frame, FRAME_JOIN_REPLY, &reply.base);
    return 0;
}

static int join_by_checkpoint(struct replica *replica, struct conn *conn, const struct frame *frame,
                              const Whiskfs__Join *join)
{
    AUTO_CLOSE int fd = -1;
    uint64_t index;
    struct stat st;
    int r = volume_checkpoint_open(replica->volume, &fd, &index);
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return -errno;
    r = send_checkpoint(replica, conn, fd, (uint64_t)st.st_size);
    return r < 0 ? r : answer_join(replica, conn, frame, join, index, (uint64_t)st.st_size);
}

static int may_join(struct replica *replica, const Whiskfs__Join *join)
{
    uint64_t epoch = epoch_of_joiner(replica, join);
    SCOPED_LOCK(&replica->lock);
    return core_may_join(&replica->core, epoch);
}

static int on_join(struct replica *replica, struct conn *conn, const struct frame *frame,
                   const ProtobufCMessage *body)
{
    const Whiskfs__Join *join = (const void *)body;
    int r = may_join(replica, join);
    if (r < 0)
        return r;
    log_info("replica", "host '%s' joins volume '%s' with entry %llu", conn_name(conn),
             replica->name, (unsigned long long)join->have_index);
    return can_tail(replica, join) ? answer_join(replica, conn, frame, join, join->have_index, 0)
                                   : join_by_checkpoint(replica, conn, frame, join);
}

static void on_ack(struct replica *replica, struct conn *conn, const ProtobufCMessage *body)
{
    SCOPED_LOCK(&replica->lock);
    core_ack(&replica->core, conn_host(conn), conn,
             ((const Whiskfs__Ack *)(const void *)body)->index);
    cond_broadcast(&replica->changed);
}

/* ---- the table of members ---- */

static size_t member_names(struct replica *replica, const char *extra,
                           char (**ret_names)[HOST_NAME_MAX_BYTES + 1])
{
    SCOPED_LOCK(&replica->lock);
    const struct followers *followers = &replica->core.followers;
    char(*names)[HOST_NAME_MAX_BYTES + 1] = calloc(followers->n + 1, sizeof *names);
    size_t n = 0;
    if (!names)
        return SIZE_MAX;
    if (extra)
        (void)snprintf(names[n++], sizeof *names, "%s", extra);
    for (size_t i = 0; i < followers->n; i++)
        if (followers->all[i].is_member && !(extra && strcmp(followers->all[i].name, extra) == 0))
            (void)snprintf(names[n++], sizeof *names, "%s", followers->all[i].name);
    *ret_names = names;
    return n;
}

/* Two at a time would each write a table without the other. */
static int begin_saving(struct replica *replica)
{
    int64_t deadline = clock_mono_ns() + REQUEST_TIMEOUT_NS;
    SCOPED_LOCK(&replica->lock);
    while (replica->is_saving)
        if (!cond_wait_until(&replica->changed, &replica->lock, deadline))
            return -EIO;
    replica->is_saving = true;
    return 0;
}

void serve_end_saving(struct replica *replica)
{
    replica->is_saving = false;
    cond_broadcast(&replica->changed);
}

int serve_save_members(struct replica *replica, const char *extra, bool *ret_is_saving)
{
    char(*names)[HOST_NAME_MAX_BYTES + 1] = NULL;
    int r = begin_saving(replica);
    *ret_is_saving = r == 0;
    if (r < 0)
        return r;
    size_t n = member_names(replica, extra, &names);
    r = n == SIZE_MAX ? -ENOMEM : member_table_save(replica->directory, names, n);
    free(names);
    return r;
}

static int check_follower(struct replica *replica, struct conn *conn, uint64_t epoch)
{
    SCOPED_LOCK(&replica->lock);
    return core_check_follower(&replica->core, conn_host(conn), conn, epoch);
}

static int promote(struct replica *replica, struct conn *conn, uint64_t epoch, bool *ret_was_alone,
                   uint64_t *ret_index)
{
    bool is_saving;
    int r = serve_save_members(replica, conn_name(conn), &is_saving);
    SCOPED_LOCK(&replica->lock);
    if (r == 0)
        r = core_promote(&replica->core, conn_host(conn), conn, epoch, clock_mono_ns(),
                         ret_was_alone, ret_index);
    if (is_saving)
        serve_end_saving(replica);
    return r;
}

static int on_promote(struct replica *replica, struct conn *conn, const struct frame *frame,
                      const ProtobufCMessage *body)
{
    uint64_t epoch = ((const Whiskfs__Promote *)(const void *)body)->epoch;
    Whiskfs__PromoteReply reply = WHISKFS__PROMOTE_REPLY__INIT;
    bool was_alone = false;
    int r = check_follower(replica, conn, epoch);
    if (r == 0)
        r = promote(replica, conn, epoch, &was_alone, &reply.index);
    if (r < 0)
        return r;
    if (was_alone)
        replica->env->expire(replica->env->ctx, replica->name);
    reply.lease_ms = LEASE_NS / NS_PER_MS;
    answer(conn, frame, FRAME_PROMOTE_REPLY, &reply.base);
    return 0;
}

static int on_renew(struct replica *replica, struct conn *conn, const struct frame *frame,
                    const ProtobufCMessage *body)
{
    const Whiskfs__Renew *renew = (const void *)body;
    Whiskfs__RenewReply reply = WHISKFS__RENEW_REPLY__INIT;
    {
        SCOPED_LOCK(&replica->lock);
        bool is_member;
        int r = core_renew(&replica->core, conn_host(conn), conn, renew->epoch, renew->applied,
                           clock_mono_ns(), &is_member);
        if (r < 0)
            return r;
        reply.lease_ms = is_member ? LEASE_NS / NS_PER_MS : 0;
        reply.last_index = replica->core.last;
        cond_broadcast(&replica->changed);
    }
    answer(conn, frame, FRAME_RENEW_REPLY, &reply.base);
    return 0;
}

static void on_leave(struct replica *replica, struct conn *conn)
{
    SCOPED_LOCK(&replica->lock);
    core_leave(&replica->core, conn_host(conn), conn);
    cond_broadcast(&replica->changed);
}

static int decide(struct replica *replica, const struct request *request, struct outcome *outcome)
{
    int r = volume_execute(replica->volume, request, outcome);
    if (r == 0 && outcome->index != 0)
        r = replica->source.ops->settle(&replica->source, outcome->index,
                                        clock_mono_ns() + REQUEST_TIMEOUT_NS);
    if (r == 0 && (request->flags & REQUEST_DURABLE) != 0)
        r = log_sync(volume_log(replica->volume), outcome->index);
    return r;
}

static int on_forward(struct replica *replica, struct conn *conn, const struct frame *frame,
                      const ProtobufCMessage *body)
{
    struct reader r = reader_over(frame->raw.data, frame->raw.size);
    struct request request;
    struct outcome outcome = {0};
    int error = get_request(&r, &request);
    if (error < 0 || !reader_finished(&r))
        return -EBADMSG;
    if (!host_equal(request.identity.host, conn_host(conn)) || request.kind == REQUEST_STOP ||
        request.kind == REQUEST_START)
        return -EACCES;
    error = check_follower(replica, conn, ((const Whiskfs__Forward *)(const void *)body)->epoch);
    if (error == 0)
        error = decide(replica, &request, &outcome);
    if (error == -EREMOTE || error == -ENOTCONN)
        return error;
    Whiskfs__Outcome reply = WHISKFS__OUTCOME__INIT;
    reply.code = wire_code_of_errno(error);
    reply.index = outcome.index;
    reply.ino = outcome.ino;
    reply.seen = MAX(outcome.index, tree_applied(volume_tree(replica->volume)));
    answer(conn, frame, FRAME_OUTCOME, &reply.base);
    return 0;
}

static int dispatch(struct replica *replica, struct conn *conn, const struct frame *frame,
                    const ProtobufCMessage *body)
{
    switch (frame->type) {
    case FRAME_JOIN:
        return on_join(replica, conn, frame, body);
    case FRAME_PROMOTE:
        return on_promote(replica, conn, frame, body);
    case FRAME_RENEW:
        return on_renew(replica, conn, frame, body);
    case FRAME_FORWARD:
        return on_forward(replica, conn, frame, body);
    case FRAME_OFFER:
        return turn_on_offer(replica, conn, (const void *)body);
    case FRAME_ACK:
        on_ack(replica, conn, body);
        return 0;
    case FRAME_LEAVE:
        on_leave(replica, conn);
        return 0;
    default:
        return -ENOSYS;
    }
}

static const ProtobufCMessageDescriptor *body_of(enum frame_type type)
{
    switch (type) {
    case FRAME_JOIN:
        return &whiskfs__join__descriptor;
    case FRAME_PROMOTE:
        return &whiskfs__promote__descriptor;
    case FRAME_RENEW:
        return &whiskfs__renew__descriptor;
    case FRAME_FORWARD:
        return &whiskfs__forward__descriptor;
    case FRAME_OFFER:
        return &whiskfs__offer__descriptor;
    case FRAME_ACK:
        return &whiskfs__ack__descriptor;
    default:
        return &whiskfs__leave__descriptor;
    }
}

void serve_frame(struct replica *replica, struct conn *conn, const struct frame *frame)
{
    ProtobufCMessage *body = NULL;
    int r = message_get(frame->body, body_of(frame->type), &body);
    if (r == 0)
        r = dispatch(replica, conn, frame, body);
    message_free(body);
    if (r == -EBADMSG)
        conn_close(conn, "malformed message");
    else if (r < 0 && frame->id != 0)
        conn_refuse(conn, frame->id, r, strerror(-r));
}
