#include "proto/openwhisk/json.h"

#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/base/cleanup.h"

static void zero_and_free(void *p)
{
    if (!p)
        return;
    explicit_bzero(p, malloc_usable_size(p));
    free(p);
}

/* jansson's allocator is the whole process's, so it is set before any thread can use it. What it hands out
 * stays plain malloc memory, which callers of json_dumps() may free as usual. */
__attribute__((constructor)) static void zero_what_jansson_frees(void)
{
    json_set_alloc_funcs(malloc, zero_and_free);
}

const json_t *ow_json_get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int ow_json_copy_text(const json_t *value, char *ret_text, size_t size)
{
    if (!json_is_string(value))
        return -EBADMSG;
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);
    if (length >= size)
        return -EBADMSG;
    /* Words become parts of log lines and names: no NUL, no control character. */
    for (size_t i = 0; i < length; i++)
        if (iscntrl((unsigned char)text[i]))
            return -EBADMSG;
    memcpy(ret_text, text, length);
    ret_text[length] = '\0';
    return 0;
}

int ow_json_text(const json_t *object, const char *key, char *ret_text, size_t size)
{
    const json_t *value = ow_json_get(object, key);
    if (value)
        return ow_json_copy_text(value, ret_text, size);
    ret_text[0] = '\0';
    return 0;
}

static bool is_id(const char *text)
{
    return strlen(text) == OW_ID_SIZE - 1 && strspn(text, "0123456789abcdef") == OW_ID_SIZE - 1;
}

int ow_json_id(const json_t *object, const char *key, char ret_id[static OW_ID_SIZE])
{
    char id[OW_ID_SIZE];
    int r = ow_json_text(object, key, id, sizeof id);
    if (r < 0)
        return r;
    if (id[0] != '\0' && !is_id(id))
        return -EBADMSG;
    memcpy(ret_id, id, strlen(id) + 1);
    return 0;
}

int ow_json_int(const json_t *object, const char *key, int64_t *ret_value)
{
    const json_t *value = ow_json_get(object, key);
    if (!value) {
        *ret_value = 0;
        return 0;
    }
    if (!json_is_number(value))
        return -EBADMSG;
    double number = json_number_value(value);
    if (!(number >= -9007199254740992.0 && number <= 9007199254740992.0))
        return -EBADMSG;
    int64_t whole = (int64_t)number;
    if ((double)whole < number || (double)whole > number)
        return -EBADMSG;
    *ret_value = whole;
    return 0;
}

int ow_json_bool(const json_t *object, const char *key, bool absent, bool *ret_value)
{
    const json_t *value = ow_json_get(object, key);
    if (value && !json_is_boolean(value))
        return -EBADMSG;
    *ret_value = value ? json_is_true(value) : absent;
    return 0;
}

static int unit_shift(const char *unit, unsigned *ret_shift)
{
    static const struct {
        const char *word;
        unsigned shift;
    } units[] = {{"", 0},     {"B", 0},   {"K", 10},   {"KB", 10}, {"KiB", 10},
                 {"M", 20},   {"MB", 20}, {"MiB", 20}, {"G", 30},  {"GB", 30},
                 {"GiB", 30}, {"T", 40},  {"TB", 40},  {"TiB", 40}};
    for (unsigned i = 0; i < N_ELEMENTS(units); i++) {
        if (strcasecmp(unit, units[i].word) == 0) {
            *ret_shift = units[i].shift;
            return 0;
        }
    }
    return -EBADMSG;
}

static int parse_size(const char *text, uint64_t *ret_bytes)
{
    text += strspn(text, " ");
    if (!isdigit((unsigned char)*text))
        return -EBADMSG;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0)
        return -EBADMSG;
    end += strspn(end, " ");
    char unit[4];
    size_t length = strcspn(end, " ");
    if (length >= sizeof unit || end[length + strspn(end + length, " ")] != '\0')
        return -EBADMSG;
    memcpy(unit, end, length);
    unit[length] = '\0';
    unsigned shift;
    int r = unit_shift(unit, &shift);
    if (r < 0)
        return r;
    uint64_t bytes = (uint64_t)number;
    if (bytes > UINT64_MAX >> shift)
        return -EBADMSG;
    *ret_bytes = bytes << shift;
    return 0;
}

int ow_json_size(const json_t *object, const char *key, uint64_t *ret_bytes)
{
    if (json_is_number(ow_json_get(object, key))) {
        int64_t number;
        int r = ow_json_int(object, key, &number);
        if (r < 0 || number < 0)
            return -EBADMSG;
        *ret_bytes = (uint64_t)number;
        return 0;
    }
    char text[64];
    int r = ow_json_text(object, key, text, sizeof text);
    if (r < 0)
        return r;
    if (text[0] == '\0') {
        *ret_bytes = 0;
        return 0;
    }
    return parse_size(text, ret_bytes);
}

/* "ns/pkg/name@0.0.3" -> "ns/pkg/name"; an @ that begins no version belongs to the name. */
static void strip_version(char *action)
{
    char *at = strrchr(action, '@');
    if (at && isdigit((unsigned char)at[1]) && strspn(at + 1, "0123456789.") == strlen(at + 1))
        *at = '\0';
}

static int join_action(const json_t *object, char *text, size_t size)
{
    int r = ow_json_text(object, "path", text, size);
    if (r < 0)
        return r;
    size_t used = strlen(text);
    if (used == 0 || used + 2 > size)
        return -EBADMSG;
    text[used++] = '/';
    r = ow_json_text(object, "name", text + used, size - used);
    if (r < 0)
        return r;
    return text[used] == '\0' ? -EBADMSG : 0;
}

int ow_json_action(const json_t *value, char *ret_action, size_t size)
{
    char text[OW_ACTION_SIZE + 16];
    int r = json_is_object(value) ? join_action(value, text, sizeof text)
                                  : ow_json_copy_text(value, text, sizeof text);
    if (r < 0)
        return r;
    if (json_is_string(value))
        strip_version(text);
    const char *start = text[0] == '/' ? text + 1 : text;
    const char *slash = strchr(start, '/');
    size_t length = strlen(start);
    if (!slash || slash == start || start[length - 1] == '/' || length >= size)
        return -EBADMSG;
    memcpy(ret_action, start, length + 1);
    return 0;
}
