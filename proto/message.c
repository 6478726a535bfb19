/* proto/message.c — from a frame's body to a protobuf message that is safe to use.
 *
 * The bytes are walked once before anything is allocated: every string must be UTF-8 without control characters,
 * within its field's limit, and repeated fields within theirs. protobuf-c then unpacks with an allocator that
 * refuses more than 16 times the body's size and 4 KiB.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

#define EXPANSION_MAX 16u
#define ALLOWANCE_BYTES 4096u
#define NESTING_MAX 4u
#define REPEATED_MAX 8192u
#define STRING_BYTES_MAX 255u

/* Strings with a limit of their own, by the field's name. */
static const struct {
    const char *field;
    size_t max;
} string_limits[] = {
    {"volume", 200}, {"host", 63}, {"home", 63}, {"features", 63}, {"text", 500},
};

static size_t string_limit(const char *field)
{
    for (size_t i = 0; i < N_ELEMENTS(string_limits); i++)
        if (strcmp(string_limits[i].field, field) == 0)
            return string_limits[i].max;
    return STRING_BYTES_MAX;
}

/* Reads one UTF-8 sequence; its code point must be in the shortest form, no surrogate, and no control character. */
static bool get_character(struct reader *r)
{
    uint8_t first = get_u8(r);
    if (first < 0x80)
        return first >= 0x20 && first != 0x7f;
    unsigned n_more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4)
        return false;
    uint32_t code = first & (0x3fu >> n_more);
    for (unsigned i = 0; i < n_more; i++) {
        uint8_t more = get_u8(r);
        if ((more & 0xc0) != 0x80)
            return false;
        code = code << 6 | (more & 0x3f);
    }
    static const uint32_t least[] = {0, 0xa0, 0x800, 0x10000};
    return !r->bad && code >= least[n_more] && code <= 0x10ffff &&
           !(code >= 0xd800 && code <= 0xdfff);
}

static bool string_is_valid(struct span s, size_t max)
{
    struct reader r = reader_over(s.data, s.size);
    while (reader_left(&r) > 0)
        if (!get_character(&r))
            return false;
    return s.size <= max;
}

static uint64_t get_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = get_u8(r);
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    r->bad = true;
    return 0;
}

/* Skips one field's value; a length-delimited one is returned. */
static struct span get_value(struct reader *r, unsigned wire_type)
{
    switch (wire_type) {
    case 0:
        (void)get_varint(r);
        break;
    case 1:
        (void)get_bytes(r, 8);
        break;
    case 2: {
        uint64_t size = get_varint(r);
        return get_bytes(r, size <= reader_left(r) ? (size_t)size : reader_left(r) + 1);
    }
    case 5:
        (void)get_bytes(r, 4);
        break;
    default:
        r->bad = true;
    }
    return (struct span){.data = r->at, .size = 0};
}

static bool body_is_valid(struct span body, const ProtobufCMessageDescriptor *d, unsigned depth);

static bool value_is_valid(struct span value, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return string_is_valid(value, string_limit(field->name));
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return body_is_valid(value, field->descriptor, depth + 1);
    return true;
}

static bool body_is_valid(struct span body, const ProtobufCMessageDescriptor *d, unsigned depth)
{
    if (depth > NESTING_MAX)
        return false;
    struct reader r = reader_over(body.data, body.size);
    unsigned n_fields = 0;
    while (reader_left(&r) > 0 && !r.bad) {
        uint64_t tag = get_varint(&r);
        if (r.bad || tag >> 3 == 0 || tag >> 3 > 0x1fffffff || ++n_fields > REPEATED_MAX)
            return false;
        struct span value = get_value(&r, (unsigned)(tag & 7));
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
        if (field && (tag & 7) == 2 && !value_is_valid(value, field, depth))
            return false;
    }
    return !r.bad;
}

struct budget {
    size_t left;
};

/* Live bytes are not tracked: what is freed while unpacking does not come back. */
static void *budget_alloc(void *data, size_t size)
{
    struct budget *budget = data;
    if (size > budget->left)
        return NULL;
    budget->left -= size;
    return malloc(size);
}

static void budget_free(void *data, void *pointer)
{
    (void)data;
    free(pointer);
}

int message_get(struct span body, const ProtobufCMessageDescriptor *expected,
                ProtobufCMessage **ret_message)
{
    if (body.size > FRAME_BODY_MAX || !body_is_valid(body, expected, 0))
        return -EBADMSG;
    struct budget budget = {.left = body.size * EXPANSION_MAX + ALLOWANCE_BYTES};
    ProtobufCAllocator allocator = {
        .alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(expected, &allocator, body.size, body.data);
    if (!message)
        return -EBADMSG;
    *ret_message = message;
    return 0;
}

void message_free(ProtobufCMessage *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}
