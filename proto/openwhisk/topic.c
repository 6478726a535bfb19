#include "proto/openwhisk/topic.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/openwhisk/ping.h"

static const struct {
    enum ow_topic topic;
    const char *base;
    const char *instance; /* regular expression of what follows */
} topics[] = {
    {OW_TOPIC_INVOKER, "invoker", "[0-9]+"},
    {OW_TOPIC_SCHEDULER, "scheduler", "[a-zA-Z0-9._-]+"},
    {OW_TOPIC_COMPLETED, "completed", "[a-zA-Z0-9._-]+"},
    {OW_TOPIC_CREATED, "creationAck", "[a-zA-Z0-9._-]+"},
    {OW_TOPIC_HEALTH, "health", ""},
    {OW_TOPIC_INVALIDATION, "cacheInvalidation", ""},
};

static bool parse_invoker(const char *digits, unsigned *ret_invoker)
{
    size_t length = strlen(digits);
    if (length == 0 || length > 6 || strspn(digits, "0123456789") != length)
        return false;
    unsigned long id = strtoul(digits, NULL, 10);
    if (id >= OW_INVOKERS_MAX)
        return false;
    *ret_invoker = (unsigned)id;
    return true;
}

enum ow_topic ow_topic_parse(const char *prefix, const char *topic, unsigned *ret_invoker)
{
    size_t length = strlen(prefix);
    if (strncmp(topic, prefix, length) != 0)
        return OW_TOPIC_OTHER;
    const char *name = topic + length;
    for (unsigned i = 0; i < N_ELEMENTS(topics); i++) {
        size_t base = strlen(topics[i].base);
        if (strncmp(name, topics[i].base, base) != 0)
            continue;
        const char *instance = name + base;
        if ((topics[i].instance[0] == '\0') != (instance[0] == '\0'))
            return OW_TOPIC_OTHER;
        if (topics[i].topic == OW_TOPIC_INVOKER && !parse_invoker(instance, ret_invoker))
            return OW_TOPIC_OTHER;
        return topics[i].topic;
    }
    return OW_TOPIC_OTHER;
}

/* Topic names hold letters, digits, '.', '_' and '-': of these only the dot means something else. */
static size_t quote(const char *text, char *out, size_t size)
{
    size_t used = 0;
    for (; *text != '\0' && used + 2 < size; text++) {
        if (!isalnum((unsigned char)*text) && *text != '_' && *text != '-')
            out[used++] = '\\';
        out[used++] = *text;
    }
    return *text == '\0' ? used : size;
}

int ow_topic_pattern(const char *prefix, enum ow_topic topic, char *ret_pattern, size_t size)
{
    for (unsigned i = 0; i < N_ELEMENTS(topics); i++) {
        if (topics[i].topic != topic)
            continue;
        char pattern[512] = "^";
        size_t used = 1 + quote(prefix, pattern + 1, sizeof pattern - 128);
        if (used >= sizeof pattern - 128)
            return -ENAMETOOLONG;
        (void)stpcpy(stpcpy(stpcpy(pattern + used, topics[i].base), topics[i].instance), "$");
        if (strlen(pattern) >= size)
            return -ENAMETOOLONG;
        memcpy(ret_pattern, pattern, strlen(pattern) + 1);
        return 0;
    }
    return -EINVAL;
}
