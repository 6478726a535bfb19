#define HASH_NONFATAL_OOM 1
#include "daemon/openwhisk/placements.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define INVOKERS_MAX 8 /* of one action */
#define KEY_SIZE (OW_NAME_SIZE + 1 + OW_ACTION_SIZE)

struct place {
    unsigned invoker;
    int64_t used_ms;
};

struct placed {
    UT_hash_handle hh;
    unsigned n;
    struct place places[INVOKERS_MAX];
    char key[]; /* "namespace\naction": names hold no newline */
};

struct started {
    UT_hash_handle hh;
    char id[OW_ID_SIZE];
    int expected;
    char key[]; /* of its action */
};

struct placements {
    struct placed *by_action; /* uthash keeps insertion order: the head is the one to go */
    struct started *by_id;    /* likewise */
    unsigned max;             /* of each */
};

int placements_new(unsigned max_actions, struct placements **ret_placements)
{
    struct placements *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->max = max_actions;
    *ret_placements = p;
    return 0;
}

static void placed_drop(struct placements *p, struct placed *placed)
{
    HASH_DELETE(hh, p->by_action, placed);
    free(placed);
}

static void started_drop(struct placements *p, struct started *started)
{
    HASH_DELETE(hh, p->by_id, started);
    free(started);
}

void placements_free(struct placements *p)
{
    if (!p)
        return;
    while (p->by_action)
        placed_drop(p, p->by_action);
    while (p->by_id)
        started_drop(p, p->by_id);
    free(p);
}

static void make_key(const char *namespace_name, const char *action, char key[static KEY_SIZE])
{
    (void)snprintf(key, KEY_SIZE, "%s\n%s", namespace_name, action);
}

static struct placed *placed_find(struct placements *p, const char *key)
{
    struct placed *placed;
    HASH_FIND(hh, p->by_action, key, strlen(key), placed);
    return placed;
}

/* At the young end. NULL: no memory, and it is freed. */
static struct placed *placed_link(struct placements *p, struct placed *placed)
{
    HASH_ADD_KEYPTR(hh, p->by_action, placed->key, strlen(placed->key), placed);
    if (!placed->hh.tbl) {
        free(placed);
        return NULL;
    }
    if (HASH_COUNT(p->by_action) > p->max)
        placed_drop(p, p->by_action);
    return placed;
}

static struct placed *placed_use(struct placements *p, const char *key)
{
    struct placed *placed = placed_find(p, key);
    if (placed) {
        HASH_DELETE(hh, p->by_action, placed);
    } else {
        placed = calloc(1, sizeof *placed + strlen(key) + 1);
        if (!placed)
            return NULL;
        memcpy(placed->key, key, strlen(key));
    }
    return placed_link(p, placed);
}

/* The place on this invoker, a new one, or that used longest ago. */
static struct place *place_for(struct placed *placed, unsigned invoker)
{
    struct place *oldest = &placed->places[0];
    for (unsigned i = 0; i < placed->n; i++) {
        if (placed->places[i].invoker == invoker)
            return &placed->places[i];
        if (placed->places[i].used_ms < oldest->used_ms)
            oldest = &placed->places[i];
    }
    return placed->n < INVOKERS_MAX ? &placed->places[placed->n++] : oldest;
}

static int seen(struct placements *p, const char *key, unsigned invoker, int64_t now_ms)
{
    struct placed *placed = placed_use(p, key);
    if (!placed)
        return -ENOMEM;
    *place_for(placed, invoker) = (struct place){invoker, now_ms};
    return 0;
}

int placements_seen(struct placements *p, const char *namespace_name, const char *action,
                    unsigned invoker, int64_t now_ms)
{
    char key[KEY_SIZE];
    make_key(namespace_name, action, key);
    return seen(p, key, invoker, now_ms);
}

void placements_gone(struct placements *p, const char *namespace_name, const char *action,
                     unsigned invoker)
{
    char key[KEY_SIZE];
    make_key(namespace_name, action, key);
    struct placed *placed = placed_find(p, key);
    for (unsigned i = 0; placed && i < placed->n; i++) {
        if (placed->places[i].invoker != invoker)
            continue;
        placed->places[i] = placed->places[--placed->n];
        return;
    }
}

int placements_started(struct placements *p, const char *id, const char *namespace_name,
                       const char *action, int expected)
{
    char key[KEY_SIZE];
    make_key(namespace_name, action, key);
    struct started *started;
    HASH_FIND(hh, p->by_id, id, strlen(id), started);
    if (started)
        return 0;
    started = calloc(1, sizeof *started + strlen(key) + 1);
    if (!started)
        return -ENOMEM;
    started->expected = expected;
    (void)snprintf(started->id, sizeof started->id, "%s", id);
    memcpy(started->key, key, strlen(key));
    HASH_ADD_KEYPTR(hh, p->by_id, started->id, strlen(started->id), started);
    if (!started->hh.tbl) {
        free(started);
        return -ENOMEM;
    }
    if (HASH_COUNT(p->by_id) > p->max)
        started_drop(p, p->by_id);
    return 0;
}

bool placements_completed(struct placements *p, const char *id, unsigned invoker, int64_t now_ms)
{
    struct started *started;
    HASH_FIND(hh, p->by_id, id, strlen(id), started);
    if (!started)
        return false;
    bool was_expected = started->expected == (int)invoker;
    (void)!seen(p, started->key, invoker, now_ms);
    started_drop(p, started);
    return was_expected;
}

int placements_guess(struct placements *p, const char *namespace_name, const char *action,
                     int64_t now_ms)
{
    char key[KEY_SIZE];
    make_key(namespace_name, action, key);
    const struct placed *placed = placed_find(p, key);
    const struct place *last = NULL;
    for (unsigned i = 0; placed && i < placed->n; i++)
        if (!last || placed->places[i].used_ms > last->used_ms)
            last = &placed->places[i];
    if (!last || now_ms - last->used_ms > PLACEMENT_LIVE_MS + PLACEMENT_PAUSED_MS)
        return -1;
    return (int)last->invoker;
}
