#define HASH_NONFATAL_OOM 1
#include "daemon/openwhisk/action_volumes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define KEY_SIZE (OW_NAME_SIZE + 1 + OW_ACTION_SIZE)

struct action_entry {
    UT_hash_handle hh;
    char *key; /* "namespace\naction" */
    unsigned n;
    struct ow_volume_ref refs[];
};

struct action_volumes {
    struct action_entry *by_key; /* in order of use: the head is the one to go */
    unsigned max_actions;
};

int action_volumes_new(unsigned max_actions, struct action_volumes **ret_volumes)
{
    struct action_volumes *v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    v->max_actions = max_actions;
    *ret_volumes = v;
    return 0;
}

static void entry_drop(struct action_volumes *v, struct action_entry *entry)
{
    HASH_DELETE(hh, v->by_key, entry);
    free(entry->key);
    free(entry);
}

void action_volumes_free(struct action_volumes *v)
{
    if (!v)
        return;
    while (v->by_key)
        entry_drop(v, v->by_key);
    free(v);
}

static void make_key(const char *namespace_name, const char *action, char key[static KEY_SIZE])
{
    (void)snprintf(key, KEY_SIZE, "%s\n%s", namespace_name, action);
}

/* -ENOMEM: the entry is freed. */
static int entry_link(struct action_volumes *v, struct action_entry *entry)
{
    HASH_ADD_KEYPTR(hh, v->by_key, entry->key, strlen(entry->key), entry);
    if (entry->hh.tbl)
        return 0;
    free(entry->key);
    free(entry);
    return -ENOMEM;
}

static struct action_entry *entry_find(const struct action_volumes *v, const char *namespace_name,
                                       const char *action)
{
    char key[KEY_SIZE];
    make_key(namespace_name, action, key);
    struct action_entry *entry;
    HASH_FIND(hh, v->by_key, key, strlen(key), entry);
    return entry;
}

int action_volumes_put(struct action_volumes *v, const char *namespace_name, const char *action,
                       const struct ow_volume_refs *refs)
{
    struct action_entry *old = entry_find(v, namespace_name, action);
    if (old)
        entry_drop(v, old);
    struct action_entry *entry = calloc(1, sizeof *entry + refs->n * sizeof *entry->refs);
    if (!entry)
        return -ENOMEM;
    char key[KEY_SIZE];
    make_key(namespace_name, action, key);
    entry->key = strdup(key);
    if (!entry->key) {
        free(entry);
        return -ENOMEM;
    }
    entry->n = refs->n;
    memcpy(entry->refs, refs->refs, refs->n * sizeof *entry->refs);
    int r = entry_link(v, entry);
    if (r < 0)
        return r;
    if (HASH_COUNT(v->by_key) > v->max_actions)
        entry_drop(v, v->by_key);
    return 0;
}

int action_volumes_get(struct action_volumes *v, const char *namespace_name, const char *action,
                       struct ow_volume_refs *ret_refs)
{
    struct action_entry *entry = entry_find(v, namespace_name, action);
    if (!entry)
        return -ENOENT;
    struct ow_volume_refs refs = {.n = entry->n};
    memcpy(refs.refs, entry->refs, entry->n * sizeof *entry->refs);
    HASH_DELETE(hh, v->by_key, entry); /* to the young end */
    (void)!entry_link(v, entry);
    *ret_refs = refs;
    return 0;
}
