/* Reading mountinfo: which mount a directory lies on, and where what is mounted below it appears. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/propagation.h"

static int read_text(const char *text, const char *path, struct propagation *ret)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    cr_assert(f);
    int r = propagation_read(f, path, ret);
    (void)fclose(f);
    return r;
}

static struct propagation of(const char *text, const char *path)
{
    struct propagation p;
    cr_assert_eq(read_text(text, path, &p), 0);
    return p;
}

/* The deepest mount above the directory decides; a name that only begins alike does not. */
Test(propagation, is_that_of_the_deepest_mount_above)
{
    const char *text = "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n"
                       "2 1 8:2 / /mnt/o rw shared:2 - ext4 /dev/b rw\n"
                       "3 1 8:3 / /mnt rw - ext4 /dev/c rw\n";
    struct propagation p = of(text, "/mnt/ow");
    cr_assert_str_eq(p.at, "/mnt");
    cr_assert_eq(p.shared, 0);
    p = of(text, "/var");
    cr_assert_str_eq(p.at, "/");
    cr_assert_eq(p.shared, 1);
}

/* A later mount on the same directory covers the one before. */
Test(propagation, is_that_of_the_mount_on_top)
{
    struct propagation p = of("1 0 8:1 / /mnt/ow rw shared:1 - ext4 /dev/a rw\n"
                              "2 1 8:1 / /mnt/ow rw - ext4 /dev/a rw\n",
                              "/mnt/ow");
    cr_assert_eq(p.shared, 0);
}

/* Optional fields are those before the dash: names after it, and in the mountpoint, mean nothing. */
Test(propagation, is_read_from_the_optional_fields_only)
{
    struct propagation p =
        of("1 0 8:1 / / rw unbindable - ext4 shared:9 master:9\n"
           "2 1 8:1 / /a\\040shared:7\\134 rw shared:12 master:3 propagate_from:4 - ext4 d rw\n",
           "/a shared:7\\/b");
    cr_assert_str_eq(p.at, "/a shared:7\\");
    cr_assert_eq(p.shared, 12);
    cr_assert_eq(p.master, 3);
    p = of("1 0 8:1 / / rw unbindable - ext4 shared:9 master:9\n", "/b");
    cr_assert_eq(p.shared, 0);
    cr_assert_eq(p.master, 0);
}

/* What is not a line of mountinfo is passed over. */
Test(propagation, of_no_mount)
{
    struct propagation p;
    cr_assert_eq(read_text("\n-\n1 2 3 4 / -\n1 2 3 4 /\n", "/mnt/ow", &p), -ENOENT);
    cr_assert_eq(read_text("1 0 8:1 / /mnt rw shared:1 - ext4 d rw\n", "/var", &p), -ENOENT);
}

/* From a peer group to its members and to its slaves, and nowhere else. */
Test(propagation, reaches_peers_and_slaves)
{
    const struct propagation from = {.shared = 5}, none = {.shared = 0};
    cr_assert(propagation_reaches(&from, &(struct propagation){.shared = 5}));
    cr_assert(propagation_reaches(&from, &(struct propagation){.master = 5}));
    cr_assert(propagation_reaches(&from, &(struct propagation){.shared = 8, .master = 5}));
    cr_assert_not(propagation_reaches(&from, &(struct propagation){.shared = 8}));
    cr_assert_not(propagation_reaches(&from, &(struct propagation){.shared = 0}));
    cr_assert_not(propagation_reaches(&none, &none));
}
