/* daemon/mountd/places.h — what is mounted where, from the kernel's list: a look at a place would be a request to whom
 * this process must not wait for.
 */
#pragma once

#include <stdbool.h>

/* Whether a mount of that type, and of that source unless it is NULL, lies at path, on top of others or not. */
bool places_has(const char *path, const char *type, const char *source);
/* Whether anything is mounted below path. */
bool places_has_below(const char *path);
