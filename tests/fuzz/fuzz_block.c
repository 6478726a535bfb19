/* Twice: the input as a block that came (codec, size, then its bytes; the checksum is made to fit where it can), and
 * the input as a block to send, which must come back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/block.h"
#include "tests/fuzz/fuzz.h"

static uint8_t scratch[BLOCK_SCRATCH_BYTES], out[BLOCK_SIZE_MAX];

static void receive(struct reader r)
{
    uint32_t codec = get_u8(&r) % 5;
    size_t size = get_u32(&r) % (BLOCK_SIZE_MAX + 100);
    struct block_checksum sum = {.low = get_u64(&r), .high = get_u64(&r)};
    if (r.bad)
        return;
    struct span bytes = get_bytes(&r, reader_left(&r));
    if (codec == BLOCK_RAW && (sum.low & 1))
        sum = block_checksum_of(bytes.data, bytes.size);
    struct span got;
    int result = block_decode(codec, bytes, size, sum, out, &got);
    CHECK(result == 0 || result == -EBADMSG);
    CHECK(result < 0 || got.size == (codec == BLOCK_ZEROS ? 0 : size));
}

static void send_and_receive(const uint8_t *data, size_t size)
{
    struct encoded_block b;
    struct span got;
    block_encode(data, size, scratch, &b);
    CHECK(b.bytes.size <= size);
    CHECK(block_decode((uint32_t)b.codec, b.bytes, b.size, b.checksum, out, &got) == 0);
    if (b.codec == BLOCK_ZEROS)
        CHECK(got.size == 0 && block_is_zeros(data, size));
    else
        CHECK(got.size == size && memcmp(got.data, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    receive(reader_over(data, size));
    if (size > 0 && size <= BLOCK_SIZE_MAX)
        send_and_receive(data, size);
    return 0;
}
