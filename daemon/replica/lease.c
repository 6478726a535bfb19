/* What a member needs its home for: the lease, and changes. */
#include <errno.h>
#include <string.h>

#include "daemon/replica/impl.h"
#include "proto/base/log.h"

#define TURN_NS (10 * NS_PER_MS) /* a hand-over takes about as long */

/* ---- the lease thread ---- */

static struct conn *joined_conn(struct replica *replica, uint64_t *ret_epoch)
{
    SCOPED_LOCK(&replica->lock);
    const struct core *core = &replica->core;
    *ret_epoch = core->link_epoch;
    return core->is_joined ? conn_ref(core->link) : NULL;
}

static void take_renewal(struct replica *replica, struct conn *conn,
                         const Whiskfs__RenewReply *reply, int64_t sent_ns)
{
    SCOPED_LOCK(&replica->lock);
    core_renewed(&replica->core, conn, sent_ns, clock_mono_ns(),
                 (int64_t)reply->lease_ms * NS_PER_MS, reply->last_index);
    cond_broadcast(&replica->changed);
}

static void renew(struct replica *replica, struct conn *conn, uint64_t epoch)
{
    ProtobufCMessage *reply = NULL;
    int64_t now = clock_mono_ns();
    Whiskfs__Renew message = WHISKFS__RENEW__INIT;
    message.volume = replica->name;
    message.applied = volume_applied(replica->volume);
    message.epoch = epoch;
    int r = conn_ask(conn, FRAME_RENEW, &message.base, FRAME_RENEW_REPLY,
                     &whiskfs__renew_reply__descriptor, now + CALL_NS, &reply);
    if (r == 0)
        take_renewal(replica, conn, (const void *)reply, now);
    else if (r == -ENOENT || r == -EREMOTE || r == -ENOTCONN)
        replica_unlink(replica,
                       conn); /* the home does not know us any more, or moved: join again */
    message_free(reply);
}

static bool lease_has_ended(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    return !core_is_home(&replica->core) && core_lease_ended(&replica->core, clock_mono_ns());
}

void *lease_main(void *arg)
{
    struct replica *replica = arg;
    do {
        uint64_t epoch;
        struct conn *conn = joined_conn(replica, &epoch);
        if (conn) {
            renew(replica, conn, epoch);
            conn_put(conn);
        }
        if (lease_has_ended(replica)) {
            log_warning("replica", "lease on volume '%s' ended: its home is silent", replica->name);
            replica->env->expire(replica->env->ctx, replica->name);
        }
        replica_tell_home(replica);
        herald_ask(replica);
    } while (replica_pause(replica, LEASE_RENEW_NS));
    return NULL;
}

/* A home that has stopped is left once the log here says so, too: until then it still sends. */
static void after_failure(struct replica *replica, struct conn *conn, int error)
{
    if (error == -ENOTCONN)
        replica_unlink(replica, conn);
    if (error == -EREMOTE)
        (void)replica_pause(replica, TURN_NS);
}

/* ---- becoming a member ---- */

enum admission {
    ADMITTED,
    REFUSED,
    MUST_PROMOTE /* by this caller */
};

static enum admission wait_for_lease(struct replica *replica, int64_t deadline_ns,
                                     int64_t *ret_valid_ns)
{
    SCOPED_LOCK(&replica->lock);
    for (;;) {
        struct core *core = &replica->core;
        int64_t now = clock_mono_ns();
        if (core_may_answer(core, now, ret_valid_ns))
            return ADMITTED;
        if (replica->is_stopping || now >= deadline_ns)
            return REFUSED;
        if (!replica->is_promoting && core_may_promote(core) && !core_has_lease(core, now)) {
            replica->is_promoting = true;
            return MUST_PROMOTE;
        }
        if (!cond_wait_until(&replica->changed, &replica->lock, deadline_ns))
            continue;
    }
}

static int call_promote(struct replica *replica, struct conn *conn, uint64_t epoch,
                        int64_t deadline_ns)
{
    ProtobufCMessage *body = NULL;
    int64_t sent = clock_mono_ns();
    Whiskfs__Promote message = WHISKFS__PROMOTE__INIT;
    message.volume = replica->name;
    message.epoch = epoch;
    int r = conn_ask(conn, FRAME_PROMOTE, &message.base, FRAME_PROMOTE_REPLY,
                     &whiskfs__promote_reply__descriptor, deadline_ns, &body);
    if (r < 0)
        return r;
    const Whiskfs__PromoteReply *reply = (const void *)body;
    SCOPED_LOCK(&replica->lock);
    core_promoted(&replica->core, conn, sent, clock_mono_ns(), (int64_t)reply->lease_ms * NS_PER_MS,
                  reply->index);
    message_free(body);
    return 0;
}

static void promote(struct replica *replica, int64_t deadline_ns)
{
    uint64_t epoch;
    struct conn *conn = joined_conn(replica, &epoch);
    if (conn) {
        int r = call_promote(replica, conn, epoch, deadline_ns);
        after_failure(replica, conn, r);
        conn_put(conn);
    }
    SCOPED_LOCK(&replica->lock);
    replica->is_promoting = false;
    cond_broadcast(&replica->changed);
}

int lease_admit(struct replica *replica, int64_t *ret_valid_ns)
{
    int64_t deadline = clock_mono_ns() + REQUEST_TIMEOUT_NS;
    enum admission admission;
    while ((admission = wait_for_lease(replica, deadline, ret_valid_ns)) == MUST_PROMOTE)
        promote(replica, deadline);
    return admission == ADMITTED ? 0 : -EIO;
}

/* ---- changes ---- */

/* A connection over which this host has joined, waiting for one until the deadline. -EREMOTE: it is the home itself. */
static int wait_joined(struct replica *replica, int64_t deadline_ns, struct conn **ret_conn,
                       uint64_t *ret_epoch)
{
    SCOPED_LOCK(&replica->lock);
    while (!replica->core.is_joined || replica->core.is_taking_over) {
        if (replica->is_stopping)
            return -EIO;
        if (volume_is_home(replica->volume))
            return -EREMOTE;
        if (!cond_wait_until(&replica->changed, &replica->lock, deadline_ns)) {
            log_warning("replica",
                        "volume '%s': its home was not reached in time: see 'whiskfs peers'",
                        replica->name);
            return -EIO;
        }
    }
    replica->n_forwarded++;
    *ret_conn = conn_ref(replica->core.link);
    *ret_epoch = replica->core.link_epoch;
    return 0;
}

static int call_forward(struct replica *replica, struct conn *conn, uint64_t epoch, struct span raw,
                        int64_t deadline_ns, struct outcome *ret_outcome, uint64_t *ret_seen)
{
    struct frame *frame = NULL;
    ProtobufCMessage *reply = NULL;
    Whiskfs__Forward message = WHISKFS__FORWARD__INIT;
    message.volume = replica->name;
    message.epoch = epoch;
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
    return error == -EPIPE || error == -ENOTCONN || error == -ETIMEDOUT || error == -EHOSTUNREACH ||
           error == -EREMOTE;
}

/* A refusal may come of what another host did a moment ago: whoever hears EEXIST must find the name here. */
static int wait_seen(struct replica *replica, uint64_t seen, int64_t deadline_ns)
{
    SCOPED_LOCK(&replica->lock);
    while (!core_may_pass_on(&replica->core, seen))
        if (replica->is_stopping ||
            !cond_wait_until(&replica->changed, &replica->lock, deadline_ns))
            return -EIO;
    return 0;
}

int lease_forward(struct replica *replica, const struct request *request, int64_t deadline_ns,
                  struct outcome *ret_outcome)
{
    AUTO_FREE uint8_t *buffer = malloc(REQUEST_BYTES_MAX);
    if (!buffer)
        return -ENOMEM;
    struct writer w = writer_over(buffer, REQUEST_BYTES_MAX);
    put_request(&w, request);
    if (w.bad)
        return -EMSGSIZE;
    struct span raw = {buffer, writer_used(&w)};
    for (;;) { /* over reconnects, always with the same identity: it is done once */
        struct conn *conn;
        struct outcome outcome;
        uint64_t seen, epoch;
        int r = wait_joined(replica, deadline_ns, &conn, &epoch);
        if (r < 0)
            return r;
        r = call_forward(replica, conn, epoch, raw, deadline_ns, &outcome, &seen);
        after_failure(replica, conn, r);
        conn_put(conn);
        if (r == 0) {
            *ret_outcome = outcome;
            return wait_seen(replica, seen, deadline_ns);
        }
        if (!is_lost_connection(r) || clock_mono_ns() >= deadline_ns) {
            log_debug("replica", "cannot ask for a change of volume '%s': %s", replica->name,
                      strerror(-r)); /* whatever it is, it is no answer to what was asked */
            return -EIO;
        }
    }
}
