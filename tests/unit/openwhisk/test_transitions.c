/* Counting what follows what. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/openwhisk/transitions.h"

TestSuite(transitions, .timeout = 10);

static struct transitions *make(unsigned max_actions)
{
    struct transitions *t;
    cr_assert_eq(transitions_new(max_actions, &t), 0);
    return t;
}

/* The most frequent successor wins, with its share of all. */
Test(transitions, frequencies)
{
    struct transitions *t = make(10);
    struct transition_guess guess;
    cr_assert_eq(transitions_guess(t, "ns", "ns/a", &guess), -ENOENT);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/b", 1), 0);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/c", 2), 0);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", TRANSITION_END, 1), 0);
    cr_assert_eq(transitions_guess(t, "ns", "ns/a", &guess), 0);
    cr_assert_str_eq(guess.next, "ns/c");
    cr_assert_float_eq(guess.probability, 0.5, 1e-9);
    cr_assert_eq(guess.n_seen, 2);
    cr_assert_eq(transitions_guess(t, "other", "ns/a", &guess), -ENOENT);
    transitions_free(t);
}

/* An action after which runs mostly end has no next one. */
Test(transitions, ends)
{
    struct transitions *t = make(10);
    struct transition_guess guess;
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/b", 1), 0);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", TRANSITION_END, 3), 0);
    cr_assert_eq(transitions_guess(t, "ns", "ns/a", &guess), -ENODATA);
    transitions_free(t);
}

/* A sequence that was changed is believed soon, however long the old one was seen. */
Test(transitions, relearning)
{
    struct transitions *t = make(10);
    struct transition_guess guess;
    for (unsigned i = 0; i < 10000; i++)
        cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/old", 1), 0);
    for (unsigned i = 0; i < 65; i++)
        cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/new", 1), 0);
    cr_assert_eq(transitions_guess(t, "ns", "ns/a", &guess), 0);
    cr_assert_str_eq(guess.next, "ns/new");
    transitions_free(t);
}

/* Actions and successors have limits; what is looked at stays. */
Test(transitions, bounds)
{
    struct transitions *t = make(100);
    struct transition_guess guess;
    char name[32];
    cr_assert_eq(transitions_learn(t, "ns", "ns/kept", "ns/next", 1), 0);
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "ns/%u", i);
        cr_assert_eq(transitions_learn(t, "ns", name, "ns/x", 1), 0);
        cr_assert_eq(transitions_guess(t, "ns", "ns/kept", &guess), 0);
    }
    cr_assert_eq(transitions_count(t), 100);
    cr_assert_eq(transitions_guess(t, "ns", "ns/0", &guess), -ENOENT);
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "ns/%u", i);
        cr_assert_eq(transitions_learn(t, "ns", "ns/many", name, 1), 0);
        cr_assert_eq(transitions_learn(t, "ns", "ns/many", "ns/often", 1), 0);
    }
    cr_assert_eq(transitions_guess(t, "ns", "ns/many", &guess), 0);
    cr_assert_str_eq(guess.next, "ns/often");
    transitions_free(t);
}

static void copy(void *arg, const char *namespace_name, const char *action, const char *next,
                 uint32_t count)
{
    cr_assert_eq(transitions_learn(arg, namespace_name, action, next, count), 0);
}

/* What one table is told of another makes it the same. */
Test(transitions, visit_restores)
{
    struct transitions *t = make(10), *again = make(10);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", "ns/b", 3), 0);
    cr_assert_eq(transitions_learn(t, "ns", "ns/a", TRANSITION_END, 1), 0);
    cr_assert_eq(transitions_learn(t, "ns", "ns/b", "ns/pkg/c", 2), 0);
    transitions_visit(t, copy, again);
    transitions_free(t);
    struct transition_guess guess;
    cr_assert_eq(transitions_guess(again, "ns", "ns/a", &guess), 0);
    cr_assert_str_eq(guess.next, "ns/b");
    cr_assert_float_eq(guess.probability, 0.75, 1e-9);
    cr_assert_eq(transitions_guess(again, "ns", "ns/b", &guess), 0);
    cr_assert_str_eq(guess.next, "ns/pkg/c");
    transitions_free(again);
}
