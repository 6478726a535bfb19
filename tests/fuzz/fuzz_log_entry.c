/* Log entries from a peer or a damaged disk: whole ones lie inside the input, one after the other. */
#include <errno.h>

#include "fs/log/log.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_over(data, size);
    struct log_entry entry;
    int error;
    for (;;) {
        const uint8_t *before = r.at;
        error = log_entry_get(&r, &entry);
        if (error < 0)
            break;
        CHECK(entry.bytes.data == before && entry.bytes.data + entry.bytes.size == r.at);
        CHECK(entry.payload.data == before + LOG_HEADER_BYTES);
        CHECK(entry.payload.size + LOG_HEADER_BYTES == entry.bytes.size);
        CHECK(entry.index > 0);
    }
    CHECK(error == -EBADMSG || (error == -ENODATA && r.at == data + size));
    return 0;
}
