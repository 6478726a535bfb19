/* The store of an open volume. First everything is looked at without a lock; what looks wrong is a suspect. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/fsck/impl.h"
#include "fs/store/check.h"
#include "fs/store/private.h"
#include "fs/volume/impl.h"
#include "proto/base/clock.h"

#define SUSPECTS_MAX 4096u
#define REMOVAL_WAIT_NS (30 * NS_PER_S)

struct suspect {
    uint64_t ino;            /* of a file that should be there, or 0 */
    char name[NAME_MAX + 1]; /* of a copy */
    bool is_own;
};

struct live {
    struct fsck *f;
    struct volume *volume;
    int own_dirfd, drawn_dirfd;
    bool is_own; /* of the copies that are being listed */
    struct suspect *suspects;
    size_t n;
    int error;
};

static void live_done(struct live *l)
{
    close_fd(&l->f->lostfd);
    free(l->suspects);
}

static int dirfd_of(const struct live *l, bool is_own)
{
    return is_own ? l->own_dirfd : l->drawn_dirfd;
}

/* More than fit are found by the next check, once these are gone. */
static struct suspect *add_suspect(struct live *l)
{
    return l->n < SUSPECTS_MAX ? &l->suspects[l->n++] : NULL;
}

/* ---- the first look ---- */

static int see_copy(void *ctx, const char *name)
{
    struct live *l = ctx;
    enum fsck_verdict verdict;
    int error = fsck_judge_copy(l->volume->tree, dirfd_of(l, l->is_own), name, l->is_own, &verdict);
    if (error == -ENOENT || (error == 0 && verdict == FSCK_WELL))
        return 0;
    struct suspect *suspect = error < 0 ? NULL : add_suspect(l);
    if (suspect) {
        (void)snprintf(suspect->name, sizeof suspect->name, "%s", name);
        suspect->is_own = l->is_own;
    }
    return error;
}

static int list_copies(struct live *l, bool is_own)
{
    l->is_own = is_own;
    return disk_list(dirfd_of(l, is_own), see_copy, l);
}

static bool see_inode(void *ctx, const struct inode *inode)
{
    struct live *l = ctx;
    enum fsck_verdict verdict;
    uint64_t size;
    if (!fsck_is_kept(inode, l->volume->self))
        return true;
    l->error = fsck_judge_kept(l->own_dirfd, inode, &verdict, &size);
    struct suspect *suspect = l->error == 0 && verdict != FSCK_WELL ? add_suspect(l) : NULL;
    if (suspect)
        suspect->ino = inode->ino;
    return l->error == 0;
}

/* ---- the second look, under the volume's lock: nothing is made, published or removed ---- */

static bool is_open(struct store *store, uint64_t ino)
{
    SCOPED_LOCK(&store->lock);
    struct file *file = store_find_file(store, ino);
    if (!file)
        return false;
    list_for_each(copy, &file->copies, struct copy, link)
    {
        if (copy->open)
            return true;
    }
    return false;
}

/* A copy of what another host keeps is worth nothing without its map: it goes, and is drawn anew. */
static void remove_drawn(struct live *l, const char *name, uint64_t ino, uint64_t version)
{
    int error = store_evict(l->volume->store, ino, version);
    if (error == 0)
        fsck_repaired(l->f, "removed the copy of content/drawn/%s: it is drawn anew", name);
}

static void mend_copy(struct live *l, const struct suspect *suspect, enum fsck_verdict verdict)
{
    uint64_t ino, version;
    enum copy_part part;
    bool is_own = suspect->is_own;
    if (verdict == FSCK_NO_COPY || verdict == FSCK_ORPHAN)
        fsck_put_aside(l->f, dirfd_of(l, is_own), is_own ? "own" : "drawn", suspect->name);
    else if (!is_own && l->f->options->repairs &&
             copy_parse_name(suspect->name, false, &ino, &version, &part))
        remove_drawn(l, suspect->name, ino, version);
}

/* What is known of a suspect now; FSCK_WELL also when it has gone, or is open. */
struct judgement {
    enum fsck_verdict verdict;
    struct inode inode; /* of a file that should be there */
    uint64_t size;
};

static int judge_copy(struct live *l, const struct suspect *suspect, struct judgement *ret)
{
    uint64_t ino, version;
    enum copy_part part;
    bool is_own = suspect->is_own;
    if (copy_parse_name(suspect->name, is_own, &ino, &version, &part) &&
        is_open(l->volume->store, ino))
        return 0;
    return fsck_judge_copy(l->volume->tree, dirfd_of(l, is_own), suspect->name, is_own,
                           &ret->verdict);
}

static int judge_kept(struct live *l, const struct suspect *suspect, struct judgement *ret)
{
    int error = tree_get(l->volume->tree, suspect->ino, &ret->inode);
    if (error < 0 || !fsck_is_kept(&ret->inode, l->volume->self) ||
        is_open(l->volume->store, suspect->ino))
        return error;
    return fsck_judge_kept(l->own_dirfd, &ret->inode, &ret->verdict, &ret->size);
}

static int judge(struct live *l, const struct suspect *suspect, struct judgement *ret)
{
    *ret = (struct judgement){.verdict = FSCK_WELL};
    int error = suspect->ino == 0 ? judge_copy(l, suspect, ret) : judge_kept(l, suspect, ret);
    if (error == -ENOENT)
        ret->verdict = FSCK_WELL;
    return error == -ENOENT ? 0 : error;
}

/* Leaves those that are still wrong. What has lost its inode is in the queue of removals from now on. */
static int look_again(struct live *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct judgement judgement;
        SCOPED_LOCK(&l->volume->lock);
        int error = judge(l, &l->suspects[i], &judgement);
        if (error < 0)
            return error;
        if (judgement.verdict != FSCK_WELL)
            l->suspects[n++] = l->suspects[i];
    }
    l->n = n;
    return 0;
}

static int find(struct live *l, const struct suspect *suspect)
{
    struct judgement judgement;
    SCOPED_LOCK(&l->volume->lock);
    int error = judge(l, suspect, &judgement);
    if (error < 0 || judgement.verdict == FSCK_WELL)
        return error;
    if (suspect->ino != 0) {
        fsck_say_kept(l->f, &judgement.inode, judgement.verdict, judgement.size);
        return 0;
    }
    fsck_say_copy(l->f, suspect->name, suspect->is_own, judgement.verdict);
    mend_copy(l, suspect, judgement.verdict);
    return 0;
}

static int check(struct live *l)
{
    int error = tree_each(l->volume->tree, 0, see_inode, l);
    if (error == 0)
        error = l->error;
    if (error == 0)
        error = list_copies(l, true);
    if (error == 0)
        error = list_copies(l, false);
    if (error == 0)
        error = look_again(l);
    if (error == 0 && l->n > 0 &&
        !volume_wait_removed(l->volume, clock_mono_ns() + REMOVAL_WAIT_NS))
        error = -ETIMEDOUT;
    for (size_t i = 0; error == 0 && i < l->n; i++)
        error = find(l, &l->suspects[i]);
    return error;
}

int fsck_live_store(struct volume *volume, const struct fsck_options *options,
                    struct fsck_result *ret_result)
{
    struct store *store = volume->store;
    struct fsck f = {.options = options, .dirfd = volume->dirfd, .lostfd = -1, .imagefd = -1};
    if (volume->image)
        f.imagefd = image_dirfd(volume->image);
    AUTO(live_done)
    struct live l = {.f = &f,
                     .volume = volume,
                     .own_dirfd = store->own_dirfd,
                     .drawn_dirfd = store->drawn_dirfd};
    l.suspects = calloc(SUSPECTS_MAX, sizeof *l.suspects);
    int error = l.suspects ? check(&l) : -ENOMEM;
    if (error == 0)
        *ret_result = f.result;
    return error;
}
