/* fs/fuse/device.h — what whoever holds a /dev/fuse descriptor can tell the kernel, serving the mount or not. */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "proto/base/check.h"

/* enum fuse_notify_code of linux/fuse.h; the headers of the distribution may be older. */
#define DEVICE_RESEND 7    /* Linux >= 6.9 */
#define DEVICE_INC_EPOCH 8 /* Linux >= 6.16 */

/* The next request: its size. 0: the mount is gone. -EINTR: a signal, or there is none any more; also -EAGAIN. size: the
 * largest request that was negotiated, and room for its head. */
MUST_USE static inline int device_receive(int fd, void *request, size_t size)
{
    ssize_t n = read(fd, request, size);

    if (n >= 0)
        return (int)n;
    return errno == ENODEV ? 0 : errno == ENOENT ? -EINTR : -errno;
}

/* A notification without a body; the kernel takes no lock for these. -EINVAL: it does not know the code. -ENOTCONN,
 * -ENODEV: the mount is gone. */
MUST_USE static inline int device_notify(int fd, int32_t code)
{
    const struct {
        uint32_t len;
        int32_t code;
        uint64_t unique;
    } notification = {.len = sizeof notification, .code = code};

    return write(fd, &notification, sizeof notification) == (ssize_t)sizeof notification ? 0
                                                                                         : -errno;
}

/* All requests that were taken and not answered come again. */
MUST_USE static inline int device_resend(int fd)
{
    return device_notify(fd, DEVICE_RESEND);
}

/* Every name of the mount is asked for again. */
MUST_USE static inline int device_expire_names(int fd)
{
    return device_notify(fd, DEVICE_INC_EPOCH);
}
