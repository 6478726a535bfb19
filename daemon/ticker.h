/* daemon/ticker.h — a thread that does something now and then, until it is stopped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/mutex.h"

struct ticker {
    int64_t every_ns; /* from the end of one tick to the next */
    void (*tick)(void *ctx);
    void *ctx;
    pthread_t thread;
    bool is_started;

    struct mutex lock; /* leaf */
    struct cond stopped;
    bool is_stopping; /* under lock */
};

void ticker_init(struct ticker *ticker, int64_t every_ns, void (*tick)(void *ctx), void *ctx);
/* The first tick comes after every_ns. -EAGAIN. */
MUST_USE int ticker_start(struct ticker *ticker, const char *thread_name);
/* A tick that takes long asks. Any thread. */
bool ticker_is_stopping(struct ticker *ticker);
void ticker_stop(struct ticker *ticker); /* when the tick under way has ended */
void ticker_done(struct ticker *ticker);
