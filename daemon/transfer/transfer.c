#include "daemon/transfer/transfer.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/transfer/transfer_private.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* For the disk to store what has come. */
#define STORED_NS (60 * NS_PER_S)

enum frame_class frame_class_of(enum fetch_class class)
{
    switch (class) {
    case FETCH_STREAM:
        return FRAME_STREAM;
    case FETCH_PREFETCH:
        return FRAME_PREFETCH;
    case FETCH_DEMAND:
    case FETCH_N_CLASSES:
        break;
    }
    return FRAME_DEMAND;
}

enum fetch_class fetch_class_of(enum frame_class class)
{
    switch (class) {
    case FRAME_STREAM:
        return FETCH_STREAM;
    case FRAME_PREFETCH:
        return FETCH_PREFETCH;
    case FRAME_CONTROL:
    case FRAME_DEMAND:
    case FRAME_N_CLASSES:
        break;
    }
    return FETCH_DEMAND;
}

bool transfer_enter(struct transfer *t)
{
    SCOPED_LOCK(&t->lock);
    if (t->is_stopping)
        return false;
    t->n_inside++;
    return true;
}

void transfer_leave(struct transfer *t)
{
    SCOPED_LOCK(&t->lock);
    if (--t->n_inside == 0)
        cond_broadcast(&t->left);
}

static void on_close(void *ctx, struct conn *conn)
{
    struct transfer *t = ctx;
    flights_lost(&t->flights, conn, -EPIPE);
    serve_cancel(t, conn);
}

static void handle_frames(struct transfer *t)
{
    peers_handle(t->peers, FRAME_FETCH, false, serve_on_fetch, t);
    peers_handle(t->peers, FRAME_CANCEL, true, serve_on_cancel, t);
    peers_handle_together(t->peers, FRAME_BLOCK, fetch_on_blocks, t);
    peers_handle(t->peers, FRAME_FETCH_END, true, fetch_on_end, t);
    peers_handle(t->peers, FRAME_ERROR, true, fetch_on_error, t);
    peers_on_close(t->peers, on_close, t);
}

int transfer_new(const struct transfer_options *options, struct transfer **ret_transfer)
{
    struct transfer *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->peers = options->peers;
    t->streams = MAX(options->streams, 1u);
    t->find = options->find;
    t->put = options->put;
    t->ctx = options->ctx;
    t->in_flight_max = MAX(options->memory_bytes / BLOCK_BYTES, (uint64_t)FLIGHT_BLOCKS);
    flights_init(&t->flights, &t->counters.in_flight_blocks);
    uint64_t served_max = options->memory_bytes / (sizeof(struct buffer) + BLOCK_SIZE_MAX);
    buffers_init(&t->packing, (unsigned)MIN(served_max, (uint64_t)UINT32_MAX));
    buffers_init(&t->unpacking, UINT32_MAX);
    pacer_init(&t->serving, options->serve_rate);
    t->drawing.rate = options->prefetch_rate;
    mutex_init(&t->lock, LOCK_leaf);
    cond_init(&t->left);
    cond_init(&t->turn);
    list_init(&t->servings);
    t->beside.begins_anywhere = true;
    handle_frames(t);
    *ret_transfer = t;
    return 0;
}

static void tell_stopping(struct transfer *t)
{
    SCOPED_LOCK(&t->lock);
    t->is_stopping = true;
}

static void wait_until_empty(struct transfer *t)
{
    SCOPED_LOCK(&t->lock);
    while (t->n_inside > 0)
        cond_wait(&t->left, &t->lock);
}

void transfer_stop(struct transfer *t)
{
    tell_stopping(t);
    flights_stop(&t->flights);
    pacer_stop(&t->serving);
    serve_cancel(t, NULL);
    wait_until_empty(t);
}

void transfer_let_go(struct transfer *t, struct store *store)
{
    flights_let_go(&t->flights, store, -ESHUTDOWN);
    if (!store_wait_closed(store, clock_mono_ns() + STORED_NS))
        log_error("transfer", "a volume is closed while the disk still stores a block of it");
}

void transfer_free(struct transfer *t)
{
    if (!t)
        return;
    flights_done(&t->flights);
    buffers_done(&t->packing);
    buffers_done(&t->unpacking);
    pacer_done(&t->serving);
    cond_done(&t->left);
    cond_done(&t->turn);
    mutex_done(&t->lock);
    free(t);
}

const struct transfer_counters *transfer_counters(const struct transfer *t)
{
    return &t->counters;
}

void transfer_corrupt_served(struct transfer *t, unsigned n)
{
    atomic_store(&t->corrupt, n);
}
