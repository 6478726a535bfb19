/* fs/store/loop.h — a file as a block device. */
#pragma once

#include "proto/base/check.h"

#define LOOP_PATH_MAX 32
#define LOOP_NAME_MAX 24

/* Attaches the image to a loop device, with direct I/O where its filesystem can, or finds the one that has it: two of
 * them would destroy it. Writing back to it is throttled as on the disk below. The device goes by itself after the last
 * use: *ret_fd holds it until it is mounted. -ENXIO, -ENOENT: no loop devices here; -EPERM, -EACCES. */
MUST_USE int loop_attach(int image_fd, char ret_path[LOOP_PATH_MAX], int *ret_fd);
/* "loop3": the device that fd's filesystem is mounted from. -EINVAL: none of ours. */
MUST_USE int loop_name(int fd, char ret_name[LOOP_NAME_MAX]);
/* Its file has become larger. */
MUST_USE int loop_grow(const char *name);
