/* fs/fuse/tune.c — settings around the mount. */
#include "fs/fuse/tune.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/base/mountinfo.h"

#define MAX_PAGES_LIMIT 1024
#define READ_AHEAD_KB 4096
#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

static long read_number(const char *path)
{
    char text[32];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    return strtol(text, NULL, 10);
}

static void raise_number(const char *path, long value)
{
    char text[32];

    if (read_number(path) >= value)
        return;
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    int n = snprintf(text, sizeof text, "%ld", value);
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        log_debug("fuse", "cannot raise %s to %ld: %s", path, value, strerror(errno));
}

void tune_request_size(void)
{
    raise_number("/proc/sys/fs/fuse/max_pages_limit", MAX_PAGES_LIMIT);
}

/* As the kernel's list has it; without a look at the last component: below an autofs that waits until this daemon has
 * answered. NULL: cannot be said. */
static char *real_mountpoint(const char *mountpoint)
{
    char *real = NULL;
    const char *name = strrchr(mountpoint, '/');
    AUTO_FREE char *parent = name ? strndup(mountpoint, (size_t)(name - mountpoint) + 1) : NULL;
    AUTO_FREE char *directory = parent ? realpath(parent, NULL) : NULL;
    if (!directory ||
        asprintf(&real, "%s%s", strcmp(directory, "/") == 0 ? "" : directory, name) < 0)
        return NULL;
    return real;
}

/* MAJOR:MINOR of the last mount at the mountpoint, from the kernel's list: a stat would be a request to ourselves. */
static bool find_device(const char *mountpoint, unsigned *ret_major, unsigned *ret_minor)
{
    AUTO_FREE char *real = real_mountpoint(mountpoint);
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    bool found = false;
    struct mountinfo mount;

    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts)
        return false;
    while (mountinfo_next(mounts, &line, &size, &mount)) {
        if (strcmp(mount.at, real ? real : mountpoint) != 0)
            continue;
        *ret_major = mount.major;
        *ret_minor = mount.minor;
        found = true;
    }
    (void)fclose(mounts);
    return found;
}

void tune_readahead(const char *mountpoint)
{
    char path[64];
    unsigned major, minor;

    if (!find_device(mountpoint, &major, &minor))
        return;
    (void)snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major, minor);
    raise_number(path, READ_AHEAD_KB);
}

static bool kernel_has_multigrain_times(void)
{
    struct utsname name;
    unsigned major, minor;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return false;
    return major > 6 || (major == 6 && minor >= 13);
}

enum backing_clock backing_clock_of(int fd)
{
    struct statfs st;

    if (!kernel_has_multigrain_times() || fstatfs(fd, &st) < 0)
        return CLOCK_COARSE;
    switch ((unsigned long)st.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        return CLOCK_FINE;
    default:
        return CLOCK_COARSE;
    }
}

static bool is_stale(const char *mountpoint)
{
    struct stat st;
    return stat(mountpoint, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* There may be several: a daemon that was started while the one before was still ending mounted above its mount. */
void unmount_stale(const char *mountpoint)
{
    while (is_stale(mountpoint)) {
        log_warning("fuse", "unmounting what a daemon that is gone left at %s", mountpoint);
        if (umount2(mountpoint, MNT_DETACH) < 0)
            return;
    }
}
