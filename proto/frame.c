#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What `size` counts of the header: everything behind itself. */
#define COUNTED_BYTES (FRAME_HEADER_BYTES - 4u)

struct frame_kind {
    const char *name;
    const char *message;
    size_t raw_max;
    bool is_reply;
};

static const struct frame_kind kinds[FRAME_TYPE_MAX] = {
#define FRAME(name, number, message, raw_max, reply) [number] = {#name, #message, raw_max, reply},
#include "proto/frames.def"
#undef FRAME
};

static const struct frame_kind *kind_of(uint32_t type)
{
    if (type >= FRAME_TYPE_MAX || !kinds[type].name)
        return NULL;
    return &kinds[type];
}

const char *frame_type_name(enum frame_type type)
{
    const struct frame_kind *kind = kind_of((uint32_t)type);
    return kind ? kind->name : "unknown";
}

bool frame_is_reply(enum frame_type type)
{
    const struct frame_kind *kind = kind_of((uint32_t)type);
    return kind && kind->is_reply;
}

struct header {
    uint32_t size, body_size;
    uint8_t type, class;
    uint16_t flags;
    uint64_t id;
};

static struct header get_header(struct reader *r)
{
    struct header h = {.size = get_u32(r)};
    h.type = get_u8(r);
    h.class = get_u8(r);
    h.flags = get_u16(r);
    h.id = get_u64(r);
    h.body_size = get_u32(r);
    return h;
}

static bool header_is_valid(const struct header *h)
{
    const struct frame_kind *kind = kind_of(h->type);
    if (!kind || h->class >= FRAME_N_CLASSES || h->flags != 0)
        return false;
    if (kind->is_reply && h->id == 0)
        return false;
    if (h->size < COUNTED_BYTES || h->body_size > FRAME_BODY_MAX)
        return false;
    size_t behind = h->size - COUNTED_BYTES;
    return h->body_size <= behind && behind - h->body_size <= kind->raw_max;
}

int frame_peek(struct span bytes, size_t *ret_size)
{
    struct reader r = reader_over(bytes.data, bytes.size);
    struct header h = get_header(&r);
    if (r.bad)
        return -EAGAIN;
    if (!header_is_valid(&h))
        return -EBADMSG;
    *ret_size = (size_t)h.size + 4;
    return 0;
}

int frame_get(struct span bytes, struct frame *ret_frame)
{
    struct reader r = reader_over(bytes.data, bytes.size);
    struct header h = get_header(&r);
    if (r.bad || !header_is_valid(&h) || reader_left(&r) != h.size - COUNTED_BYTES)
        return -EBADMSG;
    struct frame frame = {
        .type = (enum frame_type)h.type, .class = (enum frame_class)h.class, .id = h.id};
    frame.body = get_bytes(&r, h.body_size);
    frame.raw = get_bytes(&r, reader_left(&r));
    *ret_frame = frame;
    return 0;
}

int frame_put_header(struct writer *w, enum frame_type type, enum frame_class class, uint64_t id,
                     const ProtobufCMessage *body, size_t raw_size)
{
    const struct frame_kind *kind = kind_of((uint32_t)type);
    CHECK(kind && class < FRAME_N_CLASSES && (id != 0 || !kind->is_reply));
    CHECK(!body || strcmp(body->descriptor->short_name, kind->message) == 0);
    size_t body_size = body ? protobuf_c_message_get_packed_size(body) : 0;
    if (body_size > FRAME_BODY_MAX || raw_size > kind->raw_max)
        return -EMSGSIZE;
    if (w->bad || (size_t)(w->end - w->at) < FRAME_HEADER_BYTES + body_size)
        return -EMSGSIZE;
    put_u32(w, (uint32_t)(COUNTED_BYTES + body_size + raw_size));
    put_u8(w, (uint8_t)type);
    put_u8(w, (uint8_t) class);
    put_u16(w, 0);
    put_u64(w, id);
    put_u32(w, (uint32_t)body_size);
    if (body)
        w->at += protobuf_c_message_pack(body, w->at);
    return 0;
}

int frame_copy(const struct frame *frame, struct frame **ret_frame)
{
    size_t bytes = frame->body.size + frame->raw.size;
    struct frame *copy = malloc(sizeof *copy + bytes);
    if (!copy)
        return -ENOMEM;
    struct writer w = writer_over(copy + 1, bytes);
    *copy = *frame;
    copy->body.data = w.at;
    put_bytes(&w, frame->body.data, frame->body.size);
    copy->raw.data = w.at;
    put_bytes(&w, frame->raw.data, frame->raw.size);
    *ret_frame = copy;
    return 0;
}

void frame_free(struct frame *frame)
{
    free(frame);
}
