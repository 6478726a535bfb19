#include "daemon/transfer/flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"

void flights_init(struct flights *flights, atomic_uint_least64_t *gauge)
{
    *flights = (struct flights){.gauge = gauge};
    mutex_init(&flights->lock, LOCK_transfer);
    list_init(&flights->waiters);
}

void flights_done(struct flights *flights)
{
    CHECK(!flights->list && !flights->flying && list_empty(&flights->waiters));
    mutex_done(&flights->lock);
}

/* ---- the tables ---- */

static struct flying *find_flying(struct flights *flights, struct content *content, uint64_t block)
    REQUIRES(flights->lock)
{
    struct flying key = {0}, *found;
    key.key.content = content;
    key.key.block = block;
    HASH_FIND(hh, flights->flying, &key.key, sizeof key.key, found);
    return found;
}

static struct flight *find_request(struct flights *flights, struct conn *conn, uint64_t id)
    REQUIRES(flights->lock)
{
    struct flight *found;
    __typeof__(found->key) key;
    memset(&key, 0, sizeof key);
    key.conn = conn;
    key.id = id;
    HASH_FIND(hh, flights->list, &key, sizeof key, found);
    return found;
}

static bool add_flying(struct flights *flights, struct flight *flight, struct wanted item)
    REQUIRES(flights->lock)
{
    struct flying *flying = calloc(1, sizeof *flying);
    if (!flying)
        return false;
    flying->key.content = item.content;
    flying->key.block = item.block;
    flying->flight = flight;
    HASH_ADD(hh, flights->flying, key, sizeof flying->key, flying);
    atomic_fetch_add(flights->gauge, 1);
    return true;
}

static void wake(struct flights *flights, struct content *content, uint64_t block, int error)
    REQUIRES(flights->lock)
{
    list_for_each(w, &flights->waiters, struct waiter, link)
    {
        if (w->content != content || w->block != block)
            continue;
        w->is_woken = true;
        w->error = error;
        cond_signal(&w->changed);
    }
}

/* The item has come, or will not. */
static void land(struct flights *flights, struct flight *flight, unsigned i, int error)
    REQUIRES(flights->lock)
{
    struct wanted item = flight->items[i];
    struct flying *flying = find_flying(flights, item.content, item.block);
    flight->outstanding &= ~(1ULL << i);
    flight->arriving &= ~(1ULL << i);
    CHECK(flying && flying->flight == flight);
    HASH_DEL(flights->flying, flying);
    free(flying);
    atomic_fetch_sub(flights->gauge, 1);
    wake(flights, item.content, item.block, error);
}

/* ---- requests ---- */

static void flight_free(struct flight *flight)
{
    for (unsigned i = 0; i < flight->n_items; i++)
        content_put(flight->items[i].content);
    if (flight->key.conn)
        conn_put(flight->key.conn);
    free(flight);
}

static bool drop_ref(struct flights *flights, struct flight *flight)
{
    SCOPED_LOCK(&flights->lock);
    return --flight->refs == 0;
}

/* Its contents are put outside the lock. */
void flight_put(struct flights *flights, struct flight *flight)
{
    if (drop_ref(flights, flight))
        flight_free(flight);
}

static void take_free_items(struct flights *flights, struct flight *flight,
                            const struct wanted *items, unsigned n, unsigned *ret_joined)
{
    unsigned joined = 0;
    SCOPED_LOCK(&flights->lock);
    for (unsigned i = 0; i < n && !flights->is_stopping; i++) {
        if (find_flying(flights, items[i].content, items[i].block)) {
            joined++;
            continue;
        }
        if (!add_flying(flights, flight, items[i]))
            break;
        flight->outstanding |= 1ULL << flight->n_items;
        flight->items[flight->n_items++] = (struct wanted){
            .content = content_ref(items[i].content),
            .block = items[i].block,
        };
    }
    *ret_joined = joined;
}

/* When nothing is outstanding any more the table's reference is the caller's: it calls flight_put, unlocked. */
static struct flight *take_if_over(struct flights *flights, struct flight *flight)
    REQUIRES(flights->lock)
{
    if (flight->outstanding != 0 || flight->is_over)
        return NULL;
    flight->is_over = true;
    if (flight->is_listed)
        HASH_DEL(flights->list, flight);
    flight->is_listed = false;
    return flight;
}

static uint64_t present_items(const struct flight *flight)
{
    uint64_t present = 0;
    for (unsigned i = 0; i < flight->n_items; i++)
        if (content_has(flight->items[i].content, flight->items[i].block, 1))
            present |= 1ULL << i;
    return present;
}

/* Lands the items of dropped, which go to ret_dropped; what is left moves together. True: nothing is, and the flight over. */
static bool drop_items(struct flights *flights, struct flight *flight, uint64_t dropped,
                       struct wanted *ret_dropped)
{
    unsigned n_kept = 0;
    uint64_t outstanding = 0;
    SCOPED_LOCK(&flights->lock);
    for (unsigned i = 0; i < flight->n_items; i++) {
        bool is_outstanding = flight->outstanding >> i & 1;
        if (dropped >> i & 1) {
            if (is_outstanding)
                land(flights, flight, i, 0);
            *ret_dropped++ = flight->items[i];
            continue;
        }
        outstanding |= (uint64_t)is_outstanding << n_kept;
        flight->items[n_kept++] = flight->items[i];
    }
    flight->n_items = n_kept;
    flight->outstanding = outstanding;
    return take_if_over(flights, flight) != NULL;
}

/* A block leaves the table after it has become present. So what was not flying, and is present now that it is, came between
 * the caller's look and its entry here: it is not asked for again. True: that was all of it. */
static bool drop_present(struct flights *flights, struct flight *flight)
{
    uint64_t present = present_items(flight);
    struct wanted dropped[FLIGHT_BLOCKS];
    if (present == 0)
        return false;
    bool is_over = drop_items(flights, flight, present, dropped);
    for (unsigned i = 0; i < (unsigned)__builtin_popcountll(present); i++)
        content_put(dropped[i].content);
    return is_over;
}

struct flight *flights_begin(struct flights *flights, const struct wanted *items, unsigned n,
                             enum fetch_class class, unsigned *ret_joined)
{
    CHECK(n <= FLIGHT_BLOCKS);
    struct flight *flight = calloc(1, sizeof *flight);
    *ret_joined = 0;
    if (!flight)
        return NULL;
    flight->refs = 2;
    flight->class = class;
    flight->progress_ns = clock_mono_ns();
    take_free_items(flights, flight, items, n, ret_joined);
    if (flight->n_items > 0 && !drop_present(flights, flight))
        return flight;
    flight_free(flight);
    return NULL;
}

bool flights_sent(struct flights *flights, struct flight *flight, struct conn *conn, uint64_t id)
{
    SCOPED_LOCK(&flights->lock);
    if (flights->is_stopping || flight->is_over)
        return false;
    flight->key.conn = conn_ref(conn);
    flight->key.id = id;
    flight->progress_ns = clock_mono_ns();
    flight->is_listed = true;
    HASH_ADD(hh, flights->list, key, sizeof flight->key, flight);
    return true;
}

/* Lands what has not come. What is being stored at the moment lands when it is. */
static struct flight *end_locked(struct flights *flights, struct flight *flight, int error)
    REQUIRES(flights->lock)
{
    for (unsigned i = 0; i < flight->n_items; i++) {
        if ((flight->outstanding & ~flight->arriving) >> i & 1)
            land(flights, flight, i, error);
    }
    return take_if_over(flights, flight);
}

static struct flight *end_found(struct flights *flights, struct conn *conn, uint64_t id, int error)
{
    SCOPED_LOCK(&flights->lock);
    struct flight *flight = find_request(flights, conn, id);
    return flight ? end_locked(flights, flight, error) : NULL;
}

void flights_end(struct flights *flights, struct conn *conn, uint64_t id, int error)
{
    struct flight *over = end_found(flights, conn, id, error);
    if (over)
        flight_put(flights, over);
}

static struct flight *fail_locking(struct flights *flights, struct flight *flight, int error)
{
    SCOPED_LOCK(&flights->lock);
    return end_locked(flights, flight, error);
}

void flights_fail(struct flights *flights, struct flight *flight, int error)
{
    struct flight *over = fail_locking(flights, flight, error);
    if (over)
        flight_put(flights, over);
}

/* All items of a request are of one volume. */
static bool is_meant(const struct flight *flight, const struct conn *conn,
                     const struct store *store)
{
    return (!conn || flight->key.conn == conn) &&
           (!store || content_store(flight->items[0].content) == store);
}

/* conn NULL: on whatever connection; store NULL: of whatever store. The result is chained by next_over. */
static struct flight *end_all(struct flights *flights, const struct conn *conn,
                              const struct store *store, int error)
{
    struct flight *chain = NULL, *flight, *next;
    SCOPED_LOCK(&flights->lock);
    HASH_ITER(hh, flights->list, flight, next)
    {
        struct flight *over =
            is_meant(flight, conn, store) ? end_locked(flights, flight, error) : NULL;
        if (!over)
            continue;
        over->next_over = chain;
        chain = over;
    }
    return chain;
}

static void put_chain(struct flights *flights, struct flight *chain)
{
    while (chain) {
        struct flight *next = chain->next_over;
        flight_put(flights, chain);
        chain = next;
    }
}

void flights_lost(struct flights *flights, struct conn *conn, int error)
{
    put_chain(flights, end_all(flights, conn, NULL, error));
}

void flights_let_go(struct flights *flights, const struct store *store, int error)
{
    put_chain(flights, end_all(flights, NULL, store, error));
}

static void tell_stopping(struct flights *flights)
{
    SCOPED_LOCK(&flights->lock);
    flights->is_stopping = true;
    list_for_each(w, &flights->waiters, struct waiter, link)
    {
        cond_signal(&w->changed);
    }
}

void flights_stop(struct flights *flights)
{
    tell_stopping(flights);
    put_chain(flights, end_all(flights, NULL, NULL, -ESHUTDOWN));
}

/* ---- arrivals ---- */

/* Blocks mostly come in the order that they were asked for. */
static int find_item(const struct flight *flight, uint64_t ino, uint64_t version, uint64_t block)
{
    uint64_t left = flight->outstanding & ~flight->arriving;
    for (; left != 0; left &= left - 1) {
        int i = __builtin_ctzll(left);
        struct content *content = flight->items[i].content;
        if (flight->items[i].block == block && content_ino(content) == ino &&
            content_version(content) == version)
            return i;
    }
    return -1;
}

/* A connection that delivers anything is not stalled: its requests stand in one queue. */
static void note_progress(struct flights *flights, struct conn *conn) REQUIRES(flights->lock)
{
    struct flight *flight, *next;
    int64_t now_ns = clock_mono_ns();
    HASH_ITER(hh, flights->list, flight, next)
    {
        if (flight->key.conn == conn)
            flight->progress_ns = now_ns;
    }
}

bool flights_arriving(struct flights *flights, struct conn *conn, uint64_t id, uint64_t ino,
                      uint64_t version, uint64_t block, struct content **ret_content,
                      enum fetch_class *ret_class)
{
    SCOPED_LOCK(&flights->lock);
    struct flight *flight = find_request(flights, conn, id);
    int i = flight ? find_item(flight, ino, version, block) : -1;
    if (i < 0)
        return false;
    note_progress(flights, conn);
    flight->arriving |= 1ULL << i;
    *ret_content = content_ref(flight->items[i].content);
    *ret_class = flight->class;
    return true;
}

static struct flight *arrived_locking(struct flights *flights, struct conn *conn, uint64_t id,
                                      struct content *content, uint64_t block, int error)
{
    SCOPED_LOCK(&flights->lock);
    struct flying *flying = find_flying(flights, content, block);
    if (!flying || flying->flight->key.conn != conn || flying->flight->key.id != id)
        return NULL;
    struct flight *flight = flying->flight;
    for (uint64_t left = flight->arriving; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        if (flight->items[i].content == content && flight->items[i].block == block) {
            land(flights, flight, i, error);
            break;
        }
    }
    return take_if_over(flights, flight);
}

void flights_arrived(struct flights *flights, struct conn *conn, uint64_t id,
                     struct content *content, uint64_t block, int error)
{
    struct flight *over = arrived_locking(flights, conn, id, content, block, error);
    if (over)
        flight_put(flights, over);
}

/* ---- waiting ---- */

void flights_expect(struct flights *flights, struct waiter *w, struct content *content,
                    uint64_t block)
{
    *w = (struct waiter){.content = content, .block = block};
    cond_init(&w->changed);
    SCOPED_LOCK(&flights->lock);
    list_append(&flights->waiters, &w->link);
}

void flights_forget(struct flights *flights, struct waiter *w)
{
    mutex_lock(&flights->lock);
    list_remove(&w->link);
    mutex_unlock(&flights->lock);
    cond_done(&w->changed);
}

enum fetch_class flights_class(struct flights *flights, struct content *content, uint64_t block,
                               enum fetch_class none)
{
    SCOPED_LOCK(&flights->lock);
    const struct flying *flying = find_flying(flights, content, block);
    return flying ? flying->flight->class : none;
}

/* Until it is woken, the time has come, or all is stopping. */
static void sleep_until(struct flights *flights, struct waiter *w, int64_t until_ns)
    REQUIRES(flights->lock)
{
    while (!w->is_woken && !flights->is_stopping) {
        if (!cond_wait_until(&w->changed, &flights->lock, until_ns))
            return;
    }
}

/* A request that has not moved for stall_ns ends: this waiter is woken, too. */
static struct flight *wait_locking(struct flights *flights, struct waiter *w, int64_t deadline_ns,
                                   int64_t stall_ns)
{
    SCOPED_LOCK(&flights->lock);
    struct flying *flying;
    while (!w->is_woken && !flights->is_stopping && clock_mono_ns() < deadline_ns &&
           (flying = find_flying(flights, w->content, w->block))) {
        int64_t stalled_ns = flying->flight->progress_ns + stall_ns;
        if (clock_mono_ns() < stalled_ns) {
            sleep_until(flights, w, MIN(deadline_ns, stalled_ns));
            continue;
        }
        struct flight *over = end_locked(flights, flying->flight, -ETIMEDOUT);
        if (over)
            return over;
        sleep_until(flights, w,
                    deadline_ns); /* it is being stored: the disk is slow, not the peer */
    }
    return NULL;
}

static int wait_result(struct flights *flights, struct waiter *w, int64_t deadline_ns)
{
    SCOPED_LOCK(&flights->lock);
    if (w->is_woken)
        return w->error;
    if (flights->is_stopping)
        return -ESHUTDOWN;
    bool is_flying = find_flying(flights, w->content, w->block);
    return is_flying && clock_mono_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

int flights_wait(struct flights *flights, struct waiter *w, int64_t deadline_ns, int64_t stall_ns,
                 struct conn **ret_conn, uint64_t *ret_id)
{
    struct flight *over = wait_locking(flights, w, deadline_ns, stall_ns);
    int e = wait_result(flights, w, deadline_ns);
    *ret_conn = NULL;
    if (over) {
        *ret_conn = over->key.conn ? conn_ref(over->key.conn) : NULL;
        *ret_id = over->key.id;
        flight_put(flights, over);
    }
    return e;
}

static bool pause_locking(struct flights *flights, struct waiter *w, int64_t deadline_ns)
{
    SCOPED_LOCK(&flights->lock);
    sleep_until(flights, w, deadline_ns);
    return !flights->is_stopping;
}

bool flights_pause(struct flights *flights, int64_t deadline_ns)
{
    struct waiter w;
    flights_expect(flights, &w, NULL, 0);
    bool is_on = pause_locking(flights, &w, deadline_ns);
    flights_forget(flights, &w);
    return is_on;
}
