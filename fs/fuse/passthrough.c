/* fs/fuse/passthrough.c — the two ioctls. libfuse has them too, but only for who holds an unanswered request. */
#include "fs/fuse/passthrough.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "proto/base/log.h"

/* linux/fuse.h of 6.9; the headers of the distribution may be older. */
struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

int passthrough_open(int fuse_fd, int fd)
{
    const struct backing_map map = {.fd = fd};

    int id = ioctl(fuse_fd, BACKING_OPEN, &map);
    return id > 0 ? id : id < 0 ? -errno : -EIO;
}

void passthrough_close(int fuse_fd, int backing_id)
{
    const uint32_t id = (uint32_t)backing_id;

    if (ioctl(fuse_fd, BACKING_CLOSE, &id) < 0)
        log_debug("fuse", "cannot close backing id %d: %s", backing_id, strerror(errno));
}
