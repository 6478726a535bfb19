#define HASH_NONFATAL_OOM 1
#include "daemon/kafka/directory_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct directory_host {
    UT_hash_handle hh, hh_id;
    struct member_host host;
    int64_t seen_ms;
};

struct directory_volume {
    UT_hash_handle hh;
    struct member_volume volume;
};

static void host_remove(struct directory_table *t, struct directory_host *entry)
{
    HASH_DELETE(hh, t->hosts, entry);
    HASH_DELETE(hh_id, t->hosts_by_id, entry);
    free(entry);
}

static void volume_remove(struct directory_table *t, struct directory_volume *entry)
{
    HASH_DELETE(hh, t->volumes, entry);
    free(entry);
}

void directory_table_done(struct directory_table *t)
{
    while (t->hosts)
        host_remove(t, t->hosts);
    while (t->volumes)
        volume_remove(t, t->volumes);
}

static struct directory_host *find_host(const struct directory_table *t, const char *name)
{
    struct directory_host *entry;
    HASH_FIND_STR(t->hosts, name, entry);
    return entry;
}

static struct directory_host *find_host_by_id(const struct directory_table *t, struct host_id id)
{
    struct directory_host *entry;
    HASH_FIND(hh_id, t->hosts_by_id, &id, sizeof id, entry);
    return entry;
}

static struct directory_volume *find_volume(const struct directory_table *t, const char *name)
{
    struct directory_volume *entry;
    HASH_FIND_STR(t->volumes, name, entry);
    return entry;
}

static int add_host(struct directory_table *t, const struct member_host *host, int64_t seen_ms)
{
    if (HASH_COUNT(t->hosts) >= DIRECTORY_HOSTS_MAX)
        return -ENOSPC;
    struct directory_host *entry = calloc(1, sizeof *entry);
    if (!entry)
        return -ENOMEM;
    entry->host = *host;
    entry->seen_ms = seen_ms;
    HASH_ADD_KEYPTR(hh, t->hosts, entry->host.name, strlen(entry->host.name), entry);
    if (!entry->hh.tbl) {
        free(entry);
        return -ENOMEM;
    }
    HASH_ADD_KEYPTR(hh_id, t->hosts_by_id, &entry->host.id, sizeof entry->host.id, entry);
    if (!entry->hh_id.tbl) {
        HASH_DELETE(hh, t->hosts, entry);
        free(entry);
        return -ENOMEM;
    }
    return 0;
}

int directory_table_put_host(struct directory_table *t, const struct member_host *host,
                             int64_t seen_ms)
{
    struct directory_host *entry = find_host_by_id(t, host->id);
    if (!entry)
        return add_host(t, host, seen_ms);
    if (strcmp(entry->host.name, host->name) != 0)
        return -EEXIST;
    if (seen_ms < entry->seen_ms)
        return 0;
    entry->seen_ms = seen_ms;
    memcpy(entry->host.address, host->address, sizeof entry->host.address);
    entry->host.invoker = host->invoker;
    return 0;
}

void directory_table_drop_host(struct directory_table *t, const char *name)
{
    struct directory_host *entry = find_host(t, name);
    if (entry)
        host_remove(t, entry);
}

static bool is_alive(const struct directory_host *entry, int64_t now_ms)
{
    return now_ms - entry->seen_ms < DIRECTORY_ALIVE_MS;
}

void directory_table_hold(struct directory_table *t, int64_t last_ms, int64_t now_ms)
{
    for (struct directory_host *entry = t->hosts; entry; entry = entry->hh.next)
        if (is_alive(entry, last_ms) && entry->seen_ms + (now_ms - last_ms) <= now_ms)
            entry->seen_ms += now_ms - last_ms;
}

static int copy_host(const struct directory_host *entry, int64_t now_ms,
                     struct member_host *ret_host)
{
    if (!entry)
        return -ENOENT;
    *ret_host = entry->host;
    ret_host->alive = is_alive(entry, now_ms);
    return 0;
}

int directory_table_host(const struct directory_table *t, const char *name, int64_t now_ms,
                         struct member_host *ret_host)
{
    return copy_host(find_host(t, name), now_ms, ret_host);
}

int directory_table_host_by_id(const struct directory_table *t, struct host_id id, int64_t now_ms,
                               struct member_host *ret_host)
{
    return copy_host(find_host_by_id(t, id), now_ms, ret_host);
}

int directory_table_host_by_invoker(const struct directory_table *t, int invoker, int64_t now_ms,
                                    struct member_host *ret_host)
{
    const struct directory_host *last = NULL;
    for (const struct directory_host *entry = t->hosts; entry && invoker >= 0;
         entry = entry->hh.next)
        if (entry->host.invoker == invoker && (!last || entry->seen_ms > last->seen_ms))
            last = entry;
    return copy_host(last, now_ms, ret_host);
}

int directory_table_hosts(const struct directory_table *t, const char *self, int64_t now_ms,
                          struct member_host *ret_hosts, int max)
{
    int n = 0;
    for (const struct directory_host *entry = t->hosts; entry; entry = entry->hh.next) {
        if (strcmp(entry->host.name, self) == 0)
            continue;
        if (n < max)
            (void)copy_host(entry, now_ms, &ret_hosts[n]);
        n++;
    }
    return n;
}

int directory_table_put_volume(struct directory_table *t, const struct member_volume *volume)
{
    struct directory_volume *entry = find_volume(t, volume->name);
    if (entry) {
        entry->volume = *volume;
        return 0;
    }
    if (HASH_COUNT(t->volumes) >= DIRECTORY_VOLUMES_MAX)
        return -ENOSPC;
    entry = calloc(1, sizeof *entry);
    if (!entry)
        return -ENOMEM;
    entry->volume = *volume;
    HASH_ADD_KEYPTR(hh, t->volumes, entry->volume.name, strlen(entry->volume.name), entry);
    if (!entry->hh.tbl) {
        free(entry);
        return -ENOMEM;
    }
    return 0;
}

void directory_table_drop_volume(struct directory_table *t, const char *name)
{
    struct directory_volume *entry = find_volume(t, name);
    if (entry)
        volume_remove(t, entry);
}

int directory_table_volume(const struct directory_table *t, const char *name,
                           struct member_volume *ret_volume)
{
    const struct directory_volume *entry = find_volume(t, name);
    if (!entry)
        return -ENOENT;
    *ret_volume = entry->volume;
    return 0;
}

int directory_table_volumes(const struct directory_table *t, struct member_volume *ret_volumes,
                            int max)
{
    int n = 0;
    for (const struct directory_volume *entry = t->volumes; entry; entry = entry->hh.next) {
        if (n < max)
            ret_volumes[n] = entry->volume;
        n++;
    }
    return n;
}
