/* Blocks: codec chosen by the bytes, never more bytes than raw, and nothing wrong gets past the checksum. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/block.h"

static uint8_t data[BLOCK_SIZE_MAX], scratch[BLOCK_SCRATCH_BYTES], out[BLOCK_SIZE_MAX + 8];

static void fill_noise(size_t size)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        data[i] = (uint8_t)(state >> 56);
    }
}

static void fill_text(size_t size)
{
    static const char line[] = "the quick brown fox, number ";
    for (size_t i = 0; i < size; i++)
        data[i] = i % 32 < sizeof line - 1 ? (uint8_t)line[i % 32] : (uint8_t)('0' + i / 32 % 10);
}

static struct encoded_block encode(size_t size)
{
    struct encoded_block b;
    block_encode(data, size, scratch, &b);
    cr_assert_leq(b.bytes.size, size);
    cr_assert_eq(b.size, size);
    return b;
}

static int decode(const struct encoded_block *b, struct span *ret)
{
    return block_decode((uint32_t)b->codec, b->bytes, b->size, b->checksum, out, ret);
}

static void check_round_trip(size_t size, enum block_codec want)
{
    struct encoded_block b = encode(size);
    cr_assert_eq(b.codec, want, "size %zu: codec %d, not %d", size, b.codec, want);
    struct span got;
    cr_assert_eq(decode(&b, &got), 0);
    if (want == BLOCK_ZEROS) {
        cr_assert_eq(got.size, 0);
        return;
    }
    cr_assert_eq(got.size, size);
    cr_assert_arr_eq(got.data, data, size);
}

static const size_t sizes[] = {
    1, 2, 15, 16, 17, 31, 100, 4095, 4096, 16384, 16385, 70000, BLOCK_SIZE_MAX};

Test(block, zeros_are_a_fact)
{
    memset(data, 0, sizeof data);
    for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
        check_round_trip(sizes[i], BLOCK_ZEROS);
}

/* One bit anywhere makes a block not zero. */
Test(block, almost_zeros)
{
    for (size_t size = 1; size < 70; size++) {
        for (size_t at = 0; at < size; at++) {
            memset(data, 0, size);
            data[at] = 1;
            cr_assert_not(block_is_zeros(data, size), "byte %zu of %zu", at, size);
        }
        data[size - 1] = 0;
        cr_assert(block_is_zeros(data, size - 1));
    }
    memset(data, 0, sizeof data);
    data[sizeof data - 1] = 0x80;
    check_round_trip(sizeof data, BLOCK_LZ4);
}

Test(block, noise_travels_raw)
{
    fill_noise(sizeof data);
    for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
        check_round_trip(sizes[i], BLOCK_RAW);
}

Test(block, raw_is_not_copied)
{
    fill_noise(sizeof data);
    struct encoded_block b = encode(sizeof data);
    struct span got;
    cr_assert_eq(b.bytes.data, data);
    cr_assert_eq(decode(&b, &got), 0);
    cr_assert_eq(got.data, data);
}

Test(block, text_travels_packed)
{
    fill_text(sizeof data);
    for (size_t i = 6; i < N_ELEMENTS(sizes); i++)
        check_round_trip(sizes[i], BLOCK_LZ4);
    struct encoded_block b = encode(sizeof data);
    cr_assert_lt(b.bytes.size, sizeof data / 8);
}

/* Between the two: LZ4 only when an eighth is saved. */
Test(block, packed_saves_at_least_an_eighth)
{
    for (size_t noise = 0; noise <= sizeof data; noise += 4096) {
        fill_text(sizeof data);
        fill_noise(noise);
        struct encoded_block b = encode(sizeof data);
        if (b.codec == BLOCK_LZ4)
            cr_assert_leq(b.bytes.size, sizeof data - sizeof data / 8);
        else
            cr_assert_eq(b.bytes.size, sizeof data);
        struct span got;
        cr_assert_eq(decode(&b, &got), 0);
        cr_assert_arr_eq(got.data, data, sizeof data);
    }
}

/* Any flipped bit on the way, any other size or codec: refused. */
Test(block, damage_is_refused)
{
    for (int kind = 0; kind < 3; kind++) {
        if (kind == 0)
            fill_noise(4096);
        else if (kind == 1)
            fill_text(4096);
        else
            memset(data, 0, 4096);
        struct encoded_block b = encode(4096);
        static uint8_t sent[BLOCK_SIZE_MAX];
        memcpy(sent, b.bytes.data, b.bytes.size);
        b.bytes.data = sent;
        struct span got = {.size = 77};
        for (size_t i = 0; i < b.bytes.size; i++) {
            sent[i] ^= 0x10;
            int r = decode(&b, &got);
            /* LZ4 has bytes that do not matter to the result; a success must then be the right bytes. */
            cr_assert(r == -EBADMSG || (b.codec == BLOCK_LZ4 && memcmp(got.data, data, 4096) == 0));
            sent[i] ^= 0x10;
        }
        struct encoded_block other = b;
        other.checksum.low ^= 1;
        cr_assert_eq(decode(&other, &got), -EBADMSG);
        other = b;
        other.checksum.high ^= 1ULL << 63;
        cr_assert_eq(decode(&other, &got), -EBADMSG);
        other = b;
        other.size++;
        cr_assert_eq(decode(&other, &got), -EBADMSG);
        other.size -= 2;
        cr_assert_eq(decode(&other, &got), -EBADMSG);
        for (unsigned codec = 0; codec < 5; codec++)
            if (codec != (unsigned)b.codec)
                cr_assert_eq(block_decode(codec, b.bytes, b.size, b.checksum, out, &got), -EBADMSG);
        cr_assert_eq(decode(&b, &got), 0);
    }
}

Test(block, sizes_out_of_bounds)
{
    struct span got, nothing = {.data = data, .size = 0};
    struct block_checksum sum = block_checksum_of(data, 0);
    cr_assert_eq(block_decode(BLOCK_ZEROS, nothing, 0, sum, out, &got), -EBADMSG);
    cr_assert_eq(block_decode(BLOCK_RAW, nothing, 0, sum, out, &got), -EBADMSG);
    cr_assert_eq(block_decode(BLOCK_ZEROS, nothing, BLOCK_SIZE_MAX + 1, sum, out, &got), -EBADMSG);
    cr_assert_eq(block_decode(BLOCK_LZ4, nothing, SIZE_MAX, sum, out, &got), -EBADMSG);
}

/* The checksum is XXH3-128 of the decoded bytes: fixed for ever (value of the reference program). */
Test(block, checksum_is_xxh3_128)
{
    struct block_checksum sum = block_checksum_of("", 0);
    cr_assert_eq(sum.high, 0x99aa06d3014798d8u);
    cr_assert_eq(sum.low, 0x6001c324468d497fu);
}
