/* What daemon/replica does around the core, on simulated disks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/host.h"

/* ---- the home's side ---- */

static void refuse(int h, int link, const struct message *asked, int error)
{
    struct message m = {.type = REFUSED,
                        .id = (uint64_t)asked->type,
                        .error = error,
                        .home = -1,
                        .sent_ns = asked->sent_ns};
    if (error == -EREMOTE)
        m.home = host_of(sim.host[h].turn.home);
    post(link, h, &m);
}

static bool holds(const struct host *host, const struct message *join)
{
    return join->index == 0 || (join->index <= host->n && host->log[join->index].stamp == join->id);
}

/* Of the samples that came with the JOIN. */
static uint64_t last_shared(const struct host *host, const struct host *asker, uint64_t last,
                            uint64_t first)
{
    uint64_t index;
    for (unsigned n = 0; (index = core_sample(last, 1, n)) != 0; n++)
        if (index >= first && index <= host->n && host->log[index].stamp == asker->log[index].stamp)
            return index;
    return 0;
}

static void on_join(int h, int link, const struct message *join)
{
    struct host *host = &sim.host[h];
    int asker = sim.link[link].host[0];
    int r = host->n == 0 && host->leads.started == 0 && one_in(3)
                ? -ENOENT
                : core_may_join(&host->core, join->epoch);
    if (r == -ENOENT && host->core.is_joined)
        r = -ENOTCONN;
    if (r < 0) {
        refuse(h, link, join, r);
        return;
    }
    bool is_trimmed = one_in(12); /* the log here begins later */
    bool fits = holds(host, join) && !is_trimmed;
    uint64_t first = is_trimmed ? 1 + chance(host->n + 1) : 1;
    uint64_t have = fits ? join->index : host->n;
    struct message reply = {
        .type = JOIN_REPLY, .epoch = host->turn.epoch, .index = have, .seen = host->n};
    reply.first = first;
    reply.shared = last_shared(host, &sim.host[asker], join->index, first);
    if (!fits) {
        host->synced = host->n; /* a checkpoint is behind no log that could still be lost */
        reply.is_install = true;
        sim.link[link].snapshot = malloc((have + 1) * sizeof(struct entry));
        CHECK(sim.link[link].snapshot);
        memcpy(sim.link[link].snapshot, host->log, (have + 1) * sizeof(struct entry));
    }
    CHECK(core_join(&host->core, id_of(asker), name_of(asker), handle(link), have, fits) == 0);
    post(link, h, &reply);
}

struct promotion {
    int link, asker;
    uint64_t epoch;
    struct message asked;
};
static struct promotion promotions[HOSTS][HOSTS];

static void members_saved(int h, uint64_t argument)
{
    struct host *host = &sim.host[h];
    const struct promotion *p = &promotions[h][argument];
    struct message reply = {
        .type = PROMOTE_REPLY, .sent_ns = p->asked.sent_ns, .lease_ns = LEASE_NS};
    bool was_alone;
    if (!BROKEN(forgets_members))
        host->members[p->asker] = true;
    int r = core_promote(&host->core, id_of(p->asker), handle(p->link), p->epoch, local_ns(h),
                         &was_alone, &reply.index);
    if (r < 0) {
        refuse(h, p->link, &p->asked, r);
        return;
    }
    if (was_alone)
        host->has_cache = false;
    post(p->link, h, &reply);
    host_work(h);
}

static void on_promote(int h, int link, const struct message *m)
{
    int asker = sim.link[link].host[0];
    promotions[h][asker] = (struct promotion){link, asker, m->epoch, *m};
    after(disk_ns(h), h, members_saved, (uint64_t)asker);
}

static void on_renew(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    bool is_member;
    int r = core_renew(&host->core, id_of(sim.link[link].host[0]), handle(link), m->epoch, m->index,
                       local_ns(h), &is_member);
    struct message reply = {.type = RENEW_REPLY, .sent_ns = m->sent_ns, .seen = host->n};
    if (r < 0) {
        refuse(h, link, m, r);
        return;
    }
    reply.lease_ns = is_member ? LEASE_NS : 0;
    post(link, h, &reply);
}

static void serve(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    struct service *free_one = NULL;
    for (int i = 0; i < SERVICES && !free_one; i++)
        if (host->services[i].id == 0)
            free_one = &host->services[i];
    int asker = sim.link[link].host[0];
    int r = core_check_follower(&host->core, id_of(asker), handle(link), m->epoch);
    if (r < 0 || !free_one || !core_is_home(&host->core)) {
        refuse(h, link, m, r < 0 ? r : -EREMOTE);
        return;
    }
    uint64_t index;
    if (!host_finds(h, m->id, &index))
        index = host_append(h, CHANGE, m->id, asker, 0);
    host->has_cache = false;
    work_done(&host->core.work, id_of(asker), local_ns(h));
    *free_one = (struct service){.link = link,
                                 .asker = asker,
                                 .id = m->id,
                                 .index = index,
                                 .is_durable = m->is_durable,
                                 .deadline_ns = sim.now_ns + 8 * NS_PER_S};
}

static void service_synced(int h, uint64_t index)
{
    struct host *host = &sim.host[h];
    host->synced = MAX(host->synced, MIN(index, host->n));
    host_work(h);
}

static void work_services(int h)
{
    struct host *host = &sim.host[h];
    for (int i = 0; i < SERVICES; i++) {
        struct service *s = &host->services[i];
        int64_t until;
        if (s->id == 0)
            continue;
        if (sim.now_ns > s->deadline_ns) {
            s->id = 0;
            continue;
        }
        if (!core_settled(&host->core, s->index, local_ns(h), &until))
            continue;
        if (s->is_durable && host->synced < s->index) {
            if (!s->is_syncing)
                after(disk_ns(h), h, service_synced, host->n);
            s->is_syncing = true;
            continue;
        }
        struct message outcome = {.type = OUTCOME, .id = s->id, .index = s->index, .seen = host->n};
        post(s->link, h, &outcome);
        s->id = 0;
    }
}

static void push(int h)
{
    struct host *host = &sim.host[h];
    size_t turn = 0;
    uint64_t from, to;
    struct follower *follower;
    while ((follower = core_next_push(&host->core, &turn, &from, &to))) {
        struct message m = {.type = ENTRIES, .epoch = host->turn.epoch, .index = from};
        m.n = (unsigned)MIN(to - from + 1, BATCH);
        memcpy(m.entries, &host->log[from], m.n * sizeof m.entries[0]);
        CHECK(core_sent(&host->core, follower->host, follower->link, from, from + m.n - 1));
        post(number(follower->link), h, &m);
    }
}

/* ---- handing over ---- */

static void stop_synced(int h, uint64_t index)
{
    struct host *host = &sim.host[h];
    host->synced = MAX(host->synced, MIN(index, host->n));
    core_synced(&host->core, host->synced);
    host_work(h);
}

static void stop(int h, struct host_id successor)
{
    struct host *host = &sim.host[h];
    core_stopping(&host->core);
    uint64_t index = host_append(h, STOP, sim.next_id++, host_of(successor), host->turn.epoch + 1);
    core_stopped(&host->core, index, &host->turn, local_ns(h));
    trace("h%d stops at %llu for h%d", h, (unsigned long long)index, host_of(successor));
    sim.n_handovers++;
    after(disk_ns(h), h, stop_synced, index);
}

/* More often than work moves: it must be safe whenever it happens. */
void host_hand_over(int h)
{
    struct host_id to = id_of((int)chance(HOSTS));
    if (sim.host[h].is_up && sim.host[h].asleep_ns <= sim.now_ns &&
        core_may_hand_to(&sim.host[h].core, to))
        stop(h, to);
}

static void offer(int h, const struct follower *successor)
{
    struct host *host = &sim.host[h];
    struct message m = {.type = OFFER, .epoch = host->turn.epoch + 1, .index = host->core.last};
    int64_t now = local_ns(h);
    for (size_t i = 0; i < host->core.followers.n; i++) {
        const struct follower *f = &host->core.followers.all[i];
        int64_t left = core_lease_left(f, now);
        if (left > 0 && f != successor) {
            m.members[m.n].host = host_of(f->host);
            m.members[m.n++].left_ns = left;
        }
    }
    if (core_own_lease_left(&host->core, now) > 0) {
        m.members[m.n].host = h;
        m.members[m.n++].left_ns = core_own_lease_left(&host->core, now);
    }
    post(number(successor->link), h, &m);
}

static void start_synced(int h, uint64_t index)
{
    struct host *host = &sim.host[h];
    host->synced = MAX(host->synced, MIN(index, host->n));
    check_claimed(h);
    if (!BROKEN(start_not_durable))
        core_started(&host->core, index, &host->turn, local_ns(h));
    sim.directory = h;
    host->has_cache = false;
    host_work(h);
}

void host_start(int h, uint64_t turn)
{
    struct host *host = &sim.host[h];
    if (term_of(turn) == term_of(host->turn.epoch))
        host->leads.started = turn;
    host->home_file = h;
    host->is_joining = false;
    uint64_t index = host_append(h, START, sim.next_id++, h, turn);
    trace("h%d starts epoch %llx at %llu", h, (unsigned long long)turn, (unsigned long long)index);
    check_serving(h);
    if (BROKEN(start_not_durable))
        core_started(&host->core, index, &host->turn, local_ns(h));
    after(disk_ns(h), h, start_synced, index);
}

static void resume_recorded(int h, uint64_t turn)
{
    sim.host[h].leads.resumed = turn;
    sim.n_resumed++;
    host_start(h, turn);
    if (!one_in(4))
        return;
    host_kill(h, false); /* the record is durable, the start is not */
    host_boot_later(h, between(1, 1000) * NS_PER_MS);
}

static void resume(int h)
{
    if (core_resume(&sim.host[h].core))
        after(disk_ns(h), h, resume_recorded, sim.host[h].turn.epoch + 2);
}

static void table_saved(int h, uint64_t turn)
{
    struct host *host = &sim.host[h];
    for (size_t i = 0; i < host->core.followers.n; i++)
        host->members[host_of(host->core.followers.all[i].host)] = true;
    host_start(h, turn);
}

static void on_offer(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    if (core_take_over(&host->core, handle(link), m->epoch, m->index) < 0)
        return;
    for (unsigned i = 0; i < m->n; i++)
        CHECK(core_restore_member(&host->core, name_of(m->members[i].host),
                                  local_ns(h) + m->members[i].left_ns) == 0);
    memset(host->members, 0, sizeof host->members);
    after(disk_ns(h), h, table_saved, m->epoch);
}

/* ---- the replica's side ---- */

static void try_join(int h, uint64_t argument);

static void schedule_join(int h)
{
    struct host *host = &sim.host[h];
    if (host->is_joining)
        return;
    host->is_joining = true;
    after(host->retry_ns, h, try_join, 0);
    host->retry_ns = MIN(host->retry_ns * 2, 500 * NS_PER_MS);
}

static void join_timeout(int h, uint64_t link)
{
    struct host *host = &sim.host[h];
    if (number(host->core.link) != (int)link || host->core.is_joined)
        return;
    (void)core_unlink(&host->core, host->core.link);
    core_join_failed(&host->core);
    host->is_joining = false;
    host_work(h);
}

static void try_join(int h, uint64_t argument)
{
    (void)argument;
    struct host *host = &sim.host[h];
    int to = host_of(core_home_to_join(&host->core));
    struct link *link = to < 0 || to == h ? NULL : dial(h, to);
    if (!link) {
        core_join_failed(&host->core);
        core_hint(&host->core, one_in(3) ? id_of(sim.directory) : NO_HOST);
        host->is_joining = false;
        host_work(h);
        return;
    }
    struct message m = {.type = JOIN,
                        .epoch = host->turn.epoch,
                        .index = host->n,
                        .id = host->n ? host->log[host->n].stamp : 0};
    int n = (int)(link - sim.link);
    core_joining(&host->core, id_of(to), handle(n));
    host->n_inbox = 0;
    post(n, h, &m);
    after(2 * NS_PER_S, h, join_timeout, (uint64_t)n);
}

static void install(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    trace("h%d installs a checkpoint at %llu", h, (unsigned long long)m->index);
    const struct comparison comparison = {.epoch = host->turn.epoch,
                                          .last = host->n,
                                          .home_epoch = m->epoch,
                                          .home_first = m->first,
                                          .shared = m->shared};
    check_put_aside(h, core_diverges_at(&comparison));
    check_replaced(h, sim.link[link].snapshot, m->index);
    memcpy(host->log, sim.link[link].snapshot, (m->index + 1) * sizeof(struct entry));
    host->n = host->synced = m->index;
    host->leads = (struct leads){0};
    host->home_file = sim.link[link].host[1];
    sim.n_installs++;
    host_start_anew(h);
}

static void on_joined(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    if (number(host->core.link) != link)
        return;
    host->is_joining = false;
    if (m->is_install && m->epoch >= host->turn.epoch) {
        install(h, link, m);
        return;
    }
    if (!core_joined(&host->core, handle(link), m->epoch, m->seen)) {
        (void)core_unlink(&host->core, handle(link));
        return;
    }
    (void)core_move_on(&host->core);
}

static void apply(int h, uint64_t argument)
{
    (void)argument;
    struct host *host = &sim.host[h];
    host->is_applying = false;
    for (unsigned i = 0; i < host->n_inbox; i++) {
        if (host->inbox_from + i <= host->n)
            continue;
        host_log(h, &host->inbox[i]);
    }
    host->n_inbox = 0;
    host->has_cache = false;
    if (core_applied(&host->core, host->n, &host->turn)) {
        struct message ack = {.type = ACK, .epoch = host->core.link_epoch, .index = host->n};
        post(number(host->core.link), h, &ack);
    }
    if (!host_equal(host->turn.home, NO_HOST))
        host->home_file = host_of(host->turn.home);
    host->retry_ns = 10 * NS_PER_MS;
    (void)core_move_on(&host->core);
    host_work(h);
}

static void on_entries(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    if (number(host->core.link) != link || core_is_home(&host->core) || host->core.is_taking_over)
        return;
    uint64_t end = host->n_inbox > 0 ? host->inbox_from + host->n_inbox - 1 : host->n;
    if (m->index > end + 1 || host->n_inbox + m->n > INBOX) {
        wrong("h%d got entries from %llu behind %llu", h, (unsigned long long)m->index,
              (unsigned long long)end);
        return;
    }
    if (host->n_inbox == 0)
        host->inbox_from = m->index;
    memcpy(&host->inbox[m->index - host->inbox_from], m->entries, m->n * sizeof m->entries[0]);
    host->n_inbox = (unsigned)(m->index - host->inbox_from) + m->n;
    if (BROKEN(ack_before_apply)) {
        struct message ack = {
            .type = ACK, .epoch = host->core.link_epoch, .index = m->index + m->n - 1};
        post(link, h, &ack);
    }
    if (!host->is_applying)
        after(one_in(300) ? between(1, 900) * NS_PER_MS : between(20, 4000) * NS_PER_US, h, apply,
              0);
    host->is_applying = true;
}

static void on_refused(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    if (number(host->core.link) != link)
        return;
    if (m->id == PROMOTE)
        host->is_promoting = false;
    int from = sim.link[link].host[1];
    (void)core_unlink(&host->core, host->core.link);
    if (m->id == JOIN) {
        host->is_joining = false;
        core_join_failed(&host->core);
    }
    if (m->error == -EREMOTE && m->home >= 0 && m->home != from)
        core_hint(&host->core, id_of(m->home));
}

static void on_promoted(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    host->is_promoting = false;
    core_promoted(&host->core, handle(link), m->sent_ns, local_ns(h), m->lease_ns, m->index);
}

static void promote_timeout(int h, uint64_t argument)
{
    (void)argument;
    sim.host[h].is_promoting = false;
}

static void promote(int h)
{
    struct host *host = &sim.host[h];
    int64_t valid;
    if (core_may_answer(&host->core, local_ns(h), &valid) || host->is_promoting ||
        (host->core.is_member && local_ns(h) < host->core.lease_until_ns) ||
        !core_may_promote(&host->core))
        return;
    struct message m = {.type = PROMOTE, .epoch = host->core.link_epoch, .sent_ns = local_ns(h)};
    host->is_promoting = true;
    post(number(host->core.link), h, &m);
    after(4 * NS_PER_S, h, promote_timeout, 0);
}

void host_renew_timer(int h, uint64_t argument)
{
    (void)argument;
    struct host *host = &sim.host[h];
    char name[HOST_NAME_MAX_BYTES + 1];
    if (host->core.link && host->core.is_joined) {
        struct message m = {.type = RENEW,
                            .epoch = host->core.link_epoch,
                            .index = host->n,
                            .sent_ns = local_ns(h)};
        post(number(host->core.link), h, &m);
    }
    if (core_lease_ended(&host->core, local_ns(h)))
        host->has_cache = false;
    while (core_expire_member(&host->core, local_ns(h), name))
        trace("h%d goes on without %s", h, name);
    after(500 * NS_PER_MS, h, host_renew_timer, 0);
    host_work(h);
}

/* ---- all together ---- */

void host_link_ended(int h, int link)
{
    struct host *host = &sim.host[h];
    bool was_joining = number(host->core.link) == link && !host->core.is_joined;
    if (core_unlink(&host->core, handle(link))) {
        host->is_promoting = false;
        if (was_joining) {
            host->is_joining = false;
            core_join_failed(&host->core);
        }
    }
}

void host_receive(int h, int link, const struct message *m)
{
    struct host *host = &sim.host[h];
    struct host_id from = id_of(sim.link[link].host[0]);
    switch (m->type) {
    case JOIN:
        on_join(h, link, m);
        break;
    case JOIN_REPLY:
        on_joined(h, link, m);
        break;
    case ENTRIES:
        on_entries(h, link, m);
        break;
    case ACK:
        core_ack(&host->core, from, handle(link), m->index);
        break;
    case PROMOTE:
        on_promote(h, link, m);
        break;
    case PROMOTE_REPLY:
        on_promoted(h, link, m);
        break;
    case RENEW:
        on_renew(h, link, m);
        break;
    case RENEW_REPLY:
        core_renewed(&host->core, handle(link), m->sent_ns, local_ns(h), m->lease_ns, m->seen);
        break;
    case LEAVE:
        core_leave(&host->core, from, handle(link));
        break;
    case FORWARD:
        serve(h, link, m);
        break;
    case OUTCOME:
        client_outcome(h, m);
        break;
    case OFFER:
        on_offer(h, link, m);
        break;
    case REFUSED:
        on_refused(h, link, m);
        break;
    case NEWS:
        host_on_news(h, link, m);
        break;
    }
}

void host_work(int h)
{
    struct host *host = &sim.host[h];
    if (!host->is_up || host->is_leaving)
        return;
    if (host->asleep_ns > sim.now_ns) {
        clients_ask_kernel(h);
        return;
    }
    check_home(h);
    host_yield(h);
    struct host_id successor = core_earned(&host->core, local_ns(h));
    if (!host_equal(successor, NO_HOST))
        stop(h, successor);
    resume(h);
    push(h);
    const struct follower *offered = core_next_offer(&host->core);
    if (offered)
        offer(h, offered);
    work_services(h);
    clients_work(h);
    push(h);
    if (!host->core.link && !core_is_home(&host->core) && !host->core.is_taking_over)
        schedule_join(h);
    promote(h);
}
