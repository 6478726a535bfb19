/* What the kernel writes into the pipe of an autofs: what decodes names one component and is waited for under that name. */
#include <string.h>

#include "daemon/mountd/accesses.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct accesses accesses = {.n = 0};
    struct autofs_packet packet;
    struct access access;

    if (autofs_packet_decode(data, size, &packet) < 0)
        return 0;
    CHECK(size == AUTOFS_PACKET_BYTES);
    CHECK(packet.type == AUTOFS_PACKET_MISSING || packet.type == AUTOFS_PACKET_EXPIRE);
    CHECK(packet.name[0] != '\0' && memchr(packet.name, '\0', sizeof packet.name));
    CHECK(!strchr(packet.name, '/') && strcmp(packet.name, ".") != 0 &&
          strcmp(packet.name, "..") != 0);
    CHECK(accesses_add(&accesses, &packet, 1) == 0);
    CHECK(accesses_take(&accesses, packet.name, &access) && access.token == packet.token);
    return 0;
}
