/* A host on a simulated disk: its log, how it starts and how it ends. */
#include <string.h>

#include "tests/sim/host.h"

static void put_link(void *link)
{
    (void)link;
}

/* ---- the log ---- */

static void note_turn(struct host *host, const struct entry *entry, uint64_t index)
{
    struct turn *turn = &host->turn;
    if (entry->kind == STOP)
        turn->successor = id_of(entry->host);
    if (entry->kind != START)
        return;
    if (turn->epoch != 0 && term_of(entry->turn) > term_of(turn->epoch))
        host->claim = (struct claim){entry->turn, index};
    *turn = (struct turn){.epoch = entry->turn, .home = id_of(entry->host)};
}

static void look_at_log(struct host *host)
{
    host->turn = (struct turn){
        .home = host->home_file == (int)(host - sim.host) ? NO_HOST : id_of(host->home_file)};
    host->claim = (struct claim){0};
    for (uint64_t i = 1; i <= host->n; i++)
        note_turn(host, &host->log[i], i);
}

void host_log(int h, const struct entry *entry)
{
    struct host *host = &sim.host[h];
    CHECK(host->n + 1 < LOG_MAX);
    host->log[++host->n] = *entry;
    note_turn(host, entry, host->n);
}

uint64_t host_append(int h, enum entry_kind kind, uint64_t id, int about, uint64_t turn)
{
    struct host *host = &sim.host[h];
    const struct entry entry = {
        .epoch = kind == START ? turn : host->turn.epoch,
        .id = id,
        .stamp = chance(UINT64_MAX),
        .turn = turn,
        .kind = (uint8_t)kind,
        .host = (uint8_t)about,
    };
    host_log(h, &entry);
    check_append(h, &entry, host->n);
    core_appended(&host->core, host->n);
    return host->n;
}

/* ---- life ---- */

static void restore_members(int h)
{
    struct host *host = &sim.host[h];
    for (int i = 0; i < HOSTS; i++)
        if (host->members[i] && i != h)
            CHECK(core_restore_member(&host->core, name_of(i), local_ns(h) + LEASE_NS) == 0);
}

void host_boot(int h)
{
    struct host *host = &sim.host[h];
    host->life++;
    host->is_up = true;
    host->n_inbox = 0;
    host->retry_ns = 10 * NS_PER_MS;
    host->is_applying = host->is_promoting = host->is_saving = host->is_joining = false;
    host->is_leaving = false;
    host->dials_ns = 0;
    memset(host->services, 0, sizeof host->services);
    host->has_cache = false;
    look_at_log(host);
    core_init(&host->core, id_of(h), put_link);
    core_open(&host->core, &host->turn, &host->leads, host->n, local_ns(h));
    if (core_is_home(&host->core) || core_has_stopped(&host->core)) {
        host->synced = host->n;
        restore_members(h);
    }
    if (core_is_home(&host->core)) {
        check_claimed(h);
        check_serving(h);
        sim.directory = h;
    }
    trace("h%d up: entries %llu epoch %llx home h%d successor h%d", h, (unsigned long long)host->n,
          (unsigned long long)host->turn.epoch, host_of(host->turn.home),
          host_of(host->turn.successor));
    after(between(1, 500) * NS_PER_MS, h, host_renew_timer, 0);
    after(between(1, 100) * NS_PER_MS, h, host_herald, 0);
    host_work(h);
}

static void boot(int ignored, uint64_t h)
{
    (void)ignored;
    if (!sim.host[h].is_up)
        host_boot((int)h);
}

void host_boot_later(int h, int64_t ns)
{
    after(ns, -1, boot, (uint64_t)h);
}

static void break_links_of(int h)
{
    for (int i = 1; i < LINKS; i++)
        if (sim.link[i].is_used && sim.link[i].is_open &&
            ((sim.link[i].host[0] == h && sim.link[i].life[0] == sim.host[h].life) ||
             (sim.link[i].host[1] == h && sim.link[i].life[1] == sim.host[h].life)))
            break_link(i);
}

void host_kill(int h, bool has_power)
{
    struct host *host = &sim.host[h];
    trace("h%d %s", h, has_power ? "killed" : "loses power");
    break_links_of(h);
    clients_die(h);
    core_done(&host->core);
    host->life++;
    host->is_up = false;
    sim.n_crashes++;
    if (!has_power) {
        check_power_cut(h);
        host->n = host->synced;
    }
}

void host_start_anew(int h)
{
    break_links_of(h);
    clients_die(h);
    core_done(&sim.host[h].core);
    host_boot(h);
}

/* Detached: it leaves, and attaches again with nothing. */
void host_wipe(int h)
{
    struct host *host = &sim.host[h];
    struct message leave = {.type = LEAVE};
    trace("h%d detaches", h);
    int link = number(core_let_go(&host->core));
    if (link != 0)
        post(link, h, &leave);
    host->n = host->synced = 0;
    host->leads = (struct leads){0};
    host->home_file = sim.directory;
    memset(host->members, 0, sizeof host->members);
    host_start_anew(h);
}

static void has_left(int h, uint64_t argument)
{
    (void)argument;
    host_kill(h, true);
    host_boot_later(h, between(1, 6000) * NS_PER_MS);
}

/* Frames that are on their way are still handled until the end. */
void host_leave(int h)
{
    struct host *host = &sim.host[h];
    struct message leave = {.type = LEAVE};
    if (host->is_leaving)
        return;
    host->is_leaving = true;
    trace("h%d leaves", h);
    int link = number(core_let_go(&host->core));
    if (link != 0)
        post(link, h, &leave);
    after(between(0, 50) * NS_PER_MS, h, has_left, 0);
}
