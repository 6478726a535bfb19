/* Checkpoints: DIRECTORY/checkpoint/INDEX.mdb, the state as it was after that entry, whole and durable.
 *
 * Writing one is a read transaction of the tree and takes no lock of the volume. The log is trimmed to the checkpoint
 * before the newest, so a member a little behind still finds the entries it lacks. Only what is durable is removed for.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/disk/disk.h"
#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define NEW_NAME "new.mdb"
#define RETRY_NS (60 * NS_PER_S) /* after a failure: the disk may be full */

void checkpoint_name(uint64_t index, char ret_name[static CHECKPOINT_NAME_BYTES])
{
    (void)snprintf(ret_name, CHECKPOINT_NAME_BYTES, "%016" PRIx64 ".mdb", index);
}

static bool parse_name(const char *name, uint64_t *ret_index)
{
    uint64_t index;
    char again[CHECKPOINT_NAME_BYTES];
    if (sscanf(name, "%16" SCNx64, &index) != 1)
        return false;
    checkpoint_name(index, again);
    if (index == 0 || strcmp(name, again) != 0)
        return false;
    *ret_index = index;
    return true;
}

static int see_newest(void *ctx, const char *name)
{
    uint64_t *newest = ctx, index;
    if (parse_name(name, &index))
        *newest = MAX(*newest, index);
    return 0;
}

int checkpoint_newest(int checkpoint_dirfd, uint64_t *ret_index)
{
    uint64_t newest = 0;
    int error = disk_list(checkpoint_dirfd, see_newest, &newest);
    if (error < 0)
        return error;
    *ret_index = newest;
    return 0;
}

struct older {
    int dirfd;
    uint64_t than;
};

static int remove_older(void *ctx, const char *name)
{
    const struct older *older = ctx;
    uint64_t index;
    if (parse_name(name, &index) && index < older->than)
        (void)!disk_unlink(older->dirfd, name);
    return 0;
}

/* ---- writing one ---- */

/* The file gets its name once the log is durable up to it: a checkpoint is never ahead of the log on the disk. */
static int write_checkpoint(struct volume *volume, uint64_t *ret_index)
{
    int dirfd = volume->checkpointer.dirfd;
    char name[CHECKPOINT_NAME_BYTES];
    uint64_t index;
    int error = disk_unlink(dirfd, NEW_NAME);
    if (error < 0 && error != -ENOENT)
        return error;
    error = tree_checkpoint(volume->tree, dirfd, NEW_NAME, &index);
    /* The names of copies are as its entries made them: they will not be replayed. */
    if (error == 0)
        error = store_sync_names(volume->store);
    if (error == 0)
        error = log_sync(volume->log, index);
    if (error < 0)
        return error;
    checkpoint_name(index, name);
    error = disk_rename(dirfd, NEW_NAME, dirfd, name);
    if (error == 0)
        error = disk_sync(dirfd);
    if (error == 0)
        *ret_index = index;
    return error;
}

static void wait_turn(struct checkpointer *c) REQUIRES(c->lock)
{
    while (c->is_running)
        cond_wait(&c->changed, &c->lock);
}

uint64_t checkpointer_hold(struct volume *volume)
{
    struct checkpointer *c = &volume->checkpointer;
    SCOPED_LOCK(&c->lock);
    wait_turn(c);
    c->is_running = true;
    return c->newest;
}

void checkpointer_release(struct volume *volume)
{
    struct checkpointer *c = &volume->checkpointer;
    SCOPED_LOCK(&c->lock);
    c->is_running = false;
    cond_broadcast(&c->changed);
}

/* Waits for the one being written; then it is this thread's turn. False: what is there will do. */
static bool begin(struct checkpointer *c, bool force)
{
    SCOPED_LOCK(&c->lock);
    wait_turn(c);
    if (!force && atomic_load(&c->logged_bytes) < VOLUME_CHECKPOINT_BYTES)
        return false;
    c->is_running = true;
    return true;
}

/* Returns the index that the log is trimmed to. */
static uint64_t end(struct checkpointer *c, int error, uint64_t index, uint64_t logged_before)
{
    SCOPED_LOCK(&c->lock);
    c->is_running = false;
    cond_broadcast(&c->changed);
    if (error < 0)
        return 0;
    atomic_fetch_sub(&c->logged_bytes, logged_before);
    if (index > c->newest) {
        c->kept = c->newest;
        c->newest = index;
    }
    return c->kept;
}

int volume_checkpoint(struct volume *volume, bool force)
{
    struct checkpointer *c = &volume->checkpointer;
    int error = volume_check(volume);
    if (error < 0)
        return error;
    if (!begin(c, force))
        return 0;
    uint64_t logged = atomic_load(&c->logged_bytes);
    uint64_t index = 0;
    if (tree_applied(volume->tree) > 0)
        error = write_checkpoint(volume, &index);
    uint64_t kept = end(c, error, index, logged);
    if (error < 0)
        return error;
    struct older older = {.dirfd = c->dirfd, .than = index};
    error = disk_list(c->dirfd, remove_older, &older);
    return error < 0 || kept == 0 ? error : log_trim(volume->log, kept + 1);
}

static uint64_t newest(struct checkpointer *c)
{
    SCOPED_LOCK(&c->lock);
    return c->newest;
}

int volume_checkpoint_open(struct volume *volume, int *ret_fd, uint64_t *ret_index)
{
    struct checkpointer *c = &volume->checkpointer;
    for (;;) {
        char name[CHECKPOINT_NAME_BYTES];
        uint64_t index = newest(c);
        bool is_current = index != 0 && index + 1 >= log_first(volume->log);
        checkpoint_name(index, name);
        int fd = is_current ? disk_open(c->dirfd, name, O_RDONLY) : -1;
        if (fd >= 0) {
            *ret_fd = fd;
            *ret_index = index;
            return 0;
        }
        if (is_current && fd != -ENOENT)
            return fd;
        if (is_current && newest(c) == index)
            return -ENOENT; /* somebody removed it by hand */
        if (is_current)
            continue; /* a newer one has just taken its place */
        int error = volume_checkpoint(volume, true);
        if (error < 0)
            return error;
        if (newest(c) == 0)
            return -ENOENT; /* nothing has been applied yet */
    }
}

/* ---- the maintenance thread ---- */

void checkpointer_logged(struct volume *volume, uint64_t size)
{
    struct checkpointer *c = &volume->checkpointer;
    uint64_t before = atomic_fetch_add(&c->logged_bytes, size);
    /* Once when the threshold is passed; the thread comes back by itself after a failure. */
    if (before >= VOLUME_CHECKPOINT_BYTES || before + size < VOLUME_CHECKPOINT_BYTES)
        return;
    SCOPED_LOCK(&c->lock);
    c->is_wanted = true;
    cond_broadcast(&c->changed);
}

static bool wait_wanted(struct checkpointer *c)
{
    SCOPED_LOCK(&c->lock);
    while (!c->is_wanted && !c->is_stopping &&
           atomic_load(&c->logged_bytes) < VOLUME_CHECKPOINT_BYTES)
        cond_wait(&c->changed, &c->lock);
    c->is_wanted = false;
    return !c->is_stopping;
}

/* False: told to stop. */
static bool wait_retry(struct checkpointer *c)
{
    SCOPED_LOCK(&c->lock);
    int64_t deadline = clock_mono_ns() + RETRY_NS;
    while (!c->is_stopping && cond_wait_until(&c->changed, &c->lock, deadline))
        continue;
    c->is_wanted = true;
    return !c->is_stopping;
}

static void *maintain(void *arg)
{
    struct volume *volume = arg;
    struct checkpointer *c = &volume->checkpointer;
    while (wait_wanted(c)) {
        int error = volume_checkpoint(volume, false);
        if (error == 0)
            continue;
        log_warning("volume",
                    "cannot write a checkpoint: %s; the log grows until one can be written",
                    strerror(-error));
        if (!wait_retry(c))
            break;
    }
    return NULL;
}

int checkpointer_start(struct volume *volume)
{
    struct checkpointer *c = &volume->checkpointer;
    int error = checkpoint_newest(c->dirfd, &c->newest);
    if (error < 0)
        return error;
    c->kept = c->newest;
    uint64_t logged = log_bytes_from(volume->log, c->newest + 1);
    atomic_store(&c->logged_bytes, logged);
    c->is_wanted = logged >= VOLUME_CHECKPOINT_BYTES;
    error = thread_start(&c->thread, "volume-keep", maintain, volume);
    c->is_started = error == 0;
    return error;
}

static void tell_stopping(struct checkpointer *c)
{
    SCOPED_LOCK(&c->lock);
    c->is_stopping = true;
    cond_broadcast(&c->changed);
}

void checkpointer_stop(struct volume *volume)
{
    struct checkpointer *c = &volume->checkpointer;
    if (!c->is_started)
        return;
    tell_stopping(c);
    thread_join(c->thread);
    c->is_started = false;
}
