/* daemon/transfer/transfer.h — blocks between hosts: fetched here (fetch.h, draw.h), served to others (serve.c).
 *
 * One per daemon. It knows contents and connections, and of a volume only what a lookup by name gives it.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "daemon/net/peers.h"
#include "fs/store/store.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"

struct transfer;
struct volume;

struct transfer_options {
    struct peers *peers;
    uint64_t memory_bytes; /* most bytes under way at a time, each for fetching and for serving */
    unsigned streams;      /* data connections per peer, as peers_options has it */
    uint64_t
        serve_rate; /* most bytes a second that are served to all others together; 0: no limit */
    uint64_t prefetch_rate; /* most bytes a second that are drawn ahead; 0: no limit */
    /* An open volume by name, or NULL; every find has its put. */
    struct volume *(*find)(void *ctx, const char *name);
    void (*put)(void *ctx, struct volume *volume);
    void *ctx;
};

/* Registers its frame handlers: before peers_start. */
MUST_USE int transfer_new(const struct transfer_options *options, struct transfer **ret_transfer);
/* Fetches end with -ESHUTDOWN, serving stops between blocks; returns when none is running. Before peers_stop. */
void transfer_stop(struct transfer *transfer);
/* Before a volume is closed that nobody fetches into any more: what was asked for ahead of its readers ends, and what is being
 * stored is waited for, so that no content of the store is held here. */
void transfer_let_go(struct transfer *transfer, struct store *store);
void transfer_free(struct transfer *transfer);
DEFINE_FREEP(transfer, struct transfer)

/* Counted since the start; read at any time. */
struct transfer_counters {
    atomic_uint_least64_t fetched_blocks[FETCH_N_CLASSES]; /* by class of the request that asked */
    atomic_uint_least64_t fetched_bytes[FETCH_N_CLASSES];  /* decoded */
    atomic_uint_least64_t served_blocks[FETCH_N_CLASSES];
    atomic_uint_least64_t served_bytes[FETCH_N_CLASSES]; /* decoded */
    atomic_uint_least64_t served_wire_bytes;             /* as they went over the wire */
    atomic_uint_least64_t damaged_blocks;    /* that were not served: not as they were sealed */
    atomic_uint_least64_t requests;          /* sent, of all classes */
    atomic_uint_least64_t ahead_blocks;      /* asked for by read-ahead */
    atomic_uint_least64_t beside_files;      /* asked for since one near them was read */
    atomic_uint_least64_t joined_blocks;     /* wanted while already under way for somebody else */
    atomic_uint_least64_t checksum_failures; /* blocks refused */
    atomic_uint_least64_t retries;           /* blocks asked for again */
    atomic_uint_least64_t in_flight_blocks;
    atomic_uint_least64_t yields; /* drawing waited, since a reader here waited for blocks */
    atomic_uint_least64_t wait_ns[FETCH_N_CLASSES]; /* callers of transfer_fetch waited */
};
const struct transfer_counters *transfer_counters(const struct transfer *transfer);

/* Fault injection for tests: the next n blocks served are damaged after their checksum was taken. */
void transfer_corrupt_served(struct transfer *transfer, unsigned n);
