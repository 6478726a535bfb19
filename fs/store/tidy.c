/* fs/store/tidy.c — the store's thread for work that nobody waits for: syncing complete copies so that their maps can
 * go, and freeing the blocks of removed files. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/disk/disk.h"
#include "fs/store/private.h"
#include "proto/base/log.h"

/* A map goes only when the bytes it vouches for are on stable storage. */
static void settle_complete(struct content *content)
{
    int e = disk_sync_data(content->fd);
    if (e == 0)
        e = store_settle(content->store, content);
    if (e < 0)
        log_error("store", "cannot sync the copy of inode %" PRIx64 ": %s", content->ino,
                  strerror(-e));
}

/* Closing it frees its blocks. */
void tidy_free(struct image *image, int fd, uint64_t pending_bytes)
{
    struct stat st;
    uint64_t bytes = 0;
    if (image && pending_bytes == 0 && disk_stat(fd, &st) == 0 && st.st_nlink == 0)
        bytes = (uint64_t)st.st_blocks * 512;
    if (bytes > 0)
        image_freeing(image, bytes);
    (void)close(fd);
    if (bytes + pending_bytes > 0)
        image_freed(image, bytes + pending_bytes, pending_bytes > 0);
}

static void do_item(struct tidy_item item)
{
    if (item.content) {
        settle_complete(item.content);
        content_put(item.content);
    } else {
        tidy_free(item.image, item.fd, item.pending_bytes);
    }
}

static void note_done(struct tidy *tidy)
{
    SCOPED_LOCK(&tidy->lock);
    tidy->n_done++;
    cond_broadcast(&tidy->changed);
}

bool tidy_wait(struct tidy *tidy, int64_t deadline_ns)
{
    SCOPED_LOCK(&tidy->lock);
    uint64_t end = tidy->n_queued;
    while (tidy->n_done < end && !tidy->is_stopping)
        if (!cond_wait_until(&tidy->changed, &tidy->lock, deadline_ns))
            return false;
    return true;
}

static bool take_item(struct tidy *tidy, struct tidy_item *ret_item)
{
    SCOPED_LOCK(&tidy->lock);
    while (tidy->n == 0 && !tidy->is_stopping)
        cond_wait(&tidy->changed, &tidy->lock);
    if (tidy->is_stopping)
        return false;
    *ret_item = tidy->items[tidy->first];
    tidy->first = (tidy->first + 1) % TIDY_MAX;
    tidy->n--;
    return true;
}

static void *tidy_run(void *arg)
{
    struct tidy *tidy = arg;
    struct tidy_item item;
    while (take_item(tidy, &item)) {
        do_item(item);
        note_done(tidy);
    }
    return NULL;
}

int tidy_start(struct tidy *tidy)
{
    mutex_init(&tidy->lock, LOCK_leaf);
    cond_init(&tidy->changed);
    int e = thread_start(&tidy->thread, "store-tidy", tidy_run, tidy);
    if (e < 0) {
        cond_done(&tidy->changed);
        mutex_done(&tidy->lock);
        return e;
    }
    tidy->is_started = true;
    return 0;
}

static void drop_items(struct tidy *tidy)
{
    for (; tidy->n > 0; tidy->n--) {
        struct tidy_item item = tidy->items[tidy->first];
        tidy->first = (tidy->first + 1) % TIDY_MAX;
        if (item.content)
            content_put(item.content);
        else
            tidy_free(item.image, item.fd, item.pending_bytes);
    }
}

static void tell_stopping(struct tidy *tidy)
{
    SCOPED_LOCK(&tidy->lock);
    tidy->is_stopping = true;
    cond_broadcast(&tidy->changed);
}

void tidy_stop(struct tidy *tidy)
{
    if (!tidy->is_started)
        return;
    tell_stopping(tidy);
    thread_join(tidy->thread);
    drop_items(tidy);
    tidy->is_started = false;
    cond_done(&tidy->changed);
    mutex_done(&tidy->lock);
}

static bool queue(struct tidy *tidy, struct tidy_item item)
{
    SCOPED_LOCK(&tidy->lock);
    if (tidy->n == TIDY_MAX || tidy->is_stopping)
        return false;
    tidy->items[(tidy->first + tidy->n++) % TIDY_MAX] = item;
    tidy->n_queued++;
    cond_broadcast(&tidy->changed);
    return true;
}

void tidy_completed(struct tidy *tidy, struct content *content)
{
    struct tidy_item item = {.content = content_ref(content), .fd = -1};
    if (!queue(tidy, item))
        content_put(content); /* its map stays for now and says that all is there */
}

void tidy_close(struct tidy *tidy, struct image *image, int fd, uint64_t pending_bytes)
{
    if (!queue(tidy, (struct tidy_item){.image = image, .fd = fd, .pending_bytes = pending_bytes}))
        tidy_free(image, fd, pending_bytes);
}
