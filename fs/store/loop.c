#include "fs/store/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/log.h"

#define TRIES 64 /* another process may take the device that was free */
#define BLOCK_SIZE 4096
#define THROTTLE "queue/wbt_lat_usec"

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* The kernel's own way to write a device number. */
static bool is_of(const struct loop_info64 *info, const struct stat *image)
{
    uint64_t dev = info->lo_device;
    unsigned at_major = (unsigned)((dev & 0xfff00) >> 8);
    unsigned at_minor = (unsigned)((dev & 0xff) | ((dev >> 12) & 0xfff00));
    return info->lo_inode == image->st_ino && at_major == major(image->st_dev) &&
           at_minor == minor(image->st_dev);
}

/* Opens the device if it has this image. Once it is open it keeps it. */
static int open_if_of(const char *path, const struct stat *image)
{
    struct loop_info64 info;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0 || !is_of(&info, image))
        return -1;
    return TAKE_FD(fd);
}

static int find_attached(const struct stat *image, char ret_path[LOOP_PATH_MAX])
{
    AUTO(close_dir) DIR *dir = opendir("/sys/block");
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        unsigned number;
        if (sscanf(entry->d_name, "loop%u", &number) != 1)
            continue;
        (void)snprintf(ret_path, LOOP_PATH_MAX, "/dev/loop%u", number);
        int fd = open_if_of(ret_path, image);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

static int attach_free(int control_fd, int image_fd, char ret_path[LOOP_PATH_MAX])
{
    const struct loop_config config = {
        .fd = (uint32_t)image_fd,
        .block_size = BLOCK_SIZE,
        .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
    };
    int number = ioctl(control_fd, LOOP_CTL_GET_FREE);
    if (number < 0)
        return -errno;
    (void)snprintf(ret_path, LOOP_PATH_MAX, "/dev/loop%d", number);
    AUTO_CLOSE int fd = open(ret_path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* The disk's own, also of a partition's disk. */
static int open_throttle(dev_t disk)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/" THROTTLE, major(disk), minor(disk));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../" THROTTLE, major(disk),
                   minor(disk));
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* How long writing back may delay reads. A loop device begins with the 2 ms of an SSD, whatever it lies on: on a slower
 * disk that leaves few writes under way at once, and an fsync takes up to a third longer. So it gets what its disk has,
 * which its direct writes pass by. A disk without a throttle of its own, or no right to set one: it stays. */
static void throttle_as_disk(const char *device, dev_t disk)
{
    char path[96], text[32];
    AUTO_CLOSE int from = open_throttle(disk);
    ssize_t n = from < 0 ? -1 : read(from, text, sizeof text);
    if (n <= 0)
        return;
    (void)snprintf(path, sizeof path, "/sys/block/%s/" THROTTLE, strrchr(device, '/') + 1);
    AUTO_CLOSE int to = open(path, O_WRONLY | O_CLOEXEC);
    if (to < 0 || write(to, text, (size_t)n) != n)
        log_debug("store", "cannot set the write-back throttle of %s: %s", device, strerror(errno));
}

int loop_attach(int image_fd, char ret_path[LOOP_PATH_MAX], int *ret_fd)
{
    struct stat image;
    AUTO_CLOSE int control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control_fd < 0 || fstat(image_fd, &image) < 0)
        return -errno;
    int fd = find_attached(&image, ret_path);
    for (int i = 0; fd < 0 && i < TRIES; i++) {
        fd = attach_free(control_fd, image_fd, ret_path);
        if (fd < 0 && fd != -EBUSY)
            return fd;
    }
    if (fd < 0)
        return fd;
    throttle_as_disk(ret_path, image.st_dev);
    *ret_fd = fd;
    return 0;
}

int loop_name(int fd, char ret_name[LOOP_NAME_MAX])
{
    char link[64], target[256];
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    (void)snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    if (!slash || strncmp(slash, "/loop", 5) != 0 || strlen(slash + 1) >= LOOP_NAME_MAX)
        return -EINVAL;
    memcpy(ret_name, slash + 1, strlen(slash + 1) + 1);
    return 0;
}

int loop_grow(const char *name)
{
    char path[LOOP_PATH_MAX];
    (void)snprintf(path, sizeof path, "/dev/%s", name);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 || ioctl(fd, LOOP_SET_CAPACITY, 0) < 0 ? -errno : 0;
}
