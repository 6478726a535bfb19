/* Requests and changes from anywhere: what decodes encodes to the very same bytes. */
#include <string.h>

#include "fs/request.h"
#include "tests/fuzz/fuzz.h"

static uint8_t again[REQUEST_BYTES_MAX];

static void check_same(const struct writer *w, const uint8_t *data, size_t size)
{
    CHECK(!w->bad && writer_used(w) == size);
    CHECK(memcmp(again, data, size) == 0);
}

static void try_request(const uint8_t *data, size_t size)
{
    struct reader r = reader_over(data, size);
    struct request request;
    if (get_request(&r, &request) < 0)
        return;
    struct writer w = writer_over(again, sizeof again);
    put_request(&w, &request);
    check_same(&w, data, size);
}

static void try_change(const uint8_t *data, size_t size)
{
    struct reader r = reader_over(data, size);
    struct change change;
    if (get_change(&r, &change) < 0)
        return;
    struct writer w = writer_over(again, sizeof again);
    put_change(&w, &change);
    check_same(&w, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_request(data, size);
    try_change(data, size);
    return 0;
}
