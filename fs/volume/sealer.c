#include "fs/volume/sealer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define RETRY_NS (30 * NS_PER_S) /* somebody has it open */
#define NICENESS 10

int sealer_init(struct sealer *sealer, int64_t after_ns)
{
    mutex_init(&sealer->lock, LOCK_leaf);
    cond_init(&sealer->changed);
    sealer->after_ns = after_ns;
    if (after_ns == 0)
        return 0;
    sealer->items = calloc(SEALS_QUEUED_MAX, sizeof *sealer->items);
    return sealer->items ? 0 : -ENOMEM;
}

void sealer_done(struct sealer *sealer)
{
    free(sealer->items);
    cond_done(&sealer->changed);
    mutex_done(&sealer->lock);
}

static void add_after(struct sealer *s, uint64_t ino, int64_t wait_ns)
{
    SCOPED_LOCK(&s->lock);
    if (s->after_ns == 0 || s->n == SEALS_QUEUED_MAX)
        return;
    s->items[(s->first + s->n++) % SEALS_QUEUED_MAX] =
        (struct seal_due){.ino = ino, .due_ns = clock_mono_ns() + wait_ns};
    if (s->n == 1)
        cond_broadcast(&s->changed);
}

void sealer_add(struct sealer *sealer, uint64_t ino)
{
    add_after(sealer, ino, sealer->after_ns);
}

/* ---- one file ---- */

/* A file that is whole, published and not being written, as it stays while the volume's lock is held. */
static int begin(struct volume *volume, uint64_t ino, struct sealing *ret_sealing)
{
    struct inode inode;
    SCOPED_LOCK(&volume->lock);
    int error = tree_get(volume->tree, ino, &inode);
    if (error < 0)
        return error;
    if (!S_ISREG(inode.mode))
        return -EINVAL;
    if (!host_equal(inode.writer, NO_HOST))
        return -EBUSY;
    if (!host_equal(inode.keeper, volume->self) || inode.size == 0)
        return -EINVAL;
    if (!inode.keeper_complete)
        return -EBUSY;
    return store_seal_begin(volume->store, &inode, ret_sealing);
}

int volume_seal(struct volume *volume, uint64_t ino, seal_pace_f *pace, void *ctx)
{
    struct sealing sealing;
    int error = begin(volume, ino, &sealing);
    if (error == 0)
        error = store_seal(volume->store, &sealing, pace, ctx);
    if (error == 0)
        atomic_fetch_add(&volume->sealer.n_sealed, 1);
    return error;
}

uint64_t volume_n_sealed(struct volume *volume)
{
    return atomic_load(&volume->sealer.n_sealed);
}

/* ---- the thread ---- */

/* False: it is time to end. */
static bool take(struct sealer *s, uint64_t *ret_ino)
{
    SCOPED_LOCK(&s->lock);
    while (!s->is_stopping) {
        const struct seal_due *due = &s->items[s->first];
        if (s->n == 0) {
            cond_wait(&s->changed, &s->lock);
        } else if (due->due_ns > clock_mono_ns()) {
            (void)!cond_wait_until(&s->changed, &s->lock, due->due_ns);
        } else {
            *ret_ino = due->ino;
            s->first = (s->first + 1) % SEALS_QUEUED_MAX;
            s->n--;
            return true;
        }
    }
    return false;
}

static int pace(void *ctx, uint64_t bytes)
{
    struct sealer *s = ctx;
    (void)bytes;
    SCOPED_LOCK(&s->lock);
    return s->is_stopping ? -ECANCELED : 0;
}

static void *seal_all(void *arg)
{
    struct volume *volume = arg;
    struct sealer *s = &volume->sealer;
    uint64_t ino;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS); /* of this thread alone */
    while (take(s, &ino)) {
        int error = volume_seal(volume, ino, pace, s);
        if (error == -EBUSY)
            add_after(s, ino, RETRY_NS);
        else if (error == -EBADMSG)
            log_warning("volume",
                        "inode %" PRIu64 " cannot be sealed: it, or its seal, is damaged: see fsck",
                        ino);
        else if (error < 0)
            log_debug("volume", "inode %" PRIu64 " is not sealed: %s", ino, strerror(-error));
    }
    return NULL;
}

int sealer_start(struct volume *volume)
{
    struct sealer *s = &volume->sealer;
    if (s->after_ns == 0)
        return 0;
    int error = thread_start(&s->thread, "volume-seal", seal_all, volume);
    s->is_started = error == 0;
    return error;
}

static void tell_stopping(struct sealer *s)
{
    SCOPED_LOCK(&s->lock);
    s->is_stopping = true;
    cond_broadcast(&s->changed);
}

void sealer_stop(struct volume *volume)
{
    struct sealer *s = &volume->sealer;
    if (!s->is_started)
        return;
    tell_stopping(s);
    thread_join(s->thread);
    s->is_started = false;
}
