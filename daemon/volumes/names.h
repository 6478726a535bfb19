/* daemon/volumes/names.h — STATE/volumes/NAME/names: the names that a volume has had, a line each, the newest last.
 *
 * A host that slept through a rename asks its home for the volume by the old name: this is how the home knows it. It is
 * written before a rename, with both names, so that a home that was killed meanwhile knows what it has told others.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/membership.h"

#define VOLUME_NAMES_MAX 64u /* of more the oldest is forgotten */

struct volume_names {
    size_t n;
    char all[VOLUME_NAMES_MAX][VOLUME_NAME_MAX_BYTES + 1];
};

/* directory: STATE/volumes/NAME. One that was never renamed has no names. -EBADMSG: damaged. */
MUST_USE int volume_names_load(const char *directory, struct volume_names *ret_names);
/* Durable when it returns, whole or not at all. */
MUST_USE int volume_names_save(const char *directory, const struct volume_names *names);
/* name becomes the newest. */
void volume_names_add(struct volume_names *names, const char *name);
bool volume_names_has(const struct volume_names *names, const char *name);
