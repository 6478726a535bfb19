#include "fs/volume/scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/ioprio.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define BATCH_INODES 64
#define PATH_BYTES 512
#define NICENESS 19
#define ENDED_NAME "scrubbed" /* when a pass ended: nanoseconds since the epoch, in text */

void scrub_init(struct scrub *scrub)
{
    mutex_init(&scrub->lock, LOCK_leaf);
    cond_init(&scrub->changed);
}

void scrub_done(struct scrub *scrub)
{
    cond_done(&scrub->changed);
    mutex_done(&scrub->lock);
}

void volume_scrub_status(struct volume *volume, struct scrub_status *ret_status)
{
    SCOPED_LOCK(&volume->scrub.lock);
    *ret_status = volume->scrub.status;
}

static void count(struct scrub *s, uint64_t *counter, uint64_t n)
{
    SCOPED_LOCK(&s->lock);
    *counter += n;
}

/* What is under way in one file. */
struct looking {
    struct volume *volume;
    const struct seal *seal; /* that it is compared with, or NULL */
};

/* Waits until `bytes` may be read besides what was read. -ECANCELED: the volume is being closed. */
static int pace(void *ctx, uint64_t bytes)
{
    const struct looking *l = ctx;
    struct scrub *s = &l->volume->scrub;
    SCOPED_LOCK(&s->lock);
    s->status.bytes += bytes;
    while (!s->is_stopping && s->rate > 0 && s->next_ns > clock_mono_ns())
        (void)!cond_wait_until(&s->changed, &s->lock, s->next_ns);
    if (s->rate > 0)
        s->next_ns = MAX(s->next_ns, clock_mono_ns()) +
                     (int64_t)((double)bytes * (double)NS_PER_S / (double)s->rate);
    return s->is_stopping ? -ECANCELED : 0;
}

/* ---- one file ---- */

static const char *show_path(struct volume *volume, uint64_t ino, char path[static PATH_BYTES])
{
    return tree_path(volume->tree, ino, path, PATH_BYTES) == 0 ? path : "(no name)";
}

static void see_bad_block(void *ctx, uint64_t block)
{
    struct looking *l = ctx;
    char path[PATH_BYTES];
    uint64_t ino = l->seal->ino;
    if (store_note_damage(l->volume->store, l->seal, block))
        log_error("volume",
                  "block %" PRIu64 " of '%s' (inode %" PRIu64
                  ") is damaged on this disk: reading it is an error from now on",
                  block, show_path(l->volume, ino, path), ino);
}

static int compare(struct volume *volume, uint64_t ino, struct seal *seal)
{
    struct looking l = {.volume = volume, .seal = seal};
    AUTO_CLOSE int fd = store_open_own(volume->store, ino);
    return fd < 0 ? fd : seal_check(seal, fd, pace, see_bad_block, &l);
}

static int seal_anew(struct volume *volume, uint64_t ino)
{
    struct scrub *s = &volume->scrub;
    struct looking l = {.volume = volume};
    int error = volume_seal(volume, ino, pace, &l);
    if (error == 0)
        count(s, &s->status.sealed, 1);
    return error;
}

/* Nothing can be said of the file. What it has now is the best there is. */
static int replace_seal(struct volume *volume, uint64_t ino)
{
    char path[PATH_BYTES];
    struct scrub *s = &volume->scrub;
    count(s, &s->status.bad_seals, 1);
    log_error("volume", "the seal of '%s' (inode %" PRIu64 ") is damaged: sealing it anew",
              show_path(volume, ino, path), ino);
    int error = store_unseal(volume->store, ino);
    return error < 0 ? error : seal_anew(volume, ino);
}

static int look_at(struct volume *volume, uint64_t ino)
{
    struct inode inode;
    struct seal seal;
    int error = tree_get(volume->tree, ino, &inode);
    if (error == 0)
        error = store_find_seal(volume->store, ino, inode.version, &seal);
    else
        return error;
    if (error == 0) {
        error = compare(volume, ino, &seal);
        seal_close(&seal);
    } else if (error == -ENOENT) {
        return seal_anew(volume, ino);
    }
    return error == -EBADMSG ? replace_seal(volume, ino) : error;
}

/* False: it is time to end. */
static bool look_and_count(struct volume *volume, uint64_t ino)
{
    struct scrub *s = &volume->scrub;
    int error = look_at(volume, ino);
    bool is_busy = error == -EBUSY || error == -EAGAIN;
    if (error < 0 && error != -ENOENT && error != -ECANCELED && !is_busy)
        log_warning("volume", "cannot look at the content of inode %" PRIu64 ": %s", ino,
                    strerror(-error));
    count(s, is_busy ? &s->status.busy : &s->status.files, 1);
    return error != -ECANCELED;
}

/* ---- all of them ---- */

struct batch {
    struct host_id self;
    uint64_t inos[BATCH_INODES], next;
    unsigned n;
};

static bool collect(void *ctx, const struct inode *inode)
{
    struct batch *b = ctx;
    b->next = inode->ino + 1;
    if (S_ISREG(inode->mode) && host_equal(inode->keeper, b->self) && inode->size > 0)
        b->inos[b->n++] = inode->ino;
    return b->n < BATCH_INODES;
}

static bool look_at_all(struct volume *volume)
{
    struct batch b = {.self = volume->self};
    for (uint64_t from = 0, end = tree_next_ino(volume->tree); from < end; from = b.next) {
        b.n = 0;
        b.next = end;
        int error = tree_each(volume->tree, from, collect, &b);
        if (b.n < BATCH_INODES)
            b.next = end;
        if (error < 0) {
            log_warning("volume", "cannot scrub: %s", strerror(-error));
            return false;
        }
        for (unsigned i = 0; i < b.n; i++)
            if (!look_and_count(volume, b.inos[i]))
                return false;
    }
    return true;
}

void scrub_load(struct volume *volume)
{
    char text[32] = "";
    int64_t ended_ns;
    if (volume_read_small(volume->dirfd, ENDED_NAME, text, sizeof text) < 0 ||
        sscanf(text, "%" SCNd64, &ended_ns) != 1)
        ended_ns = volume_born_ns(volume);
    SCOPED_LOCK(&volume->scrub.lock);
    volume->scrub.status.ended_ns = ended_ns;
}

static void note_end(struct volume *volume, int64_t ended_ns)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%" PRId64 "\n", ended_ns);
    int error = directory_write_file(volume->dirfd, ENDED_NAME, text, (size_t)n);
    if (error < 0)
        log_warning("volume", "cannot note when the scrub ended: %s", strerror(-error));
}

static void end(struct volume *volume, bool is_whole)
{
    struct scrub *s = &volume->scrub;
    int64_t now_ns = clock_real_ns();
    if (is_whole)
        note_end(volume, now_ns);
    SCOPED_LOCK(&s->lock);
    s->status.is_running = false;
    s->status.passes += is_whole;
    if (is_whole)
        s->status.ended_ns = now_ns;
}

static void *scrub_run(void *arg)
{
    struct volume *volume = arg;
    /* Of this thread alone. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
                  IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IOPRIO_BE_NR - 1));
    end(volume, look_at_all(volume));
    return NULL;
}

static int begin(struct scrub *s, uint64_t rate, bool *ret_is_left)
{
    SCOPED_LOCK(&s->lock);
    if (s->status.is_running || s->is_stopping)
        return -EALREADY;
    s->status = (struct scrub_status){
        .is_running = true, .passes = s->status.passes, .ended_ns = s->status.ended_ns};
    s->rate = rate;
    s->next_ns = 0;
    *ret_is_left = s->is_started; /* by the pass before */
    s->is_started = false;
    return 0;
}

/* Under the lock, so that a pass which ends at once is not over before it is known to be there. */
static int start(struct volume *volume)
{
    struct scrub *s = &volume->scrub;
    SCOPED_LOCK(&s->lock);
    int error = thread_start(&s->thread, "volume-scrub", scrub_run, volume);
    s->is_started = error == 0;
    s->status.is_running = s->is_started;
    return error;
}

int volume_scrub(struct volume *volume, uint64_t rate)
{
    struct scrub *s = &volume->scrub;
    bool is_left;
    int error = begin(s, rate, &is_left);
    if (error < 0)
        return error;
    if (is_left)
        thread_join(s->thread);
    return start(volume);
}

static void tell_stopping(struct scrub *s)
{
    SCOPED_LOCK(&s->lock);
    s->is_stopping = true;
    cond_broadcast(&s->changed);
}

void scrub_stop(struct volume *volume)
{
    struct scrub *s = &volume->scrub;
    tell_stopping(s);
    if (s->is_started)
        thread_join(s->thread);
    s->is_started = false;
}
