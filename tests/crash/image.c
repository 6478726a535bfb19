/* Disks that a power cut leaves: the durable part of a record, and what else chance lets be there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "tests/crash/record.h"

struct name {
    unsigned dir, what;
    const char *name;
};

struct image {
    const struct record *record;
    unsigned n_ops;
    const struct chance *chance;
    struct name *names;
    unsigned n_names;
    unsigned *synced,
        *data_synced;     /* of each inode: position after its last fsync; fsync or fdatasync */
    char (*made_at)[128]; /* of each inode: the path it has already */
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x7fb5d329728ea185ULL;
    x ^= x >> 27;
    x *= 0x81dadef4bc2dd44dULL;
    return x ^ x >> 33;
}

/* Is part `unit` of operation op there, which is not durable? */
static bool lucky(const struct image *image, unsigned op, uint64_t unit, unsigned in_16)
{
    return mix(mix(image->chance->seed ^ (uint64_t)op << 32) + unit) % 16 < in_16;
}

/* ---- names ---- */

static bool is_name_durable(const struct image *image, unsigned i)
{
    const struct op *op = &image->record->ops[i];
    return image->synced[op->inode] > i ||
           (op->op == DISK_RENAME && image->synced[op->to_dir] > i) ||
           (op->op == DISK_LINK && image->synced[op->to_dir] > i);
}

static void unset(struct image *image, unsigned dir, const char *name, unsigned what)
{
    for (unsigned i = 0; i < image->n_names; i++) {
        struct name *n = &image->names[i];
        if (n->dir == dir && n->what == what && strcmp(n->name, name) == 0) {
            *n = image->names[--image->n_names];
            return;
        }
    }
}

static void set(struct image *image, unsigned dir, const char *name, unsigned what)
{
    for (unsigned i = 0; i < image->n_names; i++) {
        struct name *n = &image->names[i];
        if (n->dir == dir && strcmp(n->name, name) == 0) {
            n->what = what;
            return;
        }
    }
    image->names[image->n_names++] = (struct name){dir, what, name};
}

static void apply_name(struct image *image, const struct op *op)
{
    switch (op->op) {
    case DISK_OPEN:
    case DISK_MAKE_DIR:
        set(image, op->inode, op->name, op->what);
        break;
    case DISK_RENAME:
        unset(image, op->inode, op->name, op->what);
        set(image, op->to_dir, op->to_name, op->what);
        break;
    case DISK_LINK:
        set(image, op->to_dir, op->to_name, op->what);
        break;
    case DISK_UNLINK:
    case DISK_REMOVE_DIR:
        unset(image, op->inode, op->name, op->what);
        break;
    default:
        break;
    }
}

/* Names are there with what they name: an operation that makes or moves one brings its inode. */
static void apply_names(struct image *image)
{
    for (unsigned i = 0; i < image->n_ops; i++)
        if (is_name_durable(image, i) || lucky(image, i, 0, image->chance->names))
            apply_name(image, &image->record->ops[i]);
}

/* ---- one file ---- */

struct file {
    uint8_t *bytes;
    uint64_t size, room;
    mode_t mode;
    const struct op *xattr;
};

static void reach(struct file *file, uint64_t end)
{
    if (end <= file->room)
        return;
    uint64_t room = end * 2 + PAGE_BYTES;
    file->bytes = realloc(file->bytes, room);
    memset(file->bytes + file->room, 0, room - file->room);
    file->room = room;
}

/* Up to which operation a sector is on the disk: a page is written as it is at some moment, with all that it holds then. */
static unsigned sector_cut(const struct image *image, unsigned inode, uint64_t sector)
{
    const struct chance *chance = image->chance;
    unsigned synced = image->data_synced[inode];
    uint64_t page = sector * SECTOR_BYTES / PAGE_BYTES;
    bool is_torn = lucky(image, inode, page + (1ULL << 50), chance->torn);
    uint64_t h = mix(mix(chance->seed + inode) + (is_torn ? sector + (1ULL << 51) : page));
    if (h % 16 < chance->bytes)
        return image->n_ops;
    if (chance->bytes == 0 || h & 16)
        return synced;
    return synced + (unsigned)((h >> 8) % (image->n_ops - synced + 1));
}

/* Does to the bytes [from, to) what operation i did, sector by sector; data NULL: zeros. */
static void apply_range(const struct image *image, struct file *file, unsigned i, unsigned inode,
                        uint64_t from, uint64_t to, const uint8_t *data)
{
    for (uint64_t at = from, next; at < to; at = next) {
        next = MIN(to, (at / SECTOR_BYTES + 1) * SECTOR_BYTES);
        if (i >= image->data_synced[inode] && i >= sector_cut(image, inode, at / SECTOR_BYTES))
            continue;
        if (data)
            memcpy(file->bytes + at, data + (at - from), next - at);
        else
            memset(file->bytes + at, 0, next - at);
    }
}

static void apply_write(const struct image *image, struct file *file, unsigned i, unsigned inode)
{
    const struct op *op = &image->record->ops[i];
    uint64_t end = op->offset + op->size;
    reach(file, end);
    apply_range(image, file, i, inode, op->offset, end, op->data);
    if (op->op == DISK_WRITE && end > file->size &&
        (i < image->data_synced[inode] || lucky(image, i, 0, image->chance->sizes)))
        file->size = end;
}

/* A size that is there frees what lay beyond; one that is not may still show as zeros in pages that were written. */
static void apply_size(const struct image *image, struct file *file, unsigned i, unsigned inode)
{
    const struct op *op = &image->record->ops[i];
    reach(file, op->size);
    if (i < image->data_synced[inode] || lucky(image, i, 0, image->chance->sizes)) {
        memset(file->bytes + op->size, 0, file->room - op->size);
        file->size = op->size;
    } else {
        apply_range(image, file, i, inode, op->size, file->room, NULL);
    }
}

static void apply_file_op(const struct image *image, struct file *file, unsigned i, unsigned inode)
{
    const struct op *op = &image->record->ops[i];
    switch (op->op) {
    case DISK_WRITE:
    case DISK_ALLOCATE:
        apply_write(image, file, i, inode);
        break;
    case DISK_TRUNCATE:
        apply_size(image, file, i, inode);
        break;
    case DISK_SET_MODE:
        if (i < image->synced[inode] || lucky(image, i, 0, image->chance->attributes))
            file->mode = (mode_t)op->size;
        break;
    case DISK_SET_XATTR:
        if (i < image->synced[inode] || lucky(image, i, 0, image->chance->attributes))
            file->xattr = op;
        break;
    default:
        break;
    }
}

static void make_file(struct image *image, unsigned inode, int dirfd, const char *name)
{
    struct file file = {.mode = 0600};
    for (unsigned i = 0; i < image->n_ops; i++) {
        const struct op *op = &image->record->ops[i];
        if (op->op == DISK_OPEN && op->what == inode)
            file.mode = (mode_t)op->size;
        else if (op->op != DISK_OPEN && op->inode == inode)
            apply_file_op(image, &file, i, inode);
    }
    AUTO_CLOSE int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, file.mode);
    CHECK(fd >= 0);
    if (file.size > 0)
        CHECK(pwrite(fd, file.bytes, file.size, 0) == (ssize_t)file.size);
    if (file.xattr)
        CHECK(fsetxattr(fd, file.xattr->name, file.xattr->data, file.xattr->size, 0) == 0);
    free(file.bytes);
}

/* ---- all of it ---- */

static void make_dir(struct image *image, unsigned dir, int dirfd, const char *path)
{
    for (unsigned i = 0; i < image->n_names; i++) {
        const struct name *n = &image->names[i];
        char *made_at = image->made_at[n->what];
        if (n->dir != dir || strncmp(n->name, "state", 5) == 0)
            continue;
        char here[128];
        (void)snprintf(here, sizeof here, "%s/%s", path, n->name);
        if (made_at[0] != '\0') {
            /* A directory in two places is what a lost removal of its old name leaves: the new one counts. */
            CHECK(image->record->is_dir[n->what] ||
                  linkat(AT_FDCWD, made_at, dirfd, n->name, 0) == 0);
            continue;
        }
        (void)snprintf(made_at, sizeof here, "%s", here);
        if (!image->record->is_dir[n->what]) {
            make_file(image, n->what, dirfd, n->name);
            continue;
        }
        CHECK(mkdirat(dirfd, n->name, 0700) == 0);
        AUTO_CLOSE int fd = openat(dirfd, n->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        make_dir(image, n->what, fd, here);
    }
}

/* Inodes that are made later have only later operations. */
static void sync_all(struct image *image, unsigned i)
{
    for (unsigned n = 0; n < image->record->n_inodes; n++)
        image->synced[n] = image->data_synced[n] = i;
}

static void find_syncs(struct image *image)
{
    for (unsigned i = 0; i < image->n_ops; i++) {
        const struct op *op = &image->record->ops[i];
        if (op->op == DISK_SYNC)
            image->synced[op->inode] = image->data_synced[op->inode] = i;
        if (op->op == DISK_SYNC_DATA)
            image->data_synced[op->inode] = i;
        if (op->op == DISK_SYNC_ALL)
            sync_all(image, i);
    }
}

void image_make(const struct record *record, unsigned n_ops, const struct chance *chance, int dirfd)
{
    struct image image = {.record = record, .n_ops = n_ops, .chance = chance};
    image.names = calloc(2 * (size_t)n_ops + 1, sizeof *image.names);
    image.synced = calloc(record->n_inodes, sizeof *image.synced);
    image.data_synced = calloc(record->n_inodes, sizeof *image.data_synced);
    image.made_at = calloc(record->n_inodes, sizeof *image.made_at);
    char path[64], base[96] = "";
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", dirfd);
    CHECK(readlink(path, base, sizeof base - 1) > 0);
    find_syncs(&image);
    apply_names(&image);
    make_dir(&image, 0, dirfd, base);
    free(image.names);
    free(image.synced);
    free(image.data_synced);
    free(image.made_at);
}
