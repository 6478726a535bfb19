/* proto/openwhisk/json.h — reading OpenWhisk's JSON with jansson; for this room's own sources only.
 *
 * Messages hold credentials (user.authkey, authorization headers) and up to 1 MiB of the users' parameters. Only the
 * members that are wanted become a tree; the rest is checked and passed over where it lies, never copied (select.c). What
 * users put into a wanted member may be secret too: nothing below ever shows a piece of its input, jansson's own
 * error text included, and whatever jansson frees is zeroed first.
 *
 * The readers are tolerant in one way: an absent key and null are the same, and leave "" or 0. A value of
 * another type, or too long, is -EBADMSG.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"

#define OW_VALUE_BYTES_MAX (64u << 10) /* of one wanted value's text */

/* What is wanted of an object; a table ends with a key of NULL. */
struct ow_wanted {
    const char *key;
    /* NULL: the whole value. Else, where the value is an object, these of its members; where it is an array, an empty
     * one stands for it. OW_PRESENCE: whether it is there; `true` stands for any value but null. */
    const struct ow_wanted *members;
};
extern const struct ow_wanted OW_PRESENCE[];

/* The wanted part of an object's text. Of a key that comes twice the last counts; `true` stands for a value whose text is longer
 * than OW_VALUE_BYTES_MAX. -EBADMSG: not a JSON object. -EMSGSIZE: larger or deeper than the limits. */
MUST_USE int ow_json_select(const void *data, size_t size, const struct ow_limits *limits,
                            const struct ow_wanted *wanted, json_t **ret_root);

/* The member, or NULL if it is absent or null, or object is no object. */
const json_t *ow_json_get(const json_t *object, const char *key);

MUST_USE int ow_json_copy_text(const json_t *value, char *ret_text, size_t size);
MUST_USE int ow_json_text(const json_t *object, const char *key, char *ret_text, size_t size);
MUST_USE int ow_json_id(const json_t *object, const char *key, char ret_id[static OW_ID_SIZE]);
MUST_USE int ow_json_int(const json_t *object, const char *key, int64_t *ret_value);
MUST_USE int ow_json_bool(const json_t *object, const char *key, bool absent, bool *ret_value);

/* "1073741824 B", "256 MB", "10GiB" or a plain number of bytes; all units are powers of 1024. */
MUST_USE int ow_json_size(const json_t *object, const char *key, uint64_t *ret_bytes);

/* `action`: an object with path and name, or a bare string. Writes "namespace[/package]/name". */
MUST_USE int ow_json_action(const json_t *value, char *ret_action, size_t size);
