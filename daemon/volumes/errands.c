/* What must be done later, on the maintenance thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/volumes/private.h"

#include "fs/store/image.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

#define RETRY_NS NS_PER_S

static struct entry *send_errand(struct volumes *volumes, const char *name, enum errand errand)
    REQUIRES(volumes->lock)
{
    struct entry *entry = volumes_find_or_add(volumes, name);
    if (entry && !volumes->is_stopping)
        entry->errand = errand;
    cond_broadcast(&volumes->changed);
    return entry;
}

void volumes_send_errand(struct volumes *volumes, const char *name, enum errand errand)
{
    SCOPED_LOCK(&volumes->lock);
    (void)send_errand(volumes, name, errand);
}

void volumes_on_expire(void *ctx, const char *name)
{
    struct volumes *volumes = ctx;
    struct entry *entry = volumes_use(volumes, name);
    if (!entry)
        return;
    attachment_expire(entry->attachment);
    volumes_unuse(volumes, entry);
}

void volumes_on_gone(void *ctx, const char *name)
{
    volumes_send_errand(ctx, name, ERRAND_FORGET);
}

void volumes_on_renamed(void *ctx, const char *name, const char *new_name)
{
    struct volumes *volumes = ctx;
    if (volume_name_check(new_name) < 0)
        return;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry = send_errand(volumes, name, ERRAND_RENAME);
    if (entry)
        (void)snprintf(entry->new_name, sizeof entry->new_name, "%s", new_name);
}

void volumes_on_stale(void *ctx, const char *name)
{
    volumes_send_errand(ctx, name, ERRAND_REATTACH);
}

static void announce_home(struct volumes *volumes, const char *name, uint64_t limit_bytes)
{
    int r = volumes_announce(volumes, name, limit_bytes);
    if (r < 0)
        log_warning("volumes",
                    "cannot announce that this host is the home of volume '%s': %s: others ask",
                    name, strerror(-r));
}

static void announce_if_news(struct volumes *volumes, const char *name)
{
    struct member_volume known;
    struct tree_usage usage;
    struct volume *volume = volumes_find(volumes, name);
    if (!volume)
        return;
    tree_usage(volume_tree(volume), &usage);
    volumes_put(volumes, volume);
    if (volumes->membership->ops->volume(volumes->membership, name, &known) < 0 ||
        strcmp(known.home, volumes->self) != 0)
        announce_home(volumes, name, usage.limit_bytes);
}

/* The record on this disk is whom to ask first after a restart; the log is what counts. */
void volumes_on_moved(void *ctx, const char *name, struct host_id home)
{
    struct volumes *volumes = ctx;
    struct member_host host;
    bool is_self = host_equal(home, volumes->env.self);
    if (!is_self && volumes->membership->ops->host_by_id(volumes->membership, home, &host) < 0)
        return;
    int r =
        volume_directory_set_home(&volumes->directories, name, is_self ? volumes->self : host.name);
    if (r < 0)
        log_warning("volumes", "cannot note the new home of volume '%s': %s", name, strerror(-r));
    if (is_self)
        announce_if_news(volumes, name);
}

static int forget_entry(struct volumes *volumes, struct entry *entry)
{
    log_info("volumes", "volume '%s' was removed by its home", entry->name);
    if (entry->attachment) {
        (void)!attachment_unmount(entry->attachment, true);
        volumes_close_entry(volumes, entry);
    }
    return volume_directory_delete(&volumes->directories, entry->name);
}

static int reattach_entry(struct volumes *volumes, struct entry *entry)
{
    log_warning("volumes",
                "volume '%s' is too far behind its home: attaching it anew, open files get EIO",
                entry->name);
    if (entry->attachment) {
        (void)!attachment_unmount(entry->attachment, true);
        volumes_close_entry(volumes, entry);
    }
    return volumes_attach_entry(volumes, entry, clock_mono_ns() + ATTACH_NS);
}

static int rename_entry(struct volumes *volumes, struct entry *entry)
{
    char new_name[VOLUME_NAME_MAX_BYTES + 1];
    {
        SCOPED_LOCK(&volumes->lock);
        (void)snprintf(new_name, sizeof new_name, "%s", entry->new_name);
    }
    return volumes_follow_name(volumes, entry, new_name);
}

static int run_errand(struct volumes *volumes, struct entry *entry, enum errand errand)
{
    switch (errand) {
    case ERRAND_ATTACH:
        return volumes_attach_entry(volumes, entry, clock_mono_ns() + ATTACH_NS);
    case ERRAND_REATTACH:
        return reattach_entry(volumes, entry);
    case ERRAND_FORGET:
        return forget_entry(volumes, entry);
    case ERRAND_RENAME:
        return rename_entry(volumes, entry);
    case ERRAND_SETTLE:
        return volumes_settle_names(volumes, entry);
    default:
        return 0;
    }
}

/* The next errand whose volume is free; begins an operation on it. Waits; NULL: stopping. */
static struct entry *next_errand(struct volumes *volumes, enum errand *ret_errand)
{
    SCOPED_LOCK(&volumes->lock);
    while (!volumes->is_stopping) {
        struct entry *entry, *next;
        HASH_ITER(hh, volumes->entries, entry, next)
        {
            if (entry->errand == ERRAND_NONE || entry->is_busy)
                continue;
            *ret_errand = entry->errand;
            entry->errand = ERRAND_NONE;
            entry->is_busy = true;
            return entry;
        }
        cond_wait(&volumes->changed, &volumes->lock);
    }
    return NULL;
}

static void wait_before_retry(struct volumes *volumes)
{
    SCOPED_LOCK(&volumes->lock);
    int64_t deadline = clock_mono_ns() + RETRY_NS;
    while (!volumes->is_stopping && cond_wait_until(&volumes->changed, &volumes->lock, deadline))
        continue;
}

static const char *verb_of(enum errand errand)
{
    switch (errand) {
    case ERRAND_FORGET:
        return "remove";
    case ERRAND_RENAME:
        return "rename";
    case ERRAND_SETTLE:
        return "announce";
    default:
        return "attach";
    }
}

/* The first volume that is attached here need not wait for it. */
static void prepare_image(struct volumes *volumes)
{
    AUTO_CLOSE int dirfd = open(volumes->directories.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd >= 0 && volumes->attachments.image)
        image_prepare(dirfd);
}

void *volumes_maintain(void *arg)
{
    struct volumes *volumes = arg;
    struct entry *entry;
    enum errand errand;
    prepare_image(volumes);
    while ((entry = next_errand(volumes, &errand))) {
        int r = run_errand(volumes, entry, errand);
        bool is_retried = r < 0 && errand != ERRAND_FORGET && r != -ENOENT && r != -EREMCHG;
        if (r < 0 && r != -EREMCHG) /* of a new name the next errand tells */
            log_warning("volumes", "cannot %s volume '%s': %s%s", verb_of(errand), entry->name,
                        strerror(-r), is_retried ? ": trying again" : "");
        if (is_retried) {
            SCOPED_LOCK(&volumes->lock);
            if (entry->errand == ERRAND_NONE) /* what came meanwhile is newer */
                entry->errand = errand == ERRAND_SETTLE ? ERRAND_SETTLE : ERRAND_ATTACH;
        }
        volumes_end(volumes, entry);
        if (is_retried)
            wait_before_retry(volumes);
    }
    return NULL;
}
