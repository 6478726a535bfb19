/* Frames: the layout of PROTOCOL.md byte by byte, and every way to violate it. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/messages.pb-c.h"

#define ROOM (FRAME_HEADER_BYTES + FRAME_BODY_MAX)

static uint8_t bytes[ROOM + ENTRIES_RAW_MAX + 64];

/* Offsets of the header's fields. */
enum {
    AT_SIZE = 0,
    AT_TYPE = 4,
    AT_CLASS = 5,
    AT_FLAGS = 6,
    AT_ID = 8,
    AT_BODY = 16
};

static void poke32(size_t at, uint32_t v)
{
    struct writer w = writer_over(bytes + at, 4);
    put_u32(&w, v);
}

/* Builds a frame in `bytes` and returns all of it. */
static struct span build(enum frame_type type, enum frame_class class, uint64_t id,
                         const ProtobufCMessage *body, const void *raw, size_t raw_size)
{
    struct writer w = writer_over(bytes, sizeof bytes);
    cr_assert_eq(frame_put_header(&w, type, class, id, body, raw_size), 0);
    put_bytes(&w, raw, raw_size);
    cr_assert_not(w.bad);
    return (struct span){.data = bytes, .size = writer_used(&w)};
}

static struct span build_ack(void)
{
    Whiskfs__Ack ack = WHISKFS__ACK__INIT;
    char volume[] = "v";
    ack.volume = volume;
    ack.index = 300;
    return build(FRAME_ACK, FRAME_CONTROL, 0, &ack.base, NULL, 0);
}

/* A frame's bytes are exactly these. */
Test(frame, layout)
{
    struct span s = build_ack();
    static const uint8_t want[] = {22, 0, 0, 0, 12, 0, 0, 0,  0, 0,   0,  0,    0,
                                   0,  0, 0, 6, 0,  0, 0, 10, 1, 'v', 16, 0xac, 2};
    cr_assert_eq(s.size, sizeof want);
    cr_assert_arr_eq(s.data, want, sizeof want);
}

/* What was put comes back, body and raw where they belong. */
Test(frame, round_trip_with_raw)
{
    Whiskfs__Block block = WHISKFS__BLOCK__INIT;
    block.ino = 7;
    block.size = 5;
    struct span s = build(FRAME_BLOCK, FRAME_DEMAND, 0x1122334455667788u, &block.base, "hello", 5);
    struct frame f;
    cr_assert_eq(frame_get(s, &f), 0);
    cr_assert_eq(f.type, FRAME_BLOCK);
    cr_assert_eq(f.class, FRAME_DEMAND);
    cr_assert_eq(f.id, 0x1122334455667788u);
    cr_assert_eq(f.raw.size, 5);
    cr_assert_arr_eq(f.raw.data, "hello", 5);
    ProtobufCMessage *m;
    cr_assert_eq(message_get(f.body, &whiskfs__block__descriptor, &m), 0);
    cr_assert_eq(((Whiskfs__Block *)m)->ino, 7);
    message_free(m);
}

/* Fewer bytes than a header say nothing yet; from the header on the whole size is known. */
Test(frame, peek_at_every_length)
{
    struct span s = build_ack();
    for (size_t n = 0; n <= s.size; n++) {
        size_t size = 99;
        int r = frame_peek((struct span){.data = bytes, .size = n}, &size);
        if (n < FRAME_HEADER_BYTES) {
            cr_assert_eq(r, -EAGAIN);
            cr_assert_eq(size, 99, "outputs are written only on success");
        } else {
            cr_assert_eq(r, 0);
            cr_assert_eq(size, s.size);
        }
    }
}

/* frame_get takes one whole frame and nothing else. */
Test(frame, get_needs_exactly_one_frame)
{
    struct span s = build_ack();
    struct frame f;
    for (size_t n = 0; n < s.size; n++)
        cr_assert_eq(frame_get((struct span){.data = bytes, .size = n}, &f), -EBADMSG);
    cr_assert_eq(frame_get((struct span){.data = bytes, .size = s.size + 1}, &f), -EBADMSG);
    cr_assert_eq(frame_get(s, &f), 0);
}

static void refused(struct span s)
{
    size_t size;
    struct frame f;
    cr_assert_eq(frame_peek(s, &size), -EBADMSG);
    cr_assert_eq(frame_get(s, &f), -EBADMSG);
}

Test(frame, unknown_type)
{
    struct span s = build_ack();
    static const uint8_t unknown[] = {0, 26, 31, 32, 33, 127, 255};
    for (size_t i = 0; i < N_ELEMENTS(unknown); i++) {
        bytes[AT_TYPE] = unknown[i];
        refused(s);
    }
}

Test(frame, unknown_class)
{
    struct span s = build_ack();
    for (unsigned c = FRAME_N_CLASSES; c < 256; c++) {
        bytes[AT_CLASS] = (uint8_t)c;
        refused(s);
    }
}

Test(frame, any_flag)
{
    struct span s = build_ack();
    for (unsigned bit = 0; bit < 16; bit++) {
        bytes[AT_FLAGS] = (uint8_t)(1u << bit);
        bytes[AT_FLAGS + 1] = (uint8_t)((1u << bit) >> 8);
        refused(s);
    }
}

Test(frame, reply_without_id)
{
    Whiskfs__Ok ok = WHISKFS__OK__INIT;
    struct span s = build(FRAME_OK, FRAME_CONTROL, 1, &ok.base, NULL, 0);
    bytes[AT_ID] = 0;
    refused(s);
}

Test(frame, size_smaller_than_a_header)
{
    struct span s = build_ack();
    for (uint32_t size = 0; size < 16; size++) {
        poke32(AT_SIZE, size);
        refused(s);
    }
}

Test(frame, body_larger_than_the_frame)
{
    struct span s = build_ack();
    poke32(AT_BODY, 7);
    refused(s);
    poke32(AT_BODY, UINT32_MAX);
    refused(s);
}

Test(frame, body_over_its_limit)
{
    struct span s = build_ack();
    poke32(AT_SIZE, 16 + FRAME_BODY_MAX + 1);
    poke32(AT_BODY, FRAME_BODY_MAX + 1);
    refused(s);
    poke32(AT_SIZE, UINT32_MAX);
    poke32(AT_BODY, UINT32_MAX - 16);
    refused(s);
}

/* The limit of raw bytes depends on the type. */
Test(frame, raw_over_its_types_limit)
{
    static const struct {
        enum frame_type type;
        size_t max;
    } cases[] = {{FRAME_ACK, 0},
                 {FRAME_BLOCK, 128 << 10},
                 {FRAME_ENTRIES, 1 << 20},
                 {FRAME_CHECKPOINT, 256 << 10},
                 {FRAME_FORWARD, 80 << 10}};
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        struct writer w = writer_over(bytes, sizeof bytes);
        size_t max = cases[i].max;
        cr_assert_eq(frame_put_header(&w, cases[i].type, FRAME_STREAM, 0, NULL, max + 1),
                     -EMSGSIZE);
        cr_assert_eq(writer_used(&w), 0);
        cr_assert_eq(frame_put_header(&w, cases[i].type, FRAME_STREAM, 0, NULL, max), 0);
        size_t size;
        struct span header = {.data = bytes, .size = FRAME_HEADER_BYTES};
        cr_assert_eq(frame_peek(header, &size), 0);
        cr_assert_eq(size, FRAME_HEADER_BYTES + max);
        poke32(AT_SIZE, (uint32_t)(16 + max + 1));
        cr_assert_eq(frame_peek(header, &size), -EBADMSG);
    }
}

/* A frame that does not fit its writer leaves it as it was. */
Test(frame, put_without_room)
{
    Whiskfs__Ack ack = WHISKFS__ACK__INIT;
    ack.index = 1;
    for (size_t room = 0; room < FRAME_HEADER_BYTES + 2; room++) {
        struct writer w = writer_over(bytes, room);
        cr_assert_eq(frame_put_header(&w, FRAME_ACK, FRAME_CONTROL, 0, &ack.base, 0), -EMSGSIZE);
        cr_assert_eq(writer_used(&w), 0);
    }
}

Test(frame, body_too_large_to_put)
{
    Whiskfs__Error error = WHISKFS__ERROR__INIT;
    static char text[FRAME_BODY_MAX + 1];
    memset(text, 'x', FRAME_BODY_MAX);
    error.text = text;
    struct writer w = writer_over(bytes, sizeof bytes);
    cr_assert_eq(frame_put_header(&w, FRAME_ERROR, FRAME_CONTROL, 1, &error.base, 0), -EMSGSIZE);
}

/* A copy lives on its own. */
Test(frame, copy)
{
    Whiskfs__Block block = WHISKFS__BLOCK__INIT;
    block.ino = 9;
    struct frame f, *copy;
    cr_assert_eq(frame_get(build(FRAME_BLOCK, FRAME_STREAM, 3, &block.base, "abc", 3), &f), 0);
    cr_assert_eq(frame_copy(&f, &copy), 0);
    memset(bytes, 0xff, sizeof bytes);
    cr_assert_eq(copy->id, 3);
    cr_assert_eq(copy->body.size, 2);
    cr_assert_arr_eq(copy->raw.data, "abc", 3);
    frame_free(copy);
    frame_free(NULL);
}

Test(frame, names_and_replies)
{
    cr_assert_str_eq(frame_type_name(FRAME_HELLO), "HELLO");
    cr_assert_str_eq(frame_type_name((enum frame_type)26), "unknown");
    cr_assert_str_eq(frame_type_name((enum frame_type) - 1), "unknown");
    cr_assert(frame_is_reply(FRAME_FETCH_END));
    cr_assert_not(frame_is_reply(FRAME_BLOCK));
    cr_assert_not(frame_is_reply((enum frame_type)1000));
}

/* errno survives the trip; what the table lacks becomes EIO. */
Test(errors, table)
{
    static const int known[] = {EPERM,     ENOENT,       EIO,    EEXIST,    ENOTDIR,
                                EISDIR,    ENOSPC,       ESTALE, EBUSY,     ENOSYS,
                                ETIMEDOUT, EHOSTUNREACH, EDQUOT, ENOTEMPTY, ENOTCONN};
    for (size_t i = 0; i < N_ELEMENTS(known); i++) {
        cr_assert_eq(errno_of_wire_code(wire_code_of_errno(known[i])), -known[i]);
        cr_assert_eq(wire_code_of_errno(-known[i]), wire_code_of_errno(known[i]));
    }
    cr_assert_eq(wire_code_of_errno(0), 0);
    cr_assert_eq(errno_of_wire_code(0), 0);
    cr_assert_eq(errno_of_wire_code(wire_code_of_errno(ENOTTY)), -EIO);
    cr_assert_eq(errno_of_wire_code(4000000000u), -EIO);
    cr_assert_eq(wire_code_of_errno(ENOENT), 2, "codes never change");
    cr_assert_eq(wire_code_of_errno(ESTALE), 116);
}
