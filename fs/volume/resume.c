/* What this host's earlier sessions left: files that were open for writing get the size and times of their backing
 * files, open-unlinked ones go, and SESSION ends the rest. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/disk/disk.h"
#include "fs/volume/impl.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

struct left {
    struct volume *volume;
    bool (*goes_on)(struct volume_survivors *survivors, uint64_t ino); /* or NULL */
    struct inode *inodes;
    size_t n, room;
    int error;
};

static void left_done(struct left *left)
{
    free(left->inodes);
}

static bool collect(void *ctx, const struct inode *inode)
{
    struct left *left = ctx;
    if (left->goes_on && left->goes_on(left->volume->survivors, inode->ino))
        return true;
    if (left->n == left->room) {
        size_t room = left->room ? left->room * 2 : 16;
        struct inode *more = reallocarray(left->inodes, room, sizeof *more);
        if (!more) {
            left->error = -ENOMEM;
            return false;
        }
        left->inodes = more;
        left->room = room;
    }
    left->inodes[left->n++] = *inode;
    return true;
}

struct cut {
    struct volume *volume;
    struct left left;
};

/* After a power cut: closed files whose size on the disk is another one than was published, as they were not synced. */
static bool collect_cut(void *ctx, const struct inode *inode)
{
    struct cut *cut = ctx;
    struct volume *volume = cut->volume;
    uint64_t size;
    if (!S_ISREG(inode->mode) || !host_equal(inode->keeper, volume->self) ||
        host_equal(inode->writer, volume->self) ||
        store_own_size(volume->store, inode->ino, &size) < 0 || size == inode->size)
        return true;
    log_warning("volume",
                "inode %" PRIu64 " had not been synced before the power went: size=%" PRIu64
                " before=%" PRIu64,
                inode->ino, size, inode->size);
    if (host_equal(inode->writer, NO_HOST))
        return collect(&cut->left, inode);
    /* Another host builds upon what was published: that size, then, with zeros where bytes are lost. */
    cut->left.error = store_set_own_size(volume->store, inode->ino, inode->size);
    return cut->left.error == 0;
}

static int list_cut(struct volume *volume, struct left *writing)
{
    struct cut cut = {.volume = volume, .left = *writing};
    int error = tree_each(volume->tree, 0, collect_cut, &cut);
    *writing = cut.left;
    return error;
}

static int list_left(struct volume *volume, struct left *writing, struct left *held)
{
    const struct volume_survivors *survivors = volume->survivors;
    writing->volume = held->volume = volume;
    writing->goes_on = survivors ? survivors->is_written : NULL;
    held->goes_on = survivors ? survivors->is_open : NULL;
    int error = tree_each_writer(volume->tree, volume->self, collect, writing);
    if (error == 0 && volume->is_new_boot)
        error = list_cut(volume, writing);
    if (error == 0)
        error = tree_each_held(volume->tree, volume->self, collect, held);
    if (error == 0)
        error = MIN(writing->error, held->error);
    return error;
}

/* The daemon ended between being granted the file and having one: nothing was written. */
static int make_up(struct volume *volume, const struct inode *inode)
{
    AUTO(content_putp) struct content *content = NULL;
    if (!host_equal(inode->keeper, volume->self) && !host_equal(inode->keeper, NO_HOST))
        return 0; /* another host's, as before */
    return inode->size == 0 ? content_make(volume->store, inode->ino, &content) : -ENOENT;
}

/* 1: published; 0: as it was published before. */
static int publish(struct volume *volume, const struct inode *inode)
{
    AUTO(content_putp) struct content *content = NULL;
    int error = content_get(volume->store, volume->self, inode, &content);
    struct stat st;
    if (error == -ENOENT)
        return make_up(volume, inode);
    if (error < 0)
        return error;
    error = disk_stat(content_fd(content), &st);
    if (error < 0)
        return error;
    int64_t mtime_ns = (int64_t)st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
    if ((uint64_t)st.st_size == inode->size && mtime_ns == inode->mtime_ns)
        return 0;
    struct request request = {
        .kind = REQUEST_PUBLISH,
        .flags = REQUEST_LAST_CLOSE | (content_is_complete(content) ? 0 : REQUEST_INCOMPLETE),
        .ino = inode->ino,
        .size = (uint64_t)st.st_size,
        .occupied = content_occupied(content),
        .mtime_ns = mtime_ns,
        .base_version = inode->version,
    };
    struct outcome outcome;
    error = volume_change(volume, &request, &outcome);
    return error < 0 ? error : 1;
}

static int ask(struct volume *volume, enum request_kind kind, uint64_t ino)
{
    struct request request = {.kind = kind, .ino = ino};
    struct outcome outcome;
    return volume_change(volume, &request, &outcome);
}

/* What this host had open for writing and nobody has any more, where SESSION does not end it. */
static int close_all(struct volume *volume, const struct left *writing)
{
    for (size_t i = 0; volume->survivors && i < writing->n; i++) {
        int error = ask(volume, REQUEST_CLOSE_WRITE, writing->inodes[i].ino);
        if (error < 0 && error != -ENOENT)
            return error;
    }
    return 0;
}

static int begin_session(struct volume *volume)
{
    const struct volume_survivors *survivors = volume->survivors;
    struct outcome outcome;
    if (!survivors)
        return ask(volume, REQUEST_SESSION, 0);
    struct request request = {
        .kind = REQUEST_SESSION,
        .flags = REQUEST_GOES_ON,
        .identity = {.session = survivors->session, .unique = survivors->unique},
    };
    int error = volume_change(volume, &request, &outcome);
    if (outcome.index != 0)
        volume_answered(volume, survivors->session, survivors->unique);
    return error;
}

/* A file that cannot be published is named and left at its last published state; the others go on. */
static int publish_all(struct volume *volume, const struct left *writing, size_t *ret_n)
{
    size_t n = 0;
    for (size_t i = 0; i < writing->n; i++) {
        const struct inode *inode = &writing->inodes[i];
        if (inode->nlink == 0)
            continue;
        int r = publish(volume, inode);
        if (r == -EIO)
            return r;
        if (r < 0)
            log_error("volume", "cannot publish what was written to inode %" PRIu64 ": %s",
                      inode->ino, strerror(-r));
        else
            n += (size_t)r;
    }
    *ret_n = n;
    return 0;
}

int volume_resume(struct volume *volume)
{
    AUTO(left_done) struct left writing = {0};
    AUTO(left_done) struct left held = {0};
    size_t n_published = 0;
    int error = list_left(volume, &writing, &held);
    if (error == 0)
        error = publish_all(volume, &writing, &n_published);
    for (size_t i = 0; error == 0 && i < held.n; i++)
        error = ask(volume, REQUEST_DROP, held.inodes[i].ino);
    if (error == 0)
        error = close_all(volume, &writing);
    if (error == 0)
        error = begin_session(volume);
    volume->survivors = NULL;
    if (error < 0)
        return error;
    if (writing.n + held.n > 0)
        log_info("volume", "ended an earlier session: published files=%zu closed=%zu removed=%zu",
                 n_published, writing.n, held.n);
    return 0;
}
