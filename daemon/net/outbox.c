#include "daemon/net/outbox.h"

#include <stdlib.h>

static const size_t bounds[FRAME_N_CLASSES] = {
    [FRAME_CONTROL] = 4u << 20,
    [FRAME_DEMAND] = 1u << 20,
    [FRAME_STREAM] = 1u << 20,
    [FRAME_PREFETCH] = 1u << 20,
};

void frame_pool_init(struct frame_pool *pool)
{
    mutex_init(&pool->lock, LOCK_leaf);
    list_init(&pool->free);
    pool->n_free = 0;
}

void frame_pool_done(struct frame_pool *pool)
{
    list_for_each(frame, &pool->free, struct out_frame, link)
    {
        list_remove(&frame->link);
        free(frame);
    }
    mutex_done(&pool->lock);
}

static struct out_frame *take_free(struct frame_pool *pool)
{
    SCOPED_LOCK(&pool->lock);
    if (pool->n_free == 0)
        return NULL;
    struct out_frame *frame = list_first(&pool->free, struct out_frame, link);
    list_remove(&frame->link);
    pool->n_free--;
    return frame;
}

static bool keep_free(struct frame_pool *pool, struct out_frame *frame)
{
    SCOPED_LOCK(&pool->lock);
    if (pool->n_free >= FRAME_POOL_MAX)
        return false;
    /* The last one used is the first one taken: its memory is still in the processor's cache. */
    list_append(pool->free.next, &frame->link);
    pool->n_free++;
    return true;
}

/* Only frames about the size of a block are worth keeping. */
static bool is_pooled(size_t size)
{
    return size > FRAME_POOL_BYTES / 4 && size <= FRAME_POOL_BYTES;
}

struct out_frame *frame_pool_get(struct frame_pool *pool, size_t size)
{
    bool pooled = is_pooled(size);
    struct out_frame *frame = pooled ? take_free(pool) : NULL;
    size_t capacity = pooled ? FRAME_POOL_BYTES : size;
    if (!frame)
        frame = malloc(sizeof *frame + capacity);
    if (!frame)
        return NULL;
    list_init(&frame->link);
    frame->capacity = capacity;
    frame->bytes = frame->data;
    frame->size = size;
    frame->sent = 0;
    return frame;
}

void frame_pool_put(struct frame_pool *pool, struct out_frame *frame)
{
    if (frame && !(frame->capacity == FRAME_POOL_BYTES && keep_free(pool, frame)))
        free(frame);
}

void outbox_init(struct outbox *outbox)
{
    *outbox = (struct outbox){0};
    for (unsigned c = 0; c < FRAME_N_CLASSES; c++)
        list_init(&outbox->queues[c]);
}

bool outbox_is_empty(const struct outbox *outbox)
{
    for (unsigned c = 0; c < FRAME_N_CLASSES; c++)
        if (!list_empty(&outbox->queues[c]))
            return false;
    return true;
}

bool outbox_has_room(const struct outbox *outbox, enum frame_class class, size_t size)
{
    return list_empty(&outbox->queues[class]) || outbox->bytes[class] + size <= bounds[class];
}

bool outbox_is_half_empty(const struct outbox *outbox, enum frame_class class)
{
    return outbox->bytes[class] <= bounds[class] / 2;
}

void outbox_push(struct outbox *outbox, struct out_frame *frame)
{
    list_append(&outbox->queues[frame->class], &frame->link);
    outbox->bytes[frame->class] += frame->size;
}

/* FRAME_N_CLASSES: all are empty. */
static unsigned next_class(const struct outbox *outbox)
{
    unsigned highest = FRAME_N_CLASSES;
    for (unsigned c = 0; c < FRAME_N_CLASSES; c++) {
        if (list_empty(&outbox->queues[c]))
            continue;
        if (highest == FRAME_N_CLASSES)
            highest = c;
        else if (outbox->passed_over[c] >= OUTBOX_PATIENCE)
            return c;
    }
    return highest;
}

struct out_frame *outbox_pop(struct outbox *outbox, size_t max_size)
{
    unsigned class = next_class(outbox);
    if (class == FRAME_N_CLASSES)
        return NULL;
    struct out_frame *frame = list_first(&outbox->queues[class], struct out_frame, link);
    if (frame->size > max_size)
        return NULL;
    list_remove(&frame->link);
    outbox->bytes[class] -= frame->size;
    outbox->passed_over[class] = 0;
    for (unsigned c = class + 1; c < FRAME_N_CLASSES; c++)
        if (!list_empty(&outbox->queues[c]))
            outbox->passed_over[c]++;
    return frame;
}
