/* fs/store/format.h — an empty ext4 in a sparse file.
 *
 * mkfs.ext4 runs once for each size, into memory (2.6 MiB, kept); what it has written is copied from there: 8 ms with the
 * sync that follows, where a run of it takes 20 to 50. So the images of one host share a UUID, which nothing here looks at.
 */
#pragma once

#include <stdint.h>

#include "proto/base/check.h"

/* Makes fd, an empty file, a filesystem of that size. Not synced. -EIO: mkfs.ext4 fails, -ENOENT: there is none. */
MUST_USE int format_file(int fd, uint64_t bytes);
/* Makes the next format_file of that size fast. */
void format_prepare(uint64_t bytes);
