/* daemon/openwhisk/balancer.h — where OpenWhisk's classic balancer (ShardingContainerPoolBalancer) puts an action.
 *
 * A controller hashes (invoking namespace, action) to a home among the invokers and, when that is unhealthy or full,
 * goes round in steps that are coprime to the pool's size. The same arithmetic here gives the same order, so the
 * host of the next step is known before the controller has chosen it. Pure: nothing but arithmetic and memory.
 *
 *     invokers   0 1 2 3 4 5 6 7 8 9        N = highest id ever seen + 1
 *     managed    |---------------|          first max(1, ceil(0.9 N))
 *     blackbox                     |        last  max(1, floor(0.1 N)): actions that bring their own image
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"

struct balancer_pool {
    unsigned first; /* invoker id of index 0 */
    unsigned size;
    unsigned *steps; /* pairwise coprime, each coprime to size */
    unsigned n_steps;
};

struct balancer {
    double managed_fraction, blackbox_fraction;
    unsigned n_invokers;
    struct balancer_pool managed, blackbox; /* size 0 while there are no invokers */
};

/* Fractions as OpenWhisk's configuration has them, 0.9 and 0.1; clamped as OpenWhisk clamps them. */
void balancer_init(struct balancer *b, double managed_fraction, double blackbox_fraction);
void balancer_done(struct balancer *b);

/* The pools over invokers 0 … n-1. Unchanged on -ENOMEM. Cheap when n is what it was. */
MUST_USE int balancer_resize(struct balancer *b, unsigned n_invokers);

/* Java's String.hashCode over ASCII, which OpenWhisk's names are. */
uint32_t balancer_jhash(const char *text);

/* action: "namespace[/package]/name" of its owner, without leading slash and version. */
uint32_t balancer_hash(const char *namespace_name, const char *action);

/* The invoker id that is asked as k-th, k = 0 for the home, below the pool's size. The pool must not be empty. */
unsigned balancer_probe(const struct balancer_pool *pool, uint32_t hash, unsigned k);
