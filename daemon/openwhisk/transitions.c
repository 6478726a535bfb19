#define HASH_NONFATAL_OOM 1
#include "daemon/openwhisk/transitions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "proto/base/cleanup.h"

#define SUCCESSORS_MAX 8

struct successor {
    char *next;
    uint32_t count;
};

struct known {
    UT_hash_handle hh;
    unsigned n;
    struct successor successors[SUCCESSORS_MAX];
    uint32_t key_length;
    char key[]; /* "namespace\ncontext": names hold no newline */
};

struct transitions {
    struct known *by_key; /* uthash keeps insertion order: the head is the one to go */
    unsigned max_contexts;
    uint64_t n_learned;
};

#define KEY_SIZE (OW_NAME_SIZE + 1 + OW_ACTION_SIZE)

int transitions_new(unsigned max_contexts, struct transitions **ret_transitions)
{
    struct transitions *t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->max_contexts = max_contexts;
    *ret_transitions = t;
    return 0;
}

static void source_free(struct known *s)
{
    for (unsigned i = 0; i < s->n; i++)
        free(s->successors[i].next);
    free(s);
}

static void source_drop(struct transitions *t, struct known *s)
{
    HASH_DELETE(hh, t->by_key, s);
    source_free(s);
}

void transitions_free(struct transitions *t)
{
    if (!t)
        return;
    while (t->by_key)
        source_drop(t, t->by_key);
    free(t);
}

static uint32_t make_key(const char *namespace_name, const char *context, char key[static KEY_SIZE])
{
    return (uint32_t)snprintf(key, KEY_SIZE, "%s\n%s", namespace_name, context);
}

/* -ENOMEM: the entry is freed. */
static int source_link(struct transitions *t, struct known *s)
{
    HASH_ADD_KEYPTR(hh, t->by_key, s->key, s->key_length, s);
    if (s->hh.tbl)
        return 0;
    source_free(s);
    return -ENOMEM;
}

static struct known *source_find(struct transitions *t, const char *key, uint32_t length)
{
    struct known *s;
    HASH_FIND(hh, t->by_key, key, length, s);
    if (!s || !s->hh.next)
        return s;
    HASH_DELETE(hh, t->by_key, s); /* to the young end */
    return source_link(t, s) < 0 ? NULL : s;
}

static int source_make(struct transitions *t, const char *key, uint32_t length,
                       struct known **ret_source)
{
    struct known *s = calloc(1, sizeof *s + length);
    if (!s)
        return -ENOMEM;
    s->key_length = length;
    memcpy(s->key, key, length);
    int r = source_link(t, s);
    if (r < 0)
        return r;
    if (HASH_COUNT(t->by_key) > t->max_contexts)
        source_drop(t, t->by_key);
    *ret_source = s;
    return 0;
}

static struct successor *find_successor(struct known *s, const char *next)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->successors[i].next, next) == 0)
            return &s->successors[i];
    return NULL;
}

static struct successor *rarest(struct known *s)
{
    struct successor *least = &s->successors[0];
    for (unsigned i = 1; i < s->n; i++)
        if (s->successors[i].count < least->count)
            least = &s->successors[i];
    return least;
}

static int add_successor(struct known *s, const char *next, struct successor **ret_successor)
{
    char *copy = strdup(next);
    if (!copy)
        return -ENOMEM;
    struct successor *slot;
    if (s->n < SUCCESSORS_MAX) {
        slot = &s->successors[s->n++];
    } else {
        slot = rarest(s);
        free(slot->next);
    }
    *slot = (struct successor){copy, 0};
    *ret_successor = slot;
    return 0;
}

/* Counts stay small, so that a sequence that was changed is believed soon. */
static void count_up(struct known *s, struct successor *successor, uint32_t count)
{
    enum {
        COUNT_MAX = 64
    };
    successor->count += MIN(count, (uint32_t)COUNT_MAX);
    if (successor->count <= COUNT_MAX)
        return;
    for (unsigned i = 0; i < s->n; i++)
        s->successors[i].count = (s->successors[i].count + 1) / 2;
}

int transitions_learn(struct transitions *t, const char *namespace_name, const char *context,
                      const char *next, uint32_t count)
{
    char key[KEY_SIZE];
    uint32_t length = make_key(namespace_name, context, key);
    struct known *s = source_find(t, key, length);
    int r = s ? 0 : source_make(t, key, length, &s);
    if (r < 0)
        return r;
    struct successor *successor = find_successor(s, next);
    r = successor ? 0 : add_successor(s, next, &successor);
    if (r < 0)
        return r;
    count_up(s, successor, count);
    t->n_learned++;
    return 0;
}

int transitions_guess(struct transitions *t, const char *namespace_name, const char *context,
                      struct transition_guess *ret_guess)
{
    char key[KEY_SIZE];
    uint32_t length = make_key(namespace_name, context, key);
    struct known *s = source_find(t, key, length);
    if (!s || s->n == 0)
        return -ENOENT;
    const struct successor *best = &s->successors[0];
    uint64_t total = 0;
    for (unsigned i = 0; i < s->n; i++) {
        total += s->successors[i].count;
        if (s->successors[i].count > best->count)
            best = &s->successors[i];
    }
    if (best->next[0] == '\0')
        return -ENODATA;
    struct transition_guess guess = {.probability = (double)best->count / (double)total,
                                     .n_seen = best->count};
    (void)snprintf(guess.next, sizeof guess.next, "%s", best->next);
    *ret_guess = guess;
    return 0;
}

void transitions_visit(struct transitions *t, transition_visit_fn *visit, void *arg)
{
    for (struct known *s = t->by_key; s; s = s->hh.next) {
        char key[KEY_SIZE];
        memcpy(key, s->key, s->key_length);
        key[s->key_length] = '\0';
        char *newline = strchr(key, '\n');
        CHECK(newline);
        *newline = '\0';
        for (unsigned i = 0; i < s->n; i++)
            visit(arg, key, newline + 1, s->successors[i].next, s->successors[i].count);
    }
}

unsigned transitions_count(const struct transitions *t)
{
    return HASH_COUNT(t->by_key);
}

uint64_t transitions_learned(const struct transitions *t)
{
    return t->n_learned;
}
