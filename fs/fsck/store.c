/* The store: what this host keeps is there, maps decode, and nothing lies there that nobody wants. */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/fsck/impl.h"
#include "fs/store/check.h"
#include "fs/store/image.h"
#include "fs/tree/tree.h"
#include "proto/base/cleanup.h"

struct looking {
    struct fsck *f;
    struct tree *tree;
    int contentfd, dirfd; /* dirfd: of own or drawn */
    bool is_own;
    int error;
};

/* ---- every copy is wanted ---- */

static int see_copy(void *ctx, const char *name)
{
    struct looking *l = ctx;
    const char *dir = l->is_own ? "own" : "drawn";
    struct copy_state copy;
    struct inode inode;
    int error = store_check_copy(l->dirfd, name, l->is_own, &copy);
    if (error == -EINVAL) {
        fsck_found(l->f, "content/%s/%s: is no copy of a file", dir, name);
        fsck_put_aside(l->f, l->dirfd, dir, name);
        return 0;
    }
    if (error < 0)
        return error;
    if (tree_get(l->tree, copy.ino, &inode) == -ENOENT) {
        fsck_found(l->f, "content/%s/%s: inode %" PRIu64 " is not in the volume", dir, name,
                   copy.ino);
        fsck_put_aside(l->f, l->dirfd, dir, name);
        return 0;
    }
    if (copy.is_damaged) {
        fsck_found(l->f, "content/%s/%s: %s", dir, name,
                   copy.is_map ? "the map is damaged" : "is not complete, and its map is missing");
        if (!l->is_own)
            fsck_put_aside(l->f, l->dirfd, dir, name);
    }
    return 0;
}

static int check_copies(struct looking *l, bool is_own)
{
    l->is_own = is_own;
    AUTO_CLOSE int fd = directory_open(l->contentfd, is_own ? "own" : "drawn");
    l->dirfd = fd;
    return fd < 0 ? fd : disk_list(fd, see_copy, l);
}

/* ---- every file that this host keeps is there ---- */

static bool see_inode(void *ctx, const struct inode *inode)
{
    struct looking *l = ctx;
    struct host_id self = l->f->options->self;
    uint64_t size;
    if (!S_ISREG(inode->mode) || !host_equal(inode->keeper, self) || inode->size == 0)
        return true;
    int error = store_check_own(l->dirfd, inode->ino, &size);
    if (error == -ENOENT)
        fsck_found(l->f, "inode %" PRIu64 ": its content, which this host keeps, is lost",
                   inode->ino);
    else if (error < 0)
        l->error = error;
    else if (size != inode->size && host_equal(inode->writer, NO_HOST))
        fsck_found(l->f, "inode %" PRIu64 ": has %" PRIu64 " bytes and should have %" PRIu64,
                   inode->ino, size, inode->size);
    return l->error == 0;
}

static int check_kept(struct looking *l)
{
    AUTO_CLOSE int fd = directory_open(l->contentfd, "own");
    l->dirfd = fd;
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
