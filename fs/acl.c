/* fs/acl.c — checking an ACL, and the permissions in it that a mode shows. */
#include "fs/acl.h"

#include <errno.h>
#include <string.h>

#define VERSION 2u
#define ENTRY_BYTES 8u
#define HEAD_BYTES 4u
#define PERMISSIONS_AT 2u /* within an entry */
#define NO_ID UINT32_MAX

enum tag {
    USER_OBJ = 0x01,
    USER = 0x02,
    GROUP_OBJ = 0x04,
    GROUP = 0x08,
    MASK = 0x10,
    OTHER = 0x20,
};

/* What a valid ACL may go on with after `last`. */
static unsigned followers(unsigned last)
{
    switch (last) {
    case 0:
        return USER_OBJ;
    case USER_OBJ:
    case USER:
        return USER | GROUP_OBJ;
    case GROUP_OBJ:
    case GROUP:
        return GROUP | MASK | OTHER;
    case MASK:
        return OTHER;
    default:
        return 0;
    }
}

static bool is_tag(unsigned tag)
{
    return tag != 0 && (tag & (tag - 1)) == 0 && tag <= OTHER;
}

/* Notes where the permissions at `at` are shown. */
static void note(struct acl *acl, unsigned tag, size_t at)
{
    if (tag == USER_OBJ)
        acl->user_at = at;
    else if (tag == GROUP_OBJ || tag == MASK)
        acl->group_at = at;
    else if (tag == OTHER)
        acl->other_at = at;
}

static int parse_entries(struct reader *r, struct acl *acl)
{
    unsigned last = 0, seen = 0;

    for (size_t at = HEAD_BYTES; reader_left(r) > 0; at += ENTRY_BYTES) {
        unsigned tag = get_u16(r), permissions = get_u16(r);
        uint32_t id = get_u32(r);
        if (r->bad || !is_tag(tag) || !(followers(last) & tag) || permissions > 7)
            return -EINVAL;
        if ((tag & (USER | GROUP)) && id == NO_ID)
            return -EINVAL;
        note(acl, tag, at + PERMISSIONS_AT);
        seen |= tag;
        last = tag;
    }
    bool needs_mask = seen & (USER | GROUP);
    if (last != OTHER || (needs_mask && !(seen & MASK)))
        return -EINVAL;
    acl->is_minimal = !(seen & (USER | GROUP | MASK));
    return 0;
}

int acl_parse(struct span value, struct acl *ret_acl)
{
    if (value.size > ACL_BYTES_MAX)
        return -E2BIG;
    struct reader r = reader_over(value.data, value.size);
    if (get_u32(&r) != VERSION || r.bad)
        return -EINVAL;
    ret_acl->size = value.size;
    memcpy(ret_acl->bytes, value.data, value.size);
    return parse_entries(&r, ret_acl);
}

mode_t acl_mode(const struct acl *acl)
{
    return (mode_t)acl->bytes[acl->user_at] << 6 | (mode_t)acl->bytes[acl->group_at] << 3 |
           acl->bytes[acl->other_at];
}

void acl_set_mode(struct acl *acl, mode_t mode)
{
    acl->bytes[acl->user_at] = mode >> 6 & 7;
    acl->bytes[acl->group_at] = mode >> 3 & 7;
    acl->bytes[acl->other_at] = mode & 7;
}

static bool is_named(struct span name, const char *wanted)
{
    return name.size == strlen(wanted) && memcmp(name.data, wanted, name.size) == 0;
}

bool acl_is_access(struct span name)
{
    return is_named(name, ACL_ACCESS);
}

bool acl_is_default(struct span name)
{
    return is_named(name, ACL_DEFAULT);
}
