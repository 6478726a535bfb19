/* An empty ext4 in a sparse file, as e2fsck sees it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/store/format.h"
#include "proto/base/cleanup.h"

#define GIB (1ULL << 30)

static char path[] = "/tmp/whiskfs-format-XXXXXX";

static void set_up(void)
{
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", 1);
}

static void tear_down(void)
{
    unlink(path);
}

TestSuite(format, .init = set_up, .fini = tear_down, .timeout = 60);

static void make_and_check(uint64_t bytes)
{
    char command[128];
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
    cr_assert(fd >= 0);
    cr_assert_eq(format_file(fd, bytes), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq((uint64_t)st.st_size, bytes);
    cr_assert_lt(st.st_blocks * 512, 16 << 20, "it is not sparse");
    snprintf(command, sizeof command, "e2fsck -fn %s >/dev/null 2>&1", path);
    cr_assert_eq(system(command), 0, "e2fsck finds something in %llu bytes",
                 (unsigned long long)bytes);
}

Test(format, is_sound_and_sparse)
{
    make_and_check(4 * GIB);
}

/* The first is made, the second copied; another size is made anew. */
Test(format, again_and_in_another_size)
{
    make_and_check(4 * GIB);
    make_and_check(4 * GIB);
    make_and_check(64 * GIB);
    make_and_check(64 * GIB);
}

Test(format, ahead_of_time)
{
    format_prepare(4 * GIB);
    make_and_check(4 * GIB);
}
