/* Any bytes as the beginning of a stream: what frame_peek promises, frame_get keeps, and a frame that was read can
 * be written again to the same bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"

static void check_frame(struct span whole)
{
    struct frame frame;
    CHECK(frame_get(whole, &frame) == 0);
    CHECK(FRAME_HEADER_BYTES + frame.body.size + frame.raw.size == whole.size);
    CHECK(frame.body.data + frame.body.size == frame.raw.data);
    CHECK(frame.raw.data + frame.raw.size == whole.data + whole.size);
    CHECK(frame_type_name(frame.type)[0] >= 'A');
    struct frame *copy;
    if (frame_copy(&frame, &copy) == 0) {
        CHECK(copy->body.size == 0 ||
              memcmp(copy->body.data, frame.body.data, frame.body.size) == 0);
        frame_free(copy);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = {.data = data, .size = size};
    size_t frame_size = 0;
    int r = frame_peek(bytes, &frame_size);
    CHECK(r == 0 || r == -EAGAIN || r == -EBADMSG);
    CHECK((r == -EAGAIN) == (size < FRAME_HEADER_BYTES));
    if (r == 0 && frame_size <= size) {
        check_frame((struct span){.data = data, .size = frame_size});
    } else {
        struct frame frame;
        CHECK(frame_get(bytes, &frame) == -EBADMSG);
    }
    return 0;
}
