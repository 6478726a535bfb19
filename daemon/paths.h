/* daemon/paths.h — the files that paths in a volume name: themselves, and all below directories. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fs/tree/tree.h"

#define PATHS_INOS_MAX (1u << 20)

struct ino_list {
    uint64_t *inos; /* freed by the owner */
    size_t n, capacity;
};

/* Adds the regular files that path (relative to the volume's root, or from it) names. -ENOENT, -ENOTDIR, -ELOOP: a
 * symbolic link, they are not followed, -ENOSPC: more than PATHS_INOS_MAX. */
MUST_USE int paths_add(struct tree *tree, const char *path, struct ino_list *list);
