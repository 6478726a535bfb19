/* The outbox: order of classes, bounds, and memory that is used again. */
#include <criterion/criterion.h>

#include "daemon/net/outbox.h"

static struct frame_pool pool;

static void push(struct outbox *outbox, enum frame_class class, size_t size)
{
    struct out_frame *frame = frame_pool_get(&pool, size);
    frame->class = class;
    outbox_push(outbox, frame);
}

static int pop(struct outbox *outbox)
{
    struct out_frame *frame = outbox_pop(outbox, SIZE_MAX);
    int class = frame ? (int)frame->class : -1;
    frame_pool_put(&pool, frame);
    return class;
}

/* Higher classes first, but every seventeenth frame may be a lower one's. */
Test(outbox, classes)
{
    frame_pool_init(&pool);
    struct outbox outbox;
    outbox_init(&outbox);
    cr_assert_eq(pop(&outbox), -1);
    for (int i = 0; i < 100; i++) {
        push(&outbox, FRAME_PREFETCH, 10);
        push(&outbox, FRAME_DEMAND, 10);
    }
    push(&outbox, FRAME_CONTROL, 10);
    cr_assert_eq(pop(&outbox), FRAME_CONTROL);
    int n_prefetch = 0;
    for (int i = 0; i < 85; i++)
        n_prefetch += pop(&outbox) == FRAME_PREFETCH;
    cr_assert_eq(n_prefetch, 5);
    while (pop(&outbox) >= 0)
        ;
    cr_assert(outbox_is_empty(&outbox));
    frame_pool_done(&pool);
}

Test(outbox, bounds)
{
    frame_pool_init(&pool);
    struct outbox outbox;
    outbox_init(&outbox);
    cr_assert(outbox_has_room(&outbox, FRAME_PREFETCH, 64 << 20), "one frame always fits");
    push(&outbox, FRAME_PREFETCH, 1 << 20);
    cr_assert_not(outbox_has_room(&outbox, FRAME_PREFETCH, 1));
    cr_assert(outbox_has_room(&outbox, FRAME_DEMAND, 1));
    cr_assert_null(outbox_pop(&outbox, 1000));
    cr_assert_eq(pop(&outbox), FRAME_PREFETCH);
    cr_assert(outbox_has_room(&outbox, FRAME_PREFETCH, 1));
    frame_pool_done(&pool);
}

/* Memory of large frames is used again, but not without limit. */
Test(outbox, pool)
{
    frame_pool_init(&pool);
    struct out_frame *a = frame_pool_get(&pool, BLOCK_RAW_MAX);
    frame_pool_put(&pool, a);
    cr_assert_eq(frame_pool_get(&pool, BLOCK_RAW_MAX + 100), a);
    frame_pool_put(&pool, a);
    struct out_frame *many[100];
    for (int i = 0; i < 100; i++)
        many[i] = frame_pool_get(&pool, BLOCK_RAW_MAX);
    for (int i = 0; i < 100; i++)
        frame_pool_put(&pool, many[i]);
    cr_assert_eq(pool.n_free, FRAME_POOL_MAX);
    frame_pool_done(&pool);
}
