#include "daemon/kafka/directory_record.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/cleanup.h"

#define INVOKER_MAX 1000000

bool directory_name_is_valid(const char *name, size_t max_bytes)
{
    size_t length = strlen(name);
    if (length == 0 || length > max_bytes || !isalnum((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-@", name[i]))
            return false;
    return true;
}

/* host:port, where host is a name or an address, [v6] included. */
static bool is_address(const char *address)
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || strlen(address) > ADDRESS_MAX_BYTES)
        return false;
    size_t digits = strspn(colon + 1, "0123456789");
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0')
        return false;
    for (const char *c = address; c < colon; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".-_:[]%", *c))
            return false;
    return true;
}

static int check_host(const struct member_host *host)
{
    bool is_good = directory_name_is_valid(host->name, HOST_NAME_MAX_BYTES) &&
                   is_address(host->address) && host->invoker >= -1 && host->invoker <= INVOKER_MAX;
    return is_good ? 0 : -EINVAL;
}

static int check_volume(const struct member_volume *volume)
{
    bool is_good = directory_name_is_valid(volume->name, VOLUME_NAME_MAX_BYTES) &&
                   directory_name_is_valid(volume->home, HOST_NAME_MAX_BYTES);
    return is_good ? 0 : -EINVAL;
}

/* What passed the checks needs no quoting. */
int directory_host_encode(const struct member_host *host, char *ret_text, size_t size)
{
    if (check_host(host) < 0)
        return -EINVAL;
    int n = snprintf(ret_text, size, "{\"name\":\"%s\",\"address\":\"%s\",\"invoker\":%d}",
                     host->name, host->address, host->invoker);
    return n < 0 || (size_t)n >= size ? -ENOSPC : 0;
}

int directory_volume_encode(const struct member_volume *volume, char *ret_text, size_t size)
{
    if (check_volume(volume) < 0 || volume->limit_bytes > INT64_MAX)
        return -EINVAL;
    int n = snprintf(ret_text, size, "{\"name\":\"%s\",\"home\":\"%s\",\"size\":%" PRIu64 "}",
                     volume->name, volume->home, volume->limit_bytes);
    return n < 0 || (size_t)n >= size ? -ENOSPC : 0;
}

static int load(const void *text, size_t size, json_t **ret_object)
{
    if (size > DIRECTORY_RECORD_MAX)
        return -EBADMSG;
    json_t *object = json_loadb(text, size, 0, NULL);
    if (!object)
        return -EBADMSG;
    *ret_object = object;
    return 0;
}

static int copy_text(const json_t *object, const char *member, char *ret_text, size_t size)
{
    const char *text = json_string_value(json_object_get(object, member));
    if (!text || strlen(text) >= size)
        return -EBADMSG;
    memcpy(ret_text, text, strlen(text) + 1);
    return 0;
}

static bool is_key(const void *key, size_t key_size, const char *name)
{
    return key_size == strlen(name) && memcmp(key, name, key_size) == 0;
}

int directory_host_decode(const void *key, size_t key_size, const void *text, size_t size,
                          struct member_host *ret_host)
{
    json_auto_t *object = NULL;
    int r = load(text, size, &object);
    if (r < 0)
        return r;
    struct member_host host = {.invoker = -1};
    r = copy_text(object, "name", host.name, sizeof host.name);
    if (r < 0)
        return r;
    r = copy_text(object, "address", host.address, sizeof host.address);
    if (r < 0)
        return r;
    const json_t *invoker = json_object_get(object, "invoker");
    if (json_is_integer(invoker)) {
        json_int_t id = json_integer_value(invoker);
        host.invoker = id >= 0 && id <= INVOKER_MAX ? (int)id : -1;
    }
    if (check_host(&host) < 0 || !is_key(key, key_size, host.name))
        return -EBADMSG;
    host.id = host_id_of(host.name);
    *ret_host = host;
    return 0;
}

int directory_volume_decode(const void *key, size_t key_size, const void *text, size_t size,
                            struct member_volume *ret_volume)
{
    json_auto_t *object = NULL;
    int r = load(text, size, &object);
    if (r < 0)
        return r;
    struct member_volume volume = {0};
    r = copy_text(object, "name", volume.name, sizeof volume.name);
    if (r < 0)
        return r;
    r = copy_text(object, "home", volume.home, sizeof volume.home);
    if (r < 0)
        return r;
    json_int_t bytes = json_integer_value(json_object_get(object, "size"));
    if (bytes < 0 || check_volume(&volume) < 0 || !is_key(key, key_size, volume.name))
        return -EBADMSG;
    volume.limit_bytes = (uint64_t)bytes;
    *ret_volume = volume;
    return 0;
}
