/* daemon/replica/member_table.h — STATE/volumes/NAME/members: a host name a line, replaced as a whole and synced. */
#pragma once

#include <stddef.h>

#include "daemon/membership.h"

MUST_USE int member_table_save(const char *directory, const char (*names)[HOST_NAME_MAX_BYTES + 1],
                               size_t n);
/* No file: no members. Free *ret_names. -EBADMSG: a name too long; -EIO … */
MUST_USE int member_table_load(const char *directory, char (**ret_names)[HOST_NAME_MAX_BYTES + 1],
                               size_t *ret_n);
