#include "fs/store/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/disk/disk.h"
#include "fs/store/format.h"
#include "fs/store/loop.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define NEW_NAME IMAGE_NAME ".new"
/* A new image is as large as the disk, which is all that it can ever hold; larger disks grow it when need be. Sparse:
 * 3 MiB on the disk. */
#define FIRST_BYTES_MAX (256ULL << 30)
#define SLACK_BYTES (1ULL << 30) /* beyond what may be written: ext4's own, and cache */
#define IMAGE_BYTES_MAX (15ULL << 40)
#define CLUSTER_BYTES 4096u
/* Left on the disk below, for logs, trees and what others write. */
#define DISK_RESERVE_BYTES (256ULL << 20)
/* Promised to a volume that nobody writes to. */
#define IDLE_BYTES (64ULL << 20)

#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

struct image {
    int fd;      /* of the image */
    int dirfd;   /* of its mounted root */
    int tune_fd; /* reserved_clusters */
    dev_t disk;  /* what the image lies on */
    char device[LOOP_NAME_MAX];
    atomic_bool is_written;

    struct list in_images;
    /* under the lock of images */
    uint64_t reserved; /* as last told to the kernel */
    uint64_t freeing, lent;
    uint64_t pending; /* usage has gone down by that much already, and free blocks will go up */
    uint64_t epoch;
};

/* All that this process has mounted: they share disks. */
static struct images {
    struct mutex lock;
    struct list all;
} images;

static void init_images(void)
{
    mutex_init(&images.lock, LOCK_images);
    list_init(&images.all);
}

static struct images *get_images(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(pthread_once(&once, init_images) == 0);
    return &images;
}

/* ---- telling the kernel ---- */

static void reserve(struct image *image, uint64_t bytes)
{
    char text[32];
    if (bytes == image->reserved)
        return;
    int n = snprintf(text, sizeof text, "%" PRIu64 "\n", bytes / CLUSTER_BYTES);
    if (pwrite(image->tune_fd, text, (size_t)n, 0) != n)
        log_warning("store", "cannot limit the image on %s: %s", image->device, strerror(errno));
    else
        image->reserved = bytes;
}

/* ---- making ---- */

/* Whole GiB; a disk without a measure (0) counts as large. */
static uint64_t first_bytes(uint64_t disk_bytes)
{
    uint64_t bytes = (disk_bytes & ~(SLACK_BYTES - 1)) + 2 * SLACK_BYTES;
    return disk_bytes == 0 ? FIRST_BYTES_MAX : MIN(bytes, FIRST_BYTES_MAX);
}

static int make_image(int dirfd)
{
    struct disk_room disk;
    AUTO_CLOSE int fd = disk_open(dirfd, NEW_NAME, O_RDWR | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    int e = disk_room(fd, &disk);
    if (e == 0)
        e = format_file(fd, first_bytes(disk.total_bytes));
    if (e == 0)
        e = disk_sync(fd);
    if (e == 0)
        e = disk_rename(dirfd, NEW_NAME, dirfd, IMAGE_NAME);
    if (e < 0)
        (void)!disk_unlink(dirfd, NEW_NAME);
    return e;
}

void image_prepare(int dirfd)
{
    struct disk_room disk;
    if (disk_room(dirfd, &disk) == 0)
        format_prepare(first_bytes(disk.total_bytes));
}

/* ---- mounting ---- */

static int set(int fs, const char *key, const char *value)
{
    unsigned command = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
    return fsconfig(fs, command, key, value, 0) < 0 ? -errno : 0;
}

/* Errors of the filesystem itself are in the kernel's log. */
static int mount_device(const char *device)
{
    AUTO_CLOSE int fs = fsopen("ext4", FSOPEN_CLOEXEC);
    if (fs < 0)
        return -errno;
    int e = set(fs, "source", device);
    if (e == 0)
        e = set(fs, "discard", NULL);
    if (e == 0)
        e = set(fs, "noinit_itable", NULL);
    if (e == 0)
        e = set(fs, "errors", "remount-ro");
    if (e == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        e = -errno;
    if (e < 0)
        return e;
    int fd =
        fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return fd < 0 ? -errno : fd;
}

static int mount_image(struct image *image)
{
    char device[LOOP_PATH_MAX];
    AUTO_CLOSE int loop_fd = -1;
    int e = loop_attach(image->fd, device, &loop_fd);
    if (e < 0)
        return e;
    AUTO_CLOSE int mount_fd = mount_device(device);
    if (mount_fd < 0)
        return mount_fd;
    image->dirfd = disk_open(mount_fd, ".", O_RDONLY | O_DIRECTORY);
    return MIN(image->dirfd, 0);
}

static int open_tuning(struct image *image)
{
    char path[96];
    int e = loop_name(image->dirfd, image->device);
    if (e < 0)
        return e;
    (void)snprintf(path, sizeof path, "/sys/fs/ext4/%s/reserved_clusters", image->device);
    image->tune_fd = open(path, O_WRONLY | O_CLOEXEC);
    return image->tune_fd < 0 ? -errno : 0;
}

static int open_image(struct image *image, int dirfd)
{
    struct stat st;
    image->fd = disk_open(dirfd, IMAGE_NAME, O_RDWR | O_NOFOLLOW);
    if (image->fd < 0)
        return image->fd;
    int e = disk_stat(image->fd, &st);
    if (e == 0)
        e = mount_image(image);
    if (e < 0)
        return e;
    image->disk = st.st_dev;
    return open_tuning(image);
}

/* Nothing was written yet, so a host that cannot mount an image has a plain directory instead. */
static int open_made(struct image *image, int dirfd)
{
    static atomic_bool is_told;
    int e = make_image(dirfd);
    if (e == 0)
        e = open_image(image, dirfd);
    if (e == 0)
        return 0;
    if (!atomic_exchange(&is_told, true))
        log_warning(
            "store",
            "cannot make and mount an ext4 image: %s; content lies in plain directories, and "
            "what is written goes through the daemon, which counts it",
            strerror(-e));
    (void)!disk_unlink(dirfd, IMAGE_NAME);
    return e;
}

/* Little is available before somebody says more. */
static void list_image(struct image *image)
{
    struct images *all = get_images();
    struct statvfs fs;
    SCOPED_LOCK(&all->lock);
    list_append(&all->all, &image->in_images);
    uint64_t free = fstatvfs(image->dirfd, &fs) == 0 ? (uint64_t)fs.f_bfree * fs.f_frsize : 0;
    reserve(image, free > IDLE_BYTES ? free - IDLE_BYTES : 0);
}

int image_open(int dirfd, bool make, struct image **ret_image)
{
    AUTO(image_freep) struct image *image = calloc(1, sizeof *image);
    if (!image)
        return -ENOMEM;
    image->fd = image->dirfd = image->tune_fd = -1;
    list_init(&image->in_images);
    int e = open_image(image, dirfd);
    if (e < 0 && e != -ENOENT) {
        log_error("store",
                  "cannot mount the content's image: %s; 'e2fsck -f' of " IMAGE_NAME
                  " in the volume's directory repairs it",
                  strerror(-e));
        return -EIO;
    }
    bool is_plain = e < 0 && (!make || disk_exists(dirfd, "content"));
    if (is_plain || (e < 0 && open_made(image, dirfd) < 0)) {
        *ret_image = NULL;
        return 0;
    }
    list_image(image);
    *ret_image = TAKE(image);
    return 0;
}

void image_free(struct image *image)
{
    struct images *all = get_images();
    if (!image)
        return;
    {
        SCOPED_LOCK(&all->lock);
        list_remove(&image->in_images);
    }
    close_fd(&image->tune_fd);
    close_fd(&image->dirfd);
    close_fd(&image->fd);
    free(image);
}

int image_dirfd(const struct image *image)
{
    return image->dirfd;
}

/* ---- how much may be written ---- */

int image_look(struct image *image, struct image_state *ret_state)
{
    struct images *all = get_images();
    struct statvfs fs;
    SCOPED_LOCK(&all->lock);
    if (fstatvfs(image->dirfd, &fs) < 0)
        return -errno;
    *ret_state = (struct image_state){.available = (uint64_t)fs.f_bavail * fs.f_frsize,
                                      .free = (uint64_t)fs.f_bfree * fs.f_frsize,
                                      .pending = image->pending,
                                      .epoch = image->epoch};
    return 0;
}

int image_in_use(struct image *image, uint64_t *ret_bytes)
{
    struct statvfs fs;
    if (fstatvfs(image->dirfd, &fs) < 0)
        return -errno;
    *ret_bytes = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
    return 0;
}

int image_fd(const struct image *image)
{
    return image->fd;
}

/* What writers of this image may still cost the disk: available, and written but not on the disk yet. */
static uint64_t promised(struct image *image)
{
    struct statvfs fs;
    struct stat st;
    if (fstatvfs(image->dirfd, &fs) < 0 || fstat(image->fd, &st) < 0)
        return 0;
    uint64_t in_use = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
    uint64_t on_disk = (uint64_t)st.st_blocks * 512;
    return (uint64_t)fs.f_bavail * fs.f_frsize + (in_use > on_disk ? in_use - on_disk : 0);
}

/* What can be promised to this image when others keep what was promised to them, and its fair part of all. */
static uint64_t promise(struct images *all, struct image *image) REQUIRES(all->lock)
{
    struct statvfs disk;
    uint64_t others = 0, n_written = 1;
    if (fstatvfs(image->fd, &disk) < 0)
        return 0;
    if (disk.f_blocks == 0) /* a disk without a measure */
        return UINT64_MAX;
    uint64_t free = (uint64_t)disk.f_bavail * disk.f_frsize;
    uint64_t reserve_bytes = MIN(DISK_RESERVE_BYTES, (uint64_t)disk.f_blocks * disk.f_frsize / 16);
    list_for_each(other, &all->all, struct image, in_images)
    {
        if (other == image || other->disk != image->disk)
            continue;
        others += promised(other);
        n_written += other->is_written;
    }
    free = free > reserve_bytes ? free - reserve_bytes : 0;
    return MIN(free > others ? free - others : 0, free / n_written);
}

/* The kernel wants CAP_SYS_RESOURCE for it. */
static void grow(struct image *image, uint64_t by_bytes)
{
    struct stat st;
    if (fstat(image->fd, &st) < 0)
        return;
    uint64_t size = MIN(((uint64_t)st.st_size + by_bytes) & ~(SLACK_BYTES - 1), IMAGE_BYTES_MAX);
    uint64_t n_blocks = size / CLUSTER_BYTES;
    if (size <= (uint64_t)st.st_size)
        return;
    int e = ftruncate(image->fd, (off_t)size) < 0 ? -errno : loop_grow(image->device);
    if (e == 0 && ioctl(image->dirfd, EXT4_IOC_RESIZE_FS, &n_blocks) < 0)
        e = -errno;
    if (e < 0)
        log_warning("store", "cannot grow the image on %s to %" PRIu64 " bytes: %s", image->device,
                    size, strerror(-e));
}

bool image_set_room(struct image *image, uint64_t room, const struct image_state *seen,
                    bool is_written)
{
    struct images *all = get_images();
    SCOPED_LOCK(&all->lock);
    if (image->epoch != seen->epoch)
        return false;
    atomic_store(&image->is_written, is_written);
    uint64_t most = promise(all, image);
    room = MIN(room, is_written ? most : MIN(most, IDLE_BYTES));
    uint64_t kept = room > image->pending ? room - image->pending : 0;
    uint64_t free_bytes = seen->free + image->freeing;
    kept += image->lent;
    reserve(image, free_bytes > kept ? free_bytes - kept : 0);
    if (free_bytes < room + SLACK_BYTES)
        grow(image, 2 * room + 2 * SLACK_BYTES);
    return true;
}

bool image_is_written(struct image *image)
{
    return atomic_load(&image->is_written);
}

void image_pending(struct image *image, uint64_t bytes)
{
    struct images *all = get_images();
    SCOPED_LOCK(&all->lock);
    image->pending += bytes;
}

void image_freeing(struct image *image, uint64_t bytes)
{
    struct images *all = get_images();
    SCOPED_LOCK(&all->lock);
    image->freeing += bytes;
    reserve(image, image->reserved + bytes);
}

void image_freed(struct image *image, uint64_t bytes, bool was_pending)
{
    struct images *all = get_images();
    SCOPED_LOCK(&all->lock);
    *(was_pending ? &image->pending : &image->freeing) -= bytes;
    image->epoch++;
}

void image_lend(struct image *image, uint64_t bytes)
{
    struct images *all = get_images();
    if (!image)
        return;
    SCOPED_LOCK(&all->lock);
    image->lent += bytes;
    reserve(image, image->reserved > bytes ? image->reserved - bytes : 0);
}

void image_lent(struct image *image, uint64_t bytes, uint64_t used_bytes)
{
    struct images *all = get_images();
    if (!image)
        return;
    uint64_t used = (used_bytes + CLUSTER_BYTES - 1) & ~(uint64_t)(CLUSTER_BYTES - 1);
    SCOPED_LOCK(&all->lock);
    image->lent -= bytes;
    reserve(image, image->reserved + bytes - MIN(used, bytes));
}
