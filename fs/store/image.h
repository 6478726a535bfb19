/* fs/store/image.h — the content's own filesystem, so that the kernel holds the volume's limit.
 *
 *     content.img, in the volume's directory ── loop device, direct I/O ── ext4, mounted nowhere: image_dirfd()
 *
 * Writes that are passed through, and stores to maps, never reach the daemon: only a filesystem that has no more to give
 * can refuse them. The image is sparse and larger than the limit, because copies that are cache lie in it too. What may
 * still be written is set, at once and from outside, by ext4's reserved_clusters: free = available + reserved, and
 * nobody's privileges reach into what is reserved. Blocks that are freed are discarded and leave the disk again.
 *
 * Available is never more than the disk below can take, all images together: the sparse file must not run into a full
 * disk, where what was written would be lost after write(2) had returned.
 *
 * Measured (medians of 1 GiB + fsync on a virtual disk): plain directory 2.1 s, image 2.15 s, through the daemon 3.2 s,
 * btrfs with qgroups 4.0 s; warm reads as plain, btrfs half. So this is the default, and project quotas of the
 * filesystem below, which few hosts have, are not needed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"

struct image;

#define IMAGE_NAME "content.img"

/* Mounts the image that is in dirfd. make: where there is neither image nor content, makes one. The mount is in no
 * namespace: it goes with its last open file, however the daemon ends, and no other namespace keeps a copy of it. An
 * image that is still in use (passed-through files outlive a killed daemon) is used together.
 * Returns 0 with NULL where the content is a plain directory and stays one: it was one before, or this host cannot
 * mount images (logged once). -EIO: there is an image and it cannot be mounted (logged). */
MUST_USE int image_open(int dirfd, bool make, struct image **ret_image);
/* Makes the making of the next image in a directory of that disk fast. Takes a moment. */
void image_prepare(int dirfd);
void image_free(struct image *image);
DEFINE_FREEP(image, struct image)

int image_dirfd(const struct image *image);
int image_fd(const struct image *image); /* a file of the disk below */

struct image_state {
    uint64_t available; /* for whoever writes, now */
    uint64_t free;      /* in all */
    uint64_t pending;   /* of image_pending: will be available */
    uint64_t epoch;     /* changes when blocks were freed aside from the volume's usage */
};
MUST_USE int image_look(struct image *image, struct image_state *ret_state);
/* From now on writers can take `room`, or what the disk can promise. seen: what image_look said while room was true:
 * what was written since counts against it. False: look again. is_written: files are open for writing, so that much is
 * promised. Grows the image when it is too small. */
MUST_USE bool image_set_room(struct image *image, uint64_t room, const struct image_state *seen,
                             bool is_written);
/* Bytes in use, ext4's own left out. */
MUST_USE int image_in_use(struct image *image, uint64_t *ret_bytes);
/* False: only little was promised to it, as nobody was writing. */
bool image_is_written(struct image *image);

/* Blocks that are about to be freed. pending: the volume's usage has gone down (or goes down in this very change), so
 * they become available when they are free. freeing: usage does not know them, so they do not. Paired with freed. */
void image_pending(struct image *image, uint64_t bytes);
void image_freeing(struct image *image, uint64_t bytes);
void image_freed(struct image *image, uint64_t bytes, bool was_pending);
/* Around a write of ours that does not come out of what is available: cache, maps, directories. used_bytes: what it
 * took of what was lent. IMAGE_OWN_BYTES: what ext4 may need besides, which nobody counts. image NULL: nothing. */
#define IMAGE_OWN_BYTES (64u << 10)
void image_lend(struct image *image, uint64_t bytes);
void image_lent(struct image *image, uint64_t bytes, uint64_t used_bytes);
