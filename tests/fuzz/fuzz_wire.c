/* Reads fields of every kind in the order that the input itself asks for: no order may leave the buffer, and a
 * bad reader stays bad and yields nothing. */
#include "proto/base/check.h"
#include "proto/wire.h"
#include "tests/fuzz/fuzz.h"

static uint64_t sum(struct span s)
{
    uint64_t total = 0;
    for (size_t i = 0; i < s.size; i++)
        total += s.data[i];
    return total;
}

static uint64_t get_any(struct reader *r, uint8_t kind)
{
    switch (kind % 8) {
    case 0:
        return get_u8(r);
    case 1:
        return get_u16(r);
    case 2:
        return get_u32(r);
    case 3:
        return get_u64(r);
    case 4:
        return (uint64_t)get_i64(r);
    case 5:
        return sum(get_string(r));
    case 6:
        return sum(get_blob(r));
    default:
        return sum(get_bytes(r, (size_t)kind >> 3));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_over(data, size);
    while (!r.bad && reader_left(&r) > 0) {
        const uint8_t *before = r.at;
        (void)get_any(&r, get_u8(&r));
        CHECK(r.at > before && r.at <= r.end);
    }
    CHECK(!r.bad || get_u64(&r) == 0);
    CHECK(!r.bad || get_blob(&r).size == 0);
    CHECK(reader_finished(&r) == (!r.bad && r.at == data + size));
    return 0;
}
