/* daemon/net/outbox.h — what one connection has still to send: a queue per class, each bounded by bytes.
 *
 * Classes go before one another strictly, frame by frame; but after OUTBOX_PATIENCE frames of higher classes a
 * waiting class gets one of its own through, so nothing starves. Memory of large frames is recycled. No locks here,
 * except inside the recycler.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/list.h"
#include "proto/base/mutex.h"
#include "proto/frame.h"

#define OUTBOX_PATIENCE 16u

/* ---- memory of frames ---- */

/* bytes lie in data: at its end while the raw bytes are there and what goes before them is not known yet. */
struct out_frame {
    struct list link;
    enum frame_class class;
    uint8_t *bytes;
    size_t size, sent; /* of bytes: whole, already sent */
    size_t capacity;   /* of data */
    uint8_t data[];
};

/* Keeps at most FRAME_POOL_MAX large frames for the next: first touch of memory is slow. */
#define FRAME_POOL_MAX 64u
#define FRAME_POOL_BYTES (BLOCK_RAW_MAX + 1024u)

struct frame_pool {
    struct mutex lock;
    struct list free;
    unsigned n_free;
};

void frame_pool_init(struct frame_pool *pool);
void frame_pool_done(struct frame_pool *pool);
/* A frame with room for size bytes, or NULL. */
struct out_frame *frame_pool_get(struct frame_pool *pool, size_t size);
void frame_pool_put(struct frame_pool *pool, struct out_frame *frame);

/* ---- queues ---- */

struct outbox {
    struct list queues[FRAME_N_CLASSES];
    size_t bytes[FRAME_N_CLASSES];
    unsigned passed_over
        [FRAME_N_CLASSES]; /* frames of higher classes taken since one of this class was */
};

void outbox_init(struct outbox *outbox);
bool outbox_is_empty(const struct outbox *outbox);
/* Would a frame of this size be within the class's bound? One frame always fits an empty queue. */
bool outbox_has_room(const struct outbox *outbox, enum frame_class class, size_t size);
/* Time to wake those who wait for room: not for each frame, since waking costs more than queueing. */
bool outbox_is_half_empty(const struct outbox *outbox, enum frame_class class);
void outbox_push(struct outbox *outbox, struct out_frame *frame);
/* The next to send, or NULL: empty, or the next is larger than max_size (then it stays the next). */
struct out_frame *outbox_pop(struct outbox *outbox, size_t max_size);
