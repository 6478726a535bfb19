/* fs/fuse/workers.c — receive, note the unique, process. */
#include "fs/fuse/workers.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "fs/fuse/device.h"
#include "fs/fuse/ledger.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define WORKERS_FIRST 2
#define WAITING_MAX 4      /* workers for a request */
#define PARKED_NS NS_PER_S /* then a worker's buffers go */
#define REQUEST_BYTES (WORKER_WRITE_MAX + 4096u)
#define WAKE_AGAIN_NS (10 * NS_PER_MS)

/* Interrupts a thread that waits for a request; it has no other effect. (Cancelling the thread would do too, but leaves
 * sanitizers with stacks that were never unwound.) */
#define WAKE_SIGNAL (SIGRTMAX - 1)

struct worker {
    struct workers *pool;
    pthread_t thread;
    _Atomic bool is_waiting; /* for a request */
    bool is_done;            /* under the pool's lock */
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
    if (worker->request.mem)
        (void)munmap(worker->request.mem, REQUEST_BYTES);
    free(worker);
}

/* Its memory is there before the kernel copies into it. Where a page has to be made first, a kill at that moment fails the
 * copy, and the kernel answers the request with EIO instead of keeping it for the next daemon. */
static struct worker *worker_new(struct workers *pool)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->pool = pool;
    void *mem = mmap(NULL, REQUEST_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (mem == MAP_FAILED) {
        free(worker);
        return NULL;
    }
    worker->request.mem = mem;
    return worker;
}

static void *worker_main(void *arg);

/* Calls a parked thread back, or adds one unless there are enough or the pool is stopping: 0 in any case. */
static int kernel_workers_add(struct workers *pool)
{
    SCOPED_LOCK(&pool->lock);

    if (pool->n_parked > pool->n_unpark) {
        pool->n_unpark++;
        cond_signal(&pool->unparked);
        return 0;
    }
    if (pool->stopping || pool->n >= pool->max)
        return 0;
    struct worker *worker = worker_new(pool);
    if (!worker)
        return -ENOMEM;
    int r = thread_start(&worker->thread, "fuse-worker", worker_main, worker);
    if (r < 0) {
        worker_free(worker);
        return r;
    }
    pool->all[pool->n++] = worker;
    return 0;
}

/* ---- parking ---- */

static void give_memory_back(struct worker *worker)
{
    (void)madvise(worker->request.mem, REQUEST_BYTES, MADV_DONTNEED);
    if (worker->buffer)
        (void)madvise(worker->buffer, worker->buffer_size, MADV_DONTNEED);
}

/* True: not called back in time. */
static bool stay_parked_locked(struct workers *pool, int64_t deadline_ns) REQUIRES(pool->lock)
{
    while (pool->n_unpark == 0 && !pool->stopping) {
        if (!cond_wait_until(&pool->unparked, &pool->lock, deadline_ns))
            return pool->n_unpark == 0 && !pool->stopping;
    }
    return false;
}

/* True: without its memory. */
static bool stay_parked(struct worker *worker)
{
    struct workers *pool = worker->pool;
    SCOPED_LOCK(&pool->lock);

    pool->n_parked++;
    bool is_bare = stay_parked_locked(pool, clock_mono_ns() + PARKED_NS);
    if (is_bare) {
        give_memory_back(worker);
        while (pool->n_unpark == 0 && !pool->stopping)
            cond_wait(&pool->unparked, &pool->lock);
    }
    pool->n_unpark -= MIN(pool->n_unpark, 1u);
    pool->n_parked--;
    return is_bare;
}

static void park(struct worker *worker)
{
    if (stay_parked(worker))
        memset(worker->request.mem, 0, REQUEST_BYTES); /* there before the kernel copies */
}

static int receive(struct worker *worker)
{
    struct workers *pool = worker->pool;

    if (atomic_load(&pool->n_idle) >= WAITING_MAX)
        park(worker);
    atomic_fetch_add(&pool->n_idle, 1);
    atomic_store(&worker->is_waiting, true);
    int r = atomic_load(&pool->stopping)
                ? 0
                : device_receive(fuse_session_fd(pool->fuse), worker->request.mem, REQUEST_BYTES);
    worker->request.size = (size_t)MAX(r, 0);
    atomic_store(&worker->is_waiting, false);
    if (atomic_fetch_sub(&pool->n_idle, 1) == 1 && r > 0 && kernel_workers_add(pool) < 0)
        log_debug("fuse", "cannot add a thread: going on with those there are");
    return r;
}

static void note_init(struct ledger *ledger, const struct fuse_buf *request)
{
    struct ledger_header *header = ledger_header(ledger);

    if (request->size > sizeof header->init)
        return; /* of a kernel from far in the future: the mount ends with this process */
    memcpy(header->init, request->mem, request->size);
    atomic_store(&header->init_bytes, (uint32_t)request->size);
}

static void process(struct worker *worker)
{
    struct fuse_in_header header;

    memcpy(&header, worker->request.mem, sizeof header);
    this_unique = header.unique;
    if (header.opcode == FUSE_INIT)
        note_init(worker->pool->ledger, &worker->request);
    fuse_session_process_buf(worker->pool->fuse, &worker->request);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    sigset_t wake;
    int r;

    sigemptyset(&wake);
    sigaddset(&wake, WAKE_SIGNAL);
    (void)pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
    this_worker = worker;
    while ((r = receive(worker)) > 0 || r == -EINTR || r == -EAGAIN) {
        if (r > 0)
            process(worker);
    }
    SCOPED_LOCK(&worker->pool->lock);
    worker->is_done = true;
    cond_signal(&worker->pool->changed);
    return NULL;
}

static void wake(int signal UNUSED)
{
}

static void install_wake(void)
{
    const struct sigaction action = {.sa_handler = wake}; /* no SA_RESTART: that is the point */

    (void)sigaction(WAKE_SIGNAL, &action, NULL);
}

int kernel_workers_start(struct workers *pool, struct fuse_session *fuse, struct ledger *ledger,
                         unsigned max)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    CHECK(pthread_once(&once, install_wake) == 0);
    pool->fuse = fuse;
    pool->ledger = ledger;
    pool->max = MIN(max, WORKERS_MAX);
    mutex_init(&pool->lock, LOCK_leaf);
    cond_init(&pool->changed);
    cond_init(&pool->unparked);
    for (unsigned i = 0; i < WORKERS_FIRST; i++) {
        int r = kernel_workers_add(pool);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Wakes who waits. True: all have ended. */
static bool wake_all_locked(struct workers *pool)
{
    bool all_done = true;

    for (unsigned i = 0; i < pool->n; i++) {
        all_done = all_done && pool->all[i]->is_done;
        if (!pool->all[i]->is_done && atomic_load(&pool->all[i]->is_waiting))
            (void)pthread_kill(pool->all[i]->thread, WAKE_SIGNAL);
    }
    return all_done;
}

/* A signal that comes just before its thread waits is lost, so it is sent again. */
static void wait_all_done(struct workers *pool)
{
    SCOPED_LOCK(&pool->lock);

    pool->stopping = true;
    cond_broadcast(&pool->unparked);
    while (!wake_all_locked(pool))
        (void)!cond_wait_until(&pool->changed, &pool->lock, clock_mono_ns() + WAKE_AGAIN_NS);
}

void kernel_workers_stop(struct workers *pool)
{
    if (!pool->fuse)
        return;
    wait_all_done(pool);
    for (unsigned i = 0; i < pool->n; i++) {
        thread_join(pool->all[i]->thread);
        worker_free(pool->all[i]);
    }
    pool->n = 0;
    pool->fuse = NULL;
    cond_done(&pool->unparked);
    cond_done(&pool->changed);
    mutex_done(&pool->lock);
}
