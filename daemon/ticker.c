#include "daemon/ticker.h"

#include "proto/base/clock.h"

void ticker_init(struct ticker *ticker, int64_t every_ns, void (*tick)(void *ctx), void *ctx)
{
    *ticker = (struct ticker){.every_ns = every_ns, .tick = tick, .ctx = ctx};
    mutex_init(&ticker->lock, LOCK_leaf);
    cond_init(&ticker->stopped);
}

void ticker_done(struct ticker *ticker)
{
    cond_done(&ticker->stopped);
    mutex_done(&ticker->lock);
}

/* False: stopping. */
static bool wait(struct ticker *ticker)
{
    int64_t until = clock_mono_ns() + ticker->every_ns;
    SCOPED_LOCK(&ticker->lock);
    while (!ticker->is_stopping && cond_wait_until(&ticker->stopped, &ticker->lock, until))
        continue;
    return !ticker->is_stopping;
}

static void *run(void *arg)
{
    struct ticker *ticker = arg;
    while (wait(ticker))
        ticker->tick(ticker->ctx);
    return NULL;
}

int ticker_start(struct ticker *ticker, const char *thread_name)
{
    int r = thread_start(&ticker->thread, thread_name, run, ticker);
    ticker->is_started = r == 0;
    return r;
}

bool ticker_is_stopping(struct ticker *ticker)
{
    SCOPED_LOCK(&ticker->lock);
    return ticker->is_stopping;
}

void ticker_stop(struct ticker *ticker)
{
    {
        SCOPED_LOCK(&ticker->lock);
        ticker->is_stopping = true;
        cond_broadcast(&ticker->stopped);
    }
    if (ticker->is_started)
        thread_join(ticker->thread);
    ticker->is_started = false;
}
