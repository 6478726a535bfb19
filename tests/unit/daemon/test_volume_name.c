#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "daemon/volumes/volumes.h"

/* Names become directories and mount points: nothing in them may lead elsewhere. */
Test(volume_name, is_checked)
{
    static const char *const good[] = {"a", "guest",
                                       "pages--guest--0123456789abcdef0123456789abcdef", "v1.2_x-y",
                                       "Alice@example.org"};
    static const char *const bad[] = {"",    ".",   "..", ".hidden", "-x",       "_x",
                                      "a/b", "a b", "@a", "a\n",     "\xc3\xa4", "a:b"};
    char long_name[VOLUME_NAME_MAX_BYTES + 2];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect(volume_name_check(good[i]) == 0, "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(volume_name_check(bad[i]) == -EINVAL, "%s", bad[i]);
    memset(long_name, 'a', sizeof long_name);
    long_name[VOLUME_NAME_MAX_BYTES + 1] = '\0';
    cr_expect(volume_name_check(long_name) == -EINVAL);
    long_name[VOLUME_NAME_MAX_BYTES] = '\0';
    cr_expect(volume_name_check(long_name) == 0);
}
