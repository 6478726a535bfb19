/* fs/fuse/workers.c — receive, note the unique, process. */
#include "fs/fuse/workers.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base/log.h"

#define WORKERS_FIRST 2

struct worker {
    struct workers *pool;
    pthread_t thread;
    struct fuse_buf request;
    void *buffer; /* for replies with data; recycled, since first touch of memory is slow */
    size_t buffer_size;
};

static _Thread_local struct worker *this_worker;
static _Thread_local uint64_t this_unique;

uint64_t worker_unique(void)
{
    return this_unique;
}

void *worker_buffer(size_t size)
{
    struct worker *worker = this_worker;

    if (!worker)
        return NULL;
    if (worker->buffer_size >= size)
        return worker->buffer;
    void *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED)
        return NULL;
    if (worker->buffer)
        (void)munmap(worker->buffer, worker->buffer_size);
    worker->buffer = buffer;
    worker->buffer_size = size;
    return buffer;
}

static void worker_free(struct worker *worker)
{
    if (worker->buffer)
        (void)munmap(worker->buffer, worker->buffer_size);
    free(worker->request.mem);
    free(worker);
}

static void *worker_main(void *arg);

/* Adds a thread unless there are enough or the pool is stopping: 0 either way. */
static int kernel_workers_add(struct workers *pool)
{
    SCOPED_LOCK(&pool->lock);

    if (pool->stopping || pool->n >= pool->max)
        return 0;
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return -ENOMEM;
    worker->pool = pool;
    int r = thread_start(&worker->thread, "fuse-worker", worker_main, worker);
    if (r < 0) {
        free(worker);
        return r;
    }
    pool->all[pool->n++] = worker;
    return 0;
}

/* Cancellation is open only while the thread waits for a request, when it owns nothing but its buffer. */
static int receive(struct worker *worker)
{
    int state;

    atomic_fetch_add(&worker->pool->n_idle, 1);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    int r = fuse_session_receive_buf(worker->pool->fuse, &worker->request);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (atomic_fetch_sub(&worker->pool->n_idle, 1) == 1 && r > 0 && kernel_workers_add(worker->pool) < 0)
        log_debug("fuse", "cannot add a thread: going on with those there are");
    return r;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct fuse_in_header header;

    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    this_worker = worker;
    for (;;) {
        int r = receive(worker);
        if (r == -EINTR || r == -EAGAIN)
            continue;
        if (r <= 0)
            return NULL;
        memcpy(&header, worker->request.mem, sizeof header);
        this_unique = header.unique;
        fuse_session_process_buf(worker->pool->fuse, &worker->request);
    }
}

int kernel_workers_start(struct workers *pool, struct fuse_session *fuse, unsigned max)
{
    pool->fuse = fuse;
    pool->max = MIN(max, WORKERS_MAX);
    mutex_init(&pool->lock, LOCK_leaf);
    for (unsigned i = 0; i < WORKERS_FIRST; i++) {
        int r = kernel_workers_add(pool);
        if (r < 0)
            return r;
    }
    return 0;
}

void kernel_workers_stop(struct workers *pool)
{
    if (!pool->fuse)
        return;
    {
        SCOPED_LOCK(&pool->lock);
        pool->stopping = true;
    }
    for (unsigned i = 0; i < pool->n; i++)
        (void)pthread_cancel(pool->all[i]->thread);
    for (unsigned i = 0; i < pool->n; i++) {
        thread_join(pool->all[i]->thread);
        worker_free(pool->all[i]);
    }
    pool->n = 0;
    mutex_done(&pool->lock);
}
