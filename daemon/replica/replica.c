#include "daemon/replica/impl.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "daemon/replica/member_table.h"
#include "daemon/transfer/fetch.h"
#include "proto/base/log.h"

static struct replica *replica_of(struct source *source)
{
    return container_of(source, struct replica, source);
}

/* ---- the volume's source ---- */

/* Housekeeping of daemons is not what a home follows. */
static bool is_work(enum request_kind kind)
{
    switch (kind) {
    case REQUEST_KEEP:
    case REQUEST_DROP:
    case REQUEST_SESSION:
    case REQUEST_STOP:
    case REQUEST_START:
        return false;
    default:
        return true;
    }
}

static void source_appended(struct source *source, const struct log_entry *entry)
{
    struct replica *replica = replica_of(source);
    struct reader payload = reader_over(entry->payload.data, entry->payload.size);
    struct change change;
    bool is_known = get_change(&payload, &change) == 0 && is_work(change.request.kind);
    SCOPED_LOCK(&replica->lock);
    core_appended(&replica->core, entry->index);
    if (is_known)
        work_done(&replica->core.work, change.request.identity.host, clock_mono_ns());
    if (replica->core.followers.n > 0)
        cond_broadcast(&replica->changed);
}

static int source_settle(struct source *source, uint64_t index, int64_t deadline_ns)
{
    struct replica *replica = replica_of(source);
    SCOPED_LOCK(&replica->lock);
    for (;;) {
        int64_t until, now = clock_mono_ns();
        if (core_settled(&replica->core, index, now, &until))
            return 0;
        if (replica->is_stopping || replica->core.has_yielded || now >= deadline_ns)
            return -EIO;
        if (!cond_wait_until(&replica->changed, &replica->lock, MIN(until, deadline_ns)))
            continue;
    }
}

static int source_admit(struct source *source, int64_t *ret_valid_ns)
{
    return lease_admit(replica_of(source), ret_valid_ns);
}

static int source_forward(struct source *source, const struct request *request, int64_t deadline_ns,
                          struct outcome *ret_outcome)
{
    return lease_forward(replica_of(source), request, deadline_ns, ret_outcome);
}

static int source_fetch(struct source *source, struct content *content, uint64_t first, uint64_t n,
                        enum fetch_class class, int64_t deadline_ns)
{
    struct replica *replica = replica_of(source);
    return transfer_fetch(replica->env->transfer, replica->name, content, first, n, class,
                          deadline_ns);
}

static void source_reading(struct source *source, struct content *content, uint64_t first,
                           uint64_t n)
{
    struct replica *replica = replica_of(source);
    transfer_reading(replica->env->transfer, replica->name, content, first, n);
}

static const struct source_ops ops = {
    .forward = source_forward,
    .appended = source_appended,
    .settle = source_settle,
    .admit = source_admit,
    .fetch = source_fetch,
    .reading = source_reading,
};

/* ---- what all share ---- */

void replica_host_name(const struct replica *replica, struct host_id host,
                       char ret_name[HOST_NAME_MAX_BYTES + 1])
{
    struct membership *membership = replica->env->membership;
    struct member_host known;
    const char *name = "?";
    if (host_equal(host, replica->env->self))
        name = replica->env->self_name;
    else if (membership->ops->host_by_id(membership, host, &known) == 0)
        name = known.name;
    (void)snprintf(ret_name, HOST_NAME_MAX_BYTES + 1, "%s", name);
}

void replica_unlink(struct replica *replica, struct conn *conn)
{
    SCOPED_LOCK(&replica->lock);
    if (core_unlink(&replica->core, conn))
        inbox_clear(&replica->inbox);
    cond_broadcast(&replica->changed);
}

/* The log of a host that has yielded names it all the same. */
static struct turn turn_to_show(const struct core *core)
{
    struct turn turn = core->turn;
    bool orders = core_is_home(core) || core_has_stopped(core) || core->is_taking_over;
    if (host_equal(turn.home, core->self) && !orders)
        turn.home = core->hint;
    return turn;
}

static bool has_moved(struct replica *replica, struct host_id *ret_home)
{
    SCOPED_LOCK(&replica->lock);
    const struct turn turn = turn_to_show(&replica->core);
    *ret_home = turn.home;
    if (host_equal(turn.home, replica->told) || host_equal(turn.home, NO_HOST) ||
        !host_equal(turn.successor, NO_HOST))
        return false;
    replica->told = turn.home;
    return true;
}

void replica_tell_home(struct replica *replica)
{
    struct host_id home;
    if (has_moved(replica, &home))
        replica->env->moved(replica->env->ctx, replica->name, home);
}

bool replica_pause(struct replica *replica, int64_t ns)
{
    int64_t until = clock_mono_ns() + ns;
    SCOPED_LOCK(&replica->lock);
    while (!replica->is_stopping && cond_wait_until(&replica->changed, &replica->lock, until))
        continue;
    return !replica->is_stopping;
}

/* ---- frames ---- */

void replica_frame(struct replica *replica, struct conn *conn, const struct frame *frame)
{
    if (frame->type == FRAME_CHECKPOINT)
        join_checkpoint_frame(replica, conn, frame);
    else if (frame->type == FRAME_ENTRIES)
        join_entries_frame(replica, conn, frame);
    else if (atomic_load(&replica->volume))
        serve_frame(replica, conn, frame);
    else if (frame->id != 0)
        conn_refuse(conn, frame->id, -ENOTCONN, "being attached");
}

void replica_conn_closed(struct replica *replica, struct conn *conn)
{
    replica_unlink(replica, conn);
}

void replica_hear(struct replica *replica, uint64_t epoch, struct host_id home)
{
    SCOPED_LOCK(&replica->lock);
    struct core *core = &replica->core;
    if (core_is_home(core) && epoch < core->turn.epoch)
        replica->told = NO_HOST; /* the other one may have announced itself */
    if (core_hear(core, epoch, home))
        inbox_clear(&replica->inbox);
    cond_broadcast(&replica->changed);
}

uint64_t replica_diverges_at(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    return replica->diverges_at;
}

void replica_status(struct replica *replica, struct replica_status *ret_status)
{
    SCOPED_LOCK(&replica->lock);
    const struct core *core = &replica->core;
    bool is_home = core_is_home(core);
    size_t n_members = followers_members(&core->followers);
    *ret_status = (struct replica_status){
        .is_home = is_home,
        .is_member = is_home || core->is_member,
        .has_lease = is_home || core_has_lease(core, clock_mono_ns()),
        .is_connected = is_home || core->is_joined,
        .home_index = is_home ? core->last : core->home_index,
        .turn = turn_to_show(core),
        .orders = is_home || core->is_taking_over,
        .n_members = is_home ? (unsigned)n_members : 0,
        .n_learners = is_home ? (unsigned)(core->followers.n - n_members) : 0,
        .n_forwarded = replica->n_forwarded,
        .n_handovers = replica->n_handovers,
    };
}

bool replica_orders(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    const struct core *core = &replica->core;
    return core_is_home(core) || core_has_stopped(core) || core->is_taking_over ||
           host_equal(core->turn.successor, core->self);
}

/* ---- life ---- */

static void put_link(void *link)
{
    conn_put(link);
}

DEFINE_FREEP(replica, struct replica)

int replica_new(const struct replica_env *env, const char *name, const char *directory,
                struct replica **ret_replica)
{
    AUTO(replica_freep) struct replica *replica = calloc(1, sizeof *replica);
    if (!replica)
        return -ENOMEM;
    mutex_init(&replica->lock, LOCK_replica);
    cond_init(&replica->changed);
    inbox_init(&replica->inbox);
    replica->diverges_at = NO_FENCE;
    core_init(&replica->core, env->self, put_link);
    replica->source.ops = &ops;
    replica->env = env;
    replica->checkpoint_fd = -1;
    replica->name = strdup(name);
    replica->directory = strdup(directory);
    replica->batch = malloc(PUSH_BATCH_BYTES);
    if (!replica->name || !replica->directory || !replica->batch)
        return -ENOMEM;
    *ret_replica = TAKE(replica);
    return 0;
}

struct source *replica_source(struct replica *replica)
{
    return &replica->source;
}

static int locate(struct replica *replica, struct host_id silent, struct volume *have,
                  int64_t deadline_ns, struct host_id *ret_home)
{
    const struct home_query query = {
        .volume = replica->name,
        .born_ns = have ? volume_born_ns(have) : 0,
        .epoch = have ? volume_turn(have).epoch : 0,
        .silent = silent,
    };
    return replica->env->locate(replica->env->ctx, &query, deadline_ns, ret_home);
}

/* *home is where to go next. Who says ENOTCONN may be the home that does not serve yet, or not know the name. */
static int join_somewhere(struct replica *replica, struct host_id *home, struct volume *have,
                          int64_t deadline_ns, int *ret_checkpoint_fd)
{
    struct host_id next;
    int r = join_at(replica, *home, have, deadline_ns, ret_checkpoint_fd, &next);
    if (r != -EREMOTE && r != -ENOENT && r != -ENOTCONN)
        return r;
    if (r != -EREMOTE || host_equal(next, NO_HOST)) {
        int located = locate(replica, *home, have, deadline_ns, &next);
        if (located < 0)
            return r == -ENOTCONN && located != -EREMCHG ? r : located;
    }
    *home = next;
    return -EREMOTE;
}

#define HOPS_MAX 8

int replica_join(struct replica *replica, struct host_id home, struct volume *have,
                 int64_t deadline_ns, int *ret_checkpoint_fd)
{
    if (have) {
        struct turn turn = volume_turn(have);
        struct leads leads = volume_leads(have);
        SCOPED_LOCK(&replica->lock);
        core_open(&replica->core, &turn, &leads, volume_applied(have), clock_mono_ns());
    }
    int r = -EREMOTE;
    for (int hop = 0; r == -EREMOTE && hop < HOPS_MAX; hop++)
        r = join_somewhere(replica, &home, have, deadline_ns, ret_checkpoint_fd);
    return r == -EREMOTE ? -ENOTCONN : r;
}

/* Members of before the restart are waited for until they renew or their leases must have ended. */
static int restore_members(struct replica *replica)
{
    char(*names)[HOST_NAME_MAX_BYTES + 1] = NULL;
    size_t n = 0;
    int r = member_table_load(replica->directory, &names, &n);
    SCOPED_LOCK(&replica->lock);
    for (size_t i = 0; r == 0 && i < n; i++)
        if (!host_equal(host_id_of(names[i]), replica->env->self))
            r = core_restore_member(&replica->core, names[i], clock_mono_ns() + LEASE_NS);
    free(names);
    return r;
}

/* A home begins with a log that is durable: what is answered from now on may build upon it. */
static int open_core(struct replica *replica, struct volume *volume)
{
    struct turn turn = volume_turn(volume);
    struct leads leads = volume_leads(volume);
    bool orders;
    {
        SCOPED_LOCK(&replica->lock);
        core_open(&replica->core, &turn, &leads, volume_applied(volume), clock_mono_ns());
        orders = core_is_home(&replica->core) || core_has_stopped(&replica->core);
    }
    if (!orders)
        return 0;
    int r = log_sync(volume_log(volume), log_last(volume_log(volume)));
    return r < 0 ? r : restore_members(replica);
}

static int start_threads(struct replica *replica)
{
    int r = thread_start(&replica->pusher, "whiskfs-push", push_main, replica);
    replica->has_pusher = r == 0;
    if (r == 0)
        r = thread_start(&replica->follower, "whiskfs-follow", follow_main, replica);
    replica->has_follower = replica->has_pusher && r == 0;
    if (r == 0)
        r = thread_start(&replica->renewer, "whiskfs-lease", lease_main, replica);
    replica->has_renewer = replica->has_follower && r == 0;
    return r;
}

int replica_start(struct replica *replica, struct volume *volume, int64_t deadline_ns)
{
    int r = open_core(replica, volume);
    if (r < 0)
        return r;
    uint64_t target;
    {
        SCOPED_LOCK(&replica->lock);
        target = replica->target;
    }
    atomic_store(&replica->volume, volume);
    r = start_threads(replica);
    if (r < 0)
        return r;
    replica_tell_home(replica);
    return volume_wait_applied(volume, target, deadline_ns) ? 0 : -ETIMEDOUT;
}

static struct conn *let_go(struct replica *replica, uint64_t *ret_epoch)
{
    SCOPED_LOCK(&replica->lock);
    *ret_epoch = replica->core.link_epoch;
    struct conn *conn = core_let_go(&replica->core);
    if (conn)
        inbox_clear(&replica->inbox);
    cond_broadcast(&replica->changed);
    return conn;
}

static void say_leave(struct replica *replica)
{
    Whiskfs__Leave leave = WHISKFS__LEAVE__INIT;
    struct conn *conn = let_go(replica, &leave.epoch);
    if (!conn)
        return;
    leave.volume = replica->name;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_LEAVE, 0, &leave.base, (struct span){0},
                      clock_mono_ns() + CALL_NS);
    if (r < 0)
        log_debug("replica", "cannot leave volume '%s': %s", replica->name, strerror(-r));
    conn_put(conn);
}

/* A successor stays what it is: it is about to be the home. */
void replica_demote(struct replica *replica)
{
    if (!replica_orders(replica))
        say_leave(replica); /* and joins again */
}

void replica_stop(struct replica *replica)
{
    {
        SCOPED_LOCK(&replica->lock);
        replica->is_stopping = true;
        cond_broadcast(&replica->changed);
    }
    if (replica->has_pusher)
        thread_join(replica->pusher);
    if (replica->has_follower)
        thread_join(replica->follower);
    if (replica->has_renewer)
        thread_join(replica->renewer);
    replica->has_pusher = replica->has_follower = replica->has_renewer = false;
    say_leave(replica);
}

void replica_free(struct replica *replica)
{
    if (!replica)
        return;
    core_done(&replica->core);
    inbox_clear(&replica->inbox);
    free(replica->batch);
    free(replica->directory);
    free(replica->name);
    cond_done(&replica->changed);
    mutex_done(&replica->lock);
    free(replica);
}
