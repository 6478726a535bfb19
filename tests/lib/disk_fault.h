/* tests/lib/disk_fault.h — a disk that fails: the (countdown + 1)-th call that changes something, and `repeat` more. */
#pragma once

#include <limits.h>
#include <stdatomic.h>

#include "fs/disk/disk.h"

#define DISK_FAULT_FOR_EVER INT_MAX

struct disk_fault {
    struct disk_hook hook;
    atomic_int countdown, repeat;
    atomic_bool is_paused;
    atomic_uint n_failed;
    int error;       /* what it fails with */
    bool fails_sync; /* syncs too; else only what needs room */
    bool is_full;    /* only room that was not set aside before is refused: fallocate */
};

static inline bool disk_fault_concerns(const struct disk_fault *fault, const struct disk_call *call)
{
    if (fault->is_full)
        return call->op == DISK_ALLOCATE;
    switch (call->op) {
    case DISK_SYNC:
    case DISK_SYNC_DATA:
        return fault->fails_sync;
    case DISK_OPEN:
        return call->flags & 0100; /* O_CREAT */
    case DISK_READ:
    case DISK_GET_XATTR:
    case DISK_UNLINK:
    case DISK_REMOVE_DIR:
    case DISK_TRUNCATE:
        return false;
    default:
        return true;
    }
}

static inline int disk_fault_before(struct disk_hook *hook, const struct disk_call *call)
{
    struct disk_fault *fault = (struct disk_fault *)hook;
    if (atomic_load(&fault->is_paused) || !disk_fault_concerns(fault, call))
        return 0;
    if (atomic_fetch_sub(&fault->countdown, 1) > 0)
        return 0;
    if (atomic_fetch_sub(&fault->repeat, 1) < 0)
        return 0;
    atomic_fetch_add(&fault->n_failed, 1);
    return fault->error;
}

static inline void disk_fault_after(struct disk_hook *hook, const struct disk_call *call,
                                    int64_t result)
{
    (void)hook, (void)call, (void)result;
}

static inline void disk_fault_arm(struct disk_fault *fault, int countdown, int repeat)
{
    fault->hook = (struct disk_hook){.before = disk_fault_before, .after = disk_fault_after};
    atomic_store(&fault->countdown, countdown);
    atomic_store(&fault->repeat, repeat);
    atomic_store(&fault->n_failed, 0);
    disk_set_hook(&fault->hook);
}
