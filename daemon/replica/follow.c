/* The follow thread: joins at the home, again and again; applies what comes; acknowledges. */
#include <errno.h>
#include <string.h>

#include "daemon/replica/impl.h"
#include "proto/base/log.h"

/* The home moves within milliseconds; a home that is gone may stay so. */
#define RETRY_MIN_NS (10 * NS_PER_MS)
#define RETRY_MAX_NS (500 * NS_PER_MS)

static void acknowledge(struct replica *replica, struct conn *conn, uint64_t index, uint64_t epoch)
{
    Whiskfs__Ack ack = WHISKFS__ACK__INIT;
    ack.volume = replica->name;
    ack.index = index;
    ack.epoch = epoch;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_ACK, 0, &ack.base, (struct span){0},
                      clock_mono_ns() + CALL_NS);
    if (r < 0)
        conn_close(conn, "cannot acknowledge log entries");
}

static bool note_applied(struct replica *replica, struct conn *conn, uint64_t applied,
                         uint64_t *ret_epoch)
{
    struct turn turn = volume_turn(replica->volume);
    SCOPED_LOCK(&replica->lock);
    bool is_joined = core_applied(&replica->core, applied, &turn);
    *ret_epoch = replica->core.link_epoch;
    cond_broadcast(&replica->changed);
    return is_joined && replica->core.link == conn;
}

static void move_on(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    if (core_move_on(&replica->core))
        inbox_clear(&replica->inbox);
}

static void apply(struct replica *replica, struct conn *conn, struct span entries)
{
    uint64_t applied, epoch;
    int r = volume_follow(replica->volume, entries, &applied);
    if (r < 0) {
        log_warning("replica", "cannot apply what host '%s' sent of volume '%s': %s: joining again",
                    conn_name(conn), replica->name, strerror(-r));
        conn_close(conn, "log entries that do not follow");
        replica_unlink(replica, conn);
        (void)replica_pause(replica, RETRY_MAX_NS); /* a full disk is not emptied by trying */
        return;
    }
    if (note_applied(replica, conn, applied, &epoch))
        acknowledge(replica, conn, applied, epoch);
    move_on(replica);
    replica_tell_home(replica);
}

/* ---- joining again ---- */

static void hint(struct replica *replica, struct host_id home)
{
    SCOPED_LOCK(&replica->lock);
    core_hint(&replica->core, home);
}

static struct host_id whom_to_join(struct replica *replica, struct turn *ret_turn)
{
    SCOPED_LOCK(&replica->lock);
    *ret_turn = replica->core.turn;
    return core_home_to_join(&replica->core);
}

/* The home that the log names does not answer, or is it no more. */
static void ask_around(struct replica *replica, struct host_id silent, const struct turn *turn,
                       bool says_gone)
{
    struct host_id home;
    const struct home_query query = {
        .volume = replica->name,
        .born_ns = volume_born_ns(replica->volume),
        .epoch = turn->epoch,
        .silent = silent,
    };
    int r = replica->env->locate(replica->env->ctx, &query, clock_mono_ns() + CALL_NS, &home);
    if (r == 0)
        hint(replica, home);
    else if (r == -ENOENT && says_gone && host_equal(turn->successor, NO_HOST))
        replica->env->gone(replica->env->ctx, replica->name);
}

/* A home that offers only a checkpoint cannot bring an open volume up to date: it is attached anew. */
static bool join_again(struct replica *replica, unsigned n_failures)
{
    AUTO_CLOSE int fd = -1; /* none: what is open is not replaced */
    struct turn turn;
    struct host_id next = NO_HOST, home = whom_to_join(replica, &turn);
    int r = host_equal(home, NO_HOST) ? -EHOSTUNREACH
                                      : join_at(replica, home, replica->volume,
                                                clock_mono_ns() + REQUEST_TIMEOUT_NS, &fd, &next);
    if (r == 0) {
        char name[HOST_NAME_MAX_BYTES + 1];
        replica_host_name(replica, home, name);
        log_info("replica", "joined volume '%s' at host '%s' again", replica->name, name);
        return true;
    }
    if (r == -ESTALE)
        replica->env->stale(replica->env->ctx, replica->name);
    else if (!host_equal(next, NO_HOST))
        hint(replica, next);
    else if (r == -ENOENT || host_equal(home, NO_HOST) || n_failures % 8 == 7)
        ask_around(replica, home, &turn, r == -ENOENT);
    return false;
}

/* ---- the thread ---- */

enum task {
    TASK_STOP,
    TASK_JOIN,
    TASK_APPLY
};

static bool has_home_elsewhere(const struct core *core)
{
    return !core_is_home(core) && !core->is_taking_over;
}

static enum task next_task(struct replica *replica, struct conn **ret_conn,
                           struct inbox_chunk **ret_chunk)
{
    SCOPED_LOCK(&replica->lock);
    struct core *core = &replica->core;
    while (!replica->is_stopping) {
        if (!core->is_joined && has_home_elsewhere(core))
            return TASK_JOIN;
        *ret_chunk = core->is_joined && !core->is_taking_over ? inbox_take(&replica->inbox) : NULL;
        if (*ret_chunk) {
            *ret_conn = conn_ref(core->link);
            return TASK_APPLY;
        }
        cond_wait(&replica->changed, &replica->lock);
    }
    return TASK_STOP;
}

static void apply_chunk(struct replica *replica, struct conn *conn, struct inbox_chunk *chunk)
{
    apply(replica, conn, chunk->entries);
    free(chunk);
    conn_put(conn);
}

void *follow_main(void *arg)
{
    struct replica *replica = arg;
    struct conn *conn;
    struct inbox_chunk *chunk;
    enum task task;
    unsigned n_failures = 0;
    int64_t retry_ns = RETRY_MIN_NS;
    while ((task = next_task(replica, &conn, &chunk)) != TASK_STOP) {
        if (task == TASK_APPLY) {
            apply_chunk(replica, conn, chunk);
            n_failures = 0;
            retry_ns = RETRY_MIN_NS;
        } else if (!join_again(replica, n_failures)) {
            n_failures++;
            (void)replica_pause(replica, retry_ns);
            retry_ns = MIN(2 * retry_ns, RETRY_MAX_NS);
        }
    }
    return NULL;
}
