/* ACLs in their encoding: which are valid, and the mode in them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fs/acl.h"

enum tag {
    USER_OBJ = 0x01,
    USER = 0x02,
    GROUP_OBJ = 0x04,
    GROUP = 0x08,
    MASK = 0x10,
    OTHER = 0x20,
};

#define NO_ID UINT32_MAX

struct entry {
    uint16_t tag, permissions;
    uint32_t id;
};

static int parse_n(const struct entry *entries, size_t n, struct acl *ret_acl)
{
    uint8_t bytes[256];
    struct writer w = writer_over(bytes, sizeof bytes);
    put_u32(&w, 2);
    for (size_t i = 0; i < n; i++) {
        put_u16(&w, entries[i].tag);
        put_u16(&w, entries[i].permissions);
        put_u32(&w, entries[i].id);
    }
    return acl_parse((struct span){.data = bytes, .size = writer_used(&w)}, ret_acl);
}

#define PARSE(acl, ...)                                                                            \
    parse_n((const struct entry[]){__VA_ARGS__},                                                   \
            sizeof((const struct entry[]){__VA_ARGS__}) / sizeof(struct entry), acl)

/* Three entries say what a mode says. */
Test(acl, minimal)
{
    struct acl acl;
    cr_assert_eq(PARSE(&acl, {USER_OBJ, 6, NO_ID}, {GROUP_OBJ, 4, NO_ID}, {OTHER, 1, NO_ID}), 0);
    cr_assert(acl.is_minimal);
    cr_assert_eq(acl_mode(&acl), 0641);
    acl_set_mode(&acl, 0752);
    cr_assert_eq(acl_mode(&acl), 0752);
}

/* With a mask it is the mask that the mode's middle shows and sets; the group's own entry stays. */
Test(acl, mask)
{
    struct acl acl;
    cr_assert_eq(PARSE(&acl, {USER_OBJ, 7, NO_ID}, {USER, 7, 1}, {USER, 0, 2},
                       {GROUP_OBJ, 5, NO_ID}, {GROUP, 6, 3}, {MASK, 4, NO_ID}, {OTHER, 0, NO_ID}),
                 0);
    cr_assert(!acl.is_minimal);
    cr_assert_eq(acl_mode(&acl), 0740);
    acl_set_mode(&acl, 0611);
    cr_assert_eq(acl_mode(&acl), 0611);
    cr_assert_eq(acl.bytes[4 + 3 * 8 + 2], 5);
}

/* Entries that are missing, doubled, out of order, of no kind, with impossible permissions, for nobody. */
Test(acl, invalid)
{
    struct acl acl;
    const struct entry user = {USER_OBJ, 6, NO_ID}, group = {GROUP_OBJ, 4, NO_ID},
                       other = {OTHER, 4, NO_ID}, mask = {MASK, 7, NO_ID};
    cr_expect_eq(parse_n(NULL, 0, &acl), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, group), -EINVAL);
    cr_expect_eq(PARSE(&acl, group, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, user, group, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, group, other, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, other, group), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, group, mask, mask, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, {USER, 6, 5}, group, other), -EINVAL, "no mask");
    cr_expect_eq(PARSE(&acl, user, group, {3, 4, NO_ID}, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, group, {0, 4, NO_ID}, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, group, {0x40, 4, NO_ID}, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, {USER_OBJ, 8, NO_ID}, group, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, {USER, 6, NO_ID}, group, mask, other), -EINVAL);
    cr_expect_eq(PARSE(&acl, user, group, mask, other), 0);
}

/* Not a whole number of entries, another version, too long. */
Test(acl, broken)
{
    static uint8_t bytes[ACL_BYTES_MAX + 8];
    struct acl acl;
    for (size_t size = 0; size < 12; size++)
        cr_expect_eq(acl_parse((struct span){bytes, size}, &acl), -EINVAL);
    bytes[0] = 2;
    for (size_t size = 0; size < 12; size++)
        cr_expect_eq(acl_parse((struct span){bytes, size}, &acl), -EINVAL);
    cr_expect_eq(acl_parse((struct span){bytes, sizeof bytes}, &acl), -E2BIG);
}

Test(acl, names)
{
    cr_expect(acl_is_access(SPAN("system.posix_acl_access")));
    cr_expect(!acl_is_access(SPAN("system.posix_acl_acces")));
    cr_expect(acl_is_default(SPAN("system.posix_acl_default")));
    cr_expect(!acl_is_default(SPAN("user.posix_acl_default")));
}
