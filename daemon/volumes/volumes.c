#include "daemon/volumes/volumes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/private.h"
#include "daemon/volumes/saved.h"

#include "proto/base/log.h"

#define OTHER_NS                                                                                   \
    (100 * NS_PER_MS) /* how soon a volume that another host is making is asked for again */

#define BYTES_PER_INODE 8192u
#define INODES_LEAST 65536u

/* ---- operations; the caller has begun one ---- */

void volumes_close_entry(struct volumes *volumes, struct entry *entry)
{
    struct attachment *attachment = volumes_hide(volumes, entry);
    attachment_free(attachment);
}

/* In sight before it resumes: what it resumes with is settled by members of before, which must be able to join. */
static int show_home(struct volumes *volumes, struct entry *entry)
{
    struct attachment *attachment = NULL;
    int r = attachment_new(&volumes->attachments, entry->name, NULL, &attachment);
    if (r < 0)
        return r;
    r = attachment_open(attachment, clock_mono_ns() + ATTACH_NS);
    if (r < 0) {
        attachment_free(attachment);
        return r;
    }
    volumes_show(volumes, entry, attachment);
    return 0;
}

static int resume_home(struct volumes *volumes, struct entry *entry)
{
    int r = attachment_resume(entry->attachment);
    if (r < 0)
        volumes_close_entry(volumes, entry);
    return r < 0 ? r : attachment_mount(entry->attachment);
}

int volumes_open_as_home(struct volumes *volumes, struct entry *entry)
{
    int r = show_home(volumes, entry);
    return r < 0 ? r : resume_home(volumes, entry);
}

/* The attachment is in sight while it joins: what the home sends comes in through it. */
static int open_as_replica(struct volumes *volumes, struct entry *entry, const char *home_name,
                           int64_t deadline_ns)
{
    struct member_host home;
    struct attachment *attachment = NULL;
    if (volumes->membership->ops->host_by_name(volumes->membership, home_name, &home) < 0)
        return -EHOSTUNREACH; /* membership does not know it yet */
    int r = attachment_new(&volumes->attachments, entry->name, &home, &attachment);
    if (r < 0)
        return r;
    volumes_show(volumes, entry, attachment);
    r = attachment_join(attachment, deadline_ns);
    if (r == 0)
        r = attachment_mount(attachment);
    if (r == -ENOENT) /* removed while this daemon was away: what is left of its mount goes */
        (void)!attachment_unmount(attachment, true);
    if (r < 0) {
        (void)volumes_hide(volumes, entry);
        attachment_free(attachment);
    }
    return r;
}

/* Another host is making or opening the volume. */
bool volumes_wait_for_other(struct volumes *volumes, int64_t deadline_ns)
{
    int64_t until = MIN(deadline_ns, clock_mono_ns() + OTHER_NS);
    SCOPED_LOCK(&volumes->lock);
    while (!volumes->is_stopping && cond_wait_until(&volumes->changed, &volumes->lock, until))
        continue;
    return !volumes->is_stopping && until < deadline_ns;
}

int volumes_attach_entry(struct volumes *volumes, struct entry *entry, int64_t deadline_ns)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (entry->attachment)
        return attachment_mount(entry->attachment);
    int r = volumes_locate(volumes, entry->name, false, deadline_ns, home);
    if (r < 0)
        return r;
    if (strcmp(home, volumes->self) == 0)
        return volumes_open_as_home(volumes, entry);
    r = volume_directory_set_home(&volumes->directories, entry->name, home);
    if (r == 0) {
        do
            r = open_as_replica(volumes, entry, home, deadline_ns);
        while (r == -ENOTCONN && volumes_wait_for_other(volumes, deadline_ns));
    }
    if (r == -ENOENT) /* its home has it no more; another host may make it anew */
        (void)!volume_directory_delete(&volumes->directories, entry->name);
    return r == -ENOTCONN ? -EHOSTUNREACH : r;
}

int volumes_announce(struct volumes *volumes, const char *name, uint64_t limit_bytes)
{
    struct member_volume volume = {.limit_bytes = limit_bytes};
    (void)snprintf(volume.name, sizeof volume.name, "%s", name);
    (void)snprintf(volume.home, sizeof volume.home, "%s", volumes->self);
    return volumes->membership->ops->announce(volumes->membership, &volume);
}

static void undo_create(struct volumes *volumes, struct entry *entry)
{
    if (entry->attachment)
        volumes_close_entry(volumes, entry);
    (void)!volumes->membership->ops->retract(volumes->membership, entry->name);
    (void)!volume_directory_delete(&volumes->directories, entry->name);
}

static void set_making(struct volumes *volumes, struct entry *entry, enum making making)
{
    SCOPED_LOCK(&volumes->lock);
    entry->making = making;
}

/* All were asked and none has it. False: one of them makes it, too, and comes first. */
static bool decide_to_make(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    if (entry->making == MAKING_YIELDED)
        return false;
    entry->making = MAKING_DECIDED;
    return true;
}

/* As many inodes as a volume of small files needs. */
static uint64_t inodes_for(uint64_t limit_bytes)
{
    return MAX(limit_bytes / BYTES_PER_INODE, INODES_LEAST);
}

static struct volume_genesis with_limits(const struct volumes *volumes,
                                         const struct volume_genesis *genesis)
{
    struct volume_genesis made = *genesis;
    if (made.limit_bytes == 0)
        made.limit_bytes = volumes->default_limit_bytes;
    if (made.limit_inodes == 0)
        made.limit_inodes = volumes->default_limit_inodes;
    if (made.limit_inodes == 0)
        made.limit_inodes = inodes_for(made.limit_bytes);
    return made;
}

static int claim(struct volumes *volumes, struct entry *entry)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (entry->attachment)
        return -EEXIST;
    int r = volumes_locate(volumes, entry->name, true, clock_mono_ns() + ATTACH_NS, home);
    if (r == 0 || (r == -ENOENT && !decide_to_make(volumes, entry)))
        return -EEXIST;
    return r == -ENOENT ? 0 : r; /* a host that is silent may have it */
}

int volumes_claim(struct volumes *volumes, struct entry *entry)
{
    set_making(volumes, entry, MAKING_ASKS);
    int r = claim(volumes, entry);
    if (r < 0)
        volumes_unclaim(volumes, entry);
    return r;
}

void volumes_unclaim(struct volumes *volumes, struct entry *entry)
{
    set_making(volumes, entry, MAKING_NOT);
}

static int create_entry(struct volumes *volumes, struct entry *entry,
                        const struct volume_genesis *genesis)
{
    struct volume_genesis with_limit = with_limits(volumes, genesis);
    int r = volume_directory_create(&volumes->directories, entry->name, volumes->self, &with_limit);
    if (r < 0)
        return r;
    r = volumes_announce(volumes, entry->name, with_limit.limit_bytes);
    if (r == 0)
        r = volumes_open_as_home(volumes, entry);
    if (r < 0)
        undo_create(volumes, entry);
    return r;
}

/* ---- what callers ask for ---- */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int volume_name_check(const char *name)
{
    size_t size = strnlen(name, VOLUME_NAME_MAX_BYTES + 1);
    if (size == 0 || size > VOLUME_NAME_MAX_BYTES || !is_letter_or_digit(name[0]))
        return -EINVAL;
    for (size_t i = 0; i < size; i++)
        if (!is_letter_or_digit(name[i]) && !strchr("._-@", name[i]))
            return -EINVAL;
    return 0;
}

int volumes_create(struct volumes *volumes, const char *name, const struct volume_genesis *genesis)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = volumes_claim(volumes, entry);
    if (r == 0) {
        r = create_entry(volumes, entry, genesis);
        volumes_unclaim(volumes, entry);
    }
    volumes_end(volumes, entry);
    if (r == 0)
        log_info("volumes", "made volume '%s': this host is its home", name);
    return r;
}

int volumes_attach(struct volumes *volumes, const char *name, int64_t deadline_ns)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, deadline_ns, &entry);
    if (r < 0)
        return r;
    bool was_attached = entry->attachment != NULL;
    r = volumes_attach_entry(volumes, entry, deadline_ns);
    volumes_end(volumes, entry);
    if (r == 0 && !was_attached)
        log_info("volumes", "attached volume '%s'", name);
    return r;
}

int volumes_attach_or_create(struct volumes *volumes, const char *name, int64_t deadline_ns)
{
    struct volume_genesis genesis = {.mode = 01777};
    int r;
    do {
        r = volumes_attach(volumes, name, deadline_ns);
        if (r != -ENOENT)
            return r;
        r = volumes_create(volumes, name, &genesis);
        if (r != -EEXIST)
            return r;
    } while (volumes_wait_for_other(volumes, deadline_ns));
    return volumes_attach(volumes, name, deadline_ns);
}

static int detach_entry(struct volumes *volumes, struct entry *entry, bool is_forced)
{
    if (!entry->attachment)
        return -ENOENT;
    int r = attachment_unmount(entry->attachment, is_forced);
    if (r < 0)
        return r;
    if (attachment_is_needed(entry->attachment)) {
        attachment_demote(entry->attachment);
        return 0;
    }
    volumes_close_entry(volumes, entry);
    return volume_directory_delete(&volumes->directories, entry->name);
}

int volumes_detach(struct volumes *volumes, const char *name, bool is_forced)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = detach_entry(volumes, entry, is_forced);
    volumes_end(volumes, entry);
    if (r == 0)
        log_info("volumes", "detached volume '%s'", name);
    return r;
}

static int remove_entry(struct volumes *volumes, struct entry *entry, bool is_forced)
{
    struct replica_status replica;
    if (!entry->attachment)
        return -ENOENT;
    attachment_replica_status(entry->attachment, &replica);
    if (!replica.is_home)
        return -EREMOTE;
    if (replica.n_members > 0 && !is_forced)
        return -EBUSY;
    int r = attachment_unmount(entry->attachment, is_forced);
    if (r < 0)
        return r;
    r = volumes->membership->ops->retract(volumes->membership, entry->name);
    if (r < 0) {
        (void)!attachment_mount(entry->attachment);
        return r;
    }
    volumes_close_entry(volumes, entry);
    return volume_directory_delete(&volumes->directories, entry->name);
}

int volumes_remove(struct volumes *volumes, const char *name, bool is_forced)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = remove_entry(volumes, entry, is_forced);
    volumes_end(volumes, entry);
    if (r == 0)
        log_info("volumes", "removed volume '%s'", name);
    return r;
}

static int retire_entry(struct volumes *volumes, struct entry *entry)
{
    struct volume_status status;
    int r = remove_entry(volumes, entry, false);
    if (r != -EREMOTE)
        return r;
    attachment_status(entry->attachment, &status);
    r = status.is_mounted || !attachment_is_needed(entry->attachment)
            ? detach_entry(volumes, entry, false)
            : 0; /* a learner already, for what it keeps */
    return r < 0 ? r : -EREMOTE;
}

int volumes_retire(struct volumes *volumes, const char *name, int64_t deadline_ns)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, deadline_ns, &entry);
    if (r < 0)
        return r;
    r = retire_entry(volumes, entry);
    volumes_end(volumes, entry);
    return r;
}

int volumes_take_home(struct volumes *volumes, const char *name, bool is_forced,
                      struct obstacles *ret_obstacles)
{
    struct entry *entry;
    *ret_obstacles = (struct obstacles){0};
    int r = volumes_begin(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = volumes_take_home_of(volumes, entry, is_forced, ret_obstacles);
    volumes_end(volumes, entry);
    return r;
}

int volumes_saved(struct volumes *volumes, struct saved *ret_saved, int max)
{
    return saved_list(volumes->directories.saved, ret_saved, max);
}

static int configure_entry(struct volumes *volumes, struct entry *entry, struct request *request)
{
    struct replica_status replica;
    struct tree_usage usage;
    struct outcome outcome;
    if (!entry->attachment)
        return -ENOENT;
    attachment_replica_status(entry->attachment, &replica);
    if (!replica.is_home)
        return -EREMOTE;
    struct volume *volume = attachment_volume(entry->attachment);
    int r = volume_change(volume, request, &outcome);
    if (r < 0)
        return r;
    attachment_balance(entry->attachment);
    tree_usage(volume_tree(volume), &usage);
    return volumes_announce(volumes, entry->name, usage.limit_bytes);
}

static int configure(struct volumes *volumes, const char *name, struct request *request)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = configure_entry(volumes, entry, request);
    volumes_end(volumes, entry);
    return r;
}

int volumes_resize(struct volumes *volumes, const char *name, uint64_t limit_bytes,
                   uint64_t limit_inodes)
{
    struct request request = {.kind = REQUEST_CONFIGURE,
                              .flags = REQUEST_DURABLE,
                              .limit_bytes = limit_bytes,
                              .limit_inodes = limit_inodes};
    return configure(volumes, name, &request);
}

int volumes_set_effects(struct volumes *volumes, const char *name, enum choice suid,
                        enum choice dev)
{
    struct request request = {
        .kind = REQUEST_CONFIGURE,
        .flags = REQUEST_DURABLE | (suid == CHOICE_ON ? REQUEST_SUID : 0) |
                 (suid == CHOICE_OFF ? REQUEST_NO_SUID : 0) | (dev == CHOICE_ON ? REQUEST_DEV : 0) |
                 (dev == CHOICE_OFF ? REQUEST_NO_DEV : 0),
    };
    return configure(volumes, name, &request);
}

/* ---- life ---- */

DEFINE_FREEP(volumes, struct volumes)

/* Of struct mount_link_options: a mount was unmounted behind our back. */
static void on_lost(void *ctx, const char *name)
{
    volumes_send_errand(ctx, name, ERRAND_ATTACH);
}

static int open_mount_link(struct volumes *volumes, const struct volumes_options *options)
{
    const struct mount_link_options link = {
        .path = options->mountd,
        .lost = on_lost,
        .autofs = options->autofs ? options->mount : NULL,
        .accessed = volumes_on_accessed,
        .ctx = volumes,
    };
    if (!link.path) {
        log_warning("volumes", "mounts end with this daemon: [host] mountd is off");
        return 0;
    }
    int r = mount_link_new(&link, &volumes->mount_link);
    volumes->attachments.mount_link = volumes->mount_link;
    return r;
}

int volumes_new(const struct volumes_options *options, struct volumes **ret_volumes)
{
    AUTO(volumes_freep) struct volumes *volumes = calloc(1, sizeof *volumes);
    if (!volumes)
        return -ENOMEM;
    mutex_init(&volumes->lock, LOCK_daemon);
    cond_init(&volumes->changed);
    first_accesses_init(&volumes->first_accesses);
    volumes->self = strdup(options->self);
    volumes->peers = options->peers;
    volumes->membership = options->membership;
    volumes->default_limit_bytes = options->default_limit_bytes;
    volumes->default_limit_inodes = options->default_limit_inodes;
    volumes->env = (struct replica_env){
        .self = host_id_of(options->self),
        .self_name = volumes->self,
        .peers = options->peers,
        .membership = options->membership,
        .ctx = volumes,
        .expire = volumes_on_expire,
        .gone = volumes_on_gone,
        .renamed = volumes_on_renamed,
        .stale = volumes_on_stale,
        .moved = volumes_on_moved,
        .locate = volumes_ask_around,
    };
    int r =
        volume_directories_open(&volumes->directories, options->state, host_id_of(options->self));
    if (r < 0 || !volumes->self)
        return r < 0 ? r : -ENOMEM;
    volumes->attachments = (struct attachment_options){
        .env = &volumes->env,
        .self = volumes->self,
        .directories = &volumes->directories,
        .mount = options->mount,
        .passthrough = options->passthrough,
        .image = options->image,
    };
    r = open_mount_link(volumes, options);
    if (r < 0)
        return r;
    *ret_volumes = TAKE(volumes);
    return 0;
}

void volumes_set_transfer(struct volumes *volumes, struct transfer *transfer)
{
    volumes->env.transfer = transfer;
}

/* Another host has taken it while this one was away. */
static bool has_lost_home(struct volumes *volumes, const char *name)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    return volume_directory_home(&volumes->directories, name, home) == 0 &&
           strcmp(home, volumes->self) != 0;
}

typedef int home_f(struct volumes *volumes, struct entry *entry);

static void with_home(struct volumes *volumes, const char *name, home_f *work)
{
    struct entry *entry;
    int r = volumes_begin(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r == 0) {
        r = work(volumes, entry);
        volumes_end(volumes, entry);
    }
    if (r < 0 && has_lost_home(volumes, name)) {
        volumes_send_errand(volumes, name, ERRAND_ATTACH);
        return;
    }
    if (r < 0)
        log_error("volumes", "cannot open volume '%s': %s: it stays as it is on disk", name,
                  strerror(-r));
}

static int resume_if_shown(struct volumes *volumes, struct entry *entry)
{
    return entry->attachment ? resume_home(volumes, entry) : 0;
}

/* Replicas are attached on the maintenance thread. */
static void start_showing(void *ctx, const char *name, const char *home)
{
    struct volumes *volumes = ctx;
    if (strcmp(home, volumes->self) != 0) {
        volumes_send_errand(volumes, name, ERRAND_ATTACH);
        return;
    }
    with_home(volumes, name, show_home);
    if (volumes_was_renamed(volumes, name))
        volumes_send_errand(volumes, name, ERRAND_SETTLE);
}

static void start_resuming(void *ctx, const char *name, const char *home)
{
    struct volumes *volumes = ctx;
    if (strcmp(home, volumes->self) == 0)
        with_home(volumes, name, resume_if_shown);
}

/* All own volumes are in sight before the first resumes: so the leases of members that are gone end all at once. */
int volumes_start(struct volumes *volumes)
{
    int r = volume_directories_each(&volumes->directories, start_showing, volumes);
    if (r == 0)
        r = volume_directories_each(&volumes->directories, start_resuming, volumes);
    if (r < 0)
        return r;
    r = thread_start(&volumes->maintainer, "whiskfs-volumes", volumes_maintain, volumes);
    volumes->has_maintainer = r == 0;
    return r < 0 ? r : volumes_start_first_accesses(volumes);
}

bool volumes_has_autofs(struct volumes *volumes)
{
    return volumes->mount_link && mount_link_has_autofs(volumes->mount_link);
}

void volumes_access_counters(const struct volumes *volumes, struct access_counters *ret_counters)
{
    ret_counters->attached = volumes->first_accesses.n_attached;
    ret_counters->failed = volumes->first_accesses.n_failed;
}

/* Waits for operations that are under way. NULL: all are closed. */
static struct entry *next_to_close(struct volumes *volumes)
{
    SCOPED_LOCK(&volumes->lock);
    for (;;) {
        bool is_any_busy = false;
        struct entry *entry, *next;
        HASH_ITER(hh, volumes->entries, entry, next)
        {
            is_any_busy |= entry->is_busy;
            if (entry->is_busy || !entry->attachment)
                continue;
            entry->is_busy = true;
            return entry;
        }
        if (!is_any_busy)
            return NULL;
        cond_wait(&volumes->changed, &volumes->lock); /* entries may go meanwhile: look anew */
    }
}

void volumes_stop(struct volumes *volumes)
{
    {
        SCOPED_LOCK(&volumes->lock);
        volumes->is_stopping = true;
        cond_broadcast(&volumes->changed);
    }
    volumes_stop_first_accesses(volumes);
    if (volumes->has_maintainer)
        thread_join(volumes->maintainer);
    volumes->has_maintainer = false;
    struct entry *entry;
    while ((entry = next_to_close(volumes))) {
        if (!attachment_leave_mount(entry->attachment))
            (void)!attachment_unmount(entry->attachment, true);
        volumes_close_entry(volumes, entry);
        volumes_end(volumes, entry);
    }
}

void volumes_free(struct volumes *volumes)
{
    if (!volumes)
        return;
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        HASH_DEL(volumes->entries, entry);
        free(entry);
    }
    mount_link_free(volumes->mount_link);
    first_accesses_done(&volumes->first_accesses);
    volume_directories_close(&volumes->directories);
    free(volumes->self);
    cond_done(&volumes->changed);
    mutex_done(&volumes->lock);
    free(volumes);
}
