#include <criterion/criterion.h>

#include "proto/wire.h"

#define ENCODED_SIZE (1 + 2 + 4 + 8 + 8 + (2 + 3) + (4 + 2) + 4)

static void put_all(struct writer *w)
{
    put_u8(w, 0x01);
    put_u16(w, 0x0203);
    put_u32(w, 0x04050607);
    put_u64(w, 0x08090a0b0c0d0e0f);
    put_i64(w, -2);
    put_string(w, "abc", 3);
    put_blob(w, "\0\377", 2);
    put_bytes(w, "tail", 4);
}

static bool equals(struct span s, const void *data, size_t size)
{
    return s.size == size && memcmp(s.data, data, size) == 0;
}

/* Every kind of field comes back as it was put, and nothing is left. */
Test(wire, round_trip)
{
    uint8_t buffer[ENCODED_SIZE];
    struct writer w = writer_over(buffer, sizeof buffer);
    put_all(&w);
    cr_assert_not(w.bad);
    cr_assert_eq(writer_used(&w), sizeof buffer);

    struct reader r = reader_over(buffer, sizeof buffer);
    cr_assert_eq(get_u8(&r), 0x01);
    cr_assert_eq(get_u16(&r), 0x0203);
    cr_assert_eq(get_u32(&r), 0x04050607);
    cr_assert_eq(get_u64(&r), 0x08090a0b0c0d0e0f);
    cr_assert_eq(get_i64(&r), -2);
    cr_assert(equals(get_string(&r), "abc", 3));
    cr_assert(equals(get_blob(&r), "\0\377", 2));
    cr_assert_not(reader_finished(&r));
    cr_assert(equals(get_bytes(&r, 4), "tail", 4));
    cr_assert(reader_finished(&r));
}

/* Integers are little-endian on every machine; lengths stand before what they measure. */
Test(wire, layout)
{
    static const uint8_t expected[ENCODED_SIZE] = {
        1,    3,    2,    7,    6, 5, 4,   15,  14,  13, 12, 11, 10, 9, 8,    0xfe, 255, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 3, 0, 'a', 'b', 'c', 2,  0,  0,  0,  0, 0377, 't',  'a', 'i',  'l'};
    uint8_t buffer[ENCODED_SIZE];
    struct writer w = writer_over(buffer, sizeof buffer);
    put_all(&w);
    cr_assert_arr_eq(buffer, expected, sizeof expected);
}

/* A buffer that is too small at any point makes the writer bad, and not a byte is written behind it. */
Test(wire, writer_stays_in_its_buffer)
{
    for (size_t size = 0; size < ENCODED_SIZE; size++) {
        uint8_t buffer[ENCODED_SIZE + 1];
        memset(buffer, 0xa5, sizeof buffer);
        struct writer w = writer_over(buffer, size);
        put_all(&w);
        cr_assert(w.bad, "size %zu", size);
        cr_assert_leq(writer_used(&w), size);
        for (size_t i = size; i < sizeof buffer; i++)
            cr_assert_eq(buffer[i], 0xa5, "size %zu, byte %zu", size, i);
    }
}

/* A bad writer writes nothing more, even where there would be room. */
Test(wire, bad_writer_is_mute)
{
    uint8_t buffer[4] = {0};
    struct writer w = writer_over(buffer, sizeof buffer);
    put_u8(&w, 1);
    put_u64(&w, 2);
    put_u8(&w, 3);
    cr_assert(w.bad);
    cr_assert_eq(writer_used(&w), 1);
    cr_assert_eq(buffer[1], 0);
}

/* Input that is cut anywhere makes the reader bad: it yields zeros and empty spans from there on. */
Test(wire, cut_input)
{
    uint8_t buffer[ENCODED_SIZE];
    struct writer w = writer_over(buffer, sizeof buffer);
    put_all(&w);
    for (size_t size = 0; size < ENCODED_SIZE; size++) {
        struct reader r = reader_over(buffer, size);
        (void)get_u8(&r);
        (void)get_u16(&r);
        (void)get_u32(&r);
        (void)get_u64(&r);
        (void)get_i64(&r);
        (void)get_string(&r);
        (void)get_blob(&r);
        cr_assert_eq(get_bytes(&r, 4).size, 0, "size %zu", size);
        cr_assert(r.bad && !reader_finished(&r));
        cr_assert_eq(get_u8(&r), 0);
        cr_assert_eq(get_i64(&r), 0);
        cr_assert_eq(get_string(&r).size, 0);
        cr_assert_leq(reader_left(&r), size);
    }
}

/* A length that points behind the end is refused, however large it is. */
Test(wire, lengths_that_lie)
{
    static const uint8_t string[] = {4, 0, 'a', 'b', 'c'};
    struct reader r = reader_over(string, sizeof string);
    cr_assert_eq(get_string(&r).size, 0);
    cr_assert(r.bad);
    static const uint8_t blob[] = {255, 255, 255, 255, 'a'};
    r = reader_over(blob, sizeof blob);
    cr_assert_eq(get_blob(&r).size, 0);
    cr_assert(r.bad);
    r = reader_over(blob, sizeof blob);
    cr_assert_eq(get_bytes(&r, SIZE_MAX).size, 0);
    cr_assert(r.bad);
}

/* A string has at most 65535 bytes. */
Test(wire, longest_string)
{
    static uint8_t text[UINT16_MAX + 1], buffer[UINT16_MAX + 16];
    struct writer w = writer_over(buffer, sizeof buffer);
    put_string(&w, text, UINT16_MAX);
    cr_assert_not(w.bad);
    struct reader r = reader_over(buffer, writer_used(&w));
    cr_assert_eq(get_string(&r).size, UINT16_MAX);
    cr_assert(reader_finished(&r));
    w = writer_over(buffer, sizeof buffer);
    put_string(&w, text, UINT16_MAX + 1);
    cr_assert(w.bad);
    cr_assert_eq(writer_used(&w), 0);
}

/* Nothing at all is a valid input, and empty fields are valid fields. */
Test(wire, empty)
{
    struct reader r = reader_over(NULL, 0);
    cr_assert(reader_finished(&r));
    uint8_t buffer[6];
    struct writer w = writer_over(buffer, sizeof buffer);
    put_string(&w, NULL, 0);
    put_blob(&w, NULL, 0);
    cr_assert_not(w.bad);
    r = reader_over(buffer, sizeof buffer);
    cr_assert_eq(get_string(&r).size, 0);
    cr_assert_eq(get_blob(&r).size, 0);
    cr_assert(reader_finished(&r));
}
