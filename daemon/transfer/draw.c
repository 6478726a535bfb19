#include "daemon/transfer/draw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/transfer/fetch.h"
#include "daemon/transfer/transfer_private.h"
#include "fs/volume/volume.h"
#include "proto/base/clock.h"

/* What is asked for ahead of the file that is waited for, so that many small files travel together. */
#define AHEAD_FILES 64u
#define AHEAD_BLOCKS 128u
/* Each portion of a file must come within this. */
#define PORTION_BLOCKS 64u
#define PORTION_NS (30 * NS_PER_S)
/* Drawing waits as long as somebody here waits for blocks that he reads, but not longer than this before a portion. */
#define YIELD_NS (100 * NS_PER_MS)
#define NAP_NS (5 * NS_PER_MS)

struct files {
    struct inode *items;
    size_t n, room;
    struct host_id self;
    int error;
};

static void files_done(struct files *files)
{
    free(files->items);
}

static bool add_file(void *ctx, const struct inode *inode)
{
    struct files *files = ctx;
    if (!transfer_is_elsewhere(inode, files->self))
        return true;
    if (files->n == files->room) {
        size_t room = files->room ? files->room * 2 : 256;
        struct inode *items = reallocarray(files->items, room, sizeof *items);
        if (!items) {
            files->error = -ENOMEM;
            return false;
        }
        files->items = items;
        files->room = room;
    }
    files->items[files->n++] = *inode;
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct inode *x = a, *y = b;
    return x->version > y->version ? -1 : x->version < y->version;
}

static int collect(const struct draw *draw, struct files *files)
{
    struct tree *tree = volume_tree(draw->volume);
    struct inode inode;
    int e = 0;
    files->self = volume_self(draw->volume);
    if (!draw->inos)
        e = tree_each(tree, 0, add_file, files);
    for (size_t i = 0; draw->inos && i < draw->n_inos; i++) {
        if (tree_get(tree, draw->inos[i], &inode) == 0)
            (void)add_file(files, &inode);
    }
    if (files->n > 0)
        qsort(files->items, files->n, sizeof *files->items, newest_first);
    return e < 0 ? e : files->error;
}

/* The files from the one that is waited for on, with what has been asked for of each. */
struct ahead {
    struct content *contents[AHEAD_FILES];
    size_t n;          /* contents[0] is files[at] */
    uint64_t n_blocks; /* asked for, beyond contents[0] */
};

struct drawing {
    struct transfer *t;
    const struct draw *draw;
    struct files files;
    size_t at;
    struct ahead ahead;
    struct draw_progress progress;
    uint64_t drawn_bytes; /* that were not here before */
    int64_t reported_ns;
    int error; /* the first */
};

/* Its content if it is still the version that was seen. -ESTALE. */
static int open_file(struct drawing *d, const struct inode *seen, struct content **ret_content)
{
    struct inode inode;
    int e = tree_get(volume_tree(d->draw->volume), seen->ino, &inode);
    if (e < 0)
        return e == -ENOENT ? -ESTALE : e;
    if (inode.version != seen->version || !transfer_is_elsewhere(&inode, d->files.self))
        return -ESTALE;
    return content_get(volume_store(d->draw->volume), d->files.self, &inode, ret_content);
}

static bool has_budget(const struct drawing *d, uint64_t more_bytes)
{
    return d->draw->budget_bytes == 0 || d->drawn_bytes + more_bytes < d->draw->budget_bytes;
}

struct batch {
    struct wanted items[FLIGHT_BLOCKS];
    unsigned n;
};

/* What fails here is met again by the fetch that waits for the file. */
static void send_batch(struct drawing *d, struct batch *batch)
{
    if (batch->n == 0)
        return;
    int e = fetch_ask(d->t, d->draw->volume_name, batch->items, batch->n, d->draw->class,
                      clock_mono_ns() + PORTION_NS);
    if (e < 0)
        log_debug("transfer", "cannot ask ahead: %s", strerror(-e));
    batch->n = 0;
}

static void add_to_batch(struct drawing *d, struct batch *batch, struct content *content)
{
    struct host_id upstream = content_upstream(content);
    if (batch->n > 0 && !host_equal(upstream, content_upstream(batch->items[0].content)))
        send_batch(d, batch);
    uint64_t end = block_count(content_size(content));
    for (uint64_t b = content_next_missing(content, 0);
         b < end && d->ahead.n_blocks < AHEAD_BLOCKS &&
         has_budget(d, d->ahead.n_blocks * BLOCK_BYTES);
         b = content_next_missing(content, b + 1)) {
        batch->items[batch->n++] = (struct wanted){content, b};
        d->ahead.n_blocks++;
        if (batch->n == FLIGHT_BLOCKS)
            send_batch(d, batch);
    }
}

/* Opens the files that follow and asks for their blocks, many files in one request. */
static void look_ahead(struct drawing *d)
{
    struct batch batch = {.n = 0};
    while (d->ahead.n < AHEAD_FILES && d->at + d->ahead.n < d->files.n &&
           d->ahead.n_blocks < AHEAD_BLOCKS && has_budget(d, d->ahead.n_blocks * BLOCK_BYTES) &&
           atomic_load(&d->t->counters.in_flight_blocks) < d->t->in_flight_max / 2) {
        struct content *content = NULL;
        int e = open_file(d, &d->files.items[d->at + d->ahead.n], &content);
        if (e < 0 && e != -ESTALE && d->error == 0)
            d->error = e;
        d->ahead.contents[d->ahead.n++] = content; /* NULL: left out */
        if (content && !content_is_complete(content))
            add_to_batch(d, &batch, content);
    }
    send_batch(d, &batch);
}

/* -ECANCELED: stop. */
static int report(struct drawing *d, bool is_last)
{
    int64_t now_ns = clock_mono_ns();
    if (!d->draw->report || (!is_last && now_ns - d->reported_ns < 100 * NS_PER_MS))
        return 0;
    d->reported_ns = now_ns;
    return d->draw->report(d->draw->ctx, &d->progress) ? 0 : -ECANCELED;
}

/* ---- its place ---- */

static int nap(struct drawing *d, int64_t nap_ns)
{
    if (!flights_pause(&d->t->flights, clock_mono_ns() + nap_ns))
        return -ESHUTDOWN;
    return report(d, false);
}

static int give_way(struct drawing *d)
{
    int64_t until_ns = clock_mono_ns() + YIELD_NS;
    int e = 0;
    if (d->draw->class != FETCH_PREFETCH || atomic_load(&d->t->n_demands) == 0)
        return 0;
    atomic_fetch_add(&d->t->counters.yields, 1);
    while (e == 0 && atomic_load(&d->t->n_demands) > 0 && clock_mono_ns() < until_ns)
        e = nap(d, NAP_NS);
    return e;
}

static void spend(struct transfer *t, uint64_t bytes)
{
    SCOPED_LOCK(&t->lock);
    pace_spend(&t->drawing, FETCH_PREFETCH, bytes, clock_mono_ns());
}

static int64_t delay_ns(struct transfer *t)
{
    SCOPED_LOCK(&t->lock);
    return pace_delay_ns(&t->drawing, clock_mono_ns());
}

/* So many bytes have come: what they cost is waited for before more is asked for. */
static int keep_rate(struct drawing *d, uint64_t bytes)
{
    int e = 0;
    if (d->draw->class != FETCH_PREFETCH)
        return 0;
    spend(d->t, bytes);
    for (int64_t delay; e == 0 && (delay = delay_ns(d->t)) > 0;)
        e = nap(d, MIN(delay, YIELD_NS));
    return e;
}

static int draw_content(struct drawing *d, struct content *content)
{
    uint64_t end = block_count(content_size(content));
    uint64_t done_bytes = d->progress.done_bytes;
    uint64_t before = content_present_bytes(content), present = before;
    int e = 0;
    for (uint64_t b = content_next_missing(content, 0);
         b < end && e == 0 && has_budget(d, present - before);
         b = content_next_missing(content, b)) {
        e = transfer_fetch(d->t, d->draw->volume_name, content, b, MIN(end - b, PORTION_BLOCKS),
                           d->draw->class, clock_mono_ns() + PORTION_NS);
        uint64_t had = present;
        present = content_present_bytes(content);
        if (e == 0)
            e = keep_rate(d, present - had);
        if (e == 0)
            e = give_way(d);
        d->progress.done_bytes = done_bytes + present;
        if (e == 0)
            e = report(d, false);
    }
    d->drawn_bytes += present - before;
    d->progress.done_bytes = done_bytes + present;
    return e;
}

/* Takes the file that is waited for out of the window. */
static struct content *next_content(struct drawing *d)
{
    struct content *content = d->ahead.contents[0];
    d->ahead.n--;
    memmove(d->ahead.contents, d->ahead.contents + 1, d->ahead.n * sizeof d->ahead.contents[0]);
    uint64_t n = content ? block_count(content_size(content)) : 0;
    d->ahead.n_blocks -= MIN(n, d->ahead.n_blocks);
    d->at++;
    return content;
}

static int draw_next(struct drawing *d)
{
    AUTO(content_putp) struct content *content = next_content(d);
    if (!content)
        return 0;
    int e = draw_content(d, content);
    /* Who stored the last block may not have noted yet that the copy is complete. */
    if (content_has(content, 0, UINT64_MAX))
        d->progress.done_files++;
    if (e == -ECANCELED || e == -ESHUTDOWN || e == -ENOSPC)
        return e;
    if (e < 0 && e != -ESTALE && d->error == 0)
        d->error = e;
    return report(d, false);
}

static int draw_files(struct drawing *d)
{
    int e = 0;
    while (e == 0 && d->at < d->files.n && has_budget(d, 0)) {
        if (d->ahead.n == 0 || d->ahead.n_blocks < AHEAD_BLOCKS / 2) {
            e = give_way(d);
            if (e == 0)
                look_ahead(d);
        }
        if (e == 0 && d->ahead.n == 0) { /* others have filled the room */
            struct content *content = NULL;
            e = open_file(d, &d->files.items[d->at], &content);
            if (e == -ESTALE)
                e = 0;
            d->ahead.contents[d->ahead.n++] = content;
        }
        if (e == 0)
            e = draw_next(d);
    }
    while (d->ahead.n > 0) {
        struct content *content = next_content(d);
        if (content)
            content_put(content);
    }
    return e;
}

int transfer_draw(struct transfer *t, const struct draw *draw, struct draw_progress *ret_progress)
{
    struct drawing d = {.t = t, .draw = draw};
    *ret_progress = d.progress;
    int e = transfer_enter(t) ? 0 : -ESHUTDOWN;
    if (e < 0)
        return e;
    e = collect(draw, &d.files);
    d.progress.total_files = d.files.n;
    for (size_t i = 0; i < d.files.n; i++)
        d.progress.total_bytes += d.files.items[i].size;
    if (e == 0)
        e = draw_files(&d);
    if (e == 0)
        e = report(&d, true);
    *ret_progress = d.progress;
    files_done(&d.files);
    transfer_leave(t);
    return e < 0 ? e : d.error;
}
