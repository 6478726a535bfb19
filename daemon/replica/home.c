#include "daemon/replica/home.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/replica/followers.h"
#include "daemon/replica/member_table.h"
#include "daemon/transfer/fetch.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"
#include "proto/messages.pb-c.h"

#define PUSH_WINDOW 4096u /* entries sent and not acknowledged, per follower */
#define PUSH_BATCH_BYTES (256u << 10)
#define PUSH_SEND_NS                                                                               \
    (200 * NS_PER_MS) /* a follower that takes longer to accept a batch is tried again later */
#define HOUSEKEEPING_NS (250 * NS_PER_MS)
#define ENTRY_CHECKSUM_OFFSET 24 /* fs/log/log.h */

struct home {
    struct source source;
    const struct replica_env *env;
    char *name, *directory;
    struct volume *volume; /* fixed between start and stop */
    pthread_t pusher;
    bool has_pusher;
    uint8_t *batch; /* the push thread's */

    struct mutex lock;
    struct cond changed; /* acknowledgements, members, appended entries, stopping */
    struct followers followers;
    uint64_t last;     /* last index appended */
    bool is_promoting; /* somebody writes the table of members: one at a time */
    bool is_stopping;
};

static void unlink_follower(struct follower *follower)
{
    if (follower->link)
        conn_put(follower->link);
    follower->link = NULL;
}

/* ---- the volume's source ---- */

static struct home *home_of(struct source *source)
{
    return container_of(source, struct home, source);
}

static int home_forward(struct source *source, const struct request *request, int64_t deadline_ns,
                        struct outcome *ret_outcome)
{
    (void)source, (void)request, (void)deadline_ns, (void)ret_outcome;
    CHECK(!"a home forwards nothing");
    return -EIO;
}

static void home_appended(struct source *source, const struct log_entry *entry)
{
    struct home *home = home_of(source);
    SCOPED_LOCK(&home->lock);
    home->last = entry->index;
    if (home->followers.n > 0)
        cond_broadcast(&home->changed);
}

static int home_settle(struct source *source, uint64_t index, int64_t deadline_ns)
{
    struct home *home = home_of(source);
    SCOPED_LOCK(&home->lock);
    for (;;) {
        int64_t until, now = clock_mono_ns();
        if (followers_settled(&home->followers, index, now, &until))
            return 0;
        if (home->is_stopping || now >= deadline_ns)
            return -EIO;
        if (!cond_wait_until(&home->changed, &home->lock, MIN(until, deadline_ns)))
            continue;
    }
}

static int home_admit(struct source *source, int64_t *ret_valid_ns)
{
    struct home *home = home_of(source);
    SCOPED_LOCK(&home->lock);
    *ret_valid_ns = followers_members(&home->followers) == 0 ? FOREVER_NS : LEASE_NS;
    return 0;
}

static int home_fetch(struct source *source, struct content *content, uint64_t first, uint64_t n,
                      enum fetch_class class, int64_t deadline_ns)
{
    struct home *home = home_of(source);
    return transfer_fetch(home->env->transfer, home->name, content, first, n, class, deadline_ns);
}

static void home_reading(struct source *source, struct content *content, uint64_t first, uint64_t n)
{
    struct home *home = home_of(source);
    transfer_reading(home->env->transfer, home->name, content, first, n);
}

static const struct source_ops home_ops = {
    .forward = home_forward,
    .appended = home_appended,
    .settle = home_settle,
    .admit = home_admit,
    .fetch = home_fetch,
    .reading = home_reading,
};

/* ---- pushing the log ---- */

struct push {
    struct host_id host;
    struct conn *conn;
    uint64_t from;
};

static bool wants_push(const struct home *home, const struct follower *follower)
{
    return follower->link && follower->sent < home->last &&
           follower->sent - MIN(follower->acked, follower->sent) < PUSH_WINDOW;
}

static void report_lost_members(struct home *home) REQUIRES(home->lock)
{
    struct follower *lost;
    while (followers_expire(&home->followers, clock_mono_ns(), &lost)) {
        log_warning("replica",
                    "host '%s' let its lease on volume '%s' end: changes go on without it",
                    lost->name, home->name);
        if (!lost->link)
            followers_remove(&home->followers, lost->host);
        cond_broadcast(&home->changed);
    }
}

/* Waits until some follower lacks an entry. False: stopping. */
static bool next_push(struct home *home, size_t *turn, struct push *ret_push)
{
    SCOPED_LOCK(&home->lock);
    while (!home->is_stopping) {
        report_lost_members(home);
        for (size_t i = 0; i < home->followers.n; i++) {
            struct follower *follower = &home->followers.all[(*turn + i) % home->followers.n];
            if (!wants_push(home, follower))
                continue;
            *turn += i + 1;
            *ret_push = (struct push){follower->host, conn_ref(follower->link), follower->sent + 1};
            return true;
        }
        if (!cond_wait_until(&home->changed, &home->lock, clock_mono_ns() + HOUSEKEEPING_NS))
            continue;
    }
    return false;
}

static uint64_t last_index_of(struct span entries)
{
    struct reader r = reader_over(entries.data, entries.size);
    struct log_entry entry;
    uint64_t last = 0;
    while (log_entry_get(&r, &entry) == 0)
        last = entry.index;
    return last;
}

/* False: the follower has joined anew meanwhile, or is gone. */
static bool move_sent(struct home *home, const struct push *push, uint64_t from, uint64_t to)
{
    SCOPED_LOCK(&home->lock);
    struct follower *follower = followers_find(&home->followers, push->host);
    if (!follower || follower->link != push->conn || follower->sent != from)
        return false;
    follower->sent = to;
    return true;
}

static int push_batch(struct home *home, const struct push *push)
{
    size_t used;
    int r = log_read(volume_log(home->volume), push->from, home->batch, PUSH_BATCH_BYTES, &used);
    if (r < 0)
        return r;
    struct span raw = {home->batch, used};
    uint64_t last = last_index_of(raw);
    Whiskfs__Entries message = WHISKFS__ENTRIES__INIT;
    message.volume = home->name;
    /* Noted before it is sent: the acknowledgement may be back before conn_send returns. */
    if (!move_sent(home, push, push->from - 1, last))
        return 0;
    r = conn_send(push->conn, FRAME_CONTROL, FRAME_ENTRIES, 0, &message.base, raw,
                  clock_mono_ns() + PUSH_SEND_NS);
    if (r < 0)
        (void)!move_sent(home, push, last, push->from - 1);
    return r;
}

static void forget_conn(struct home *home, struct conn *conn)
{
    SCOPED_LOCK(&home->lock);
    for (size_t i = home->followers.n; i-- > 0;) {
        struct follower *follower = &home->followers.all[i];
        if (follower->link != conn)
            continue;
        unlink_follower(follower);
        if (!follower->is_member)
            followers_remove(&home->followers, follower->host);
    }
}

static void *push_main(void *arg)
{
    struct home *home = arg;
    struct push push;
    size_t turn = 0;
    while (next_push(home, &turn, &push)) {
        int r = push_batch(home, &push);
        if (r < 0 && r != -ETIMEDOUT) { /* the follower joins again */
            conn_close(push.conn, "cannot send log entries");
            forget_conn(home, push.conn); /* its end may have been told before it was a link */
        }
        conn_put(push.conn);
    }
    return NULL;
}

/* ---- frames ---- */

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
static bool holds_entry(struct home *home, uint64_t index, uint64_t checksum)
{
    AUTO_FREE uint8_t *buffer = malloc(PUSH_BATCH_BYTES);
    size_t used;
    if (!buffer || log_read(volume_log(home->volume), index, buffer, PUSH_BATCH_BYTES, &used) < 0)
        return false;
    struct reader r = reader_over(buffer + ENTRY_CHECKSUM_OFFSET, used - ENTRY_CHECKSUM_OFFSET);
    return get_u64(&r) == checksum;
}

static bool can_tail(struct home *home, const Whiskfs__Join *join)
{
    if (join->have_index == 0)
        return log_first(volume_log(home->volume)) == 1;
    return holds_entry(home, join->have_index, join->have_checksum);
}

static int send_checkpoint(struct home *home, struct conn *conn, int fd, uint64_t size)
{
    AUTO_FREE uint8_t *buffer = malloc(CHECKPOINT_RAW_MAX);
    if (!buffer)
        return -ENOMEM;
    for (uint64_t offset = 0; offset < size;) {
        ssize_t n = pread(fd, buffer, MIN(CHECKPOINT_RAW_MAX, size - offset), (off_t)offset);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        Whiskfs__Checkpoint message = WHISKFS__CHECKPOINT__INIT;
        message.volume = home->name;
        message.offset = offset;
        int r = conn_send(conn, FRAME_CONTROL, FRAME_CHECKPOINT, 0, &message.base,
                          (struct span){buffer, (size_t)n}, clock_mono_ns() + REQUEST_TIMEOUT_NS);
        if (r < 0)
            return r;
        offset += (uint64_t)n;
    }
    return 0;
}

static int begin_following(struct home *home, struct conn *conn, uint64_t have_index)
{
    SCOPED_LOCK(&home->lock);
    struct follower *follower;
    int r =
        followers_join(&home->followers, conn_host(conn), conn_name(conn), have_index, &follower);
    if (r < 0)
        return r;
    unlink_follower(follower);
    follower->link = conn_ref(conn);
    cond_broadcast(&home->changed);
    return 0;
}

/* The joiner follows before it is answered, so that nothing it asks next can find it unknown. */
static int answer_join(struct home *home, struct conn *conn, const struct frame *frame,
                       uint64_t have_index, uint64_t checkpoint_bytes)
{
    int r = begin_following(home, conn, have_index);
    if (r < 0)
        return r;
    Whiskfs__JoinReply reply = WHISKFS__JOIN_REPLY__INIT;
    reply.checkpoint_index = have_index;
    reply.checkpoint_bytes = checkpoint_bytes;
    reply.last_index = volume_applied(home->volume);
    answer(conn, frame, FRAME_JOIN_REPLY, &reply.base);
    return 0;
}

static int join_by_checkpoint(struct home *home, struct conn *conn, const struct frame *frame)
{
    AUTO_CLOSE int fd = -1;
    uint64_t index;
    struct stat st;
    int r = volume_checkpoint_open(home->volume, &fd, &index);
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return -errno;
    r = send_checkpoint(home, conn, fd, (uint64_t)st.st_size);
    return r < 0 ? r : answer_join(home, conn, frame, index, (uint64_t)st.st_size);
}

static int on_join(struct home *home, struct conn *conn, const struct frame *frame,
                   const ProtobufCMessage *body)
{
    const Whiskfs__Join *join = (const void *)body;
    log_info("replica", "host '%s' joins volume '%s' with entry %llu", conn_name(conn), home->name,
             (unsigned long long)join->have_index);
    return can_tail(home, join) ? answer_join(home, conn, frame, join->have_index, 0)
                                : join_by_checkpoint(home, conn, frame);
}

/* The follower that joined over conn, or NULL: what an older connection of a host still says counts no more. */
static struct follower *follower_of(struct home *home, const struct conn *conn) REQUIRES(home->lock)
{
    struct follower *follower = followers_find(&home->followers, conn_host(conn));
    return follower && follower->link == conn ? follower : NULL;
}

static void on_ack(struct home *home, struct conn *conn, const ProtobufCMessage *body)
{
    SCOPED_LOCK(&home->lock);
    if (!follower_of(home, conn))
        return;
    followers_ack(&home->followers, conn_host(conn),
                  ((const Whiskfs__Ack *)(const void *)body)->index);
    cond_broadcast(&home->changed);
}

/* Members with `extra` among them, for the table on disk. */
static size_t member_names(struct home *home, const char *extra,
                           char (**ret_names)[HOST_NAME_MAX_BYTES + 1])
{
    SCOPED_LOCK(&home->lock);
    char(*names)[HOST_NAME_MAX_BYTES + 1] = calloc(home->followers.n + 1, sizeof *names);
    size_t n = 0;
    if (!names)
        return 0;
    (void)snprintf(names[n++], sizeof *names, "%s", extra);
    for (size_t i = 0; i < home->followers.n; i++)
        if (home->followers.all[i].is_member && strcmp(home->followers.all[i].name, extra) != 0)
            (void)snprintf(names[n++], sizeof *names, "%s", home->followers.all[i].name);
    *ret_names = names;
    return n;
}

static int save_members(struct home *home, const char *extra)
{
    char(*names)[HOST_NAME_MAX_BYTES + 1] = NULL;
    size_t n = member_names(home, extra, &names);
    int r = n == 0 ? -ENOMEM : member_table_save(home->directory, names, n);
    free(names);
    return r;
}

/* Two promotions at a time would each write a table without the other. */
static int begin_promotion(struct home *home)
{
    int64_t deadline = clock_mono_ns() + REQUEST_TIMEOUT_NS;
    SCOPED_LOCK(&home->lock);
    while (home->is_promoting)
        if (!cond_wait_until(&home->changed, &home->lock, deadline))
            return -EIO;
    home->is_promoting = true;
    return 0;
}

static int promote_locked(struct home *home, struct conn *conn, bool *ret_was_alone,
                          uint64_t *ret_index) REQUIRES(home->lock)
{
    if (!follower_of(home, conn))
        return -ENOTCONN;
    *ret_was_alone = followers_members(&home->followers) == 0;
    *ret_index = home->last;
    (void)!followers_promote(&home->followers, conn_host(conn), clock_mono_ns());
    return 0;
}

static int promote(struct home *home, struct conn *conn, bool *ret_was_alone, uint64_t *ret_index)
{
    int r = begin_promotion(home);
    if (r < 0)
        return r;
    r = save_members(home, conn_name(conn));
    SCOPED_LOCK(&home->lock);
    if (r == 0)
        r = promote_locked(home, conn, ret_was_alone, ret_index);
    home->is_promoting = false;
    cond_broadcast(&home->changed);
    return r;
}

static int on_promote(struct home *home, struct conn *conn, const struct frame *frame)
{
    Whiskfs__PromoteReply reply = WHISKFS__PROMOTE_REPLY__INIT;
    bool was_alone = false;
    int r = promote(home, conn, &was_alone, &reply.index);
    if (r < 0)
        return r;
    if (was_alone)
        home->env->expire(home->env->ctx, home->name);
    reply.lease_ms = LEASE_NS / NS_PER_MS;
    answer(conn, frame, FRAME_PROMOTE_REPLY, &reply.base);
    return 0;
}

static int on_renew(struct home *home, struct conn *conn, const struct frame *frame,
                    const ProtobufCMessage *body)
{
    const Whiskfs__Renew *renew = (const void *)body;
    Whiskfs__RenewReply reply = WHISKFS__RENEW_REPLY__INIT;
    {
        SCOPED_LOCK(&home->lock);
        struct follower *follower = follower_of(home, conn);
        if (!follower ||
            !followers_renew(&home->followers, conn_host(conn), renew->applied, clock_mono_ns()))
            return -ENOTCONN;
        reply.lease_ms = follower->is_member ? LEASE_NS / NS_PER_MS : 0;
        reply.last_index = home->last;
        cond_broadcast(&home->changed);
    }
    answer(conn, frame, FRAME_RENEW_REPLY, &reply.base);
    return 0;
}

static void on_leave(struct home *home, struct conn *conn)
{
    SCOPED_LOCK(&home->lock);
    struct follower *follower = follower_of(home, conn);
    if (!follower)
        return;
    unlink_follower(follower);
    followers_remove(&home->followers, conn_host(conn));
    cond_broadcast(&home->changed);
}

static int on_forward(struct home *home, struct conn *conn, const struct frame *frame)
{
    struct reader r = reader_over(frame->raw.data, frame->raw.size);
    struct request request;
    struct outcome outcome = {0};
    int error = get_request(&r, &request);
    if (error < 0 || !reader_finished(&r))
        return -EBADMSG;
    if (!host_equal(request.identity.host, conn_host(conn)))
        return -EACCES;
    outcome.error = volume_execute(home->volume, &request, &outcome);
    if (outcome.error == 0 && outcome.index != 0)
        outcome.error =
            home_settle(&home->source, outcome.index, clock_mono_ns() + REQUEST_TIMEOUT_NS);
    if (outcome.error == 0 && (request.flags & REQUEST_DURABLE) != 0)
        outcome.error = log_sync(volume_log(home->volume), outcome.index);
    Whiskfs__Outcome reply = WHISKFS__OUTCOME__INIT;
    reply.code = wire_code_of_errno(outcome.error);
    reply.index = outcome.index;
    reply.ino = outcome.ino;
    reply.seen = MAX(outcome.index, tree_applied(volume_tree(home->volume)));
    answer(conn, frame, FRAME_OUTCOME, &reply.base);
    return 0;
}

static int dispatch(struct home *home, struct conn *conn, const struct frame *frame,
                    const ProtobufCMessage *body)
{
    switch (frame->type) {
    case FRAME_JOIN:
        return on_join(home, conn, frame, body);
    case FRAME_PROMOTE:
        return on_promote(home, conn, frame);
    case FRAME_RENEW:
        return on_renew(home, conn, frame, body);
    case FRAME_FORWARD:
        return on_forward(home, conn, frame);
    case FRAME_ACK:
        on_ack(home, conn, body);
        return 0;
    case FRAME_LEAVE:
        on_leave(home, conn);
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
    case FRAME_ACK:
        return &whiskfs__ack__descriptor;
    default:
        return &whiskfs__leave__descriptor;
    }
}

void home_frame(struct home *home, struct conn *conn, const struct frame *frame)
{
    ProtobufCMessage *body = NULL;
    int r = message_get(frame->body, body_of(frame->type), &body);
    if (r == 0)
        r = dispatch(home, conn, frame, body);
    message_free(body);
    if (r == -EBADMSG)
        conn_close(conn, "malformed message");
    else if (r < 0 && frame->id != 0)
        conn_refuse(conn, frame->id, r, strerror(-r));
}

void home_conn_closed(struct home *home, struct conn *conn)
{
    forget_conn(home, conn);
}

void home_status(struct home *home, struct replica_status *ret_status)
{
    SCOPED_LOCK(&home->lock);
    size_t n_members = followers_members(&home->followers);
    *ret_status = (struct replica_status){
        .is_home = true,
        .is_member = true,
        .has_lease = true,
        .is_connected = true,
        .home_index = home->last,
        .n_members = (unsigned)n_members,
        .n_learners = (unsigned)(home->followers.n - n_members),
    };
}

/* ---- life ---- */

DEFINE_FREEP(home, struct home)

int home_new(const struct replica_env *env, const char *name, const char *directory,
             struct home **ret_home)
{
    AUTO(home_freep) struct home *home = calloc(1, sizeof *home);
    if (!home)
        return -ENOMEM;
    mutex_init(&home->lock, LOCK_replica);
    cond_init(&home->changed);
    home->source.ops = &home_ops;
    home->env = env;
    home->name = strdup(name);
    home->directory = strdup(directory);
    home->batch = malloc(PUSH_BATCH_BYTES);
    if (!home->name || !home->directory || !home->batch)
        return -ENOMEM;
    *ret_home = TAKE(home);
    return 0;
}

struct source *home_source(struct home *home)
{
    return &home->source;
}

/* Members of before the restart are waited for until they renew or their leases must have ended. */
static int restore_members(struct home *home)
{
    char(*names)[HOST_NAME_MAX_BYTES + 1] = NULL;
    size_t n = 0;
    int r = member_table_load(home->directory, &names, &n);
    SCOPED_LOCK(&home->lock);
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct follower *follower;
        r = followers_join(&home->followers, host_id_of(names[i]), names[i], 0, &follower);
        if (r == 0)
            (void)!followers_promote(&home->followers, follower->host, clock_mono_ns());
    }
    free(names);
    return r;
}

int home_start(struct home *home, struct volume *volume)
{
    home->volume = volume;
    home->last = volume_applied(volume);
    int r = restore_members(home);
    if (r < 0)
        return r;
    r = thread_start(&home->pusher, "whiskfs-push", push_main, home);
    home->has_pusher = r == 0;
    return r;
}

void home_stop(struct home *home)
{
    {
        SCOPED_LOCK(&home->lock);
        home->is_stopping = true;
        cond_broadcast(&home->changed);
    }
    if (home->has_pusher)
        thread_join(home->pusher);
    home->has_pusher = false;
}

void home_free(struct home *home)
{
    if (!home)
        return;
    for (size_t i = 0; i < home->followers.n; i++)
        unlink_follower(&home->followers.all[i]);
    followers_done(&home->followers);
    free(home->batch);
    free(home->directory);
    free(home->name);
    cond_done(&home->changed);
    mutex_done(&home->lock);
    free(home);
}
