/* Bodies: what a peer may put into a protobuf message, and what it may make us allocate. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/messages.pb-c.h"

static uint8_t bytes[FRAME_BODY_MAX + 16];

static int get(const void *data, size_t size, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m;
    int r = message_get((struct span){.data = data, .size = size}, d, &m);
    if (r == 0)
        message_free(m);
    return r;
}

static int get_string_body(const ProtobufCMessageDescriptor *d, const char *text, size_t size)
{
    struct writer w = writer_over(bytes, sizeof bytes);
    put_u8(&w, 10); /* field 1, length-delimited */
    if (size < 128) {
        put_u8(&w, (uint8_t)size);
    } else {
        put_u8(&w, (uint8_t)(size | 0x80));
        put_u8(&w, (uint8_t)(size >> 7));
    }
    put_bytes(&w, text, size);
    return get(bytes, writer_used(&w), d);
}

static int get_volume(const char *text, size_t size)
{
    return get_string_body(&whiskfs__leave__descriptor, text, size);
}

Test(message, empty_body_is_a_message_of_defaults)
{
    ProtobufCMessage *m;
    cr_assert_eq(
        message_get((struct span){.data = bytes, .size = 0}, &whiskfs__join__descriptor, &m), 0);
    cr_assert_str_eq(((Whiskfs__Join *)m)->volume, "");
    message_free(m);
    message_free(NULL);
}

Test(message, strings_are_clean_utf8)
{
    static const struct {
        const char *text;
        size_t size;
        int want;
    } cases[] = {
        {"plain", 5, 0},
        {"k\xc3\xbc"
         "che \xe2\x82\xac \xf0\x9f\x90\xb1",
         15, 0},
        {"a\0b", 3, -EBADMSG}, /* NUL */
        {"a\nb", 3, -EBADMSG}, /* would forge a log line */
        {"\x7f", 1, -EBADMSG},
        {"\x1b[2J", 4, -EBADMSG},
        {"\xc2\x9b", 2, -EBADMSG}, /* C1 control */
        {"\xc3", 1, -EBADMSG},     /* cut off */
        {"\xe2\x82", 2, -EBADMSG},
        {"\x80", 1, -EBADMSG},     /* stray continuation */
        {"\xc0\xaf", 2, -EBADMSG}, /* overlong */
        {"\xe0\x80\xaf", 3, -EBADMSG},
        {"\xf0\x80\x80\xaf", 4, -EBADMSG},
        {"\xed\xa0\x80", 3, -EBADMSG},     /* surrogate */
        {"\xf4\x90\x80\x80", 4, -EBADMSG}, /* past the last code point */
        {"\xff", 1, -EBADMSG},
    };
    for (size_t i = 0; i < N_ELEMENTS(cases); i++)
        cr_assert_eq(get_volume(cases[i].text, cases[i].size), cases[i].want, "case %zu", i);
}

Test(message, strings_have_limits)
{
    static char text[600];
    memset(text, 'x', sizeof text);
    cr_assert_eq(get_volume(text, 200), 0);
    cr_assert_eq(get_volume(text, 201), -EBADMSG);
}

Test(message, lengths_beyond_the_body)
{
    static const uint8_t beyond[] = {10, 5, 'a'};
    static const uint8_t huge[] = {10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 'a'};
    static const uint8_t endless[] = {10,   0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 1};
    static const uint8_t cut_tag[] = {0x80};
    static const uint8_t tag_zero[] = {0, 1};
    static const uint8_t group[] = {0x0b, 0x0c};
    cr_assert_eq(get(beyond, sizeof beyond, &whiskfs__leave__descriptor), -EBADMSG);
    cr_assert_eq(get(huge, sizeof huge, &whiskfs__leave__descriptor), -EBADMSG);
    cr_assert_eq(get(endless, sizeof endless, &whiskfs__leave__descriptor), -EBADMSG);
    cr_assert_eq(get(cut_tag, sizeof cut_tag, &whiskfs__leave__descriptor), -EBADMSG);
    cr_assert_eq(get(tag_zero, sizeof tag_zero, &whiskfs__leave__descriptor), -EBADMSG);
    cr_assert_eq(get(group, sizeof group, &whiskfs__leave__descriptor), -EBADMSG);
}

/* A newer peer may know more fields. */
Test(message, unknown_fields_are_ignored)
{
    static const uint8_t body[] = {10, 1, 'v', 0xa0, 0x06, 7, 0xaa, 0x06, 2, 1, 2};
    cr_assert_eq(get(body, sizeof body, &whiskfs__leave__descriptor), 0);
}

/* Pads with the smallest ranges that make sense; all that fit must be accepted. */
Test(message, a_full_fetch_fits_the_budget)
{
    for (size_t n = 1; n < 8000; n = n * 3 / 2 + 1) {
        struct writer w = writer_over(bytes, FRAME_BODY_MAX);
        for (size_t i = 0; i < n; i++)
            put_bytes(&w, "\x12\x06\x08\x01\x10\x01\x20\x01", 8);
        cr_assert_not(w.bad);
        cr_assert_eq(get(bytes, writer_used(&w), &whiskfs__fetch__descriptor), 0, "%zu ranges", n);
    }
}

/* Empty sub-messages cost two bytes each on the wire and sixty-four here. */
Test(message, a_bomb_is_refused)
{
    struct writer w = writer_over(bytes, FRAME_BODY_MAX);
    for (size_t i = 0; i < 8000; i++)
        put_bytes(&w, "\x12\x00", 2);
    cr_assert_eq(get(bytes, writer_used(&w), &whiskfs__fetch__descriptor), -EBADMSG);
}

Test(message, too_many_fields)
{
    struct writer w = writer_over(bytes, FRAME_BODY_MAX);
    for (size_t i = 0; i < 20000; i++)
        put_bytes(&w, "\x10\x01", 2);
    cr_assert_eq(get(bytes, writer_used(&w), &whiskfs__join__descriptor), -EBADMSG);
}

Test(message, body_over_its_limit)
{
    cr_assert_eq(get(bytes, FRAME_BODY_MAX + 1, &whiskfs__ok__descriptor), -EBADMSG);
}

/* A bad string inside a repeated field, and inside a nested message, is found too. */
Test(message, features_are_checked)
{
    static const uint8_t good[] = {0x2a, 3, 'l', 'z', '4'};
    static const uint8_t bad[] = {0x2a, 3, 'l', '\n', '4'};
    cr_assert_eq(get(good, sizeof good, &whiskfs__hello__descriptor), 0);
    cr_assert_eq(get(bad, sizeof bad, &whiskfs__hello__descriptor), -EBADMSG);
}

/* Random bytes never crash and never allocate past the budget (the sanitizers watch). */
Test(message, noise)
{
    uint64_t state = 88172645463325252u;
    static const ProtobufCMessageDescriptor *const kinds[] = {
        &whiskfs__hello__descriptor, &whiskfs__fetch__descriptor, &whiskfs__block__descriptor};
    for (int round = 0; round < 20000; round++) {
        size_t size = 0;
        for (; size < (size_t)round % 61; size++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            bytes[size] = (uint8_t)(state >> 32) & (round & 1 ? 0x3f : 0xff);
        }
        (void)get(bytes, size, kinds[round % 3]);
    }
}
