/* A record of the directory's topics, of any bytes: the first byte is the key's length, then key, then value. What is
 * accepted can be written again and reads back the same. */
#include <string.h>

#include "daemon/kafka/directory_record.h"
#include "tests/fuzz/fuzz.h"

static void check_host(const uint8_t *key, size_t key_size, const uint8_t *text, size_t size)
{
    struct member_host host, again;
    char copy[DIRECTORY_RECORD_MAX];
    if (directory_host_decode(key, key_size, text, size, &host) < 0)
        return;
    CHECK(directory_host_encode(&host, copy, sizeof copy) == 0);
    CHECK(directory_host_decode(key, key_size, copy, strlen(copy), &again) == 0);
    CHECK(strcmp(host.name, again.name) == 0 && strcmp(host.address, again.address) == 0);
    CHECK(host.invoker == again.invoker && host_equal(host.id, again.id));
}

static void check_volume(const uint8_t *key, size_t key_size, const uint8_t *text, size_t size)
{
    struct member_volume volume, again;
    char copy[DIRECTORY_RECORD_MAX];
    if (directory_volume_decode(key, key_size, text, size, &volume) < 0)
        return;
    CHECK(!strchr(volume.name, '/') && volume.name[0] != '.');
    CHECK(directory_volume_encode(&volume, copy, sizeof copy) == 0);
    CHECK(directory_volume_decode(key, key_size, copy, strlen(copy), &again) == 0);
    CHECK(strcmp(volume.name, again.name) == 0 && strcmp(volume.home, again.home) == 0);
    CHECK(volume.limit_bytes == again.limit_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t key_size = MIN((size_t)data[0], size - 1);
    const uint8_t *key = data + 1, *text = key + key_size;
    check_host(key, key_size, text, size - 1 - key_size);
    check_volume(key, key_size, text, size - 1 - key_size);
    return 0;
}
