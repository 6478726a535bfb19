/* daemon/transfer/buffers.h — room for a block in another form, used again and again; bounded. */
#pragma once

#include <stdint.h>

#include "proto/base/list.h"
#include "proto/base/mutex.h"
#include "proto/block.h"

struct buffer {
    struct list link;
    uint8_t bytes[BLOCK_SIZE_MAX];
};

struct buffers {
    struct mutex lock;
    struct cond returned;
    struct list idle;
    unsigned n_out, max;
};

void buffers_init(struct buffers *buffers, unsigned max); /* 0: one all the same */
void buffers_done(struct buffers *buffers);
/* Waits for one until the deadline: -ETIMEDOUT, -ENOMEM. */
MUST_USE int buffers_take(struct buffers *buffers, int64_t deadline_ns, struct buffer **ret_buffer);
void buffers_return(struct buffers *buffers, struct buffer *buffer);
