/* Messages between whiskfsd and whiskfs-mountd: what decodes is valid, and encodes to the very same bytes. */
#include <string.h>

#include "daemon/mountd/protocol.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mountd_message message;
    uint8_t again[MOUNTD_BYTES_MAX];

    if (mountd_decode(data, size, &message) < 0)
        return 0;
    CHECK(message.type > 0 && message.type < MOUNTD_TYPE_END && message.error <= 0);
    CHECK(strlen(message.name) <= MOUNTD_NAME_MAX && strlen(message.mountpoint) <= MOUNTD_PATH_MAX);
    CHECK(!strchr(message.name, '/'));
    CHECK(mountd_encode(&message, again) == size && memcmp(again, data, size) == 0);
    return 0;
}
