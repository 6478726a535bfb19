#include "daemon/hints.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/transfer/draw.h"
#include "proto/base/clock.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"
#include "proto/messages.pb-c.h"

#define LOOK_AGAIN_NS (20 * NS_PER_MS) /* how soon a file that was published is noticed */
#define ATTACH_NS (8 * NS_PER_S)
#define ATTACH_AGAIN_NS                                                                            \
    (100 * NS_PER_MS) /* the step that makes the volume may only just have begun */
#define SEND_NS (2 * NS_PER_S)
#define DELAYS 512

enum kind {
    KIND_BEGIN,
    KIND_DRAW,
    KIND_SEND
};

struct hint {
    struct list link;
    enum kind kind;
    char volume[VOLUME_NAME_MAX_BYTES + 1];
    char host[HOST_NAME_MAX_BYTES + 1]; /* KIND_SEND: to whom */
    unsigned per_mille;
    int64_t given_ns, until_ns, attach_again_ns;
    uint64_t drawn_index; /* KIND_DRAW: everything up to this log entry has been looked at */
    uint64_t drawn_bytes;
    bool is_attached;
};

struct hints {
    struct hints_options options;
    struct hints_counters counters;
    pthread_t drawer, sender;
    bool has_drawer, has_sender;

    struct mutex lock;
    struct cond changed;
    struct list queue, outgoing; /* struct hint; DRAW stays queued while it lives */
    unsigned n_queued, n_outgoing;
    int64_t delays_ns[DELAYS]; /* ring of what sending took */
    unsigned n_delays;         /* ever */
    bool is_stopping;
};

const struct hints_counters *hints_counters(const struct hints *hints)
{
    return &hints->counters;
}

/* ---- queueing ---- */

static struct hint *find_locked(struct list *queue, enum kind kind, const char *volume,
                                const char *host)
{
    list_for_each(hint, queue, struct hint, link)
    {
        if (hint->kind == kind && strcmp(hint->volume, volume) == 0 &&
            strcmp(hint->host, host) == 0)
            return hint;
    }
    return NULL;
}

/* A hint that is queued already is renewed. */
static void queue_hint(struct hints *hints, struct list *queue, unsigned *n, enum kind kind,
                       const char *volume, const char *host, unsigned per_mille)
{
    SCOPED_LOCK(&hints->lock);
    struct hint *hint = find_locked(queue, kind, volume, host);
    if (!hint && (*n >= HINTS_MAX || !(hint = calloc(1, sizeof *hint)))) {
        atomic_fetch_add(&hints->counters.dropped, 1);
        return;
    }
    if (hint->until_ns == 0) {
        hint->kind = kind;
        hint->given_ns = clock_mono_ns();
        (void)snprintf(hint->volume, sizeof hint->volume, "%s", volume);
        (void)snprintf(hint->host, sizeof hint->host, "%s", host);
        list_append(queue, &hint->link);
        (*n)++;
    }
    hint->per_mille = per_mille;
    hint->until_ns = clock_mono_ns() + HINT_LIFE_NS;
    cond_broadcast(&hints->changed);
}

static void draw(struct hints *hints, const char *volume, unsigned per_mille)
{
    if (hints->options.is_drawing)
        queue_hint(hints, &hints->queue, &hints->n_queued, KIND_DRAW, volume, "", per_mille);
}

void hints_begin(struct hints *hints, const char *volume)
{
    queue_hint(hints, &hints->queue, &hints->n_queued, KIND_BEGIN, volume, "", 1000);
    draw(hints, volume, 1000);
}

void hints_expect(struct hints *hints, const char *volume, unsigned per_mille)
{
    if (hints->options.is_drawing)
        hints->options.expected(hints->options.ctx, volume);
    draw(hints, volume, per_mille);
}

void hints_send(struct hints *hints, const char *host, const char *volume, unsigned per_mille)
{
    if (hints->options.is_drawing)
        queue_hint(hints, &hints->outgoing, &hints->n_outgoing, KIND_SEND, volume, host, per_mille);
}

static void on_hint(void *ctx, struct conn *conn, const struct frame *frame)
{
    struct hints *hints = ctx;
    ProtobufCMessage *message = NULL;
    if (message_get(frame->body, &whiskfs__hint__descriptor, &message) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    const Whiskfs__Hint *hint = (const void *)message;
    atomic_fetch_add(&hints->counters.received, 1);
    if (volume_name_check(hint->volume) == 0)
        hints_expect(hints, hint->volume, MIN(hint->probability, 1000u));
    message_free(message);
}

/* ---- sending ---- */

static int send_hint(struct hints *hints, const struct hint *hint)
{
    struct member_host host;
    struct conn *conn = NULL;
    int64_t deadline = clock_mono_ns() + SEND_NS;
    struct membership *membership = hints->options.membership;
    int r = membership->ops->host_by_name(membership, hint->host, &host);
    if (r == 0)
        r = peers_get(hints->options.peers, host.id, CHANNEL_CONTROL, 0, deadline, &conn);
    if (r < 0)
        return r;
    Whiskfs__Hint message = WHISKFS__HINT__INIT;
    message.volume = (char *)(uintptr_t)hint->volume;
    message.probability = hint->per_mille;
    r = conn_send(conn, FRAME_CONTROL, FRAME_HINT, 0, &message.base, (struct span){0}, deadline);
    conn_put(conn);
    return r;
}

static struct hint *next_outgoing(struct hints *hints)
{
    SCOPED_LOCK(&hints->lock);
    while (!hints->is_stopping && list_empty(&hints->outgoing))
        cond_wait(&hints->changed, &hints->lock);
    if (hints->is_stopping)
        return NULL;
    struct hint *hint = list_first(&hints->outgoing, struct hint, link);
    list_remove(&hint->link);
    hints->n_outgoing--;
    return hint;
}

static void note_sent(struct hints *hints, const struct hint *hint)
{
    atomic_fetch_add(&hints->counters.sent, 1);
    SCOPED_LOCK(&hints->lock);
    hints->delays_ns[hints->n_delays++ % DELAYS] = clock_mono_ns() - hint->given_ns;
}

static int by_time(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static unsigned copy_delays(struct hints *hints, int64_t ret_delays[static DELAYS])
{
    SCOPED_LOCK(&hints->lock);
    memcpy(ret_delays, hints->delays_ns, sizeof hints->delays_ns);
    return MIN(hints->n_delays, (unsigned)DELAYS);
}

void hints_delays(struct hints *hints, struct hint_delays *ret_delays)
{
    int64_t delays_ns[DELAYS];
    unsigned n = copy_delays(hints, delays_ns);
    *ret_delays = (struct hint_delays){0};
    if (n == 0)
        return;
    qsort(delays_ns, n, sizeof *delays_ns, by_time);
    ret_delays->p50_s = (double)delays_ns[n / 2] / 1e9;
    ret_delays->p99_s = (double)delays_ns[n * 99 / 100] / 1e9;
}

static void *send_main(void *arg)
{
    struct hints *hints = arg;
    struct hint *hint;
    while ((hint = next_outgoing(hints))) {
        int r = send_hint(hints, hint);
        if (r < 0)
            log_info("prefetch", "cannot tell host '%s' to expect volume '%s': %s", hint->host,
                     hint->volume, strerror(-r));
        else
            note_sent(hints, hint);
        free(hint);
    }
    return NULL;
}

/* ---- attaching and drawing ---- */

static void attach_for(struct hints *hints, struct hint *hint)
{
    int64_t deadline = clock_mono_ns() + ATTACH_NS;
    int r = hint->kind == KIND_BEGIN
                ? volumes_attach_or_create(hints->options.volumes, hint->volume, deadline)
                : volumes_attach(hints->options.volumes, hint->volume, deadline);
    hint->is_attached = r == 0;
    if (r == 0) {
        atomic_fetch_add(&hints->counters.attached, 1);
        return;
    }
    hint->attach_again_ns = clock_mono_ns() + ATTACH_AGAIN_NS;
    atomic_fetch_add(&hints->counters.failed, 1);
    if (r != -ENOENT)
        log_info("prefetch", "cannot attach volume '%s' ahead of its action: %s", hint->volume,
                 strerror(-r));
}

static bool is_stopping(struct hints *hints)
{
    SCOPED_LOCK(&hints->lock);
    return hints->is_stopping;
}

struct drawing {
    struct hints *hints;
    const char *volume;
};

static bool go_on(void *ctx, const struct draw_progress *progress)
{
    const struct drawing *drawing = ctx;
    (void)progress;
    return !is_stopping(drawing->hints) &&
           volumes_is_wanted(drawing->hints->options.volumes, drawing->volume);
}

/* Draws what was published since the last look. */
static void draw_for(struct hints *hints, struct hint *hint)
{
    struct volume *volume = volumes_find(hints->options.volumes, hint->volume);
    if (!volume) {
        hint->until_ns = 0; /* detached or removed */
        return;
    }
    uint64_t index = volume_applied(volume);
    if (index > hint->drawn_index && hint->drawn_bytes < hints->options.budget_bytes) {
        struct draw_progress progress = {0};
        struct drawing drawing = {hints, hint->volume};
        const struct draw draw = {
            .volume_name = hint->volume,
            .volume = volume,
            .budget_bytes = hints->options.budget_bytes - hint->drawn_bytes,
            .class = FETCH_PREFETCH,
            .report = go_on,
            .ctx = &drawing,
        };
        int r = transfer_draw(hints->options.transfer, &draw, &progress);
        hint->drawn_index = index;
        hint->drawn_bytes += progress.done_bytes;
        atomic_fetch_add(&hints->counters.drawn_bytes, progress.done_bytes);
        atomic_fetch_add(&hints->counters.drawn_files, progress.done_files);
        if (r < 0)
            log_debug("prefetch", "drew part of volume '%s': %s", hint->volume, strerror(-r));
    }
    volumes_put(hints->options.volumes, volume);
}

/* Takes the oldest hint out of the queue; waits for one. NULL: stopping. */
static struct hint *next_hint(struct hints *hints)
{
    SCOPED_LOCK(&hints->lock);
    while (!hints->is_stopping && list_empty(&hints->queue))
        cond_wait(&hints->changed, &hints->lock);
    if (hints->is_stopping)
        return NULL;
    struct hint *hint = list_first(&hints->queue, struct hint, link);
    list_remove(&hint->link);
    hints->n_queued--;
    return hint;
}

static void keep_or_free(struct hints *hints, struct hint *hint)
{
    SCOPED_LOCK(&hints->lock);
    struct hint *newer = find_locked(&hints->queue, hint->kind, hint->volume, hint->host);
    bool is_over = hint->kind == KIND_BEGIN || clock_mono_ns() >= hint->until_ns;
    if (newer && !is_over) { /* it was renewed while it was worked on */
        newer->drawn_index = hint->drawn_index;
        newer->drawn_bytes = hint->drawn_bytes;
        newer->is_attached = hint->is_attached;
    }
    if (newer || is_over || hints->is_stopping) {
        free(hint);
        return;
    }
    list_append(&hints->queue, &hint->link);
    hints->n_queued++;
}

static void wait_a_little(struct hints *hints)
{
    SCOPED_LOCK(&hints->lock);
    if (!hints->is_stopping &&
        !cond_wait_until(&hints->changed, &hints->lock, clock_mono_ns() + LOOK_AGAIN_NS))
        return;
}

static void *draw_main(void *arg)
{
    struct hints *hints = arg;
    struct hint *hint;
    while ((hint = next_hint(hints))) {
        bool is_drawing = hint->kind == KIND_DRAW;
        if (!hint->is_attached && clock_mono_ns() >= hint->attach_again_ns)
            attach_for(hints, hint);
        if (is_drawing && hint->is_attached)
            draw_for(hints, hint);
        keep_or_free(hints, hint);
        if (is_drawing)
            wait_a_little(hints);
    }
    return NULL;
}

/* ---- life ---- */

int hints_new(const struct hints_options *options, struct hints **ret_hints)
{
    struct hints *hints = calloc(1, sizeof *hints);
    if (!hints)
        return -ENOMEM;
    hints->options = *options;
    mutex_init(&hints->lock, LOCK_prefetch);
    cond_init(&hints->changed);
    list_init(&hints->queue);
    list_init(&hints->outgoing);
    peers_handle(options->peers, FRAME_HINT, true, on_hint, hints);
    *ret_hints = hints;
    return 0;
}

int hints_start(struct hints *hints)
{
    int r = thread_start(&hints->drawer, "whiskfs-draw", draw_main, hints);
    hints->has_drawer = r == 0;
    if (r == 0)
        r = thread_start(&hints->sender, "whiskfs-hint", send_main, hints);
    hints->has_sender = r == 0;
    return r;
}

void hints_stop(struct hints *hints)
{
    {
        SCOPED_LOCK(&hints->lock);
        hints->is_stopping = true;
        cond_broadcast(&hints->changed);
    }
    if (hints->has_drawer)
        thread_join(hints->drawer);
    if (hints->has_sender)
        thread_join(hints->sender);
    hints->has_drawer = hints->has_sender = false;
}

static void free_queue(struct list *queue)
{
    list_for_each(hint, queue, struct hint, link)
    {
        list_remove(&hint->link);
        free(hint);
    }
}

void hints_free(struct hints *hints)
{
    if (!hints)
        return;
    free_queue(&hints->queue);
    free_queue(&hints->outgoing);
    cond_done(&hints->changed);
    mutex_done(&hints->lock);
    free(hints);
}
