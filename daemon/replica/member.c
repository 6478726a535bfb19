#include "daemon/replica/member.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/replica/followers.h"
#include "daemon/replica/inbox.h"
#include "daemon/replica/offer.h"
#include "daemon/transfer/fetch.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"
#include "proto/messages.pb-c.h"

#define JOIN_RETRY_NS (500 * NS_PER_MS)
#define CALL_NS NS_PER_S

struct member {
    struct source source;
    const struct replica_env *env;
    char *name;
    struct member_host home;
    struct volume *volume; /* fixed between start and stop */
    pthread_t follower, renewer;
    bool has_follower, has_renewer;

    struct mutex lock;
    struct cond changed; /* everything below */
    struct conn *conn;   /* to the home, once joined over it; or NULL */
    struct inbox inbox;  /* entries that came over conn */
    bool is_joined, is_stopping, is_promoting, is_member;
    int64_t member_since_ns;     /* when the last promotion was answered */
    int64_t lease_until_ns;      /* of this host's clock, from sending the renewal */
    uint64_t home_index, target; /* last known of the home; what start waits for */
    int checkpoint_fd;           /* being received, or -1 */
    uint64_t checkpoint_got;
};

static struct member *member_of(struct source *source)
{
    return container_of(source, struct member, source);
}

static const char *describe(int error)
{
    return strerror(error < 0 ? -error : error);
}

/* ---- joining ---- */

static void drop_conn_locked(struct member *member) REQUIRES(member->lock)
{
    if (member->conn)
        conn_put(member->conn);
    member->conn = NULL;
    member->is_joined = false;
    inbox_clear(&member->inbox);
    cond_broadcast(&member->changed);
}

/* Entries may come right behind the answer: the inbox takes them from the moment the connection is noted. */
static int call_join(struct member *member, struct conn *conn, const Whiskfs__Join *join,
                     int64_t deadline_ns, Whiskfs__JoinReply **ret_reply)
{
    struct frame *frame = NULL;
    {
        SCOPED_LOCK(&member->lock);
        drop_conn_locked(member);
        member->conn = conn_ref(conn);
    }
    int r = conn_call(conn, FRAME_CONTROL, FRAME_JOIN, &join->base, (struct span){0}, deadline_ns,
                      &frame);
    if (r < 0)
        return r;
    ProtobufCMessage *reply = NULL;
    if (frame->type == FRAME_JOIN_REPLY)
        r = message_get(frame->body, &whiskfs__join_reply__descriptor, &reply);
    else
        r = offer_refused(member->env, member->name, frame);
    frame_free(frame);
    if (r == 0)
        *ret_reply = (void *)reply;
    return r;
}

static void set_checkpoint_fd(struct member *member, int fd)
{
    SCOPED_LOCK(&member->lock);
    member->checkpoint_fd = fd;
    member->checkpoint_got = 0;
}

static int join_over(struct member *member, struct conn *conn, struct volume *have,
                     int64_t deadline_ns, uint64_t *ret_checkpoint_bytes)
{
    Whiskfs__Join join = WHISKFS__JOIN__INIT;
    Whiskfs__JoinReply *reply = NULL;
    join.volume = member->name;
    int r = have ? offer_make(have, &join) : 0;
    if (r == 0)
        r = call_join(member, conn, &join, deadline_ns, &reply);
    if (r < 0)
        return r;
    uint64_t bytes = reply->checkpoint_bytes;
    {
        SCOPED_LOCK(&member->lock);
        r = member->checkpoint_got == bytes
                ? 0
                : -EIO; /* it came before the answer, on the same connection */
        member->home_index = member->target = reply->last_index;
        member->is_joined = member->conn == conn;
        cond_broadcast(&member->changed);
    }
    message_free(&reply->base);
    if (r == 0)
        *ret_checkpoint_bytes = bytes;
    return r;
}

int member_join(struct member *member, struct volume *have, int64_t deadline_ns,
                int *ret_checkpoint_fd)
{
    struct conn *conn;
    uint64_t bytes = 0;
    AUTO_CLOSE int fd = memfd_create("whiskfs-checkpoint", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = peers_get(member->env->peers, member->home.id, CHANNEL_CONTROL, 0, deadline_ns, &conn);
    if (r < 0)
        return r;
    set_checkpoint_fd(member, fd);
    r = join_over(member, conn, have, deadline_ns, &bytes);
    set_checkpoint_fd(member, -1);
    if (r < 0) {
        SCOPED_LOCK(&member->lock);
        drop_conn_locked(member);
    }
    conn_put(conn);
    if (r == 0)
        *ret_checkpoint_fd = bytes > 0 ? TAKE_FD(fd) : -1;
    return r;
}

/* ---- frames ---- */

static void take_checkpoint_locked(struct member *member, const struct frame *frame,
                                   const Whiskfs__Checkpoint *message) REQUIRES(member->lock)
{
    if (member->checkpoint_fd < 0 || message->offset != member->checkpoint_got)
        return;
    ssize_t n =
        pwrite(member->checkpoint_fd, frame->raw.data, frame->raw.size, (off_t)message->offset);
    if (n > 0) /* a short one is noticed when the join is answered */
        member->checkpoint_got += (uint64_t)n;
    cond_broadcast(&member->changed);
}

void member_frame(struct member *member, struct conn *conn, const struct frame *frame)
{
    bool is_flooded = false;
    ProtobufCMessage *body = NULL;
    if (frame->type == FRAME_CHECKPOINT &&
        message_get(frame->body, &whiskfs__checkpoint__descriptor, &body) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    {
        SCOPED_LOCK(&member->lock);
        if (member->conn == conn) {
            if (body)
                take_checkpoint_locked(member, frame, (const void *)body);
            else
                is_flooded = inbox_put(&member->inbox, frame->raw) < 0;
            cond_broadcast(&member->changed);
        }
    }
    message_free(body);
    if (is_flooded)
        conn_close(conn, "more log entries than its window allows");
}

void member_conn_closed(struct member *member, struct conn *conn)
{
    SCOPED_LOCK(&member->lock);
    if (member->conn == conn)
        drop_conn_locked(member);
}

/* ---- following ---- */

static void acknowledge(struct member *member, struct conn *conn, uint64_t index)
{
    Whiskfs__Ack ack = WHISKFS__ACK__INIT;
    ack.volume = member->name;
    ack.index = index;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_ACK, 0, &ack.base, (struct span){0},
                      clock_mono_ns() + CALL_NS);
    if (r < 0)
        conn_close(conn, "cannot acknowledge log entries");
}

static void pause_before_retry(struct member *member)
{
    SCOPED_LOCK(&member->lock);
    int64_t retry = clock_mono_ns() + JOIN_RETRY_NS;
    while (!member->is_stopping && cond_wait_until(&member->changed, &member->lock, retry))
        continue;
}

static void apply(struct member *member, struct conn *conn, struct span entries)
{
    uint64_t applied;
    int r = volume_follow(member->volume, entries, &applied);
    if (r < 0) {
        log_warning("replica", "cannot apply what host '%s' sent of volume '%s': %s: joining again",
                    member->home.name, member->name, describe(r));
        conn_close(conn, "log entries that do not follow");
        member_conn_closed(member, conn);
        pause_before_retry(member); /* a full disk is not emptied by trying */
        return;
    }
    acknowledge(member, conn, applied);
}

/* A home that offers only a checkpoint cannot bring an open volume up to date: it is attached anew. */
static void join_again(struct member *member)
{
    AUTO_CLOSE int fd = -1;
    int r = member_join(member, member->volume, clock_mono_ns() + REQUEST_TIMEOUT_NS, &fd);
    if (r == 0 && fd < 0) {
        log_info("replica", "joined volume '%s' at host '%s' again", member->name,
                 member->home.name);
        return;
    }
    if (r == 0)
        member->env->stale(member->env->ctx, member->name);
    else if (r == -ENOENT)
        member->env->gone(member->env->ctx, member->name);
    pause_before_retry(member);
}

/* Waits for entries or the loss of the connection. *ret_conn NULL: join again. False: stopping. */
static bool next_entries(struct member *member, struct conn **ret_conn,
                         struct inbox_chunk **ret_chunk)
{
    SCOPED_LOCK(&member->lock);
    while (!member->is_stopping) {
        if (!member->is_joined) {
            *ret_conn = NULL;
            return true;
        }
        *ret_chunk = inbox_take(&member->inbox);
        if (*ret_chunk) {
            *ret_conn = conn_ref(member->conn);
            return true;
        }
        cond_wait(&member->changed, &member->lock);
    }
    return false;
}

static void *follow_main(void *arg)
{
    struct member *member = arg;
    struct conn *conn;
    struct inbox_chunk *chunk;
    while (next_entries(member, &conn, &chunk)) {
        if (!conn) {
            join_again(member);
            continue;
        }
        apply(member, conn, chunk->entries);
        free(chunk);
        conn_put(conn);
    }
    return NULL;
}

/* ---- the lease ---- */

static struct conn *joined_conn(struct member *member)
{
    SCOPED_LOCK(&member->lock);
    return member->is_joined ? conn_ref(member->conn) : NULL;
}

static void take_renewal(struct member *member, struct conn *conn, const Whiskfs__RenewReply *reply,
                         int64_t sent_ns)
{
    SCOPED_LOCK(&member->lock);
    if (member->conn != conn)
        return;
    member->home_index = MAX(member->home_index, reply->last_index);
    if (reply->lease_ms == 0 && sent_ns > member->member_since_ns)
        member->lease_until_ns = 0; /* noticed by lease_has_ended */
    else if (reply->lease_ms == 0)
        return; /* the home answered before it made this host a member */
    else if (member->is_member)
        member->lease_until_ns = sent_ns + (int64_t)reply->lease_ms * NS_PER_MS;
    cond_broadcast(&member->changed);
}

static void renew(struct member *member, struct conn *conn)
{
    struct frame *frame = NULL;
    ProtobufCMessage *reply = NULL;
    int64_t now = clock_mono_ns();
    Whiskfs__Renew message = WHISKFS__RENEW__INIT;
    message.volume = member->name;
    message.applied = volume_applied(member->volume);
    int r = conn_call(conn, FRAME_CONTROL, FRAME_RENEW, &message.base, (struct span){0},
                      now + CALL_NS, &frame);
    if (r == 0)
        r = message_get(frame->body, &whiskfs__renew_reply__descriptor, &reply);
    if (r == 0)
        take_renewal(member, conn, (const void *)reply, now);
    else if (r == -ENOENT)
        member->env->gone(member->env->ctx, member->name);
    else if (r == -ENOTCONN)
        member_conn_closed(member, conn); /* the home does not know us any more: join again */
    message_free(reply);
    frame_free(frame);
}

/* True once, when a lease has ended. */
static bool lease_has_ended(struct member *member)
{
    SCOPED_LOCK(&member->lock);
    if (!member->is_member || clock_mono_ns() < member->lease_until_ns)
        return false;
    member->is_member = false;
    return true;
}

static void *lease_main(void *arg)
{
    struct member *member = arg;
    for (;;) {
        struct conn *conn = joined_conn(member);
        if (conn) {
            renew(member, conn);
            conn_put(conn);
        }
        if (lease_has_ended(member)) {
            log_warning("replica", "lease on volume '%s' ended: host '%s', its home, is silent",
                        member->name, member->home.name);
            member->env->expire(member->env->ctx, member->name);
        }
        SCOPED_LOCK(&member->lock);
        int64_t next = clock_mono_ns() + LEASE_RENEW_NS;
        while (!member->is_stopping && cond_wait_until(&member->changed, &member->lock, next))
            continue;
        if (member->is_stopping)
            return NULL;
    }
}

/* ---- the volume's source ---- */

/* A connection over which this host has joined, waiting for one until the deadline. */
static int wait_joined(struct member *member, int64_t deadline_ns, struct conn **ret_conn)
{
    SCOPED_LOCK(&member->lock);
    while (!member->is_joined) {
        if (member->is_stopping)
            return -EIO;
        if (!cond_wait_until(&member->changed, &member->lock, deadline_ns)) {
            log_warning(
                "replica",
                "volume '%s': host '%s', its home, was not reached in time: see 'whiskfs peers'",
                member->name, member->home.name);
            return -EIO;
        }
    }
    *ret_conn = conn_ref(member->conn);
    return 0;
}

static int call_forward(struct member *member, struct conn *conn, struct span raw,
                        int64_t deadline_ns, struct outcome *ret_outcome, uint64_t *ret_seen)
{
    struct frame *frame = NULL;
    ProtobufCMessage *reply = NULL;
    Whiskfs__Forward message = WHISKFS__FORWARD__INIT;
    message.volume = member->name;
    int r = conn_call(conn, FRAME_CONTROL, FRAME_FORWARD, &message.base, raw, deadline_ns, &frame);
    if (r < 0)
        return r;
    r = frame->type == FRAME_OUTCOME
            ? message_get(frame->body, &whiskfs__outcome__descriptor, &reply)
            : -EBADMSG;
    frame_free(frame);
    if (r < 0)
        return r;
    const Whiskfs__Outcome *outcome = (const void *)reply;
    *ret_outcome =
        (struct outcome){errno_of_wire_code(outcome->code), outcome->index, outcome->ino};
    *ret_seen = MAX(outcome->seen, outcome->index);
    message_free(reply);
    return 0;
}

static bool is_lost_connection(int error)
{
    return error == -EPIPE || error == -ENOTCONN || error == -ETIMEDOUT || error == -EHOSTUNREACH;
}

/* A refusal may come of what another host did a moment ago: whoever hears EEXIST must find the name here. */
static int take_outcome(struct member *member, const struct outcome *outcome, uint64_t seen,
                        int64_t deadline_ns, struct outcome *ret_outcome)
{
    if (!volume_wait_applied(member->volume, seen, deadline_ns))
        return -EIO;
    *ret_outcome = *outcome;
    return 0;
}

static int member_forward(struct source *source, const struct request *request, int64_t deadline_ns,
                          struct outcome *ret_outcome)
{
    struct member *member = member_of(source);
    AUTO_FREE uint8_t *buffer = malloc(REQUEST_BYTES_MAX);
    if (!buffer)
        return -ENOMEM;
    struct writer w = writer_over(buffer, REQUEST_BYTES_MAX);
    put_request(&w, request);
    if (w.bad)
        return -EMSGSIZE;
    for (;;) { /* over reconnects, always with the same identity: it is done once */
        struct conn *conn;
        struct outcome outcome;
        uint64_t seen;
        int r = wait_joined(member, deadline_ns, &conn);
        if (r < 0)
            return r;
        r = call_forward(member, conn, (struct span){buffer, writer_used(&w)}, deadline_ns,
                         &outcome, &seen);
        if (r == -ENOTCONN)
            member_conn_closed(member, conn);
        bool is_again = is_lost_connection(r) && clock_mono_ns() < deadline_ns;
        conn_put(conn);
        if (r == 0)
            return take_outcome(member, &outcome, seen, deadline_ns, ret_outcome);
        if (!is_again) { /* whatever it is, it is no answer to what was asked */
            log_debug("replica", "cannot ask host '%s' to change volume '%s': %s",
                      member->home.name, member->name, describe(r));
            return -EIO;
        }
    }
}

static void member_appended(struct source *source, const struct log_entry *entry)
{
    (void)source, (void)entry;
}

static int member_settle(struct source *source, uint64_t index, int64_t deadline_ns)
{
    (void)source, (void)index, (void)deadline_ns;
    return 0; /* the home has settled it before it answered */
}

static uint64_t known_index(struct member *member)
{
    SCOPED_LOCK(&member->lock);
    return member->home_index;
}

/* Once it is a member, changes wait for this host: it catches up before. */
static int promote(struct member *member, struct conn *conn, int64_t deadline_ns)
{
    struct frame *frame = NULL;
    ProtobufCMessage *body = NULL;
    if (!volume_wait_applied(member->volume, known_index(member), deadline_ns))
        return -ETIMEDOUT;
    int64_t sent = clock_mono_ns();
    Whiskfs__Promote message = WHISKFS__PROMOTE__INIT;
    message.volume = member->name;
    int r = conn_call(conn, FRAME_CONTROL, FRAME_PROMOTE, &message.base, (struct span){0},
                      deadline_ns, &frame);
    if (r == 0)
        r = message_get(frame->body, &whiskfs__promote_reply__descriptor, &body);
    frame_free(frame);
    if (r < 0)
        return r;
    const Whiskfs__PromoteReply *reply = (const void *)body;
    bool is_current = volume_wait_applied(member->volume, reply->index, deadline_ns);
    int64_t until = sent + (int64_t)reply->lease_ms * NS_PER_MS;
    message_free(body);
    if (!is_current)
        return -ETIMEDOUT;
    SCOPED_LOCK(&member->lock);
    member->is_member = true;
    member->member_since_ns = clock_mono_ns();
    member->lease_until_ns = MAX(member->lease_until_ns, until);
    return 0;
}

static bool has_lease_locked(struct member *member, int64_t now_ns) REQUIRES(member->lock)
{
    return member->is_member && now_ns < member->lease_until_ns;
}

/* True: this caller promotes. False: somebody else did or has the lease; *ret_r says how it stands. */
static bool begin_promotion(struct member *member, int64_t deadline_ns, int64_t *ret_valid_ns,
                            int *ret_r)
{
    SCOPED_LOCK(&member->lock);
    for (;;) {
        int64_t now = clock_mono_ns();
        *ret_valid_ns = member->lease_until_ns - now;
        *ret_r = 0;
        if (has_lease_locked(member, now))
            return false;
        *ret_r = -EIO;
        if (member->is_stopping || now >= deadline_ns)
            return false;
        if (!member->is_promoting) {
            member->is_promoting = true;
            return true;
        }
        if (!cond_wait_until(&member->changed, &member->lock, deadline_ns))
            continue;
    }
}

static void end_promotion(struct member *member)
{
    SCOPED_LOCK(&member->lock);
    member->is_promoting = false;
    cond_broadcast(&member->changed);
}

static int member_admit(struct source *source, int64_t *ret_valid_ns)
{
    struct member *member = member_of(source);
    int64_t deadline = clock_mono_ns() + REQUEST_TIMEOUT_NS;
    int r;
    while (begin_promotion(member, deadline, ret_valid_ns, &r)) {
        struct conn *conn;
        r = wait_joined(member, deadline, &conn);
        if (r == 0) {
            r = promote(member, conn, deadline);
            if (is_lost_connection(r))
                member_conn_closed(member, conn);
            conn_put(conn);
        }
        end_promotion(member);
        if (r < 0 && !is_lost_connection(r))
            return -EIO;
    }
    return r;
}

static int member_fetch(struct source *source, struct content *content, uint64_t first, uint64_t n,
                        enum fetch_class class, int64_t deadline_ns)
{
    struct member *member = member_of(source);
    return transfer_fetch(member->env->transfer, member->name, content, first, n, class,
                          deadline_ns);
}

static void member_reading(struct source *source, struct content *content, uint64_t first,
                           uint64_t n)
{
    struct member *member = member_of(source);
    transfer_reading(member->env->transfer, member->name, content, first, n);
}

static const struct source_ops member_ops = {
    .forward = member_forward,
    .appended = member_appended,
    .settle = member_settle,
    .admit = member_admit,
    .fetch = member_fetch,
    .reading = member_reading,
};

/* ---- life ---- */

DEFINE_FREEP(member, struct member)

int member_new(const struct replica_env *env, const char *name, const struct member_host *home,
               struct member **ret_member)
{
    AUTO(member_freep) struct member *member = calloc(1, sizeof *member);
    if (!member)
        return -ENOMEM;
    mutex_init(&member->lock, LOCK_replica);
    cond_init(&member->changed);
    inbox_init(&member->inbox);
    member->source.ops = &member_ops;
    member->env = env;
    member->home = *home;
    member->checkpoint_fd = -1;
    member->name = strdup(name);
    if (!member->name)
        return -ENOMEM;
    *ret_member = TAKE(member);
    return 0;
}

struct source *member_source(struct member *member)
{
    return &member->source;
}

int member_start(struct member *member, struct volume *volume, int64_t deadline_ns)
{
    member->volume = volume;
    uint64_t target;
    {
        SCOPED_LOCK(&member->lock);
        target = member->target;
    }
    int r = thread_start(&member->follower, "whiskfs-follow", follow_main, member);
    if (r < 0)
        return r;
    member->has_follower = true;
    r = thread_start(&member->renewer, "whiskfs-lease", lease_main, member);
    if (r < 0)
        return r;
    member->has_renewer = true;
    return volume_wait_applied(volume, target, deadline_ns) ? 0 : -ETIMEDOUT;
}

static void say_leave(struct member *member, struct conn *conn)
{
    Whiskfs__Leave leave = WHISKFS__LEAVE__INIT;
    leave.volume = member->name;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_LEAVE, 0, &leave.base, (struct span){0},
                      clock_mono_ns() + CALL_NS);
    if (r < 0)
        log_debug("replica", "cannot leave volume '%s': %s", member->name, describe(r));
}

void member_demote(struct member *member)
{
    struct conn *conn = joined_conn(member);
    if (!conn) /* its lease ends */
        return;
    {
        SCOPED_LOCK(&member->lock);
        member->is_member = false;
    }
    say_leave(member, conn);
    member_conn_closed(member, conn); /* the follower joins again */
    conn_put(conn);
}

void member_stop(struct member *member)
{
    struct conn *conn = joined_conn(member);
    {
        SCOPED_LOCK(&member->lock);
        member->is_stopping = true;
        cond_broadcast(&member->changed);
    }
    if (member->has_follower)
        thread_join(member->follower);
    if (member->has_renewer)
        thread_join(member->renewer);
    member->has_follower = member->has_renewer = false;
    if (conn) {
        say_leave(member, conn);
        conn_put(conn);
    }
}

void member_free(struct member *member)
{
    if (!member)
        return;
    if (member->conn)
        conn_put(member->conn);
    inbox_clear(&member->inbox);
    free(member->name);
    cond_done(&member->changed);
    mutex_done(&member->lock);
    free(member);
}

void member_status(struct member *member, struct replica_status *ret_status)
{
    SCOPED_LOCK(&member->lock);
    *ret_status = (struct replica_status){
        .is_member = member->is_member,
        .has_lease = has_lease_locked(member, clock_mono_ns()),
        .is_connected = member->is_joined,
        .home_index = member->home_index,
    };
}
