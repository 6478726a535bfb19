/* The home moves. What is in the log counts: STOP by the old home, durable before anybody hears of it; START by the new
 * one, durable before it answers anybody. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/replica/impl.h"
#include "proto/base/log.h"

#define RESUME_RETRY_NS (500 * NS_PER_MS)

/* ---- stopping ---- */

static struct host_id begin_to_stop(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    struct host_id successor = core_earned(&replica->core, clock_mono_ns());
    if (!host_equal(successor, NO_HOST))
        core_stopping(&replica->core);
    return successor;
}

static void note_stopped(struct replica *replica, uint64_t index)
{
    struct turn turn = volume_turn(replica->volume);
    SCOPED_LOCK(&replica->lock);
    core_stopped(&replica->core, index, &turn, clock_mono_ns());
    cond_broadcast(&replica->changed);
}

static void note_synced(struct replica *replica, uint64_t index)
{
    SCOPED_LOCK(&replica->lock);
    core_synced(&replica->core, index);
    cond_broadcast(&replica->changed);
}

void turn_pass_on(struct replica *replica)
{
    uint64_t index = 0;
    struct host_id successor = begin_to_stop(replica);
    if (host_equal(successor, NO_HOST))
        return;
    int r = volume_stop(replica->volume, successor, &index);
    note_stopped(replica, r < 0 ? 0 : index);
    if (r < 0) {
        log_warning("replica", "volume '%s' stays: cannot log that its home moves: %s",
                    replica->name, strerror(-r));
        return;
    }
    r = log_sync(volume_log(replica->volume), index);
    if (r < 0) {
        log_error("replica",
                  "volume '%s' has no home: that it moves cannot be made durable: %s: restart the "
                  "daemon when the disk is well",
                  replica->name, strerror(-r));
        return;
    }
    note_synced(replica, index);
}

/* ---- offering ---- */

struct offer {
    struct conn *conn;
    Whiskfs__Offer message;
    Whiskfs__Lease *leases, **list;
    char (*names)[HOST_NAME_MAX_BYTES + 1];
};

static void offer_done(struct offer *offer)
{
    if (offer->conn)
        conn_put(offer->conn);
    free(offer->leases);
    free(offer->list);
    free(offer->names);
}

static void add_lease(struct offer *offer, const char *name, int64_t left_ns)
{
    size_t n = offer->message.n_leases++;
    (void)snprintf(offer->names[n], sizeof offer->names[n], "%s", name);
    whiskfs__lease__init(&offer->leases[n]);
    offer->leases[n].host = offer->names[n];
    offer->leases[n].left_ms = (uint32_t)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
    offer->list[n] = &offer->leases[n];
}

static int fill_offer(struct replica *replica, const struct follower *successor,
                      struct offer *offer) REQUIRES(replica->lock)
{
    const struct core *core = &replica->core;
    size_t room = core->followers.n + 1;
    offer->leases = calloc(room, sizeof *offer->leases);
    offer->list = calloc(room, sizeof *offer->list);
    offer->names = calloc(room, sizeof *offer->names);
    if (!offer->leases || !offer->list || !offer->names)
        return -ENOMEM;
    int64_t left, now = clock_mono_ns();
    for (size_t i = 0; i < core->followers.n; i++) {
        const struct follower *member = &core->followers.all[i];
        left = core_lease_left(member, now);
        if (left > 0 && member != successor)
            add_lease(offer, member->name, left);
    }
    left = core_own_lease_left(core, now);
    if (left > 0)
        add_lease(offer, replica->env->self_name, left);
    offer->message.volume = replica->name;
    offer->message.stop_index = core->last;
    offer->message.epoch = core->turn.epoch + 1;
    offer->message.leases = offer->list;
    offer->conn = conn_ref(successor->link);
    return 0;
}

static int next_offer(struct replica *replica, struct offer *offer)
{
    SCOPED_LOCK(&replica->lock);
    const struct follower *successor = core_next_offer(&replica->core);
    return successor ? fill_offer(replica, successor, offer) : -ENODATA;
}

void turn_offer(struct replica *replica)
{
    AUTO(offer_done) struct offer offer = {.message = WHISKFS__OFFER__INIT};
    int r = next_offer(replica, &offer);
    if (r == 0) {
        log_info("replica", "volume '%s' moves its home to host '%s', which does the work",
                 replica->name, conn_name(offer.conn));
        r = conn_send(offer.conn, FRAME_CONTROL, FRAME_OFFER, 0, &offer.message.base,
                      (struct span){0}, clock_mono_ns() + CALL_NS);
    }
    if (r < 0 && offer.conn) /* it joins again and gets it then */
        conn_close(offer.conn, "cannot offer the home");
}

/* ---- starting ---- */

static void note_started(struct replica *replica, uint64_t index)
{
    struct turn turn = volume_turn(replica->volume);
    SCOPED_LOCK(&replica->lock);
    core_started(&replica->core, index, &turn, clock_mono_ns());
    if (index != 0) {
        replica->n_handovers++;
        replica->n_heralded = 0;
    }
    cond_broadcast(&replica->changed);
}

int turn_start(struct replica *replica, uint64_t epoch)
{
    uint64_t index = 0;
    int r = volume_start(replica->volume, epoch, &index);
    if (r < 0) {
        note_started(replica, 0);
        return r;
    }
    r = log_sync(volume_log(replica->volume), index);
    if (r < 0) {
        log_error("replica",
                  "volume '%s' has no home: its start cannot be made durable: %s: restart the "
                  "daemon when the disk is well",
                  replica->name, strerror(-r));
        return r;
    }
    note_started(replica, index);
    replica_tell_home(replica);
    return 0;
}

static int inherit(struct replica *replica, struct conn *conn, const Whiskfs__Offer *offer)
{
    SCOPED_LOCK(&replica->lock);
    int r = core_take_over(&replica->core, conn, offer->epoch, offer->stop_index);
    if (r < 0)
        return r;
    int64_t now = clock_mono_ns();
    for (size_t i = 0; r == 0 && i < offer->n_leases; i++)
        r = core_restore_member(&replica->core, offer->leases[i]->host,
                                now + MIN(offer->leases[i]->left_ms * NS_PER_MS, LEASE_NS));
    return r;
}

static int save_inherited(struct replica *replica)
{
    bool is_saving;
    int r = serve_save_members(replica, NULL, &is_saving);
    SCOPED_LOCK(&replica->lock);
    if (is_saving)
        serve_end_saving(replica);
    return r;
}

int turn_on_offer(struct replica *replica, struct conn *conn, const Whiskfs__Offer *offer)
{
    int r = inherit(replica, conn, offer);
    if (r == -EALREADY || r == -ESTALE)
        return 0;
    if (r == 0)
        r = save_inherited(replica);
    if (r == 0)
        r = turn_start(replica, offer->epoch);
    else
        note_started(replica, 0);
    if (r < 0) { /* the offer comes again with the next join */
        log_warning("replica", "cannot become the home of volume '%s': %s", replica->name,
                    strerror(-r));
        replica_unlink(replica, conn);
        return 0;
    }
    log_info("replica", "this host is now the home of volume '%s'", replica->name);
    return 0;
}

static bool begin_to_resume(struct replica *replica)
{
    SCOPED_LOCK(&replica->lock);
    return core_resume(&replica->core);
}

void turn_resume(struct replica *replica)
{
    if (!begin_to_resume(replica))
        return;
    int r = turn_start(replica, volume_turn(replica->volume).epoch + 2);
    if (r == 0)
        return;
    log_error("replica", "cannot go on as the home of volume '%s': %s: trying again", replica->name,
              strerror(-r));
    (void)replica_pause(replica, RESUME_RETRY_NS);
}

/* ---- yielding ---- */

static bool begin_to_yield(struct replica *replica, struct host_id *ret_home)
{
    SCOPED_LOCK(&replica->lock);
    if (!core_yield(&replica->core))
        return false;
    *ret_home = replica->core.hint;
    inbox_clear(&replica->inbox);
    return true;
}

static void note_yielded(struct replica *replica, struct host_id home, bool is_recorded)
{
    SCOPED_LOCK(&replica->lock);
    core_yielded(&replica->core, is_recorded);
    if (is_recorded)
        replica->told = home;
    cond_broadcast(&replica->changed);
}

void turn_yield(struct replica *replica)
{
    struct host_id home;
    char name[HOST_NAME_MAX_BYTES + 1];
    if (!begin_to_yield(replica, &home))
        return;
    int r = volume_yield(replica->volume);
    note_yielded(replica, home, r == 0);
    if (r < 0) {
        log_error("replica",
                  "cannot record that this host is not the home of volume '%s' any more: %s: "
                  "trying again",
                  replica->name, strerror(-r));
        (void)replica_pause(replica, RESUME_RETRY_NS);
        return;
    }
    replica_host_name(replica, home, name);
    log_warning("replica",
                "host '%s' has taken the home of volume '%s': what only this host has goes to "
                "'whiskfs status', saved",
                name, replica->name);
    replica->env->expire(replica->env->ctx, replica->name);
    replica->env->moved(replica->env->ctx, replica->name, home);
}
