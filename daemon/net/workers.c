#include "daemon/net/workers.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/net/conn.h"

struct job {
    struct list link;
    struct conn *conn;
    struct frame *frame;
    frame_handler_f *handler;
    void *ctx;
    size_t bytes;
};

struct workers {
    struct mutex lock;
    struct cond work;
    /* under lock */
    struct list jobs;
    unsigned n_jobs;
    size_t bytes;        /* queued and running */
    struct list stalled; /* connections that wait for room: conn.stall, one reference each */
    bool stopping;
    /* fixed once started */
    unsigned n_threads;
    pthread_t threads[];
};

static void job_free(struct job *job)
{
    conn_put(job->conn);
    frame_free(job->frame);
    free(job);
}

static bool has_room(const struct workers *w, const struct conn *conn, size_t bytes)
{
    return w->n_jobs < WORKERS_JOBS_MAX && conn->n_jobs < WORKERS_JOBS_PER_CONN &&
           (w->bytes + bytes <= WORKERS_BYTES_MAX || w->bytes == 0);
}

static struct job *next_job(struct workers *w)
{
    SCOPED_LOCK(&w->lock);
    while (list_empty(&w->jobs) && !w->stopping)
        cond_wait(&w->work, &w->lock);
    if (w->stopping)
        return NULL;
    struct job *job = list_first(&w->jobs, struct job, link);
    list_remove(&job->link);
    return job;
}

/* Takes a job off the books; every connection that waits for room may try again. */
static void job_done(struct workers *w, struct job *job)
{
    struct list woken;
    list_init(&woken);
    mutex_lock(&w->lock);
    w->n_jobs--;
    w->bytes -= job->bytes;
    job->conn->n_jobs--;
    list_for_each(conn, &w->stalled, struct conn, stall)
    {
        list_remove(&conn->stall);
        list_append(&woken, &conn->stall);
    }
    while (!list_empty(&woken)) {
        struct conn *conn = list_first(&woken, struct conn, stall);
        list_remove(&conn->stall);
        mutex_unlock(&w->lock);
        conn_wake(conn);
        conn_put(conn);
        mutex_lock(&w->lock);
    }
    mutex_unlock(&w->lock);
    job_free(job);
}

static void *work(void *arg)
{
    struct workers *w = arg;
    struct job *job;
    while ((job = next_job(w)) != NULL) {
        job->handler(job->ctx, job->conn, job->frame);
        job_done(w, job);
    }
    return NULL;
}

int workers_new(unsigned n_threads, struct workers **ret_workers)
{
    struct workers *w = calloc(1, sizeof *w + n_threads * sizeof w->threads[0]);
    if (!w)
        return -ENOMEM;
    mutex_init(&w->lock, LOCK_leaf);
    cond_init(&w->work);
    list_init(&w->jobs);
    list_init(&w->stalled);
    for (; w->n_threads < n_threads; w->n_threads++) {
        int r = thread_start(&w->threads[w->n_threads], "peer-worker", work, w);
        if (r < 0) {
            workers_free(w);
            return r;
        }
    }
    *ret_workers = w;
    return 0;
}

static void stop(struct workers *w)
{
    SCOPED_LOCK(&w->lock);
    w->stopping = true;
    cond_broadcast(&w->work);
}

void workers_stop(struct workers *w)
{
    stop(w);
    for (unsigned i = 0; i < w->n_threads; i++)
        thread_join(w->threads[i]);
    w->n_threads = 0;
    list_for_each(job, &w->jobs, struct job, link)
    {
        list_remove(&job->link);
        job_free(job);
    }
    list_for_each(conn, &w->stalled, struct conn, stall)
    {
        list_remove(&conn->stall);
        conn_put(conn);
    }
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    workers_stop(w);
    cond_done(&w->work);
    mutex_done(&w->lock);
    free(w);
}

static bool reserve(struct workers *w, struct conn *conn, size_t bytes)
{
    SCOPED_LOCK(&w->lock);
    if (has_room(w, conn, bytes)) {
        w->n_jobs++;
        w->bytes += bytes;
        conn->n_jobs++;
        return true;
    }
    if (!w->stopping && list_empty(&conn->stall))
        list_append(&w->stalled, &conn_ref(conn)->stall);
    return false;
}

static void submit(struct workers *w, struct job *job)
{
    SCOPED_LOCK(&w->lock);
    list_append(&w->jobs, &job->link);
    cond_signal(&w->work);
}

static void unreserve(struct workers *w, struct conn *conn, size_t bytes)
{
    SCOPED_LOCK(&w->lock);
    w->n_jobs--;
    w->bytes -= bytes;
    conn->n_jobs--;
}

int workers_submit(struct workers *w, struct conn *conn, const struct frame *frame,
                   frame_handler_f *handler, void *ctx)
{
    size_t bytes = sizeof(struct job) + frame->body.size + frame->raw.size;
    if (!reserve(w, conn, bytes))
        return -EAGAIN;
    struct job *job = malloc(sizeof *job);
    struct frame *copy = NULL;
    if (!job || frame_copy(frame, &copy) < 0) {
        free(job);
        unreserve(w, conn, bytes);
        return -ENOMEM;
    }
    *job = (struct job){
        .conn = conn_ref(conn), .frame = copy, .handler = handler, .ctx = ctx, .bytes = bytes};
    submit(w, job);
    return 0;
}
