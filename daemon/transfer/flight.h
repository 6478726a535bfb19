/* daemon/transfer/flight.h — the blocks that are under way to this host, and who waits for them.
 *
 *     requests (by connection and id) ── items ── flying (by content and block) ;  waiters (each for one block)
 *
 * A block has at most one flying entry, so it is never fetched twice at a time; everybody else who wants it waits for
 * that one. One lock covers all of it; nothing is sent, decoded or stored under it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "daemon/net/peers.h"
#include "fs/store/store.h"
#include "proto/base/list.h"
#include "proto/base/mutex.h"

#define FLIGHT_BLOCKS 64u /* 8 MiB; a bit each in one word */

struct wanted {
    struct content *content; /* a reference */
    uint64_t block;
};

/* One FETCH. */
struct flight {
    struct {
        struct conn *conn; /* a reference; NULL: not sent yet */
        uint64_t id;
    } key;
    UT_hash_handle hh;       /* while it is in the table */
    bool is_listed, is_over; /* over: nothing is outstanding, the table's reference is given back */
    struct flight *next_over;
    unsigned refs; /* the table's and the sender's */
    enum fetch_class class;
    unsigned n_items;
    struct wanted items[FLIGHT_BLOCKS];
    uint64_t outstanding; /* items that have not come */
    uint64_t arriving;    /* items that are being stored right now */
    int64_t progress_ns;  /* when its last block came, or it was sent */
};

struct flying {
    struct {
        struct content *content;
        uint64_t block;
    } key;
    struct flight *flight;
    UT_hash_handle hh;
};

struct flights {
    struct mutex lock;
    struct flight *list;
    struct flying *flying;
    struct list waiters;
    bool is_stopping;
    atomic_uint_least64_t *gauge; /* how many blocks are flying */
};

/* One thread that waits for one block. */
struct waiter {
    struct list link;
    struct content *content;
    uint64_t block;
    struct cond changed;
    bool is_woken;
    int error;
};

void flights_init(struct flights *flights, atomic_uint_least64_t *gauge);
void flights_done(struct flights *flights);

/* Makes a request of those items that are missing and nobody fetches yet, taking references; NULL if there are none or no memory.
 * *ret_joined: how many are under way. The caller sends it (flights_sent) and then calls flight_put. */
struct flight *flights_begin(struct flights *flights, const struct wanted *items, unsigned n,
                             enum fetch_class class, unsigned *ret_joined);
/* Just before it is sent: answers will find it by conn and id. False: stopping. */
MUST_USE bool flights_sent(struct flights *flights, struct flight *flight, struct conn *conn,
                           uint64_t id);
void flight_put(struct flights *flights, struct flight *flight);

/* A block came: the item's content (a reference) and the request's class. False: nobody waits for that one any more. */
MUST_USE bool flights_arriving(struct flights *flights, struct conn *conn, uint64_t id,
                               uint64_t ino, uint64_t version, uint64_t block,
                               struct content **ret_content, enum fetch_class *ret_class);
/* … and was stored, or not: waiters get error. */
void flights_arrived(struct flights *flights, struct conn *conn, uint64_t id,
                     struct content *content, uint64_t block, int error);
/* The request is over: waiters of what has not come get error. */
void flights_end(struct flights *flights, struct conn *conn, uint64_t id, int error);
void flights_fail(struct flights *flights, struct flight *flight, int error);
/* Ends every request on the connection. */
void flights_lost(struct flights *flights, struct conn *conn, int error);
/* Ends every request of the store's contents. */
void flights_let_go(struct flights *flights, const struct store *store, int error);
/* Wakes all and begins nothing more. */
void flights_stop(struct flights *flights);

/* From here on the waiter learns what becomes of the block. Before asking, so that no answer is too quick for it.
 * Ended by flights_forget. */
void flights_expect(struct flights *flights, struct waiter *waiter, struct content *content,
                    uint64_t block);
void flights_forget(struct flights *flights, struct waiter *waiter);
/* What the block under way was asked for as; none when it is not under way. */
enum fetch_class flights_class(struct flights *flights, struct content *content, uint64_t block,
                               enum fetch_class none);
/* Waits while the block is under way, at most until the deadline. 0: it came, or is not under way; an error that
 * befell it; -ETIMEDOUT; -ESHUTDOWN. Ends a request that has not moved for stall_ns: then *ret_conn (a reference, or
 * NULL) and *ret_id are the one to cancel. */
MUST_USE int flights_wait(struct flights *flights, struct waiter *waiter, int64_t deadline_ns,
                          int64_t stall_ns, struct conn **ret_conn, uint64_t *ret_id);
/* Waits for a moment before a failure is tried again: until the deadline or flights_stop (then false). */
MUST_USE bool flights_pause(struct flights *flights, int64_t deadline_ns);
