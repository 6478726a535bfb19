/* daemon/mountd/mountinfo.h — what is mounted where, from the kernel's list: a look at a place would be a request to whom
 * this process must not wait for.
 */
#pragma once

#include <stdbool.h>

/* Whether a mount lies at path (on top of others or not) whose type and source begin with what is given: "autofs", "fuse.x y". */
bool mountinfo_has(const char *path, const char *type_and_source);
/* Whether anything is mounted below path. */
bool mountinfo_has_below(const char *path);
