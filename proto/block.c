#include "proto/block.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <lz4.h>
#if defined __x86_64__ && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* AVX2 where the processor has it */
#else
#include <xxhash.h>
#endif

/* The look: this many slices of the block, spread evenly, each compressed on its own. Blocks that are not much larger
 * than all slices are tried whole. */
#define LOOK_SLICES 4u
#define LOOK_SLICE_BYTES 2048u
/* Higher is faster and weaker: the wire is quick, the processor is shared with the action. */
#define LZ4_ACCELERATION 2

static_assert(BLOCK_SIZE_MAX <= LZ4_MAX_INPUT_SIZE, "LZ4 takes ints");

static const uint8_t zeros[BLOCK_SIZE_MAX];

struct block_checksum block_checksum_of(const void *data, size_t size)
{
    XXH128_hash_t h = XXH3_128bits(data, size);
    return (struct block_checksum){.low = h.low64, .high = h.high64};
}

bool block_is_zeros(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    /* A block compared with itself, shifted by 16: most blocks end it at the first bytes. */
    size_t head = MIN(size, 16u);
    return memcmp(bytes, zeros, head) == 0 && memcmp(bytes, bytes + head, size - head) == 0;
}

static size_t worth(size_t size)
{
    return size - size / 8 - (size % 8 != 0);
}

/* Compresses into at most `room` bytes. 0: it does not fit. */
static size_t squeeze(const uint8_t *data, size_t size, uint8_t *out, size_t room)
{
    int n =
        LZ4_compress_fast((const char *)data, (char *)out, (int)size, (int)room, LZ4_ACCELERATION);
    return n > 0 ? (size_t)n : 0;
}

static bool looks_compressible(const uint8_t *data, size_t size, uint8_t *scratch)
{
    if (size <= 2 * LOOK_SLICES * LOOK_SLICE_BYTES)
        return true;
    size_t stride = size / LOOK_SLICES;
    size_t used = 0;
    for (size_t i = 0; i < LOOK_SLICES; i++) {
        size_t n = squeeze(data + i * stride, LOOK_SLICE_BYTES, scratch, LOOK_SLICE_BYTES);
        used += n > 0 ? n : LOOK_SLICE_BYTES;
    }
    return used <= worth((size_t)LOOK_SLICES * LOOK_SLICE_BYTES);
}

void block_encode(const void *data, size_t size, uint8_t scratch[static BLOCK_SCRATCH_BYTES],
                  struct encoded_block *ret_block)
{
    CHECK(size > 0 && size <= BLOCK_SIZE_MAX);
    *ret_block = (struct encoded_block){
        .size = (uint32_t)size,
        .bytes = {.data = data, .size = size},
        .checksum = block_checksum_of(data, size),
    };
    if (block_is_zeros(data, size)) {
        ret_block->codec = BLOCK_ZEROS;
        ret_block->bytes.size = 0;
        return;
    }
    if (!looks_compressible(data, size, scratch))
        return;
    size_t packed = squeeze(data, size, scratch, worth(size));
    if (packed > 0) {
        ret_block->codec = BLOCK_LZ4;
        ret_block->bytes = (struct span){.data = scratch, .size = packed};
    }
}

static bool unpack(struct span bytes, size_t size, uint8_t *out)
{
    int n = LZ4_decompress_safe((const char *)bytes.data, (char *)out, (int)bytes.size, (int)size);
    return n >= 0 && (size_t)n == size;
}

int block_decode(uint32_t codec, struct span bytes, size_t size, struct block_checksum checksum,
                 uint8_t out[static BLOCK_SIZE_MAX], struct span *ret_data)
{
    if (size == 0 || size > BLOCK_SIZE_MAX || bytes.size > size)
        return -EBADMSG;
    const uint8_t *data = NULL;
    switch (codec) {
    case BLOCK_RAW:
        data = bytes.size == size ? bytes.data : NULL;
        break;
    case BLOCK_LZ4:
        data = bytes.size < size && unpack(bytes, size, out) ? out : NULL;
        break;
    case BLOCK_ZEROS:
        data = bytes.size == 0 ? zeros : NULL;
        break;
    }
    if (!data)
        return -EBADMSG;
    struct block_checksum actual = block_checksum_of(data, size);
    if (actual.low != checksum.low || actual.high != checksum.high)
        return -EBADMSG;
    *ret_data = (struct span){.data = data, .size = codec == BLOCK_ZEROS ? 0 : size};
    return 0;
}
