/* What must be true. Answers are kept by the id of their change; the index is where the home's log has it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define IDS 65536
#define EPOCHS 4096 /* in one schedule */

struct known {
    uint64_t index; /* answered with this entry; 0: not (yet) */
    bool is_durable, is_lost;
    bool is_beside;    /* answered, and not in the log of the last claim */
    bool is_put_aside; /* for the operator */
};

/* The last claim, by epoch, and the log upon which it builds. */
static struct claim claim;
static uint64_t line[LOG_MAX];
static int64_t torn_until_ns, home_seen_ns;

static struct known known[IDS];
static uint64_t answered[IDS]; /* ids, in the order of their answers */
static size_t n_answered;
static struct {
    uint64_t epoch;
    int host;
} owners[EPOCHS];
static size_t n_owners;
static uint64_t newest; /* id of the answered change with the highest index */

void check_reset(void)
{
    memset(known, 0, sizeof known);
    n_owners = 0;
    claim = (struct claim){0};
    torn_until_ns = home_seen_ns = 0;
    n_answered = 0;
    newest = 0;
}

void wrong(const char *fmt, ...)
{
    if (sim.failure)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(sim.text, sizeof sim.text, fmt, args);
    va_end(args);
    sim.failure = sim.text;
    trace("WRONG: %s", sim.text);
}

uint64_t newest_answered(uint64_t *ret_id)
{
    *ret_id = newest;
    return known[newest].index;
}

static int owner_of(uint64_t epoch, int host)
{
    for (size_t i = n_owners; i-- > 0;)
        if (owners[i].epoch == epoch)
            return owners[i].host;
    CHECK(n_owners < EPOCHS);
    owners[n_owners].epoch = epoch;
    owners[n_owners++].host = host;
    return host;
}

/* An operator may have taken the home from a host that was there all the time. */
static void one_home(int host, uint64_t epoch)
{
    int first = owner_of(epoch, host);
    if (first != host)
        wrong("epoch %llx has two homes, h%d and h%d", (unsigned long long)epoch, first, host);
    for (int i = 0; i < HOSTS; i++)
        if (i != host && sim.host[i].is_up && core_is_home(&sim.host[i].core) &&
            sim.host[i].claim.epoch == sim.host[host].claim.epoch)
            wrong("h%d and h%d are both home", i, host);
}

void check_append(int host, const struct entry *entry, uint64_t index)
{
    (void)index;
    CHECK(entry->id < IDS);
    one_home(host, entry->epoch);
    known[entry->id].is_lost = false;
}

static bool holds_id(int host, uint64_t index, uint64_t id)
{
    return index <= sim.host[host].n && sim.host[host].log[index].id == id;
}

static bool is_beside(const struct entry *entry, uint64_t index)
{
    return index < claim.index ? line[index] != entry->id : entry->epoch < claim.epoch;
}

void check_answered(int host, uint64_t id, uint64_t index, bool is_durable)
{
    if (known[id].is_lost) {
        if (is_durable)
            wrong("change %llu was answered as durable and is lost", (unsigned long long)id);
        return;
    }
    trace("answered %llu as entry %llu%s", (unsigned long long)id, (unsigned long long)index,
          is_durable ? ", durable" : "");
    if (!holds_id(host, index, id))
        wrong("h%d answers change %llu before it shows it", host, (unsigned long long)id);
    known[id] = (struct known){.index = index, .is_durable = is_durable};
    known[id].is_beside = is_beside(&sim.host[host].log[index], index);
    if (known[id].is_beside)
        return;
    answered[n_answered++] = id;
    if (index > known[newest].index)
        newest = id;
}

/* Another home than that of the last claim goes on, for whoever follows it and until its leases have ended: an operator took
 * its place all the same. */
static bool is_torn(int host)
{
    return sim.now_ns < torn_until_ns && !check_is_current(host);
}

void check_home(int host)
{
    if (!core_is_home(&sim.host[host].core))
        return;
    home_seen_ns = sim.now_ns;
    if (!check_is_current(host))
        torn_until_ns = sim.now_ns + LEASE_NS + LEASE_MARGIN_NS;
}

bool check_is_current(int host)
{
    return sim.host[host].claim.epoch >= claim.epoch;
}

void check_read(int host, uint64_t seen_index, uint64_t answered_index, uint64_t answered_id,
                const char *how)
{
    if (answered_id == 0 || known[answered_id].is_lost || known[answered_id].is_beside ||
        is_torn(host))
        return;
    if (seen_index < answered_index || !holds_id(host, answered_index, answered_id))
        wrong("h%d: %s shows entry %llu, and %llu (change %llu) was answered before", host, how,
              (unsigned long long)seen_index, (unsigned long long)answered_index,
              (unsigned long long)answered_id);
}

void check_serving(int host)
{
    if (sim.host[host].claim.epoch !=
        claim.epoch) /* left behind, or (check_claimed) about to leave */
        return;
    for (size_t i = 0; i < n_answered; i++) {
        const struct known *k = &known[answered[i]];
        if (!k->is_lost && !holds_id(host, k->index, answered[i])) {
            wrong("h%d serves without change %llu, which was answered%s", host,
                  (unsigned long long)answered[i], k->is_durable ? " as durable" : "");
            return;
        }
    }
}

static void forget_gone(void)
{
    size_t n = 0;
    newest = 0;
    for (size_t i = 0; i < n_answered; i++) {
        if (known[answered[i]].is_lost || known[answered[i]].is_beside)
            continue;
        answered[n++] = answered[i];
        if (known[answered[i]].index > known[newest].index)
            newest = answered[i];
    }
    n_answered = n;
}

/* What its home alone had not made durable may go with the power, unless it was promised. */
void check_power_cut(int h)
{
    struct host *host = &sim.host[h];
    bool was_home = turn_is_led_by(&host->turn, id_of(h), &host->leads);
    for (uint64_t i = host->synced + 1; was_home && i <= host->n; i++) {
        struct known *k = &known[host->log[i].id];
        if (host->log[i].epoch != host->turn.epoch)
            continue;
        if (k->index != 0 && k->is_durable)
            wrong("change %llu was answered as durable and is lost",
                  (unsigned long long)host->log[i].id);
        k->is_lost = true;
    }
    forget_gone();
}

/* ---- claims ---- */

/* What those who could be asked had applied is not left behind. */
void check_claiming(int host)
{
    if (sim.host[host].core.is_joined)
        wrong("h%d takes the home although it follows it", host);
    for (int i = 0; i < HOSTS; i++) {
        const struct host *other = &sim.host[i];
        bool is_reached = i != host && other->is_up && other->asleep_ns <= sim.now_ns &&
                          !sim.cut[host][i] && !sim.cut[i][host];
        if (is_reached && other->claim.epoch == sim.host[host].claim.epoch &&
            other->n > sim.host[host].n)
            wrong("h%d takes the home and h%d, which answers, knows more", host, i);
    }
}

void check_claimed(int host)
{
    const struct host *home = &sim.host[host];
    if (home->claim.epoch <= claim.epoch)
        return;
    claim = home->claim;
    if (home_seen_ns >=
        home->claimed_ns) /* the other one was there although this one was told to take its place */
        torn_until_ns = home_seen_ns + LEASE_NS + LEASE_MARGIN_NS;
    for (uint64_t i = 1; i < claim.index; i++) {
        line[i] = home->log[i].id;
        known[line[i]].is_lost = known[line[i]].is_beside =
            false; /* that of another home, perhaps */
    }
    for (size_t i = 0; i < n_answered; i++) {
        struct known *k = &known[answered[i]];
        k->is_beside = !holds_id(host, k->index, answered[i]);
        if (k->is_beside)
            trace("answered %llu and left behind", (unsigned long long)answered[i]);
    }
    forget_gone();
}

void check_put_aside(int host, uint64_t from)
{
    const struct host *h = &sim.host[host];
    for (uint64_t i = from; i <= h->n; i++) {
        known[h->log[i].id].is_put_aside = true;
        sim.n_put_aside++;
    }
}

void check_replaced(int host, const struct entry *by, uint64_t n)
{
    const struct host *h = &sim.host[host];
    for (uint64_t i = 1; i <= h->n; i++) {
        const struct known *k = &known[h->log[i].id];
        bool is_there = i <= n && by[i].stamp == h->log[i].stamp;
        if (!is_there && k->index == i && k->is_beside && !k->is_lost && !k->is_put_aside)
            wrong("h%d drops change %llu, which was answered and no other log has", host,
                  (unsigned long long)h->log[i].id);
    }
}

/* Whatever was answered is in the log, or an operator finds it. */
void check_end(int home)
{
    check_serving(home);
    for (uint64_t id = 1; id < sim.next_id; id++)
        if (known[id].index != 0 && known[id].is_beside && !known[id].is_lost &&
            !known[id].is_put_aside)
            wrong("change %llu was answered, and is neither in the log nor put aside",
                  (unsigned long long)id);
}
