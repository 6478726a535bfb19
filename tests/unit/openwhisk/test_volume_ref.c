/* Names of volumes: what a user may write, and what a run's instance is called. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "proto/openwhisk/volume_ref.h"

TestSuite(volume_ref, .timeout = 10);

#define RUN "c0ffee00c0ffee00c0ffee00c0ffee00"

static struct ow_volume_refs read_refs(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    cr_assert_not_null(value, "%s", text);
    struct ow_volume_refs refs;
    ow_volume_refs_read(value, "guest", &refs);
    json_decref(value);
    return refs;
}

/* Names begin with a letter or digit and never lead out of the directory. */
Test(volume_ref, names)
{
    static const char *const good[] = {
        "a", "0", "imgnet", "a.b_c-d",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const bad[] = {
        "",         ".",
        "..",       ".a",
        "-a",       "_a",
        "A",        "a/b",
        "../a",     "a--b",
        "a b",      "a\n",
        "\303\244", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (unsigned i = 0; i < N_ELEMENTS(good); i++)
        cr_assert(ow_volume_name_is_valid(good[i]), "%s", good[i]);
    for (unsigned i = 0; i < N_ELEMENTS(bad); i++)
        cr_assert(!ow_volume_name_is_valid(bad[i]), "%s", bad[i]);
}

/* A name, an object, or an array of either; keys of a later version are ignored. */
Test(volume_ref, forms)
{
    struct ow_volume_refs refs = read_refs("\"imgnet\"");
    cr_assert(refs.n == 1 && refs.n_refused == 0);
    refs = read_refs("{\"name\":\"work\",\"scope\":\"sequence\",\"size\":1048576,\"copies\":2}");
    cr_assert(refs.n == 1 && refs.refs[0].scope == OW_SCOPE_SEQUENCE);
    cr_assert_eq(refs.refs[0].size_bytes, 1048576);
    refs = read_refs("{\"name\":\"work\",\"scope\":null,\"size\":\"512 KiB\"}");
    cr_assert(refs.n == 1 && refs.refs[0].scope == OW_SCOPE_NAMESPACE);
    cr_assert_eq(refs.refs[0].size_bytes, 512 << 10);
    refs = read_refs("[\"a\",{\"name\":\"b\"},\"a\",{\"name\":\"a\",\"scope\":\"sequence\"}]");
    cr_assert(refs.n == 3 && refs.n_refused == 0);
    refs = read_refs("[]");
    cr_assert(refs.n == 0 && refs.n_refused == 0);
}

/* What is refused is counted and the rest goes on. */
Test(volume_ref, refused)
{
    struct ow_volume_refs refs =
        read_refs("[\"../etc\",7,[\"a\"],{},{\"name\":\"b\",\"scope\":\"world\"},"
                  "{\"name\":\"c\",\"size\":\"-1\"},{\"name\":\"d\",\"size\":-1},"
                  "{\"name\":\"e\",\"read_only\":\"yes\"},\"ok\"]");
    cr_assert_eq(refs.n, 1);
    cr_assert_str_eq(refs.refs[0].name, "ok");
    cr_assert_eq(refs.n_refused, 8);
    refs = read_refs("[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\"]");
    cr_assert_eq(refs.n, OW_VOLUMES_MAX);
    cr_assert_eq(refs.n_refused, 2);
}

/* An instance's name follows from the message alone. */
Test(volume_ref, instance_names)
{
    struct ow_volume_ref ref = {.name = "work", .scope = OW_SCOPE_SEQUENCE};
    char name[OW_INSTANCE_NAME_SIZE];
    cr_assert_eq(ow_volume_instance_name(&ref, "guest", RUN, name), 0);
    cr_assert_str_eq(name, "work--guest--" RUN);
    cr_assert_eq(ow_volume_instance_name(&ref, "Me.and_you@home-1", RUN, name), 0);
    cr_assert_str_eq(name, "work--Me.and_you@home-1--" RUN);
    ref.scope = OW_SCOPE_NAMESPACE;
    cr_assert_eq(ow_volume_instance_name(&ref, "guest", RUN, name), 0);
    cr_assert_str_eq(name, "work");
}

/* Nothing that is no part of a name gets into one. */
Test(volume_ref, instance_names_refused)
{
    struct ow_volume_ref ref = {.name = "work", .scope = OW_SCOPE_SEQUENCE};
    char name[OW_INSTANCE_NAME_SIZE];
    char longest[256];
    memset(longest, 'a', sizeof longest);
    longest[255] = '\0';
    cr_assert_eq(ow_volume_instance_name(&ref, "", RUN, name), -EINVAL);
    cr_assert_eq(ow_volume_instance_name(&ref, "a/b", RUN, name), -EINVAL);
    cr_assert_eq(ow_volume_instance_name(&ref, "guest", "", name), -EINVAL);
    cr_assert_eq(ow_volume_instance_name(&ref, "guest", "../x", name), -EINVAL);
    cr_assert_eq(ow_volume_instance_name(&ref, longest, RUN, name), -ENAMETOOLONG);
    cr_assert_eq(
        ow_volume_instance_name(&(struct ow_volume_ref){.name = "..", .scope = OW_SCOPE_SEQUENCE},
                                "guest", RUN, name),
        -EINVAL);
}

/* An instance's name says its run; other names are no instance's. */
Test(volume_ref, runs_of_instances)
{
    static const char *const none[] = {
        "",
        "work",
        "work--guest",
        "--",
        "work--" RUN,
        "work----" RUN,
        "--guest--" RUN,
        "work--guest-" RUN,
        "work--a/b--" RUN,
        "Work--guest--" RUN,
        "work--guest--" RUN "0",
        "work--guest--" RUN "--",
        "work--guest--0123456789ABCDEF0123456789ABCDEF",
    };
    char run[OW_ID_SIZE];
    cr_assert_eq(ow_volume_instance_run("work--guest--" RUN, run), 0);
    cr_assert_str_eq(run, RUN);
    cr_assert_eq(ow_volume_instance_run("w--a--b--" RUN, run), 0);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cr_assert_eq(ow_volume_instance_run(none[i], run), -EINVAL, "%s", none[i]);
}
