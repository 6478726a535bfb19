/* What callers on each host ask for, one thing after the other, and when it is answered. */
#include <string.h>

#include "tests/sim/sim.h"

#define DEADLINE_NS (8 * NS_PER_S)
#define RESEND_NS NS_PER_S

static void begin(int host, uint64_t argument);

static void rest(struct client *client)
{
    client->state = IDLE;
    client->id = 0;
    int64_t think = client->burst > 0 ? between(10, 2000) * NS_PER_US : between(1, 600) * NS_PER_MS;
    if (sim.busy == client->host)
        think /= 2;
    after(think, -1, begin, (uint64_t)(client - sim.client));
}

static void begin(int ignored, uint64_t argument)
{
    (void)ignored;
    struct client *client = &sim.client[argument];
    struct host *host = &sim.host[client->host];
    if (client->state != IDLE)
        return;
    bool is_idle = sim.busy >= 0 && sim.busy != client->host && !one_in(20);
    if (!host->is_up || (is_idle && !sim.is_healed) || (sim.is_healed && client->burst == 0)) {
        if (!sim.is_healed)
            rest(client);
        return;
    }
    if (client->burst > 0)
        client->burst--;
    else if (one_in(30))
        client->burst = 10 + (unsigned)chance(60);
    client->life = host->life;
    client->deadline_ns = sim.now_ns + DEADLINE_NS;
    client->answered_before = newest_answered(&client->answered_id);
    client->resend_ns = 0;
    client->is_durable = one_in(5);
    client->state = client->burst > 0 || one_in(2) ? WANTS_CHANGE : WANTS_READ;
    client->id = sim.next_id++;
    host_work(client->host);
}

/* The last ones: with everything healed they must succeed. */
void clients_begin(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        sim.client[i].burst = 1;
        if (sim.client[i].state == IDLE)
            after(between(0, 100) * NS_PER_MS, -1, begin, (uint64_t)i);
    }
}

void clients_reset(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        sim.client[i] = (struct client){.host = i % HOSTS};
        rest(&sim.client[i]);
    }
}

/* The daemon has gone: nobody is answered. The kernel would ask the next one again; here the caller gives up. */
void clients_die(int host)
{
    for (int i = 0; i < CLIENTS; i++)
        if (sim.client[i].host == host && sim.client[i].state != IDLE)
            rest(&sim.client[i]);
}

static void fail(struct client *client)
{
    sim.n_failed++;
    trace("h%d client %d fails in state %d", client->host, (int)(client - sim.client),
          client->state);
    if (sim.is_healed)
        wrong("h%d: a request did not end well although everything was whole again", client->host);
    rest(client);
}

static void answer(struct client *client)
{
    check_answered(client->host, client->id, client->index, client->is_durable);
    sim.n_answered++;
    rest(client);
}

/* The kernel answers from its cache, whatever the daemon is about. */
static bool read_kernel(struct client *client)
{
    const struct host *host = &sim.host[client->host];
    if (!host->has_cache || local_ns(client->host) >= host->cached_ns)
        return false;
    check_read(client->host, host->cached, client->answered_before, client->answered_id,
               "its kernel");
    return true;
}

void clients_ask_kernel(int host)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &sim.client[i];
        if (client->host != host || client->state != WANTS_READ || !read_kernel(client))
            continue;
        sim.n_reads++;
        rest(client);
    }
}

static void read_here(struct client *client)
{
    struct host *host = &sim.host[client->host];
    int64_t now = local_ns(client->host), valid;
    if (read_kernel(client)) {
        ;
    } else if (core_may_answer(&host->core, now, &valid)) {
        check_read(client->host, host->n, client->answered_before, client->answered_id, "its copy");
        host->has_cache = true;
        host->cached = host->n;
        host->cached_ns = valid > 1000 * NS_PER_S ? INT64_MAX : now + valid;
    } else {
        return;
    }
    sim.n_reads++;
    rest(client);
}

static void change(struct client *client)
{
    struct host *host = &sim.host[client->host];
    if (core_is_home(&host->core)) {
        if (!host_finds(client->host, client->id, &client->index))
            client->index = host_append(client->host, CHANGE, client->id, client->host, 0);
        host->has_cache = false;
        work_done(&host->core.work, id_of(client->host), local_ns(client->host));
        client->state = SETTLING;
        return;
    }
    if (!host->core.link || !host->core.is_joined || host->core.is_taking_over ||
        sim.now_ns < client->resend_ns)
        return;
    struct message m = {.type = FORWARD,
                        .epoch = host->core.link_epoch,
                        .id = client->id,
                        .is_durable = client->is_durable};
    client->resend_ns = sim.now_ns + RESEND_NS;
    post((int)(uintptr_t)host->core.link, client->host, &m);
}

void client_outcome(int host, const struct message *m)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &sim.client[i];
        if (client->host != host || client->id != m->id || client->state != WANTS_CHANGE)
            continue;
        client->index = m->index;
        client->seen = m->seen;
        client->state = PASSING_ON;
    }
}

static void synced(int h, uint64_t argument)
{
    struct host *host = &sim.host[h];
    struct client *client = &sim.client[argument];
    if (client->state != SYNCING || client->life != host->life)
        return;
    host->synced = MAX(host->synced, client->index);
    answer(client);
}

static void settle(struct client *client)
{
    struct host *host = &sim.host[client->host];
    int64_t until;
    if (!core_settled(&host->core, client->index, local_ns(client->host), &until))
        return;
    if (!client->is_durable || host->synced >= client->index) {
        answer(client);
        return;
    }
    client->state = SYNCING;
    after(disk_ns(client->host), client->host, synced, (uint64_t)(client - sim.client));
}

static void advance(struct client *client)
{
    struct host *host = &sim.host[client->host];
    if (client->state == IDLE)
        return;
    if (sim.now_ns > client->deadline_ns && client->state != SYNCING) {
        fail(client);
        return;
    }
    if (client->state == WANTS_READ)
        read_here(client);
    else if (client->state == WANTS_CHANGE)
        change(client);
    if (client->state == SETTLING)
        settle(client);
    if (client->state == PASSING_ON && core_may_pass_on(&host->core, client->seen))
        answer(client);
}

void clients_work(int host)
{
    for (int i = 0; i < CLIENTS; i++)
        if (sim.client[i].host == host)
            advance(&sim.client[i]);
}
