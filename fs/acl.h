/* fs/acl.h — POSIX ACLs as their extended attributes hold them.
 *
 *     u32 version 2, then for each entry  u16 tag | u16 permissions | u32 id, little-endian
 *
 * Entries come in the order USER_OBJ, USER…, GROUP_OBJ, GROUP…, MASK, OTHER; MASK is there if any USER or GROUP is. USER_OBJ,
 * OTHER, and MASK (without one: GROUP_OBJ) are the nine bits of the file's mode, and both always say the same.
 * Source: posix_acl_valid() and posix_acl_create() of Linux; the encoding is include/uapi/linux/posix_acl_xattr.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/check.h"
#include "proto/wire.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default" /* of a directory: what is made in it inherits it */
#define ACL_BYTES_MAX 4096u /* Linux asks a FUSE filesystem for no more than a page */

struct acl {
    uint8_t bytes[ACL_BYTES_MAX];
    size_t size;
    size_t user_at, group_at, other_at; /* of the permissions that the mode shows */
    bool is_minimal;                    /* says no more than a mode does */
};

/* -EINVAL: no valid ACL; -E2BIG. */
MUST_USE int acl_parse(struct span value, struct acl *ret_acl);
mode_t acl_mode(const struct acl *acl); /* the nine bits */
void acl_set_mode(struct acl *acl, mode_t mode);
static inline struct span acl_span(const struct acl *acl)
{
    return (struct span){.data = acl->bytes, .size = acl->size};
}

/* Is this the name of the attribute that holds the ACL? */
MUST_USE bool acl_is_access(struct span name);
MUST_USE bool acl_is_default(struct span name);
