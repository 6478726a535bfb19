/* fs/fuse/passthrough.h — backing files registered with the kernel's connection (Linux >= 6.9). */
#pragma once

#include "proto/base/check.h"

/* Registers fd with the connection of /dev/fuse descriptor fuse_fd: an id > 0, or a negative errno. */
MUST_USE int passthrough_open(int fuse_fd, int fd);
/* Open files keep what they have. */
void passthrough_close(int fuse_fd, int backing_id);
