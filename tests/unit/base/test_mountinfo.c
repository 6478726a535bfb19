/* The kernel's list of mounts: every field that is used, and what is passed over. */
#include <criterion/criterion.h>

#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/mountinfo.h"

static char text[] =
    "1 0 8:17 / / rw,noatime unbindable - ext4 /dev/root rw\n"
    "no line of mountinfo\n"
    "1 2 3 4 / -\n"
    "1 2 0:3 / /short rw - tmpfs\n"
    "2 1 0:44 / /a\\040b\\134c rw shared:12 master:3 propagate_from:4 - fuse.x src rw\n"
    "3 1 0:45 / /last rw - proc shared:9 rw\n";

Test(mountinfo, reads_what_is_used)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    struct mountinfo m;
    FILE *list = fmemopen(text, strlen(text), "r");
    cr_assert(list);
    cr_assert(mountinfo_next(list, &line, &size, &m));
    cr_assert_eq(m.major, 8);
    cr_assert_eq(m.minor, 17);
    cr_assert_str_eq(m.at, "/");
    cr_assert_eq(m.shared, 0);
    cr_assert_str_eq(m.type, "ext4");
    cr_assert_str_eq(m.source, "/dev/root");
    cr_assert(mountinfo_next(list, &line, &size, &m));
    cr_assert_eq(m.minor, 44);
    cr_assert_str_eq(m.at, "/a b\\c");
    cr_assert_eq(m.shared, 12);
    cr_assert_eq(m.master, 3);
    cr_assert_str_eq(m.type, "fuse.x");
    cr_assert_str_eq(m.source, "src");
    cr_assert(mountinfo_next(list, &line, &size, &m));
    cr_assert_str_eq(m.at, "/last");
    cr_assert_eq(m.shared, 0, "what follows the dash is no optional field");
    cr_assert_not(mountinfo_next(list, &line, &size, &m));
    (void)fclose(list);
}
