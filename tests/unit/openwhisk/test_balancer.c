/* The classic balancer's arithmetic against worked examples and against where a real controller sent actions. */
#include <criterion/criterion.h>
#include <string.h>

#include "daemon/openwhisk/balancer.h"
#include "proto/openwhisk/message.h"
#include "proto/openwhisk/topic.h"
#include "tests/unit/openwhisk/capture.h"

TestSuite(balancer, .timeout = 10);

static struct balancer balancer_of(unsigned n)
{
    struct balancer b;
    balancer_init(&b, 0.9, 0.1);
    cr_assert_eq(balancer_resize(&b, n), 0);
    return b;
}

static void assert_order(const struct balancer_pool *pool, uint32_t hash, const unsigned *order,
                         unsigned n)
{
    cr_assert_eq(pool->size, n);
    for (unsigned k = 0; k < n; k++)
        cr_assert_eq(balancer_probe(pool, hash, k), order[k], "k=%u", k);
}

/* Java's String.hashCode and the absolute value of the exclusive or. */
Test(balancer, hash)
{
    cr_assert_eq(balancer_jhash(""), 0);
    cr_assert_eq((int32_t)balancer_jhash("guest"), 98708952);
    cr_assert_eq((int32_t)balancer_jhash("guest/hello"), 86723035);
    cr_assert_eq((int32_t)balancer_jhash("guest/pipeline/resize"), -540134774);
    cr_assert_eq((int32_t)balancer_jhash("alice"), 92903040);
    cr_assert_eq((int32_t)balancer_jhash("alice/infer"), -1429361665);
    cr_assert_eq(balancer_hash("guest", "guest/hello"), 13198339);
    cr_assert_eq(balancer_hash("guest", "guest/pipeline/resize"), 634642606);
    cr_assert_eq(balancer_hash("alice", "alice/infer"), 1354482305);
    cr_assert_eq(balancer_hash("guest", "whisk.system/utils/echo"), 1997953949);
    cr_assert_eq(balancer_hash("guest", "guest/split"), 2712059);
    cr_assert_eq(balancer_hash("guest", "guest/infer"), 14634127);
    cr_assert_eq(balancer_hash("guest", "guest/merge"), 9697433);
}

/* The whole order in which a controller asks. */
Test(balancer, worked_examples)
{
    struct balancer b = balancer_of(10);
    assert_order(&b.managed, balancer_hash("guest", "guest/hello"),
                 (unsigned[]){1, 8, 6, 4, 2, 0, 7, 5, 3}, 9);
    assert_order(&b.managed, balancer_hash("guest", "whisk.system/utils/echo"),
                 (unsigned[]){2, 4, 6, 8, 1, 3, 5, 7, 0}, 9);
    cr_assert_eq(b.managed.n_steps, 4);
    cr_assert(memcmp(b.managed.steps, (unsigned[]){1, 2, 5, 7}, 4 * sizeof(unsigned)) == 0);
    cr_assert_eq(balancer_resize(&b, 5), 0);
    assert_order(&b.managed, balancer_hash("guest", "guest/pipeline/resize"),
                 (unsigned[]){1, 3, 0, 2, 4}, 5);
    cr_assert_eq(balancer_resize(&b, 20), 0);
    assert_order(&b.blackbox, balancer_hash("alice", "alice/infer"), (unsigned[]){19, 18}, 2);
    cr_assert_eq(balancer_resize(&b, 4), 0);
    assert_order(&b.managed, balancer_hash("guest", "guest/merge"), (unsigned[]){1, 0, 3, 2}, 4);
    cr_assert_eq(balancer_probe(&b.managed, balancer_hash("guest", "guest/split"), 0), 3);
    cr_assert_eq(balancer_probe(&b.managed, balancer_hash("guest", "guest/infer"), 0), 3);
    balancer_done(&b);
}

/* Sizes of both pools, which overlap while there are few invokers. */
Test(balancer, pools)
{
    static const unsigned sizes[][3] = {{1, 1, 1},   {2, 2, 1},   {5, 5, 1},
                                        {9, 9, 1},   {10, 9, 1},  {12, 11, 1},
                                        {16, 15, 1}, {20, 18, 2}, {30, 27, 3}};
    struct balancer b = balancer_of(0);
    cr_assert_eq(b.managed.size, 0);
    for (unsigned i = 0; i < N_ELEMENTS(sizes); i++) {
        cr_assert_eq(balancer_resize(&b, sizes[i][0]), 0);
        cr_assert_eq(b.managed.size, sizes[i][1], "N=%u", sizes[i][0]);
        cr_assert_eq(b.blackbox.size, sizes[i][2], "N=%u", sizes[i][0]);
        cr_assert_eq(b.blackbox.first, sizes[i][0] - sizes[i][2]);
    }
    balancer_done(&b);
}

/* Fractions outside of 0..1 are clamped, and what is not managed is blackbox. */
Test(balancer, fractions)
{
    struct balancer b;
    balancer_init(&b, 1.5, -3.0);
    cr_assert_eq(balancer_resize(&b, 10), 0);
    cr_assert_eq(b.managed.size, 10);
    cr_assert_eq(b.blackbox.size, 1);
    balancer_done(&b);
    balancer_init(&b, 0.5, 0.1);
    cr_assert_eq(balancer_resize(&b, 10), 0);
    cr_assert_eq(b.blackbox.size, 5);
    balancer_done(&b);
}

/* Every invoker of a pool is asked exactly once, whatever the size. */
Test(balancer, probes_reach_all)
{
    for (unsigned n = 1; n <= 64; n++) {
        struct balancer b = balancer_of(n);
        for (uint32_t hash = 0; hash < 50; hash++) {
            uint64_t seen = 0;
            for (unsigned k = 0; k < b.managed.size; k++)
                seen |= 1ULL << balancer_probe(&b.managed, hash * 7919, k);
            cr_assert_eq(__builtin_popcountll(seen), b.managed.size, "n=%u", n);
        }
        balancer_done(&b);
    }
}

struct homes {
    struct balancer balancer;
    unsigned n;
};

static void check_home(void *arg, const struct captured *record)
{
    static const struct ow_limits limits = OW_LIMITS_DEFAULT;
    struct homes *homes = arg;
    struct ow_message m;
    unsigned invoker;
    cr_assert_eq(ow_message_decode(record->payload, record->size, &limits, &m), 0);
    if (ow_topic_parse("", record->topic, &invoker) != OW_TOPIC_INVOKER || m.activation.is_noise)
        return;
    const struct ow_activation *a = &m.activation;
    cr_assert_eq(
        balancer_probe(&homes->balancer.managed, balancer_hash(a->namespace_name, a->action), 0),
        invoker, "%s", a->action);
    homes->n++;
}

/* A real controller with four invokers sent every one of its activations to the home that we compute. */
Test(balancer, captured_homes)
{
    struct homes homes = {.balancer = balancer_of(4)};
    (void)captured_generation("classic", check_home, &homes);
    cr_assert_eq(homes.n, 51);
    balancer_done(&homes.balancer);
}
