/* Making, opening and closing a volume's directory.
 *
 * The log's directory is what makes it a volume: it appears last, by a rename, and what a crash leaves of a making is
 * below "new". The file "boot" says whether the state can be taken as it lies there: it runs without syncs, so it is
 * what the page cache has, which survives the daemon but not the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/store/image.h"
#include "fs/volume/impl.h"
#include "fs/volume/snapshot.h"
#include "proto/base/log.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_BYTES 36
#define CLEAN_WORD " clean"
#define DELETED "deleted" /* a deletion began: nothing here is a volume any more */

/* ---- the boot file ---- */

int volume_read_small(int dirfd, const char *name, char *buffer, size_t size)
{
    AUTO_CLOSE int fd = disk_open(dirfd, name, O_RDONLY);
    int64_t n = fd < 0 ? fd : disk_read(fd, buffer, size - 1, 0);
    if (n < 0)
        return (int)n;
    buffer[n] = '\0';
    return 0;
}

static int boot_id(char ret_id[static BOOT_ID_BYTES + 1])
{
    int error = volume_read_small(AT_FDCWD, BOOT_ID_PATH, ret_id, BOOT_ID_BYTES + 1);
    if (error < 0)
        return error;
    return strlen(ret_id) == BOOT_ID_BYTES ? 0 : -EIO;
}

int volume_boot(int dirfd, struct boot *ret_boot)
{
    char id[BOOT_ID_BYTES + 1];
    char last[128] = "";
    int error = boot_id(id);
    if (error < 0)
        return error;
    error = volume_read_small(dirfd, "boot", last, sizeof last);
    if (error < 0 && error != -ENOENT)
        return error;
    *ret_boot = (struct boot){
        .is_same = strncmp(last, id, BOOT_ID_BYTES) == 0,
        .is_clean =
            strlen(last) > BOOT_ID_BYTES && strcmp(last + BOOT_ID_BYTES, CLEAN_WORD "\n") == 0,
    };
    return 0;
}

static int boot_write(int dirfd, bool is_clean)
{
    char id[BOOT_ID_BYTES + 1];
    char text[128];
    int error = boot_id(id);
    if (error < 0)
        return error;
    int n = snprintf(text, sizeof text, "%s%s\n", id, is_clean ? CLEAN_WORD : "");
    return directory_write_file(dirfd, "boot", text, (size_t)n);
}

/* ---- the directory ---- */

/* One daemon at a time; the kernel takes the lock back when it ends, however it ends. */
static int claim(int dirfd)
{
    if (flock(dirfd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static int remove_all(int dirfd, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int error = directory_remove(dirfd, names[i]);
        if (error < 0)
            return error;
    }
    return 0;
}

/* What a deletion or a making that did not end has left. */
static int remove_remains(int dirfd)
{
    static const char *const deleted[] = {"log",        "content", IMAGE_NAME, "state",
                                          "checkpoint", "boot",    "leads",    DELETED};
    if (disk_exists(dirfd, DELETED)) {
        int error = remove_all(dirfd, deleted, N_ELEMENTS(deleted));
        if (error < 0)
            return error;
    }
    return directory_remove(dirfd, "new");
}

/* Opens, makes if need be, and claims a volume's directory to build a volume in. */
static int open_to_build(const char *directory, int *ret_dirfd, int *ret_newfd)
{
    AUTO_CLOSE int dirfd = directory_make(AT_FDCWD, directory);
    if (dirfd < 0)
        return dirfd;
    int error = claim(dirfd);
    if (error == 0)
        error = remove_remains(dirfd);
    if (error < 0)
        return error;
    int newfd = directory_make(dirfd, "new");
    if (newfd < 0)
        return newfd;
    *ret_dirfd = TAKE_FD(dirfd);
    *ret_newfd = newfd;
    return 0;
}

/* The log is the last thing to arrive. */
static int finish_build(int newfd, int dirfd)
{
    int error = disk_sync(newfd);
    if (error == 0)
        error = disk_rename(newfd, "log", dirfd, "log");
    if (error == 0)
        error = disk_sync(dirfd);
    return error < 0 ? error : directory_remove(dirfd, "new");
}

int volume_delete(const char *directory)
{
    AUTO_CLOSE int dirfd = directory_open(AT_FDCWD, directory);
    if (dirfd < 0)
        return dirfd;
    int error = claim(dirfd);
    if (error == 0)
        error = directory_write_file(dirfd, DELETED, "", 0);
    if (error == 0)
        error = remove_remains(dirfd);
    return error < 0 ? error : directory_remove(AT_FDCWD, directory);
}

/* ---- the object ---- */

static uint64_t draw_session(void)
{
    uint64_t session = 0;
    while (session == 0)
        CHECK(getrandom(&session, sizeof session, 0) == (ssize_t)sizeof session);
    return session;
}

static int volume_new(const struct volume_options *options, struct volume **ret_volume)
{
    if (host_equal(options->self, NO_HOST))
        return -EINVAL;
    struct volume *volume = calloc(1, sizeof *volume);
    uint8_t *scratch = malloc(REQUEST_BYTES_MAX);
    if (!volume || !scratch) {
        free(volume);
        free(scratch);
        return -ENOMEM;
    }
    volume->dirfd = volume->checkpointer.dirfd = -1;
    volume->self = options->self;
    atomic_init(&volume->started, FIRST_EPOCH);
    volume->source = options->source;
    volume->survivors = options->survivors;
    volume->session = draw_session();
    volume->scratch = scratch;
    atomic_init(&volume->next_unique, 1);
    mutex_init(&volume->lock, LOCK_volume);
    mutex_init(&volume->seen_lock, LOCK_leaf);
    cond_init(&volume->seen);
    mutex_init(&volume->checkpointer.lock, LOCK_leaf);
    cond_init(&volume->checkpointer.changed);
    retired_init(&volume->retired);
    removals_init(&volume->removals);
    scrub_init(&volume->scrub);
    *ret_volume = volume;
    return sealer_init(&volume->sealer, options->seal_after_ns);
}

/* Its bytes and the name of its file; the name of its directory goes with the boot file. */
static int sync_state(struct volume *volume)
{
    AUTO_CLOSE int statefd = directory_open(volume->dirfd, TREE_DIRECTORY);
    int error = statefd < 0 ? statefd : tree_sync(volume->tree);
    return error < 0 ? error : disk_sync(statefd);
}

/* After this the state can be taken as it is, by whatever boot. */
static void close_in_order(struct volume *volume)
{
    int error = log_sync(volume->log, log_last(volume->log));
    if (error == 0)
        error = sync_state(volume);
    if (error == 0)
        error = store_sync_seals(volume->store);
    if (error == 0)
        error = boot_write(volume->dirfd, true);
    if (error < 0)
        log_warning("volume", "cannot close in order: %s; the next start recovers",
                    strerror(-error));
}

void volume_free(struct volume *volume)
{
    if (!volume)
        return;
    scrub_stop(volume);
    sealer_stop(volume);
    checkpointer_stop(volume);
    removals_stop(volume);
    if (volume->is_open && !atomic_load(&volume->is_failed))
        close_in_order(volume);
    store_free(volume->store);
    image_free(volume->image);
    tree_free(volume->tree);
    log_free(volume->log);
    retired_done(&volume->retired);
    removals_done(&volume->removals);
    sealer_done(&volume->sealer);
    scrub_done(&volume->scrub);
    cond_done(&volume->checkpointer.changed);
    mutex_done(&volume->checkpointer.lock);
    cond_done(&volume->seen);
    mutex_done(&volume->seen_lock);
    mutex_done(&volume->lock);
    close_fd(&volume->checkpointer.dirfd);
    close_fd(&volume->dirfd);
    free(volume->scratch);
    free(volume);
}

/* ---- creating ---- */

static int log_first_entry(struct volume *volume, struct request *request)
{
    struct applied_entry entry;
    struct outcome outcome;
    bool is_new;
    request->identity = (struct identity){
        .host = volume->self,
        .session = volume->session,
        .unique = atomic_fetch_add(&volume->next_unique, 2),
    };
    return volume_decide(volume, request, &entry, &is_new, &outcome);
}

/* Its log, in a directory where nothing else is yet. */
static int write_genesis(int newfd, const struct volume_options *options,
                         const struct volume_genesis *genesis)
{
    struct volume_options alone = *options;
    alone.source = NULL;
    AUTO(volume_freep) struct volume *volume = NULL;
    int error = volume_new(&alone, &volume);
    if (error == 0)
        error = tree_open(newfd, options->map_bytes, &volume->tree);
    if (error == 0)
        error = log_open(newfd, 0, &volume->log);
    if (error < 0)
        return error;
    struct request configure = {
        .kind = REQUEST_CONFIGURE,
        .flags = (genesis->is_suid ? REQUEST_SUID : 0) | (genesis->is_dev ? REQUEST_DEV : 0),
        .limit_bytes = genesis->limit_bytes,
        .limit_inodes = genesis->limit_inodes,
        .copies = genesis->copies,
        .home = options->self.n,
        .mode = genesis->mode,
        .uid = genesis->uid,
        .gid = genesis->gid,
    };
    struct request session = {.kind = REQUEST_SESSION};
    error = log_first_entry(volume, &configure);
    if (error == 0)
        error = log_first_entry(volume, &session);
    return error < 0 ? error : log_sync(volume->log, log_last(volume->log));
}

int volume_create(const struct volume_options *options, const struct volume_genesis *genesis)
{
    static const char *const old[] = {"content",    IMAGE_NAME, "state",
                                      "checkpoint", "boot",     "leads"};
    AUTO_CLOSE int dirfd = -1;
    AUTO_CLOSE int newfd = -1;
    int error = open_to_build(options->directory, &dirfd, &newfd);
    if (error < 0)
        return error;
    if (disk_exists(dirfd, "log"))
        return -EEXIST;
    error = remove_all(dirfd, old, N_ELEMENTS(old));
    if (error == 0)
        error = write_genesis(newfd, options, genesis);
    return error < 0 ? error : finish_build(newfd, dirfd);
}

/* ---- installing what the home sent ---- */

/* The index that a checkpoint stands at. */
static int check_checkpoint(int newfd, const struct volume_options *options, int fd,
                            uint64_t *ret_index)
{
    AUTO_CLOSE int statefd = directory_make(newfd, TREE_DIRECTORY);
    if (statefd < 0)
        return statefd;
    uint64_t index;
    int error = tree_check_copy(fd, &index);
    if (error == 0)
        error = directory_copy_file(newfd, TREE_FILE, fd);
    AUTO(tree_freep) struct tree *tree = NULL;
    if (error == 0)
        error = tree_open(newfd, options->map_bytes, &tree);
    if (error < 0)
        return error;
    if (index == 0 || tree_applied(tree) != index || host_equal(tree_home(tree), NO_HOST))
        return -EBADMSG;
    *ret_index = index;
    return 0;
}

static int put_checkpoint(int newfd, int fd, uint64_t index)
{
    AUTO_CLOSE int dirfd = directory_make(newfd, "checkpoint");
    if (dirfd < 0)
        return dirfd;
    char name[CHECKPOINT_NAME_BYTES];
    checkpoint_name(index, name);
    int error = directory_copy_file(dirfd, name, fd);
    return error < 0 ? error : disk_sync(dirfd);
}

static int build_replica(int newfd, const struct volume_options *options, int fd)
{
    uint64_t index = 0;
    AUTO(log_freep) struct log *log = NULL;
    int error = fd < 0 ? 0 : check_checkpoint(newfd, options, fd, &index);
    if (error == 0 && fd >= 0)
        error = put_checkpoint(newfd, fd, index);
    return error < 0 ? error : log_open(newfd, index, &log);
}

int volume_install(const struct volume_options *options, int checkpoint_fd)
{
    static const char *const old[] = {"log", "state", "checkpoint"};
    AUTO_CLOSE int dirfd = -1;
    AUTO_CLOSE int newfd = -1;
    int error = open_to_build(options->directory, &dirfd, &newfd);
    if (error == 0)
        error = build_replica(newfd, options, checkpoint_fd);
    if (error == 0)
        error = leads_write(dirfd, &(struct leads){0});
    if (error == 0)
        error = remove_all(dirfd, old, N_ELEMENTS(old));
    if (error == 0 && checkpoint_fd >= 0)
        error = disk_rename(newfd, "checkpoint", dirfd, "checkpoint");
    return error < 0 ? error : finish_build(newfd, dirfd);
}

/* ---- opening ---- */

/* Opens the newest checkpoint, once it is known to be what was written. -ENOENT: there is none. */
static int open_newest(int checkpoint_dirfd, uint64_t *ret_index)
{
    char name[CHECKPOINT_NAME_BYTES];
    uint64_t index = 0, said = 0;
    int error = checkpoint_newest(checkpoint_dirfd, &index);
    if (error < 0 || index == 0)
        return error < 0 ? error : -ENOENT;
    checkpoint_name(index, name);
    AUTO_CLOSE int fd = disk_open(checkpoint_dirfd, name, O_RDONLY);
    error = fd < 0 ? fd : tree_check_copy(fd, &said);
    if (error == 0 && said != index)
        error = -EBADMSG;
    if (error == -EBADMSG)
        log_error("volume", "the checkpoint %s is damaged", name);
    *ret_index = index;
    return error < 0 ? error : TAKE_FD(fd);
}

/* The newest checkpoint becomes the state; without one the log begins at 1 and gives it all. */
static int restore_state(int dirfd, int checkpoint_dirfd)
{
    static const char *const old[] = {"state.new", TREE_DIRECTORY};
    uint64_t index = 0;
    AUTO_CLOSE int fd = open_newest(checkpoint_dirfd, &index);
    if (fd < 0 && fd != -ENOENT)
        return fd;
    int error = remove_all(dirfd, old, N_ELEMENTS(old));
    if (error < 0 || fd < 0)
        return error;
    log_info("volume", "restoring the state from the checkpoint at entry %" PRIu64, index);
    AUTO_CLOSE int statefd = directory_make(dirfd, "state.new");
    if (statefd < 0)
        return statefd;
    error = directory_copy_file(statefd, strchr(TREE_FILE, '/') + 1, fd);
    return error < 0 ? error : disk_rename(dirfd, "state.new", dirfd, TREE_DIRECTORY);
}

/* Takes the state as it is or, where that cannot be trusted, from the checkpoint. */
static int open_tree(struct volume *volume, uint64_t map_bytes, bool is_intact)
{
    int error = 0;
    if (!is_intact || !disk_exists(volume->dirfd, TREE_DIRECTORY))
        error = restore_state(volume->dirfd, volume->checkpointer.dirfd);
    /* From here on the state is this boot's. */
    if (error == 0)
        error = boot_write(volume->dirfd, false);
    if (error < 0)
        return error;
    error = tree_open(volume->dirfd, map_bytes, &volume->tree);
    if (error >= 0 || error == -ENOMEM)
        return error;
    log_warning("volume", "cannot open the state: %s; recovering it", strerror(-error));
    error = restore_state(volume->dirfd, volume->checkpointer.dirfd);
    return error < 0 ? error : tree_open(volume->dirfd, map_bytes, &volume->tree);
}

static int open_log(struct volume *volume)
{
    uint64_t applied = tree_applied(volume->tree);
    int error = log_open(volume->dirfd, applied, &volume->log);
    if (error == 0 && log_first(volume->log) > applied + 1) {
        log_error("volume", "the state ends at entry %" PRIu64 " and the log begins at %" PRIu64,
                  applied, log_first(volume->log));
        error = -EBADMSG;
    }
    return error;
}

/* What a power cut took of a replica's log the home still has: files that this host keeps may be in it. */
static bool is_wanted(void *ctx, uint64_t ino)
{
    struct volume *volume = ctx;
    struct inode inode;
    if (!volume_is_home(volume) && ino >= tree_next_ino(volume->tree))
        return true;
    if (volume->survivors && volume->survivors->is_open(volume->survivors, ino))
        return true;
    return tree_get(volume->tree, ino, &inode) != -ENOENT;
}

/* If the log had to begin anew, the state alone has what went before: it is made durable at once. */
static int cover_log(struct volume *volume)
{
    uint64_t newest;
    int error = checkpoint_newest(volume->checkpointer.dirfd, &newest);
    if (error < 0 || newest + 1 >= log_first(volume->log))
        return error;
    return volume_checkpoint(volume, true);
}

static int open_content(struct volume *volume, const struct volume_options *options,
                        const struct boot *boot)
{
    int error = image_open(volume->dirfd, options->image, &volume->image);
    if (error < 0)
        return error;
    int dirfd = volume->image ? image_dirfd(volume->image) : volume->dirfd;
    error = store_open(dirfd, boot->is_same, options->source, &volume->store);
    if (error == 0 && !boot->is_same && !boot->is_clean)
        error = store_distrust_seals(volume->store);
    if (error == 0)
        store_use_image(volume->store, volume->image);
    return error;
}

struct restoring {
    struct volume *volume;
    int error;
};

/* What an entry that was not durable did to own files is undone; a file that was never synced may be lost: it is empty. */
static bool restore_one(void *ctx, const struct inode *inode)
{
    struct restoring *restoring = ctx;
    struct volume *volume = restoring->volume;
    if (!S_ISREG(inode->mode))
        return true;
    int r = store_restore(volume->store, volume->self, inode, volume_is_home(volume));
    if (r == 1)
        log_warning("volume",
                    "inode %" PRIu64 " had not been synced before the power went: it is empty",
                    inode->ino);
    restoring->error = MIN(r, 0);
    return r >= 0;
}

static int restore_content(struct volume *volume)
{
    struct restoring restoring = {.volume = volume};
    int error = tree_each(volume->tree, 0, restore_one, &restoring);
    return error < 0 ? error : restoring.error;
}

/* Nothing is removed for entries that a power cut could still take. */
static int sweep(struct volume *volume)
{
    int error = log_sync(volume->log, log_last(volume->log));
    return error < 0 ? error : store_sweep(volume->store, is_wanted, volume);
}

static int recover(struct volume *volume, const struct volume_options *options)
{
    struct boot boot = {0};
    int error = leads_load(volume);
    if (error == 0)
        error = volume_boot(volume->dirfd, &boot);
    if (error == 0)
        error = open_tree(volume, options->map_bytes, boot.is_same || boot.is_clean);
    if (error == 0)
        error = open_log(volume);
    if (error == 0)
        error = open_content(volume, options, &boot);
    if (error == 0)
        error = volume_replay(volume);
    volume->is_new_boot = !boot.is_same;
    if (error == 0 && volume->is_new_boot)
        error = restore_content(volume);
    if (error == 0)
        error = sweep(volume);
    if (error < 0)
        return error;
    volume_advance(volume, tree_applied(volume->tree));
    error = checkpointer_start(volume);
    if (error == 0)
        error = removals_start(volume);
    if (error == 0)
        error = sealer_start(volume);
    return error < 0 ? error : cover_log(volume);
}

static int open_directory(struct volume *volume, const char *directory)
{
    volume->dirfd = directory_open(AT_FDCWD, directory);
    if (volume->dirfd < 0)
        return volume->dirfd;
    int error = claim(volume->dirfd);
    if (error < 0)
        return error;
    if (disk_exists(volume->dirfd, DELETED) || !disk_exists(volume->dirfd, "log"))
        return -ENOENT;
    volume->checkpointer.dirfd = directory_make(volume->dirfd, "checkpoint");
    return volume->checkpointer.dirfd < 0 ? volume->checkpointer.dirfd
                                          : volume_snapshot_remove(volume);
}

int volume_open(const struct volume_options *options, struct volume **ret_volume)
{
    AUTO(volume_freep) struct volume *volume = NULL;
    int error = volume_new(options, &volume);
    if (error == 0)
        error = open_directory(volume, options->directory);
    if (error == 0)
        error = recover(volume, options);
    if (error == -EBADMSG)
        log_error("volume",
                  "'%s' is damaged (see above); if another host is its home, remove it here and "
                  "attach it "
                  "again, else restore this directory from a backup",
                  options->directory);
    if (error < 0)
        return error;
    scrub_load(volume);
    volume->is_open = true;
    *ret_volume = TAKE(volume);
    return 0;
}
