/* proto/frame.h — framing of the peer protocol: PROTOCOL.md is the specification.
 *
 *     u32 size (of all that follows) | u8 type | u8 class | u16 flags (0) | u64 id | u32 body size | body | raw
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "proto/base/check.h"
#include "proto/wire.h"

#define FRAME_HEADER_BYTES 20u
#define FRAME_BODY_MAX (64u << 10)
#define ENTRIES_RAW_MAX (1u << 20)
#define CHECKPOINT_RAW_MAX (256u << 10)
#define BLOCK_RAW_MAX (128u << 10)
#define FORWARD_RAW_MAX (80u << 10)

enum frame_type {
#define FRAME(name, number, message, raw_max, reply) FRAME_##name = number,
#include "proto/frames.def"
#undef FRAME
};
#define FRAME_TYPE_MAX 32

enum frame_class {
    FRAME_CONTROL,
    FRAME_DEMAND,
    FRAME_STREAM,
    FRAME_PREFETCH,
    FRAME_N_CLASSES
};

struct frame {
    enum frame_type type;
    enum frame_class class;
    uint64_t id;      /* of a request and its answers; 0: one-way */
    struct span body; /* protobuf */
    struct span raw;
};

/* Parses one frame's header at the start of bytes. 0: *ret_size is the whole frame's size, header included;
 * -EAGAIN: fewer than FRAME_HEADER_BYTES; -EBADMSG: sizes, type, class or flags out of bounds: close the connection. */
MUST_USE int frame_peek(struct span bytes, size_t *ret_size);
/* bytes: one whole frame. The result points into it. -EBADMSG. */
MUST_USE int frame_get(struct span bytes, struct frame *ret_frame);
/* -EMSGSIZE if body or raw exceed the type's limits or the writer. raw may be sent separately: raw_size only counts. */
MUST_USE int frame_put_header(struct writer *w, enum frame_type type, enum frame_class class,
                              uint64_t id, const ProtobufCMessage *body, size_t raw_size);
const char *frame_type_name(enum frame_type type);
bool frame_is_reply(enum frame_type type);

/* A frame that owns one allocation holding body and raw. -ENOMEM. */
MUST_USE int frame_copy(const struct frame *frame, struct frame **ret_frame);
void frame_free(struct frame *frame);

/* Unpacks a body with an allocator that refuses more than 16 times the body's size + 4 KiB; checks that all strings are
 * valid and within limits. Free with message_free. -EBADMSG. `expected` e.g. &whiskfs__join__descriptor. */
MUST_USE int message_get(struct span body, const ProtobufCMessageDescriptor *expected,
                         ProtobufCMessage **ret_message);
void message_free(ProtobufCMessage *message);

/* One table between errno and the wire's codes, so that hosts of another libc agree. Unknown ones become EIO. */
uint32_t wire_code_of_errno(int error); /* takes positive or negative errno */
int errno_of_wire_code(uint32_t code);  /* negative errno, 0 for 0 */
