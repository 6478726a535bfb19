/* fs/store/check.h — looking at copies on the disk while no store is open. For fsck. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"

struct copy_state {
    uint64_t ino, version; /* version: of a drawn copy */
    bool is_map, is_seal;
    bool is_damaged; /* a map that does not decode; data that is incomplete and has no map */
};

/* A file of own or drawn. -EINVAL: its name is not one of ours. */
MUST_USE int store_check_copy(int dirfd, const char *name, bool is_own,
                              struct copy_state *ret_copy);
/* The size of this host's own file in the directory own. -ENOENT. */
MUST_USE int store_check_own(int own_dirfd, uint64_t ino, uint64_t *ret_size);
