/* daemon/kafka/directory_record.h — what hosts write into the directory's topics, as JSON. Pure.
 *
 *     PREFIXhosts    key host     {"name","address","invoker"}     every few seconds
 *     PREFIXvolumes  key volume   {"name","home","size"}           once; a tombstone when it is removed
 *
 * Other hosts wrote it: every field is checked, unknown ones are ignored, and the key must be the name.
 */
#pragma once

#include <stddef.h>

#include "daemon/membership.h"

#define DIRECTORY_RECORD_MAX 4096

/* A name that is safe in a path and a log line: letters, digits and . _ - @, the first a letter or digit. */
bool directory_name_is_valid(const char *name, size_t max_bytes);

/* -EINVAL: not something that could be read again. -ENOSPC: size. */
MUST_USE int directory_host_encode(const struct member_host *host, char *ret_text, size_t size);
MUST_USE int directory_volume_encode(const struct member_volume *volume, char *ret_text,
                                     size_t size);

/* -EBADMSG. *ret_host is not alive yet: that is for who knows the time. */
MUST_USE int directory_host_decode(const void *key, size_t key_size, const void *text, size_t size,
                                   struct member_host *ret_host);
MUST_USE int directory_volume_decode(const void *key, size_t key_size, const void *text,
                                     size_t size, struct member_volume *ret_volume);
