/* The table of volumes: who may use an entry, and who may change it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/private.h"

struct entry *volumes_find_entry(struct volumes *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct entry *entry;
    HASH_FIND_STR(volumes->entries, name, entry);
    return entry;
}

struct entry *volumes_find_or_add(struct volumes *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct entry *entry = volumes_find_entry(volumes, name);
    if (entry)
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    (void)snprintf(entry->name, sizeof entry->name, "%s", name);
    HASH_ADD_STR(volumes->entries, name, entry);
    return entry;
}

static void drop_if_unused(struct volumes *volumes, struct entry *entry) REQUIRES(volumes->lock)
{
    if (entry->attachment || entry->is_busy || entry->errand != ERRAND_NONE)
        return;
    HASH_DEL(volumes->entries, entry);
    free(entry);
}

int volumes_begin(struct volumes *volumes, const char *name, int64_t deadline_ns,
                  struct entry **ret_entry)
{
    int r = volume_name_check(name);
    if (r < 0)
        return r;
    SCOPED_LOCK(&volumes->lock);
    for (;;) {
        if (volumes->is_stopping)
            return -ESHUTDOWN;
        struct entry *entry = volumes_find_or_add(volumes, name);
        if (!entry)
            return -ENOMEM;
        if (!entry->is_busy) {
            entry->is_busy = true;
            *ret_entry = entry;
            return 0;
        }
        if (!cond_wait_until(&volumes->changed, &volumes->lock, deadline_ns))
            return -ETIMEDOUT;
    }
}

void volumes_end(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    entry->is_busy = false;
    drop_if_unused(volumes, entry);
    cond_broadcast(&volumes->changed);
}

void volumes_show(struct volumes *volumes, struct entry *entry, struct attachment *attachment)
{
    SCOPED_LOCK(&volumes->lock);
    entry->attachment = attachment;
    entry->is_closing = false;
    cond_broadcast(&volumes->changed);
}

struct attachment *volumes_hide(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    entry->is_closing = true;
    while (entry->n_users > 0)
        cond_wait(&volumes->changed, &volumes->lock);
    return TAKE(entry->attachment);
}

struct entry *volumes_use(struct volumes *volumes, const char *name)
{
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry = volumes_find_entry(volumes, name);
    if (!entry || !entry->attachment || entry->is_closing)
        return NULL;
    entry->n_users++;
    return entry;
}

void volumes_unuse(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    entry->n_users--;
    cond_broadcast(&volumes->changed);
}

struct volume *volumes_find(void *ctx, const char *name)
{
    struct volumes *volumes = ctx;
    struct entry *entry = volumes_use(volumes, name);
    if (!entry)
        return NULL;
    struct volume *volume = attachment_volume(entry->attachment);
    if (!volume)
        volumes_unuse(volumes, entry);
    return volume;
}

void volumes_put(void *ctx, struct volume *volume)
{
    struct volumes *volumes = ctx;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        if (entry->attachment && attachment_volume(entry->attachment) == volume) {
            entry->n_users--;
            cond_broadcast(&volumes->changed);
            return;
        }
    }
    CHECK(!"a volume that was found is attached until it is put");
}

bool volumes_is_wanted(struct volumes *volumes, const char *name)
{
    SCOPED_LOCK(&volumes->lock);
    const struct entry *entry = volumes_find_entry(volumes, name);
    return entry && entry->attachment && !entry->is_closing && !volumes->is_stopping;
}

int volumes_positions(struct volumes *volumes, struct volume_position *ret_positions, int max)
{
    int n = 0;
    SCOPED_LOCK(&volumes->lock);
    for (struct entry *entry = volumes->entries; entry; entry = entry->hh.next) {
        struct volume *volume = NULL;
        if (entry->attachment && !entry->is_closing)
            volume = attachment_volume(entry->attachment);
        if (volume && n < max) {
            (void)snprintf(ret_positions[n].name, sizeof ret_positions[n].name, "%s", entry->name);
            ret_positions[n].applied = volume_applied(volume);
        }
        n += volume != NULL;
    }
    return n;
}

struct volume_position *volumes_all_positions(struct volumes *volumes, int *ret_n)
{
    int n = volumes_positions(volumes, NULL, 0);
    struct volume_position *all = calloc((size_t)n + 1, sizeof *all);
    *ret_n = all ? MIN(n, volumes_positions(volumes, all, n)) : 0;
    return all;
}

void volumes_balance(struct volumes *volumes)
{
    int n;
    AUTO_FREE struct volume_position *all = volumes_all_positions(volumes, &n);
    for (int i = 0; i < n; i++) {
        struct entry *entry = volumes_use(volumes, all[i].name);
        if (!entry)
            continue;
        attachment_balance(entry->attachment);
        volumes_unuse(volumes, entry);
    }
}

/* ---- status ---- */

int volumes_status(struct volumes *volumes, const char *name, struct volume_status *ret_status)
{
    struct entry *entry = volumes_use(volumes, name);
    if (!entry)
        return -ENOENT;
    attachment_status(entry->attachment, ret_status);
    volumes_unuse(volumes, entry);
    return 0;
}

int volumes_list(struct volumes *volumes, struct volume_status *ret_list, int max)
{
    int n = 0;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        if (!entry->attachment || entry->is_closing)
            continue;
        if (n < max)
            attachment_status(entry->attachment, &ret_list[n]);
        n++;
    }
    return n;
}
