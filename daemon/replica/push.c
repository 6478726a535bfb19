/* The push thread: the log to whoever lacks some of it, and the home to whoever has earned it. */
#include <errno.h>
#include <string.h>

#include "daemon/replica/impl.h"
#include "proto/base/log.h"

#define PUSH_SEND_NS (200 * NS_PER_MS) /* who takes longer to accept a batch is tried again later */
#define HOUSEKEEPING_NS (250 * NS_PER_MS)

struct push {
    struct host_id host;
    struct conn *conn;
    uint64_t from, to, epoch;
};

static void report_lost_members(struct replica *replica) REQUIRES(replica->lock)
{
    char name[HOST_NAME_MAX_BYTES + 1];
    while (core_expire_member(&replica->core, clock_mono_ns(), name)) {
        log_warning("replica",
                    "host '%s' let its lease on volume '%s' end: changes go on without it", name,
                    replica->name);
        cond_broadcast(&replica->changed);
    }
}

static bool next_push(struct replica *replica, size_t *turn, struct push *ret_push)
    REQUIRES(replica->lock)
{
    struct push push = {.epoch = replica->core.turn.epoch};
    const struct follower *follower = core_next_push(&replica->core, turn, &push.from, &push.to);
    if (!follower)
        return false;
    push.host = follower->host;
    push.conn = conn_ref(follower->link);
    *ret_push = push;
    return true;
}

static bool has_turn_to_do(const struct replica *replica) REQUIRES(replica->lock)
{
    return core_must_yield(&replica->core) || core_must_resume(&replica->core) ||
           core_offer_is_due(&replica->core) ||
           !host_equal(core_earned(&replica->core, clock_mono_ns()), NO_HOST);
}

/* Waits until there is something to do. *ret_push.conn NULL: it is not pushing. False: stopping. */
static bool next_task(struct replica *replica, size_t *turn, struct push *ret_push)
{
    SCOPED_LOCK(&replica->lock);
    *ret_push = (struct push){0};
    while (!replica->is_stopping) {
        report_lost_members(replica);
        if (has_turn_to_do(replica) || next_push(replica, turn, ret_push))
            return true;
        if (!cond_wait_until(&replica->changed, &replica->lock, clock_mono_ns() + HOUSEKEEPING_NS))
            continue;
    }
    return false;
}

/* The whole entries up to `to` at most; *ret_last is the last of them. */
static size_t size_up_to(struct span entries, uint64_t to, uint64_t *ret_last)
{
    struct reader r = reader_over(entries.data, entries.size);
    struct log_entry entry;
    size_t size = 0;
    while (log_entry_get(&r, &entry) == 0 && entry.index <= to) {
        size += entry.bytes.size;
        *ret_last = entry.index;
    }
    return size;
}

static bool note_sent(struct replica *replica, const struct push *push, uint64_t from, uint64_t to)
{
    SCOPED_LOCK(&replica->lock);
    return core_sent(&replica->core, push->host, push->conn, from, to);
}

static int push_batch(struct replica *replica, const struct push *push)
{
    size_t used;
    int r =
        log_read(volume_log(replica->volume), push->from, replica->batch, PUSH_BATCH_BYTES, &used);
    if (r < 0)
        return r;
    uint64_t last = push->from;
    struct span raw = {replica->batch, used};
    raw.size = size_up_to(raw, push->to, &last);
    Whiskfs__Entries message = WHISKFS__ENTRIES__INIT;
    message.volume = replica->name;
    message.epoch = push->epoch;
    /* Noted before it is sent: the acknowledgement may be back before conn_send returns. */
    if (!note_sent(replica, push, push->from, last))
        return 0; /* the follower has joined anew meanwhile, or is gone */
    r = conn_send(push->conn, FRAME_CONTROL, FRAME_ENTRIES, 0, &message.base, raw,
                  clock_mono_ns() + PUSH_SEND_NS);
    if (r < 0)
        (void)!note_sent(replica, push, push->from, push->from - 1);
    return r;
}

static void do_push(struct replica *replica, const struct push *push)
{
    int r = push_batch(replica, push);
    if (r < 0 && r != -ETIMEDOUT) { /* the follower joins again */
        conn_close(push->conn, "cannot send log entries");
        replica_unlink(replica, push->conn); /* its end may have been told before it was a link */
    }
    conn_put(push->conn);
}

void *push_main(void *arg)
{
    struct replica *replica = arg;
    struct push push;
    size_t turn = 0;
    while (next_task(replica, &turn, &push)) {
        if (push.conn) {
            do_push(replica, &push);
            continue;
        }
        turn_yield(replica);
        turn_resume(replica);
        turn_pass_on(replica);
        turn_offer(replica);
    }
    return NULL;
}
