#include "daemon/transfer/buffers.h"

#include <errno.h>
#include <stdlib.h>

void buffers_init(struct buffers *buffers, unsigned max)
{
    *buffers = (struct buffers){0};
    mutex_init(&buffers->lock, LOCK_leaf);
    cond_init(&buffers->returned);
    list_init(&buffers->idle);
    buffers->max = MAX(max, 1u);
}

void buffers_done(struct buffers *buffers)
{
    CHECK(buffers->n_out == 0);
    list_for_each(buffer, &buffers->idle, struct buffer, link)
    {
        free(buffer);
    }
    cond_done(&buffers->returned);
    mutex_done(&buffers->lock);
}

int buffers_take(struct buffers *buffers, int64_t deadline_ns, struct buffer **ret_buffer)
{
    SCOPED_LOCK(&buffers->lock);
    while (buffers->n_out == buffers->max) {
        if (!cond_wait_until(&buffers->returned, &buffers->lock, deadline_ns))
            return -ETIMEDOUT;
    }
    struct buffer *buffer;
    if (!list_empty(&buffers->idle)) {
        buffer = list_first(&buffers->idle, struct buffer, link);
        list_remove(&buffer->link);
    } else {
        buffer = malloc(sizeof *buffer);
        if (!buffer)
            return -ENOMEM;
        list_init(&buffer->link);
    }
    buffers->n_out++;
    *ret_buffer = buffer;
    return 0;
}

void buffers_return(struct buffers *buffers, struct buffer *buffer)
{
    SCOPED_LOCK(&buffers->lock);
    buffers->n_out--;
    list_append(&buffers->idle, &buffer->link);
    cond_signal(&buffers->returned);
}
