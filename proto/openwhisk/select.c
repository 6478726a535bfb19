/* proto/openwhisk/select.c — a tree of the wanted members only; the rest of the text is checked and passed over.
 *
 * The grammar is that of RFC 8259. Escapes and UTF-8 are looked at by jansson in what is wanted, and by nobody in the rest.
 */
#include <errno.h>
#include <string.h>

#include "proto/openwhisk/json.h"

const struct ow_wanted OW_PRESENCE[] = {{NULL, NULL}};

/* Parameters are the users': a NUL in a string or an integer beyond 64 bits is theirs to use. */
#define FLAGS (JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY)

/* Every function below moves `at` past what it names, or sets `error`, once, and returns false or NULL. */
struct scan {
    const char *at, *end;
    unsigned depth_left;
    int error;
};

static bool fail(struct scan *s, int error)
{
    if (s->error == 0)
        s->error = error;
    return false;
}

static char peek(const struct scan *s)
{
    return s->at < s->end ? *s->at : '\0';
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
}

static bool skip_char(struct scan *s, char c)
{
    if (peek(s) != c)
        return fail(s, -EBADMSG);
    s->at++;
    return true;
}

static bool skip_word(struct scan *s, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return fail(s, -EBADMSG);
    s->at += length;
    return true;
}

static bool skip_string(struct scan *s)
{
    if (!skip_char(s, '"'))
        return false;
    for (; s->at < s->end; s->at++) {
        unsigned char c = (unsigned char)*s->at;
        if (c == '"')
            return skip_char(s, '"');
        if (c < 0x20)
            break;
        if (c == '\\' && ++s->at == s->end)
            break;
    }
    return fail(s, -EBADMSG);
}

static bool skip_digits(struct scan *s)
{
    const char *first = s->at;
    while (peek(s) >= '0' && peek(s) <= '9')
        s->at++;
    return s->at > first || fail(s, -EBADMSG);
}

static bool skip_number(struct scan *s)
{
    if (peek(s) == '-')
        s->at++;
    bool is_good = peek(s) == '0' ? skip_char(s, '0') : skip_digits(s);
    if (is_good && peek(s) == '.') {
        s->at++;
        is_good = skip_digits(s);
    }
    if (is_good && (peek(s) == 'e' || peek(s) == 'E')) {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        is_good = skip_digits(s);
    }
    return is_good;
}

static bool enter(struct scan *s, char bracket)
{
    if (s->depth_left == 0)
        return fail(s, -EMSGSIZE);
    s->depth_left--;
    return skip_char(s, bracket);
}

static bool leave(struct scan *s, char bracket)
{
    s->depth_left++;
    return skip_char(s, bracket);
}

/* Before the first element and after each: true if another one follows. */
static bool has_next(struct scan *s, char bracket, bool is_first)
{
    skip_space(s);
    if (s->error != 0 || peek(s) == bracket)
        return false;
    if (!is_first && !skip_char(s, ','))
        return false;
    skip_space(s);
    return true;
}

static bool skip_value(struct scan *s);

static bool skip_array(struct scan *s)
{
    if (!enter(s, '['))
        return false;
    for (bool is_first = true; has_next(s, ']', is_first); is_first = false) {
        if (!skip_value(s))
            return false;
    }
    return leave(s, ']');
}

/* Including the colon and the white space behind it. */
static bool skip_key(struct scan *s, struct scan *ret_key)
{
    *ret_key = *s;
    if (!skip_string(s))
        return false;
    ret_key->end = s->at;
    skip_space(s);
    if (!skip_char(s, ':'))
        return false;
    skip_space(s);
    return true;
}

static bool skip_object(struct scan *s)
{
    struct scan key;
    if (!enter(s, '{'))
        return false;
    for (bool is_first = true; has_next(s, '}', is_first); is_first = false) {
        if (!skip_key(s, &key) || !skip_value(s))
            return false;
    }
    return leave(s, '}');
}

static bool skip_value(struct scan *s)
{
    switch (peek(s)) {
    case '{':
        return skip_object(s);
    case '[':
        return skip_array(s);
    case '"':
        return skip_string(s);
    case 't':
        return skip_word(s, "true");
    case 'f':
        return skip_word(s, "false");
    case 'n':
        return skip_word(s, "null");
    default:
        return skip_number(s);
    }
}

/* ---- what is wanted ---- */

/* text holds one value from at to end. */
static json_t *parse(const struct scan *text)
{
    json_error_t error;
    json_t *value = json_loadb(text->at, (size_t)(text->end - text->at), FLAGS, &error);
    explicit_bzero(&error, sizeof error); /* its text quotes the input */
    return value;
}

static json_t *take_whole(struct scan *s)
{
    struct scan text = *s;
    if (!skip_value(s))
        return NULL;
    text.end = s->at;
    if (text.end - text.at > OW_VALUE_BYTES_MAX)
        return json_true();
    json_t *value = parse(&text);
    if (!value)
        (void)fail(s, -EBADMSG);
    return value;
}

static json_t *take_presence(struct scan *s)
{
    bool is_null = peek(s) == 'n';
    if (!skip_value(s))
        return NULL;
    return is_null ? json_null() : json_true();
}

static json_t *take_object(struct scan *s, const struct ow_wanted *wanted);

static json_t *take(struct scan *s, const struct ow_wanted *wanted)
{
    if (wanted->members == OW_PRESENCE)
        return take_presence(s);
    if (wanted->members && peek(s) == '{')
        return take_object(s, wanted->members);
    if (wanted->members && peek(s) == '[')
        return skip_array(s) ? json_array() : NULL;
    return take_whole(s);
}

/* key: with its quotes. */
static bool is_key(const struct scan *key, const char *word)
{
    size_t length = (size_t)(key->end - key->at);
    if (!memchr(key->at, '\\', length))
        return length == strlen(word) + 2 && memcmp(key->at + 1, word, length - 2) == 0;
    json_t *text = parse(key);
    bool is_same = text && json_string_length(text) == strlen(word) &&
                   strcmp(json_string_value(text), word) == 0;
    json_decref(text);
    return is_same;
}

static const struct ow_wanted *find(const struct ow_wanted *wanted, const struct scan *key)
{
    while (wanted->key && !is_key(key, wanted->key))
        wanted++;
    return wanted->key ? wanted : NULL;
}

static bool take_member(struct scan *s, const struct ow_wanted *wanted, json_t *object)
{
    struct scan key;
    if (!skip_key(s, &key))
        return false;
    const struct ow_wanted *found = find(wanted, &key);
    if (!found)
        return skip_value(s);
    json_t *value = take(s, found);
    if (!value)
        return fail(s, -ENOMEM);
    return json_object_set_new(object, found->key, value) == 0 || fail(s, -ENOMEM);
}

static json_t *take_object(struct scan *s, const struct ow_wanted *wanted)
{
    json_t *object = json_object();
    if (!object || !enter(s, '{')) {
        json_decref(object);
        return NULL;
    }
    for (bool is_first = true; has_next(s, '}', is_first); is_first = false) {
        if (!take_member(s, wanted, object))
            break;
    }
    if (s->error == 0 && leave(s, '}'))
        return object;
    json_decref(object);
    return NULL;
}

int ow_json_select(const void *data, size_t size, const struct ow_limits *limits,
                   const struct ow_wanted *wanted, json_t **ret_root)
{
    if (size > limits->max_bytes)
        return -EMSGSIZE;
    struct scan s = {.at = data, .end = (const char *)data + size, .depth_left = limits->max_depth};
    skip_space(&s);
    json_t *root = take_object(&s, wanted);
    if (!root)
        return s.error != 0 ? s.error : -ENOMEM;
    skip_space(&s);
    if (s.at < s.end) {
        json_decref(root);
        return -EBADMSG;
    }
    *ret_root = root;
    return 0;
}
