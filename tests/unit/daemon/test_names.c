/* The names that a volume has had, in memory and on disk. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/volumes/names.h"

static char directory[64];

static void make_directory(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/names-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void remove_directory(void)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/names", directory);
    (void)unlink(path);
    cr_assert_eq(rmdir(directory), 0, "nothing else may be left");
}

TestSuite(names, .init = make_directory, .fini = remove_directory);

static void write_file(const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/names", directory);
    FILE *f = fopen(path, "we");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

Test(names, none)
{
    struct volume_names names;
    cr_assert_eq(volume_names_load(directory, &names), 0);
    cr_assert_eq(names.n, 0);
    cr_assert(!volume_names_has(&names, "v"));
}

Test(names, newest_last_and_each_once)
{
    struct volume_names names = {0}, read;
    volume_names_add(&names, "a");
    volume_names_add(&names, "b");
    volume_names_add(&names, "a");
    cr_assert_eq(volume_names_save(directory, &names), 0);
    cr_assert_eq(volume_names_load(directory, &read), 0);
    cr_assert_eq(read.n, 2);
    cr_assert_str_eq(read.all[0], "b");
    cr_assert_str_eq(read.all[1], "a");
    cr_assert(volume_names_has(&read, "b"));
    cr_assert(!volume_names_has(&read, "c"));
}

Test(names, the_oldest_goes)
{
    struct volume_names names = {0}, read;
    char name[16];
    for (unsigned i = 0; i < VOLUME_NAMES_MAX + 3; i++) {
        (void)snprintf(name, sizeof name, "v%u", i);
        volume_names_add(&names, name);
    }
    cr_assert_eq(names.n, VOLUME_NAMES_MAX);
    cr_assert(!volume_names_has(&names, "v2"));
    cr_assert(volume_names_has(&names, "v3"));
    cr_assert_str_eq(names.all[VOLUME_NAMES_MAX - 1], name);
    cr_assert_eq(volume_names_save(directory, &names), 0);
    cr_assert_eq(volume_names_load(directory, &read), 0);
    cr_assert_eq(read.n, VOLUME_NAMES_MAX);
}

Test(names, the_longest_name)
{
    struct volume_names names = {0}, read;
    char name[VOLUME_NAME_MAX_BYTES + 1] = {0};
    memset(name, 'n', VOLUME_NAME_MAX_BYTES);
    volume_names_add(&names, name);
    cr_assert_eq(volume_names_save(directory, &names), 0);
    cr_assert_eq(volume_names_load(directory, &read), 0);
    cr_assert(volume_names_has(&read, name));
}

Test(names, damaged)
{
    static const char *const damaged[] = {"v", "v\n../w\n", "v\n\n", "v\nw"};
    struct volume_names names;
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        write_file(damaged[i]);
        cr_assert_eq(volume_names_load(directory, &names), -EBADMSG, "%s", damaged[i]);
    }
    char text[VOLUME_NAME_MAX_BYTES + 3];
    memset(text, 'n', sizeof text);
    memcpy(text + VOLUME_NAME_MAX_BYTES + 1, "\n", 2);
    write_file(text);
    cr_assert_eq(volume_names_load(directory, &names), -EBADMSG);
}
