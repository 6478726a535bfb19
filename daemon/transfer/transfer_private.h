/* daemon/transfer/transfer_private.h — what the files of this folder share. */
#pragma once

#include "daemon/transfer/buffers.h"
#include "daemon/transfer/flight.h"
#include "daemon/transfer/pacer.h"
#include "daemon/transfer/readahead.h"
#include "daemon/transfer/transfer.h"
#include "proto/base/log.h"

/* A peer that sends nothing for this long while it owes us blocks is asked no more on that connection. */
#define STALL_NS (5 * 1000000000LL)
/* A frame of ours waits this long for room in a connection. */
#define SEND_NS (30 * 1000000000LL)
#define SOURCES_MAX 64
#define EARLY_CANCELS_MAX 64

/* One FETCH being served. */
struct serving {
    struct list link;
    struct conn *conn; /* only compared */
    uint64_t id;
    enum frame_class class;
    bool is_stuck; /* waits for blocks that this host lacks itself; under the transfer's lock */
    atomic_bool is_cancelled;
};

struct early_cancel {
    struct conn *conn; /* only compared; forgotten when it closes */
    uint64_t id;
};

struct bad_source {
    struct host_id host;
    struct log_limit limit;
};

struct transfer {
    /* fixed */
    struct peers *peers;
    unsigned streams;
    struct volume *(*find)(void *ctx, const char *name);
    void (*put)(void *ctx, struct volume *volume);
    void *ctx;
    uint64_t in_flight_max; /* blocks; read-ahead and drawing keep below it */

    struct flights flights;
    struct buffers packing;   /* one a request being served: bounded by memory_bytes */
    struct buffers unpacking; /* one for each connection at most: nobody waits */
    struct transfer_counters counters;
    struct pacer serving;  /* of what is served */
    atomic_uint n_demands; /* readers here that wait for blocks */
    atomic_uint next_stream;
    atomic_uint corrupt; /* blocks still to be damaged */

    struct mutex lock; /* leaf */
    struct pace drawing;
    struct readahead readahead; /* of blocks of files */
    struct readahead beside;    /* of inode numbers of volumes */
    struct list servings;       /* in the order of arrival */
    struct cond turn;           /* one of them ended, was cancelled, or is stuck */
    struct early_cancel early_cancels[EARLY_CANCELS_MAX]; /* ring */
    unsigned next_early_cancel;
    struct bad_source bad_sources[SOURCES_MAX]; /* the last one is everybody else's */
    unsigned n_bad_sources;
    unsigned n_inside; /* calls of transfer_fetch and handlers under way */
    bool is_stopping;
    struct cond left; /* n_inside fell */
};

/* False: stopping. Otherwise pair with transfer_leave. */
MUST_USE bool transfer_enter(struct transfer *transfer);
void transfer_leave(struct transfer *transfer);

enum frame_class frame_class_of(enum fetch_class class);
enum fetch_class fetch_class_of(enum frame_class class);

/* Has another host the bytes, and nobody here writes them? */
bool transfer_is_elsewhere(const struct inode *inode, struct host_id self);

/* beside.c */
/* Somebody reads content: if it is small, asks for those beside it. Waits for no other host. */
void beside_reading(struct transfer *transfer, const char *volume, struct content *content);

/* fetch.c */
/* Asks for those of the items (at most FLIGHT_BLOCKS, all of one upstream) that are not under way. */
MUST_USE int fetch_ask(struct transfer *transfer, const char *volume, const struct wanted *items,
                       unsigned n, enum fetch_class class, int64_t deadline_ns);
void fetch_on_blocks(void *transfer, struct conn *conn, const struct frame *frames, unsigned n);
void fetch_on_end(void *transfer, struct conn *conn, const struct frame *frame);
void fetch_on_error(void *transfer, struct conn *conn, const struct frame *frame);

/* serve.c */
void serve_on_fetch(void *transfer, struct conn *conn, const struct frame *frame);
void serve_on_cancel(void *transfer, struct conn *conn, const struct frame *frame);
void serve_cancel(struct transfer *transfer, struct conn *conn); /* NULL: all */
