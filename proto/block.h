/* proto/block.h — how a block's bytes travel: as they are, LZ4, or as the fact that all are zero.
 *
 * Pure functions over memory. The receiver believes nothing but the checksum: XXH3-128 of the decoded block, which
 * covers every codec alike. A block never travels with more bytes than it has.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

#define BLOCK_SIZE_MAX BLOCK_RAW_MAX
/* LZ4 is kept only if it saves at least an eighth. */
#define BLOCK_SCRATCH_BYTES (BLOCK_SIZE_MAX - BLOCK_SIZE_MAX / 8)

enum block_codec {
    BLOCK_RAW,
    BLOCK_LZ4,
    BLOCK_ZEROS,
    BLOCK_N_CODECS
};

struct block_checksum {
    uint64_t low, high;
};

struct encoded_block {
    enum block_codec codec;
    uint32_t size;     /* of the block, decoded: 1 … BLOCK_SIZE_MAX */
    struct span bytes; /* what goes over the wire */
    struct block_checksum checksum;
};

struct block_checksum block_checksum_of(const void *data, size_t size);
bool block_is_zeros(const void *data, size_t size);

/* Encodes size (1 … BLOCK_SIZE_MAX) bytes. The result's bytes point into data, into scratch, or are empty. */
void block_encode(const void *data, size_t size, uint8_t scratch[static BLOCK_SCRATCH_BYTES],
                  struct encoded_block *ret_block);

/* Decodes and checks. Raw: *ret_data is bytes itself, no copy. LZ4: it is `out` (BLOCK_SIZE_MAX bytes). Zeros: an
 * empty span. -EBADMSG for anything that is not exactly a block of this size with this checksum. */
MUST_USE int block_decode(uint32_t codec, struct span bytes, size_t size,
                          struct block_checksum checksum, uint8_t out[static BLOCK_SIZE_MAX],
                          struct span *ret_data);
