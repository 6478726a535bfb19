/* fs/store/sealing.c — this host's own files get seals, and lose them.
 *
 * One file at a time is sealed. Whoever is about to let it be written says so (store_unseal), under the store's lock, so
 * a seal that was begun before is never put.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "fs/disk/disk.h"
#include "fs/store/private.h"
#include "proto/base/clock.h"

#define NEW_LEAVES "seal.new"

int store_open_seals(struct store *store)
{
    store->seals_fd = disk_open(store->dirfd, SEAL_TABLE, O_RDWR | O_CREAT | O_NOFOLLOW);
    return MIN(store->seals_fd, 0);
}

int store_distrust_seals(struct store *store)
{
    SCOPED_LOCK(&store->lock);
    store->seals_changed = true;
    return disk_truncate(store->seals_fd, 0);
}

static bool have_changed(struct store *store)
{
    SCOPED_LOCK(&store->lock);
    return store->seals_changed;
}

int store_sync_seals(struct store *store)
{
    return have_changed(store) ? disk_sync_all(store->seals_fd) : 0;
}

/* ---- beginning ---- */

/* Its bytes are all here and nobody has them open for writing. */
static int open_quiet(struct store *store, const struct inode *inode) REQUIRES(store->lock)
{
    char name[COPY_NAME_MAX];
    struct stat st;
    (void)snprintf(name, sizeof name, "own/%016" PRIx64 MAP_SUFFIX, inode->ino);
    if (store_find_own(store, inode->ino) || disk_exists(store->dirfd, name))
        return -EBUSY;
    (void)snprintf(name, sizeof name, "own/%016" PRIx64, inode->ino);
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDONLY | O_NOFOLLOW);
    int e = fd < 0 ? fd : disk_check_unwritten(fd);
    if (e == 0)
        e = disk_stat(fd, &st);
    if (e == 0 && (uint64_t)st.st_size != inode->size)
        e = -EBADMSG; /* for fsck to say */
    return e < 0 ? e : TAKE_FD(fd);
}

int store_seal_begin(struct store *store, const struct inode *inode, struct sealing *ret_sealing)
{
    struct seal seal;
    SCOPED_LOCK(&store->lock);
    if (store->sealing_ino != 0)
        return -EBUSY;
    int e = seal_open(store->dirfd, store->seals_fd, inode->ino, &seal);
    if (e == 0) {
        seal_close(&seal);
        return -EALREADY;
    }
    if (e != -ENOENT)
        return e;
    int fd = open_quiet(store, inode);
    if (fd < 0)
        return fd;
    store->sealing_ino = inode->ino;
    store->sealing_is_void = false;
    *ret_sealing = (struct sealing){.fd = fd,
                                    .seal = {.fd = -1,
                                             .ino = inode->ino,
                                             .version = inode->version,
                                             .file_bytes = inode->size,
                                             .serial = (uint64_t)clock_real_ns()}};
    return 0;
}

/* ---- making ---- */

static int put(struct store *store, const struct sealing *sealing, bool has_leaves)
{
    char name[COPY_NAME_MAX];
    SCOPED_LOCK(&store->lock);
    if (store->sealing_is_void)
        return -EAGAIN;
    (void)snprintf(name, sizeof name, "own/%016" PRIx64 SEAL_SUFFIX, sealing->seal.ino);
    int e = has_leaves ? disk_rename(store->dirfd, NEW_LEAVES, store->dirfd, name) : 0;
    store->seals_changed = true;
    return e < 0 ? e : seal_put(store->seals_fd, &sealing->seal);
}

static int make_and_put(struct store *store, struct sealing *sealing, seal_pace_f *pace, void *ctx)
{
    AUTO_CLOSE int fd = -1;
    bool has_leaves = sealing->seal.file_bytes > BLOCK_BYTES;
    if (has_leaves)
        fd = disk_open(store->dirfd, NEW_LEAVES, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (has_leaves && fd < 0)
        return fd;
    int e = seal_make(sealing->fd, &sealing->seal, fd, pace, ctx);
    return e < 0 ? e : put(store, sealing, has_leaves);
}

static void end(struct store *store)
{
    SCOPED_LOCK(&store->lock);
    store->sealing_ino = 0;
}

int store_seal(struct store *store, struct sealing *sealing, seal_pace_f *pace, void *ctx)
{
    uint64_t leaves = sealing->seal.file_bytes / BLOCK_BYTES * 17;
    image_lend(store->image, IMAGE_OWN_BYTES + leaves);
    int e = make_and_put(store, sealing, pace, ctx);
    image_lent(store->image, IMAGE_OWN_BYTES + leaves, leaves);
    close_fd(&sealing->fd);
    end(store);
    return e;
}

/* ---- taking away ---- */

int store_unseal(struct store *store, uint64_t ino)
{
    SCOPED_LOCK(&store->lock);
    if (store->sealing_ino == ino)
        store->sealing_is_void = true;
    store_forget_damage(store, ino);
    int r = seal_take_away(store->seals_fd, ino);
    if (r > 0)
        store->seals_changed = true;
    return MIN(r, 0);
}

int store_open_own(struct store *store, uint64_t ino)
{
    char name[COPY_NAME_MAX];
    (void)snprintf(name, sizeof name, "%016" PRIx64, ino);
    return seal_open_data(store->own_dirfd, name);
}

int store_find_seal(struct store *store, uint64_t ino, uint64_t version, struct seal *ret_seal)
{
    struct seal seal;
    int e = seal_open(store->dirfd, store->seals_fd, ino, &seal);
    if (e == 0 && seal.version != version) {
        seal_close(&seal);
        e = -ENOENT;
    }
    if (e == 0)
        *ret_seal = seal;
    return e;
}
