/* What was learned, written down and read again. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/openwhisk/learned.h"

TestSuite(learned, .timeout = 30);

static struct transitions *make(void)
{
    struct transitions *t;
    cr_assert_eq(transitions_new(100, &t), 0);
    return t;
}

struct fixture {
    char directory[64], path[96];
};

static void set_up(struct fixture *f)
{
    (void)snprintf(f->directory, sizeof f->directory, "/tmp/whiskfs-learned-XXXXXX");
    cr_assert_not_null(mkdtemp(f->directory));
    (void)snprintf(f->path, sizeof f->path, "%s/transitions.json", f->directory);
}

static void tear_down(struct fixture *f)
{
    (void)unlink(f->path);
    cr_assert_eq(rmdir(f->directory), 0, "something else is left there");
}

static void write_text(struct fixture *f, const char *text)
{
    FILE *file = fopen(f->path, "w");
    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

/* Counts and ends come back. */
Test(learned, round_trip)
{
    struct fixture f;
    set_up(&f);
    struct transitions *t = make(), *again = make();
    struct transition_guess guess;
    cr_assert_eq(learned_load(again, f.path), -ENOENT);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/b", 3), 0);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", TRANSITION_END, 1), 0);
    cr_assert_eq(transitions_learn(t, "ns", "#0123", "ns/pkg/\xc3\xa9", 2), 0);
    cr_assert_eq(learned_save(t, f.path), 0);
    cr_assert_eq(learned_save(t, f.path), 0);
    cr_assert_eq(learned_load(again, f.path), 0);
    cr_assert_eq(transitions_guess(again, "ns", "ns/a", &guess), 0);
    cr_assert_float_eq(guess.probability, 0.75, 1e-9);
    cr_assert_eq(transitions_guess(again, "ns", "#0123", &guess), 0);
    cr_assert_str_eq(guess.next, "ns/pkg/\xc3\xa9");
    transitions_free(t);
    transitions_free(again);
    tear_down(&f);
}

/* What is no such file is said to be none. */
Test(learned, damage)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"format\":2,\"transitions\":[]}",
        "{\"format\":1,\"transitions\":{}}",
        "{\"format\":1,\"transitions\":[[\"ns\",\"ns/a\",\"ns/b\"]]}",
        "{\"format\":1,\"transitions\":[[\"ns\",\"ns/a\",\"ns/b\",0]]}",
        "{\"format\":1,\"transitions\":[[\"n\\ns\",\"ns/a\",\"ns/b\",1]]}",
        "{\"format\":1,\"transitions\":[[\"ns\",\"ns/a\",\"ns/b\",1]]",
    };
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < N_ELEMENTS(bad); i++) {
        struct transitions *t = make();
        write_text(&f, bad[i]);
        cr_assert_eq(learned_load(t, f.path), -EBADMSG, "%s", bad[i]);
        cr_assert_eq(transitions_count(t), 0);
        transitions_free(t);
    }
    tear_down(&f);
}

/* A directory that is not there is an error, and leaves nothing. */
Test(learned, nowhere)
{
    struct transitions *t = make();
    cr_assert_eq(learned_save(t, "/tmp/whiskfs-not-there/transitions.json"), -ENOENT);
    transitions_free(t);
}
