/* fs/directory.h — making, syncing and removing what lies in a volume's directory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"

/* Opens the directory name below dirfd (AT_FDCWD: a path). -ENOENT, -ENOTDIR. Returns the descriptor. */
MUST_USE int directory_open(int dirfd, const char *name);
/* The same, made first if it is not there. */
MUST_USE int directory_make(int dirfd, const char *name);

/* Replaces the file name by these bytes: whole and durable, or as it was. */
MUST_USE int directory_write_file(int dirfd, const char *name, const void *data, size_t size);

/* Makes the empty file `to` the first size bytes of `from`, which has them; holes stay holes. Not synced. */
MUST_USE int directory_copy_data(int from, int to, uint64_t size);

/* Copies all of fd into a new durable file. -EEXIST. */
MUST_USE int directory_copy_file(int dirfd, const char *name, int fd);

/* Removes name and all below it; symbolic links are not followed. Nothing there: 0. */
MUST_USE int directory_remove(int dirfd, const char *name);
