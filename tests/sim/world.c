#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

struct sim sim;

/* ---- chance: splitmix64 ---- */

static uint64_t draw(void)
{
    uint64_t z = (sim.random += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

uint64_t chance(uint64_t n)
{
    return draw() % n;
}

bool one_in(uint64_t n)
{
    return chance(n) == 0;
}

int64_t between(int64_t low, int64_t high)
{
    return low + (int64_t)chance((uint64_t)(high - low + 1));
}

/* ---- events: a binary heap ---- */

struct event {
    int64_t at_ns;
    uint64_t order;
    event_f *event;
    uint64_t argument;
    int host;
    unsigned life;
};

static struct event *heap;
static size_t n_events, room;
static uint64_t n_ordered;

static bool comes_before(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
    struct event other = heap[a];
    heap[a] = heap[b];
    heap[b] = other;
}

void after(int64_t ns, int host, event_f *event, uint64_t argument)
{
    if (n_events == room) {
        room = room ? 2 * room : 1024;
        heap = realloc(heap, room * sizeof *heap);
        CHECK(heap);
    }
    heap[n_events] = (struct event){
        sim.now_ns + ns, n_ordered++, event, argument, host, host < 0 ? 0 : sim.host[host].life};
    for (size_t i = n_events++; i > 0 && comes_before(&heap[i], &heap[(i - 1) / 2]);
         i = (i - 1) / 2)
        swap(i, (i - 1) / 2);
}

static struct event take_first(void)
{
    struct event first = heap[0];
    heap[0] = heap[--n_events];
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++)
            if (child < n_events && comes_before(&heap[child], &heap[least]))
                least = child;
        if (least == i)
            return first;
        swap(i, least);
        i = least;
    }
}

bool step(void)
{
    if (n_events == 0)
        return false;
    struct event event = take_first();
    sim.now_ns = event.at_ns;
    if (event.host >= 0 && event.life != sim.host[event.host].life)
        return true;
    if (event.host >= 0 && sim.host[event.host].asleep_ns > sim.now_ns) {
        after(sim.host[event.host].asleep_ns - sim.now_ns, event.host, event.event, event.argument);
        return true;
    }
    event.event(event.host, event.argument);
    return true;
}

/* ---- clocks and names ---- */

int64_t local_ns(int host)
{
    return sim.host[host].offset_ns + (int64_t)((double)sim.now_ns * sim.host[host].rate);
}

const char *name_of(int host)
{
    static const char *const names[HOSTS] = {"h0", "h1", "h2", "h3"};
    return names[host];
}

struct host_id id_of(int host)
{
    static struct host_id ids[HOSTS];
    if (ids[0].n == 0)
        for (int i = 0; i < HOSTS; i++)
            ids[i] = host_id_of(name_of(i));
    return host < 0 ? NO_HOST : ids[host];
}

int host_of(struct host_id id)
{
    for (int i = 0; i < HOSTS; i++)
        if (host_equal(id, id_of(i)))
            return i;
    return -1;
}

/* ---- disks ---- */

int64_t disk_ns(int h)
{
    return sim.host[h].is_slow ? between(1, 2000) * NS_PER_MS : between(100, 20000) * NS_PER_US;
}

bool host_finds(int h, uint64_t id, uint64_t *ret_index)
{
    const struct host *host = &sim.host[h];
    for (uint64_t i = host->n; i > 0; i--)
        if (host->log[i].kind == CHANGE && host->log[i].id == id) {
            *ret_index = i;
            return true;
        }
    return false;
}

/* ---- links ---- */

static void drop_parcels(struct link *link)
{
    for (int end = 0; end < 2; end++) {
        for (struct parcel *p = link->first[end], *next; p; p = next) {
            next = p->next;
            free(p);
        }
        link->first[end] = link->last[end] = NULL;
    }
}

static void forget_link(struct link *link)
{
    drop_parcels(link);
    free(link->snapshot);
    *link = (struct link){0};
}

void forget_events(void)
{
    n_events = 0;
    n_ordered = 0;
    for (int i = 0; i < LINKS; i++)
        forget_link(&sim.link[i]);
}

/* What is on its way comes in order, and not while the way is cut. */
static void deliver(int host, uint64_t argument)
{
    (void)host;
    int number = (int)(argument / 2), end = (int)(argument % 2);
    struct link *link = &sim.link[number];
    struct parcel *parcel = link->first[end];
    if (!parcel)
        return;
    int to = link->host[end], from = link->host[!end];
    if (sim.cut[from][to] || sim.host[to].asleep_ns > sim.now_ns) {
        after(between(10, 60) * NS_PER_MS, -1, deliver, argument);
        return;
    }
    if (parcel->at_ns > sim.now_ns) {
        after(parcel->at_ns - sim.now_ns, -1, deliver, argument);
        return;
    }
    link->first[end] = parcel->next;
    if (!parcel->next)
        link->last[end] = NULL;
    else
        after(MAX(parcel->next->at_ns - sim.now_ns, 0), -1, deliver, argument);
    if (sim.host[to].is_up && sim.host[to].life == link->life[end] && !link->is_dead[end]) {
        host_receive(to, number, &parcel->message);
        host_work(to);
    }
    free(parcel);
}

void post(int number, int from, const struct message *message)
{
    struct link *link = &sim.link[number];
    int end = link->host[0] == from ? 1 : 0;
    if (!link->is_open || link->is_dead[!end])
        return;
    struct parcel *parcel = malloc(sizeof *parcel);
    CHECK(parcel);
    int64_t delay = one_in(200) ? between(0, 2000) * NS_PER_MS : between(50, 3000) * NS_PER_US;
    *parcel = (struct parcel){.at_ns = sim.now_ns + delay, .message = *message};
    if (link->last[end])
        link->last[end]->next = parcel;
    else
        after(delay, -1, deliver, (uint64_t)number * 2 + (uint64_t)end);
    if (!link->first[end])
        link->first[end] = parcel;
    link->last[end] = parcel;
}

/* The two ends of a broken connection hear of it at different times. */
static void tell_end(int host, uint64_t argument)
{
    (void)host;
    int number = (int)(argument / 2), end = (int)(argument % 2);
    struct link *link = &sim.link[number];
    int who = link->host[end];
    link->is_dead[end] = true;
    if (sim.host[who].is_up && sim.host[who].life == link->life[end]) {
        host_link_ended(who, number);
        host_work(who);
    }
}

void break_link(int number)
{
    struct link *link = &sim.link[number];
    if (!link->is_used || !link->is_open)
        return;
    link->is_open = false;
    if (one_in(2))
        drop_parcels(link);
    for (int end = 0; end < 2; end++)
        after(one_in(4) ? between(0, 6000) * NS_PER_MS : between(0, 5) * NS_PER_MS, -1, tell_end,
              (uint64_t)number * 2 + (uint64_t)end);
}

struct link *dial(int from, int to)
{
    if (to < 0 || !sim.host[to].is_up || sim.cut[from][to] || sim.cut[to][from])
        return NULL;
    for (int i = 1; i < LINKS; i++) {
        struct link *link = &sim.link[i];
        if (link->is_used)
            continue;
        *link = (struct link){
            .is_used = true,
            .is_open = true,
            .host = {from, to},
            .life = {sim.host[from].life, sim.host[to].life},
        };
        return link;
    }
    return NULL;
}

void trace(const char *fmt, ...)
{
    if (!sim.traces)
        return;
    va_list args;
    va_start(args, fmt);
    printf("%9.4f ", (double)sim.now_ns / 1e9);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}
