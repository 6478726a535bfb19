/* What must be true. Answers are kept by the id of their change; the index is where the home's log has it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define IDS 65536
#define EPOCHS 4096

struct known {
    uint64_t index; /* answered with this entry; 0: not (yet) */
    bool is_durable, is_lost;
};

static struct known known[IDS];
static uint64_t answered[IDS]; /* ids, in the order of their answers */
static size_t n_answered;
static int owner[EPOCHS];
static uint64_t newest; /* id of the answered change with the highest index */

void check_reset(void)
{
    memset(known, 0, sizeof known);
    memset(owner, -1, sizeof owner);
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

static void one_home(int host, uint64_t epoch)
{
    int *first = &owner[epoch % EPOCHS];
    if (*first >= 0 && *first != host)
        wrong("epoch %llx has two homes, h%d and h%d", (unsigned long long)epoch, *first, host);
    *first = host;
    for (int i = 0; i < HOSTS; i++)
        if (i != host && sim.host[i].is_up && core_is_home(&sim.host[i].core))
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
    answered[n_answered++] = id;
    if (index > known[newest].index)
        newest = id;
}

void check_read(int host, uint64_t seen_index, uint64_t answered_index, uint64_t answered_id,
                const char *how)
{
    if (answered_id == 0 || known[answered_id].is_lost)
        return;
    if (seen_index < answered_index || !holds_id(host, answered_index, answered_id))
        wrong("h%d: %s shows entry %llu, and %llu (change %llu) was answered before", host, how,
              (unsigned long long)seen_index, (unsigned long long)answered_index,
              (unsigned long long)answered_id);
}

void check_serving(int host)
{
    for (size_t i = 0; i < n_answered; i++) {
        const struct known *k = &known[answered[i]];
        if (!k->is_lost && !holds_id(host, k->index, answered[i])) {
            wrong("h%d serves without change %llu, which was answered%s", host,
                  (unsigned long long)answered[i], k->is_durable ? " as durable" : "");
            return;
        }
    }
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
    size_t n = 0;
    newest = 0;
    for (size_t i = 0; i < n_answered; i++) {
        if (known[answered[i]].is_lost)
            continue;
        answered[n++] = answered[i];
        if (known[answered[i]].index > known[newest].index)
            newest = answered[i];
    }
    n_answered = n;
}
