/* fs/fuse/tune.h — what a mount can get from the kernel beside the FUSE protocol: limits, readahead, clocks. */
#pragma once

#include <stdbool.h>

#include "proto/base/check.h"

/* Lets requests be up to 4 MiB. Quietly nothing without the right to. */
void tune_request_size(void);
/* Lets the kernel read ahead of who reads sequentially through the daemon. */
void tune_readahead(const char *mountpoint);

/* Whether two writes soon after each other always get different modification times. */
enum backing_clock {
    CLOCK_UNKNOWN,
    CLOCK_FINE,
    CLOCK_COARSE
};
enum backing_clock backing_clock_of(int fd);

/* Unmounts what a daemon that is gone left at the mountpoint. */
void unmount_stale(const char *mountpoint);
