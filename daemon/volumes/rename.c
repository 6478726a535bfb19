/* A volume gets another name: at its home because somebody asks for it, on other hosts because the home says so.
 *
 * At the home the rename of the volume's directory decides: before it the volume has the old name, after it the new one.
 * Membership hears of the new name before and is told to forget the old one after, and what a daemon that was killed
 * between the two has left there the next one puts right (volumes_settle_names).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/names.h"
#include "daemon/volumes/private.h"

#include "proto/base/log.h"

static int load_names(struct volumes *volumes, const char *name, struct volume_names *ret_names)
{
    char path[VOLUME_PATH_MAX];
    int r = volume_directory_path(&volumes->directories, name, path);
    return r < 0 ? r : volume_names_load(path, ret_names);
}

/* ---- membership ---- */

bool volumes_was_renamed(struct volumes *volumes, const char *name)
{
    struct volume_names names;
    return load_names(volumes, name, &names) < 0 || names.n > 0;
}

/* Unless it is the name of another volume now. */
static int retract_name(struct volumes *volumes, const char *name)
{
    struct member_volume known;
    char home[HOST_NAME_MAX_BYTES + 1];
    if (volume_directory_home(&volumes->directories, name, home) == 0 ||
        volumes->membership->ops->volume(volumes->membership, name, &known) < 0 ||
        strcmp(known.home, volumes->self) != 0)
        return 0;
    return volumes->membership->ops->retract(volumes->membership, name);
}

int volumes_settle_names(struct volumes *volumes, struct entry *entry)
{
    struct volume_names names;
    struct tree_usage usage;
    struct volume *volume = entry->attachment ? attachment_volume(entry->attachment) : NULL;
    if (!volume)
        return -ENOENT;
    tree_usage(volume_tree(volume), &usage);
    int r = load_names(volumes, entry->name, &names);
    if (r == 0)
        r = volumes_announce(volumes, entry->name, usage.limit_bytes);
    for (size_t i = 0; r == 0 && i < names.n; i++)
        if (strcmp(names.all[i], entry->name) != 0)
            r = retract_name(volumes, names.all[i]);
    return r;
}

/* ---- at the home ---- */

static int note_names(struct volumes *volumes, const char *name, const char *new_name)
{
    char path[VOLUME_PATH_MAX];
    struct volume_names names;
    int r = volume_directory_path(&volumes->directories, name, path);
    if (r == 0)
        r = volume_names_load(path, &names);
    if (r < 0)
        return r;
    volume_names_add(&names, name);
    volume_names_add(&names, new_name);
    return volume_names_save(path, &names);
}

static void note_renaming(struct volumes *volumes, bool is_over)
{
    SCOPED_LOCK(&volumes->lock);
    if (is_over) {
        volumes->n_renaming--;
        volumes->n_renamed++;
    } else {
        volumes->n_renaming++;
    }
}

static int rename_directory(struct volumes *volumes, const char *name, const char *new_name)
{
    note_renaming(volumes, false);
    int r = volume_directory_rename(&volumes->directories, name, new_name);
    note_renaming(volumes, true);
    return r;
}

static int check_idle(struct attachment *attachment)
{
    struct replica_status replica;
    attachment_replica_status(attachment, &replica);
    if (!replica.is_home)
        return -EREMOTE;
    return replica.n_members > 0 ? -EBUSY : 0;
}

/* Takes the volume out of sight: from then on no host becomes a member. */
static int set_aside(struct volumes *volumes, struct entry *entry,
                     struct attachment **ret_attachment)
{
    int r = check_idle(entry->attachment);
    if (r == 0)
        r = attachment_unmount(entry->attachment, false);
    if (r < 0)
        return r;
    *ret_attachment = volumes_hide(volumes, entry);
    return check_idle(*ret_attachment);
}

static void bring_back(struct volumes *volumes, struct entry *entry, struct attachment *attachment)
{
    if (attachment)
        volumes_show(volumes, entry, attachment);
    if (entry->attachment && attachment_mount(entry->attachment) < 0)
        log_error("volumes", "cannot mount volume '%s' again", entry->name);
}

static int announce_as(struct volumes *volumes, const char *new_name, struct attachment *attachment)
{
    struct tree_usage usage;
    tree_usage(volume_tree(attachment_volume(attachment)), &usage);
    return volumes_announce(volumes, new_name, usage.limit_bytes);
}

/* The volume is closed. On failure it is open under the old name again. */
static int move(struct volumes *volumes, struct entry *entry, struct entry *renamed)
{
    int r = rename_directory(volumes, entry->name, renamed->name);
    int opened = volumes_open_as_home(volumes, r == 0 ? renamed : entry);
    if (opened < 0)
        log_error("volumes", "cannot open volume '%s': %s: it stays as it is on disk",
                  r == 0 ? renamed->name : entry->name, strerror(-opened));
    return r;
}

/* Now, or as soon as membership can be reached. */
static void settle(struct volumes *volumes, struct entry *entry)
{
    if (volumes_was_renamed(volumes, entry->name) && volumes_settle_names(volumes, entry) < 0)
        volumes_send_errand(volumes, entry->name, ERRAND_SETTLE);
}

static int rename_entry(struct volumes *volumes, struct entry *entry, struct entry *renamed)
{
    struct attachment *attachment = NULL;
    int r = set_aside(volumes, entry, &attachment);
    if (r == 0)
        r = note_names(volumes, entry->name, renamed->name);
    if (r == 0)
        r = announce_as(volumes, renamed->name, attachment);
    if (r < 0) {
        bring_back(volumes, entry, attachment);
    } else {
        attachment_free(attachment);
        r = move(volumes, entry, renamed);
    }
    settle(volumes, r == 0 ? renamed : entry);
    return r;
}

static int claim_and_rename(struct volumes *volumes, struct entry *entry, struct entry *renamed)
{
    if (!entry->attachment)
        return -ENOENT;
    int r = check_idle(entry->attachment);
    if (r == 0)
        r = volumes_claim(volumes, renamed);
    if (r < 0)
        return r;
    r = rename_entry(volumes, entry, renamed);
    volumes_unclaim(volumes, renamed);
    return r;
}

/* Both, in the order of their names: of two renames at once one comes first. */
static int begin_both(struct volumes *volumes, const char *name, const char *new_name,
                      struct entry **ret_entry, struct entry **ret_renamed)
{
    int64_t deadline_ns = clock_mono_ns() + ATTACH_NS;
    bool is_name_first = strcmp(name, new_name) < 0;
    struct entry *first, *second;
    int r = volumes_begin(volumes, is_name_first ? name : new_name, deadline_ns, &first);
    if (r < 0)
        return r;
    r = volumes_begin(volumes, is_name_first ? new_name : name, deadline_ns, &second);
    if (r < 0) {
        volumes_end(volumes, first);
        return r;
    }
    *ret_entry = is_name_first ? first : second;
    *ret_renamed = is_name_first ? second : first;
    return 0;
}

int volumes_rename(struct volumes *volumes, const char *name, const char *new_name)
{
    struct entry *entry, *renamed;
    if (strcmp(name, new_name) == 0)
        return -EEXIST;
    int r = begin_both(volumes, name, new_name, &entry, &renamed);
    if (r < 0)
        return r;
    r = claim_and_rename(volumes, entry, renamed);
    volumes_end(volumes, renamed);
    volumes_end(volumes, entry);
    if (r == 0)
        log_info("volumes", "renamed volume '%s' to '%s'", name, new_name);
    return r;
}

/* ---- elsewhere ---- */

/* What was attached here under the new name already is a copy, if it keeps nothing that others need. */
static int make_room(struct volumes *volumes, struct entry *renamed)
{
    if (!renamed->attachment)
        return 0;
    int r = attachment_unmount(renamed->attachment, false);
    if (r < 0)
        return r;
    if (attachment_is_needed(renamed->attachment))
        return -EEXIST;
    volumes_close_entry(volumes, renamed);
    return volume_directory_delete(&volumes->directories, renamed->name);
}

static int move_replica(struct volumes *volumes, struct entry *entry, struct entry *renamed)
{
    int r = make_room(volumes, renamed);
    if (r < 0)
        return r;
    if (entry->attachment) {
        (void)!attachment_unmount(entry->attachment, true); /* idle: else it were a member */
        volumes_close_entry(volumes, entry);
    }
    r = volume_directory_rename(&volumes->directories, entry->name, renamed->name);
    if (r == 0)
        volumes_send_errand(volumes, renamed->name, ERRAND_ATTACH);
    return r;
}

int volumes_follow_name(struct volumes *volumes, struct entry *entry, const char *new_name)
{
    struct entry *renamed;
    int r = volumes_begin(volumes, new_name, clock_mono_ns() + ATTACH_NS, &renamed);
    if (r < 0)
        return r;
    r = move_replica(volumes, entry, renamed);
    volumes_end(volumes, renamed);
    if (r == 0)
        log_info("volumes", "volume '%s' was renamed to '%s' by its home", entry->name, new_name);
    return r;
}

/* ---- who asks by an old name ---- */

struct search {
    struct volumes *volumes;
    const char *name;
    int64_t born_ns;
    char *found;
    int r;
};

/* The home's word counts; another host's name for it may be older than the asker's. */
static int look_for_birth(struct search *search, const char *directory)
{
    struct volume_names names;
    struct volume *volume = volumes_find(search->volumes, directory);
    if (!volume) {
        int r = load_names(search->volumes, directory, &names);
        return r < 0 || volume_names_has(&names, search->name) ? -ENOTCONN : -ENOENT;
    }
    bool is_it = volume_born_ns(volume) == search->born_ns;
    bool is_home = volume_is_home(volume);
    volumes_put(search->volumes, volume);
    if (!is_it)
        return -ENOENT;
    return is_home ? 0 : -ENOTCONN;
}

static void look_at(void *ctx, const char *directory, const char *home)
{
    struct search *search = ctx;
    (void)home;
    if (search->r == 0 || strcmp(directory, search->name) == 0)
        return;
    int r = look_for_birth(search, directory);
    if (r == 0)
        (void)snprintf(search->found, VOLUME_NAME_MAX_BYTES + 1, "%s", directory);
    if (r != -ENOENT)
        search->r = r;
}

static bool is_renaming(struct volumes *volumes, uint64_t *ret_turn)
{
    SCOPED_LOCK(&volumes->lock);
    *ret_turn = volumes->n_renamed;
    return volumes->n_renaming > 0;
}

int volumes_find_renamed(struct volumes *volumes, const char *name, int64_t born_ns,
                         char ret_name[VOLUME_NAME_MAX_BYTES + 1])
{
    struct search search = {volumes, name, born_ns, ret_name, -ENOENT};
    uint64_t before, after;
    bool is_sure = !is_renaming(volumes, &before);
    int r = volume_directories_each(&volumes->directories, look_at, &search);
    is_sure &=
        !is_renaming(volumes, &after) && before == after; /* else a directory may be missed */
    if (search.r == 0)
        return 0;
    return is_sure && r == 0 ? search.r : -ENOTCONN;
}
