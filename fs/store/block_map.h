/* fs/store/block_map.h — which blocks of one copy are present, in memory and as the bytes of a .map file. No I/O here.
 *
 *     header, 512 bytes | leaves of present bits | leaves of synced bits        a leaf: 63 words of bits, checksum
 *
 * A map covers the blocks of the *base*: the version that the missing blocks belong to. Blocks past it are present:
 * what lies there was written here or is a hole. `synced` are the present blocks whose bytes are known to be on
 * stable storage; only they count after a power cut. A leaf is the unit of writing: 512 bytes, so that a
 * write of one is whole or absent when the daemon is killed. `busy` (memory only): somebody is writing the block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/identity.h"
#include "proto/base/check.h"
#include "proto/wire.h"

#define MAP_HEADER_BYTES 512u
#define MAP_LEAF_BYTES 512u
#define MAP_LEAF_WORDS 63u
#define MAP_LEAF_BLOCKS (MAP_LEAF_WORDS * 64u)
#define MAP_BLOCKS_MAX (1u << 27) /* 16 TiB */

struct block_map {
    uint64_t ino;
    uint64_t base_version, base_size; /* the version that missing blocks are of */
    struct host_id upstream;          /* the host that has them */
    uint64_t n_blocks, n_missing, n_leaves;
    uint64_t *present, *synced, *busy; /* n_leaves * MAP_LEAF_WORDS words each */
    bool *dirty;                       /* 2 * n_leaves: the leaf differs from its file */
};

/* A map of nothing present. base_size, ino, base_version and upstream are filled in by the caller before it is
 * written. -EFBIG, -ENOMEM. */
MUST_USE int block_map_init(struct block_map *map, uint64_t base_size);
void block_map_done(struct block_map *map); /* zero-initialised or done already: fine */

bool block_map_has(const struct block_map *map, uint64_t block);
bool block_map_busy(const struct block_map *map, uint64_t block);
void block_map_set_busy(struct block_map *map, uint64_t block, bool busy);
/* Marks the block present and its leaf dirty. */
void block_map_set(struct block_map *map, uint64_t block);
/* Marks every block from `block` on present. False: nothing was missing there. */
MUST_USE bool block_map_cut(struct block_map *map, uint64_t block);
/* First missing block in [block, end); end if none. */
uint64_t block_map_next_missing(const struct block_map *map, uint64_t block, uint64_t end);
/* A block present in `snapshot` (n_leaves * MAP_LEAF_WORDS words) is synced now. */
void block_map_set_synced(struct block_map *map, const uint64_t *snapshot);

size_t block_map_file_bytes(const struct block_map *map);
size_t block_map_leaf_offset(const struct block_map *map, size_t leaf); /* leaf: < 2 * n_leaves */
/* file: block_map_file_bytes() bytes. */
void block_map_encode(const struct block_map *map, uint8_t *file);
void block_map_encode_leaf(const struct block_map *map, size_t leaf,
                           uint8_t ret_leaf[MAP_LEAF_BYTES]);
/* Fills in an uninitialised map. synced_only: after a power cut nothing but the synced bits counts.
 * -EBADMSG: damaged, or of another inode; -ENOMEM. */
MUST_USE int block_map_decode(struct block_map *map, uint64_t ino, struct span file,
                              bool synced_only);
