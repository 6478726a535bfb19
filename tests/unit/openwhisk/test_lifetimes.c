/* When runs are over: the time is what these tests say it is. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/openwhisk/lifetimes.h"

TestSuite(lifetimes, .timeout = 30);

#define END 30000
#define STEP 420000
#define LIMIT 18000000
#define OUTER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define INNER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct lifetimes *make(unsigned max_runs)
{
    const struct lifetimes_config config = {END, STEP, LIMIT, max_runs};
    struct lifetimes *l;
    cr_assert_eq(lifetimes_new(&config, &l), 0);
    return l;
}

static void begin_in(struct lifetimes *l, const char *root, const char *run, const char *step,
                     bool names_volume, int64_t now_ms)
{
    struct ow_activation a = {0};
    (void)snprintf(a.id, sizeof a.id, "%s", step);
    (void)snprintf(a.cause, sizeof a.cause, "%s", run);
    (void)snprintf(a.root_transid, sizeof a.root_transid, "%s", root);
    if (names_volume) {
        a.volumes.n = 1;
        a.volumes.refs[0].scope = OW_SCOPE_SEQUENCE;
    }
    lifetimes_begin_step(l, &a, now_ms);
}

static void begin(struct lifetimes *l, const char *run, const char *step, int64_t now_ms)
{
    begin_in(l, "request", run, step, true, now_ms);
}

static void end(struct lifetimes *l, const char *step, int64_t now_ms)
{
    struct ow_ack ack = {.form = OW_ACK_RESULT};
    (void)snprintf(ack.id, sizeof ack.id, "%s", step);
    lifetimes_end_step(l, &ack, now_ms);
}

/* A run lasts while a step runs and until a next one would have come. */
Test(lifetimes, ends_after_its_last_step)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 1000);
    cr_assert(!lifetimes_is_over(l, OUTER, 1000 + STEP - 1));
    end(l, "1", 200000);
    cr_assert(!lifetimes_is_over(l, OUTER, 200000 + END - 1));
    begin(l, OUTER, "2", 200000 + END - 1);
    cr_assert(!lifetimes_is_over(l, OUTER, 400000));
    end(l, "2", 400000);
    end(l, "2", 400010); /* the completion after the result */
    cr_assert(!lifetimes_is_over(l, OUTER, 400000 + END - 1));
    cr_assert(lifetimes_is_over(l, OUTER, 400000 + END));
    lifetimes_free(l);
}

/* A crashed invoker acknowledges nothing: the step's limit counts. */
Test(lifetimes, lost_acknowledgement)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    lifetimes_expire(l, STEP - 1);
    cr_assert(!lifetimes_is_over(l, OUTER, STEP - 1 + END));
    lifetimes_expire(l, STEP);
    cr_assert(!lifetimes_is_over(l, OUTER, STEP + END - 1));
    cr_assert(lifetimes_is_over(l, OUTER, STEP + END));
    lifetimes_free(l);
}

/* The next step of a run says that the one before has ended. */
Test(lifetimes, next_step_ends_the_last)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    begin(l, OUTER, "2", 1000);
    end(l, "2", 2000);
    cr_assert(lifetimes_is_over(l, OUTER, 2000 + END));
    end(l, "1", 2000 + END); /* late, and of no step that runs */
    cr_assert(lifetimes_is_over(l, OUTER, 2000 + END));
    lifetimes_free(l);
}

/* Topics have no order among them. */
Test(lifetimes, end_before_its_beginning)
{
    struct lifetimes *l = make(16);
    end(l, "1", 900);
    begin(l, OUTER, "1", 1000);
    cr_assert(!lifetimes_is_over(l, OUTER, 1000 + END - 1));
    cr_assert(lifetimes_is_over(l, OUTER, 1000 + END));
    lifetimes_free(l);
}

/* A message that comes twice starts no step that has ended. */
Test(lifetimes, seen_twice)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    end(l, "1", 10);
    begin(l, OUTER, "1", 20);
    cr_assert(lifetimes_is_over(l, OUTER, 10 + END));
    lifetimes_free(l);
}

/* While an inner sequence runs the outer one is silent, and lives; steps that name no volume count. */
Test(lifetimes, inner_sequence)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    end(l, "1", 1000);
    begin_in(l, "request", INNER, "2", false, 2000);
    cr_assert(!lifetimes_is_over(l, OUTER, 300000));
    end(l, "2", 300000);
    cr_assert(!lifetimes_is_over(l, OUTER, 300000 + END - 1));
    cr_assert(!lifetimes_is_over(l, INNER, 300000 + END - 1));
    cr_assert(lifetimes_is_over(l, OUTER, 300000 + END));
    cr_assert(lifetimes_is_over(l, INNER, 300000 + END));
    lifetimes_free(l);
}

/* Callers may give all their requests the same id: that holds a run for so long only. */
Test(lifetimes, one_id_for_all_requests)
{
    struct lifetimes *l = make(16);
    char step[OW_ID_SIZE];
    begin(l, OUTER, "1", 0);
    end(l, "1", 1000);
    for (int64_t now = 2000; now < LIMIT; now += 10000) {
        (void)snprintf(step, sizeof step, "s%lld", (long long)now);
        begin(l, INNER, step, now);
        cr_assert(!lifetimes_is_over(l, OUTER, now));
    }
    cr_assert(lifetimes_is_over(l, OUTER, LIMIT));
    cr_assert(!lifetimes_is_over(l, INNER, LIMIT));
    lifetimes_free(l);
}

/* Other requests hold nothing. */
Test(lifetimes, other_requests)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    end(l, "1", 0);
    begin_in(l, "another", INNER, "2", true, END - 1);
    cr_assert(lifetimes_is_over(l, OUTER, END));
    cr_assert(!lifetimes_is_over(l, INNER, END));
    lifetimes_free(l);
}

/* Nobody asks for a run that names no volume of its own. */
Test(lifetimes, follows_what_has_volumes)
{
    struct lifetimes *l = make(16);
    begin_in(l, "request", OUTER, "1", false, 0);
    cr_assert_eq(lifetimes_count(l), 0);
    begin(l, OUTER, "2", 0);
    begin_in(l, "request", OUTER, "3", false, 1000);
    cr_assert_eq(lifetimes_count(l), 1);
    cr_assert(!lifetimes_is_over(l, OUTER, END + 1000));
    lifetimes_free(l);
}

/* A daemon that began later: no message of the run was heard, so it may be an outer one in its longest step. */
Test(lifetimes, nothing_heard)
{
    struct lifetimes *l = make(16);
    cr_assert(!lifetimes_is_over(l, OUTER, 5000));
    cr_assert(!lifetimes_is_over(l, OUTER, 5000 + LIMIT - 1));
    lifetimes_expire(l, 5000 + LIMIT - 1);
    cr_assert(lifetimes_is_over(l, OUTER, 5000 + LIMIT));
    lifetimes_free(l);
}

/* … until something is heard. */
Test(lifetimes, heard_after_all)
{
    struct lifetimes *l = make(16);
    cr_assert(!lifetimes_is_over(l, OUTER, 0));
    begin_in(l, "request", OUTER, "9", false, 1000);
    end(l, "9", 2000);
    cr_assert(lifetimes_is_over(l, OUTER, 2000 + END));
    lifetimes_free(l);
}

/* Without a broker silence says nothing. */
Test(lifetimes, nothing_ends_while_messages_are_missed)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    end(l, "1", 1000);
    lifetimes_miss(l, 2000);
    lifetimes_miss(l, 100000);
    cr_assert(!lifetimes_is_over(l, OUTER, 100000 + END - 1));
    begin(l, OUTER, "2", 100000 + END - 1); /* what was missed */
    cr_assert(!lifetimes_is_over(l, OUTER, 100000 + 2 * END));
    end(l, "2", 200000);
    cr_assert(lifetimes_is_over(l, OUTER, 200000 + END));
    lifetimes_free(l);
}

/* Nobody knows whose step it was. */
Test(lifetimes, missed_step)
{
    struct lifetimes *l = make(16);
    begin(l, OUTER, "1", 0);
    end(l, "1", 1000);
    lifetimes_miss_step(l, 2000);
    lifetimes_miss(l, 3000);
    cr_assert(!lifetimes_is_over(l, OUTER, 2000 + STEP + END - 1));
    cr_assert(lifetimes_is_over(l, OUTER, 2000 + STEP + END));
    lifetimes_free(l);
}

/* A plain action is a run of its own. */
Test(lifetimes, plain_action)
{
    struct lifetimes *l = make(16);
    begin_in(l, "request", "", OUTER, true, 0);
    end(l, OUTER, 10);
    cr_assert(!lifetimes_is_over(l, OUTER, 10 + END - 1));
    cr_assert(lifetimes_is_over(l, OUTER, 10 + END));
    lifetimes_free(l);
}

/* What is over is forgotten unless somebody asks; of too many the oldest goes, and is not over for that. */
Test(lifetimes, bounded)
{
    struct lifetimes *l = make(8);
    char run[OW_ID_SIZE], step[OW_ID_SIZE], root[OW_ID_SIZE];
    for (int i = 0; i < 100; i++) {
        (void)snprintf(run, sizeof run, "run%d", i);
        (void)snprintf(step, sizeof step, "step%d", i);
        (void)snprintf(root, sizeof root, "root%d", i % 3 == 0 ? i : 0);
        begin_in(l, root, run, step, true, i);
        cr_assert_leq(lifetimes_count(l), 8);
    }
    cr_assert(!lifetimes_is_over(l, "run0", END + 100));
    for (int i = 93; i < 100; i++) {
        (void)snprintf(step, sizeof step, "step%d", i);
        end(l, step, 100);
    }
    lifetimes_expire(l, 99 + END);
    cr_assert_eq(lifetimes_count(l), 8);
    cr_assert(lifetimes_is_over(l, "run99", 100 + END));
    lifetimes_expire(l, 100 + END + 60000 - 1);
    cr_assert_eq(lifetimes_count(l), 2, "run99 and run0 were asked for");
    lifetimes_expire(l, 100 + END + 60000);
    cr_assert_eq(lifetimes_count(l), 0);
    lifetimes_free(l);
}
