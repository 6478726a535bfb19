/* fs/store/seal.h — checksums of a file's blocks at rest, made when its bytes were known to be good.
 *
 *     content/seals         for each inode number 64 bytes, all zero where there is no seal:
 *                           ino, version, size of the file, serial, checksum of the block of a file of one block (16 bytes),
 *                           8 bytes of zeros, checksum of these 56 bytes
 *     content/own/INO.seal  larger files: leaves of 512 bytes: 31 checksums of blocks, 8 bytes of zeros, checksum
 *
 * A seal is of one version of a file that this host keeps, whole. It is made when nobody has written the file for a while
 * and taken away, by zeros in the table, before anybody may write it again: so bytes that differ from a seal which still
 * stands are damaged. Inode numbers are dense and never used again, so a seal of a small file costs 64 bytes and one write.
 * The serial, which every seal has anew, ties leaves to the entry of the table: what an earlier seal left is no seal.
 * After a power cut all seals go (store_distrust_seals): bytes may have reached the disk whose entry in the log did not.
 *
 * A block's checksum is that of the wire, XXH3-128. Numbers are little-endian (proto/wire.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/block.h"

#define SEAL_TABLE "seals"
#define SEAL_SUFFIX ".seal"
#define SEAL_ENTRY_BYTES 64u
#define SEAL_LEAF_BYTES 512u
#define SEAL_LEAF_SUMS 31u

struct seal {
    int table_fd; /* the store's, or fsck's */
    int fd;       /* of the leaves; -1: a file of one block */
    uint64_t ino, version, file_bytes, serial;
    uint64_t leaf; /* the one in sums; UINT64_MAX: none yet */
    struct block_checksum sums[SEAL_LEAF_SUMS];
};

/* Opens the seal of ino. dirfd: of content. -ENOENT: there is none; -EBADMSG: it is damaged; -EIO. */
MUST_USE int seal_open(int dirfd, int table_fd, uint64_t ino, struct seal *ret_seal);
void seal_close(struct seal *seal); /* also one of zeros with fd -1 */
/* The checksum of a block of the file. -EBADMSG: damaged; -ERANGE: the file has no such block; -EIO. */
MUST_USE int seal_get(struct seal *seal, uint64_t block, struct block_checksum *ret_sum);
/* False: somebody may have written the file since it was opened, so what differs may be right. */
bool seal_stands(const struct seal *seal);
/* The block was read after seal_open and has this checksum. True: it is damaged. */
bool seal_is_broken(struct seal *seal, uint64_t block, struct block_checksum sum);

/* Called after each block that was read, with its size: waits as long as the reader likes. Negative: to be ended. */
typedef int seal_pace_f(void *ctx, uint64_t bytes);

/* Reads the file data_fd and fills in what the seal `of`, which names it, consists of: leaves go to leaves_fd (-1 for a
 * file of one block). It is no seal before seal_put. -EAGAIN: the file is shorter. */
MUST_USE int seal_make(int data_fd, struct seal *of, int leaves_fd, seal_pace_f *pace, void *ctx);
MUST_USE int seal_put(int table_fd, const struct seal *seal);
/* 1: there was one, or a damaged one; 0: there was none. */
MUST_USE int seal_take_away(int table_fd, uint64_t ino);

/* Opens a file so that it can be read as it lies on the disk, past the page cache where that can be done. */
MUST_USE int seal_open_data(int dirfd, const char *name);
/* Compares data_fd with its seal. bad: for each block that differs or cannot be read. -EAGAIN: the seal does not stand
 * any more; -EBADMSG: it is damaged itself. pace may be NULL. */
typedef void seal_bad_f(void *ctx, uint64_t block);
MUST_USE int seal_check(struct seal *seal, int data_fd, seal_pace_f *pace, seal_bad_f *bad,
                        void *ctx);
