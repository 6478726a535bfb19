/* The store: what this host keeps is there and as it was sealed, maps decode, and nothing lies there that nobody wants. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/fsck/impl.h"
#include "fs/store/check.h"
#include "fs/store/image.h"
#include "fs/store/seal.h"
#include "fs/tree/tree.h"
#include "fs/volume/impl.h"
#include "proto/base/cleanup.h"

#define PATH_BYTES 256 /* of a path as it is shown */

struct looking {
    struct fsck *f;
    struct tree *tree;
    int contentfd, dirfd; /* dirfd: of own or drawn */
    int sealsfd;          /* -1: there are no seals, or none that can be believed */
    bool is_own;
    int error;
};

/* ---- every copy is wanted ---- */

int fsck_judge_copy(struct tree *tree, int dirfd, const char *name, bool is_own,
                    enum fsck_verdict *ret_verdict)
{
    struct copy_state copy;
    struct inode inode;
    *ret_verdict = FSCK_WELL;
    int error = store_check_copy(dirfd, name, is_own, &copy);
    if (error == -EINVAL)
        *ret_verdict = FSCK_NO_COPY;
    else if (error < 0)
        return error;
    else if (tree_get(tree, copy.ino, &inode) == -ENOENT)
        *ret_verdict = FSCK_ORPHAN;
    else if (copy.is_damaged)
        *ret_verdict = copy.is_map ? FSCK_BAD_MAP : FSCK_NO_MAP;
    return 0;
}

void fsck_say_copy(struct fsck *f, const char *name, bool is_own, enum fsck_verdict verdict)
{
    static const char *const sentences[] = {
        [FSCK_NO_COPY] = "is no copy of a file",
        [FSCK_ORPHAN] = "its inode is not in the volume",
        [FSCK_BAD_MAP] = "the map is damaged",
        [FSCK_NO_MAP] = "is not complete, and its map is missing",
    };
    fsck_found(f, "content/%s/%s: %s", is_own ? "own" : "drawn", name, sentences[verdict]);
}

static int see_copy(void *ctx, const char *name)
{
    struct looking *l = ctx;
    enum fsck_verdict verdict;
    int error = fsck_judge_copy(l->tree, l->dirfd, name, l->is_own, &verdict);
    if (error < 0 || verdict == FSCK_WELL)
        return error;
    fsck_say_copy(l->f, name, l->is_own, verdict);
    if (!l->is_own || verdict == FSCK_NO_COPY || verdict == FSCK_ORPHAN)
        fsck_put_aside(l->f, l->dirfd, l->is_own ? "own" : "drawn", name);
    return 0;
}

static int check_copies(struct looking *l, bool is_own)
{
    l->is_own = is_own;
    AUTO_CLOSE int fd = directory_open(l->contentfd, is_own ? "own" : "drawn");
    l->dirfd = fd;
    return fd < 0 ? fd : disk_list(fd, see_copy, l);
}

/* ---- every file that this host keeps is there, and as it was sealed ---- */

struct checking {
    struct looking *l;
    const struct inode *inode;
    uint64_t first, n; /* a run of bad blocks, not said yet */
};

/* " ('PATH')", or nothing for what has no name. */
static void show_path(struct looking *l, uint64_t ino, char ret_shown[static PATH_BYTES])
{
    char path[PATH_BYTES - 8];
    bool is_named = tree_path(l->tree, ino, path, sizeof path) == 0;
    (void)snprintf(ret_shown, PATH_BYTES, is_named ? " ('%s')" : "%s", is_named ? path : "");
}

static void say_blocks(struct checking *c)
{
    char path[PATH_BYTES];
    if (c->n == 0)
        return;
    show_path(c->l, c->inode->ino, path);
    fsck_found(c->l->f,
               "inode %" PRIu64 "%s: blocks %" PRIu64 " to %" PRIu64
               " are damaged: they are not as they were sealed",
               c->inode->ino, path, c->first, c->first + c->n - 1);
    c->n = 0;
}

static void see_bad_block(void *ctx, uint64_t block)
{
    struct checking *c = ctx;
    if (c->n > 0 && block != c->first + c->n)
        say_blocks(c);
    c->first = c->n == 0 ? block : c->first;
    c->n++;
}

/* A seal that is damaged says nothing of the file, which can be sealed anew. */
static void say_seal(struct looking *l, const struct inode *inode)
{
    char path[PATH_BYTES];
    show_path(l, inode->ino, path);
    fsck_found(l->f, "inode %" PRIu64 "%s: its seal is damaged", inode->ino, path);
    if (!l->f->options->repairs)
        return;
    bool is_done = seal_take_away(l->sealsfd, inode->ino) >= 0;
    l->f->result.n_repaired += is_done;
    l->f->options->say(l->f->options->ctx,
                       is_done ? "took the seal away" : "cannot take the seal away");
}

static int check_blocks(struct looking *l, const struct inode *inode, struct seal *seal)
{
    char name[32];
    struct checking c = {.l = l, .inode = inode};
    (void)snprintf(name, sizeof name, "%016" PRIx64, inode->ino);
    AUTO_CLOSE int fd = seal_open_data(l->dirfd, name);
    int error = fd < 0 ? fd : seal_check(seal, fd, NULL, see_bad_block, &c);
    say_blocks(&c);
    return error;
}

static void check_seal(struct looking *l, const struct inode *inode)
{
    struct seal seal;
    if (l->sealsfd < 0)
        return;
    int error = seal_open(l->contentfd, l->sealsfd, inode->ino, &seal);
    if (error == 0) {
        if (seal.version == inode->version && seal.file_bytes == inode->size &&
            host_equal(inode->writer, NO_HOST))
            error = check_blocks(l, inode, &seal);
        seal_close(&seal);
    }
    if (error == -EBADMSG || error == -EIO)
        say_seal(l, inode);
    else if (error < 0 && error != -ENOENT)
        l->error = error;
}

bool fsck_is_kept(const struct inode *inode, struct host_id self)
{
    return S_ISREG(inode->mode) && host_equal(inode->keeper, self) && inode->size > 0;
}

int fsck_judge_kept(int own_dirfd, const struct inode *inode, enum fsck_verdict *ret_verdict,
                    uint64_t *ret_size)
{
    *ret_size = 0;
    int error = store_check_own(own_dirfd, inode->ino, ret_size);
    *ret_verdict = error == -ENOENT                                                 ? FSCK_LOST
                   : *ret_size != inode->size && host_equal(inode->writer, NO_HOST) ? FSCK_SIZE
                                                                                    : FSCK_WELL;
    return error == -ENOENT ? 0 : error;
}

void fsck_say_kept(struct fsck *f, const struct inode *inode, enum fsck_verdict verdict,
                   uint64_t size)
{
    if (verdict == FSCK_LOST)
        fsck_found(f, "inode %" PRIu64 ": its content, which this host keeps, is lost", inode->ino);
    else
        fsck_found(f, "inode %" PRIu64 ": has %" PRIu64 " bytes and should have %" PRIu64,
                   inode->ino, size, inode->size);
}

static bool see_inode(void *ctx, const struct inode *inode)
{
    struct looking *l = ctx;
    enum fsck_verdict verdict;
    uint64_t size;
    if (!fsck_is_kept(inode, l->f->options->self))
        return true;
    l->error = fsck_judge_kept(l->dirfd, inode, &verdict, &size);
    if (l->error == 0 && verdict == FSCK_WELL)
        check_seal(l, inode);
    else if (l->error == 0)
        fsck_say_kept(l->f, inode, verdict, size);
    return l->error == 0;
}

/* After a power cut the next start takes all of them away. */
static int open_seals(struct looking *l)
{
    struct boot boot = {0};
    int error = volume_boot(l->f->dirfd, &boot);
    if (error < 0 || !(boot.is_same || boot.is_clean))
        return error < 0 ? error : -ENOENT;
    return disk_open(l->contentfd, SEAL_TABLE, l->f->options->repairs ? O_RDWR : O_RDONLY);
}

static int check_kept(struct looking *l)
{
    AUTO_CLOSE int fd = directory_open(l->contentfd, "own");
    AUTO_CLOSE int sealsfd = open_seals(l);
    if (sealsfd < 0 && sealsfd != -ENOENT)
        return sealsfd;
    l->dirfd = fd;
    l->sealsfd = sealsfd < 0 ? -1 : sealsfd;
    int error = fd < 0 ? fd : tree_each(l->tree, 0, see_inode, l);
    return error < 0 ? error : l->error;
}

int fsck_store(struct fsck *f, struct tree *tree)
{
    AUTO(image_freep) struct image *image = NULL;
    int error = image_open(f->dirfd, false, &image);
    if (error < 0)
        return error;
    if (image)
        close_fd(&f->lostfd);
    f->imagefd = image ? image_dirfd(image) : -1;
    AUTO_CLOSE int fd = directory_open(image ? f->imagefd : f->dirfd, "content");
    if (fd == -ENOENT)
        return 0; /* never opened */
    if (fd < 0)
        return fd;
    struct looking l = {.f = f, .tree = tree, .contentfd = fd};
    error = check_kept(&l);
    if (error == 0)
        error = check_copies(&l, true);
    return error < 0 ? error : check_copies(&l, false);
}
