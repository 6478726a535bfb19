#include "daemon/openwhisk/balancer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"

static double clamp(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

void balancer_init(struct balancer *b, double managed_fraction, double blackbox_fraction)
{
    double managed = clamp(managed_fraction, 0.0, 1.0);
    *b = (struct balancer){
        .managed_fraction = managed,
        .blackbox_fraction = MAX(1.0 - managed, clamp(blackbox_fraction, 0.0, 1.0)),
    };
}

void balancer_done(struct balancer *b)
{
    free(b->managed.steps);
    free(b->blackbox.steps);
    *b = (struct balancer){0};
}

static unsigned gcd(unsigned a, unsigned b)
{
    while (b != 0) {
        unsigned rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static bool is_coprime_to_all(unsigned candidate, const unsigned *kept, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (gcd(candidate, kept[i]) != 1)
            return false;
    return true;
}

static int pool_make(unsigned first, unsigned size, struct balancer_pool *ret_pool)
{
    unsigned *steps = calloc(size, sizeof *steps);
    if (!steps)
        return -ENOMEM;
    unsigned n = 0;
    for (unsigned candidate = 1; candidate <= size; candidate++)
        if (gcd(candidate, size) == 1 && is_coprime_to_all(candidate, steps, n))
            steps[n++] = candidate;
    *ret_pool = (struct balancer_pool){first, size, steps, n};
    return 0;
}

/* fraction is within 0..1, so the product is within 0..n. */
static unsigned scale_up(unsigned n, double fraction)
{
    double product = (double)n * fraction;
    unsigned whole = (unsigned)product;
    return (double)whole < product ? whole + 1 : whole;
}

static unsigned scale_down(unsigned n, double fraction)
{
    return (unsigned)((double)n * fraction);
}

int balancer_resize(struct balancer *b, unsigned n_invokers)
{
    if (n_invokers == b->n_invokers)
        return 0;
    struct balancer_pool managed = {0}, blackbox = {0};
    if (n_invokers > 0) {
        int r = pool_make(0, MAX(1u, scale_up(n_invokers, b->managed_fraction)), &managed);
        if (r < 0)
            return r;
        unsigned size = MAX(1u, scale_down(n_invokers, b->blackbox_fraction));
        r = pool_make(n_invokers - size, size, &blackbox);
        if (r < 0) {
            free(managed.steps);
            return r;
        }
    }
    free(b->managed.steps);
    free(b->blackbox.steps);
    b->managed = managed;
    b->blackbox = blackbox;
    b->n_invokers = n_invokers;
    return 0;
}

uint32_t balancer_jhash(const char *text)
{
    uint32_t h = 0;
    for (; *text != '\0'; text++)
        h = 31 * h + (unsigned char)*text;
    return h;
}

uint32_t balancer_hash(const char *namespace_name, const char *action)
{
    uint32_t hash = balancer_jhash(namespace_name) ^ balancer_jhash(action);
    return hash > INT32_MAX ? -hash : hash; /* Math.abs, modulo 2^32 */
}

unsigned balancer_probe(const struct balancer_pool *pool, uint32_t hash, unsigned k)
{
    CHECK(pool->size > 0 && k < pool->size);
    uint64_t home = hash % pool->size;
    uint64_t step = pool->steps[hash % pool->n_steps];
    return pool->first + (unsigned)((home + step * k) % pool->size);
}
