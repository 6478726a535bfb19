#include "daemon/volumes/attachment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "daemon/replica/replica.h"
#include "daemon/transfer/transfer.h"
#include "daemon/volumes/saved.h"
#include "daemon/volumes/volumes.h"
#include "fs/fuse/ledger.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define MOUNTPOINT_MAX 512

struct attachment {
    const struct attachment_options *options;
    char name[VOLUME_NAME_MAX_BYTES + 1];
    struct host_id home; /* whom to join at; NO_HOST: nobody, the volume is opened as it is here */
    char directory[VOLUME_PATH_MAX];
    char mountpoint[MOUNTPOINT_MAX];
    struct replica *replica;
    _Atomic(struct volume *) volume; /* set once */

    struct kept_mount
        *kept; /* by whiskfs-mountd; NULL: not mounted, or mounted by the session itself */
    struct ledger *ledger; /* of what is kept */

    struct mutex lock; /* the session, for those who do not run the operation */
    struct session *session;
};

DEFINE_FREEP(attachment, struct attachment)

int attachment_new(const struct attachment_options *options, const char *name,
                   const struct member_host *home, struct attachment **ret_attachment)
{
    AUTO(attachment_freep) struct attachment *attachment = calloc(1, sizeof *attachment);
    if (!attachment)
        return -ENOMEM;
    mutex_init(&attachment->lock, LOCK_attachment);
    attachment->options = options;
    (void)snprintf(attachment->name, sizeof attachment->name, "%s", name);
    attachment->home = home ? home->id : NO_HOST;
    int r = volume_directory_path(options->directories, name, attachment->directory);
    if (r < 0)
        return r;
    int n = snprintf(attachment->mountpoint, MOUNTPOINT_MAX, "%s/%s", options->mount, name);
    if (n < 0 || n >= MOUNTPOINT_MAX)
        return -ENAMETOOLONG;
    r = replica_new(options->env, name, attachment->directory, &attachment->replica);
    if (r < 0)
        return r;
    *ret_attachment = TAKE(attachment);
    return 0;
}

/* Most files that are written again are so within this. */
#define SEAL_AFTER_NS (5 * NS_PER_S)

static struct volume_options options_of(struct attachment *attachment)
{
    return (struct volume_options){
        .directory = attachment->directory,
        .self = attachment->options->env->self,
        .source = replica_source(attachment->replica),
        .survivors = attachment->ledger ? ledger_survivors(attachment->ledger) : NULL,
        .seal_after_ns = SEAL_AFTER_NS,
        .image = attachment->options->image,
    };
}

/* ---- a mount that is kept ---- */

static struct session_mount session_mount_of(const struct attachment *attachment)
{
    return (struct session_mount){
        .fd = kept_mount_fuse_fd(attachment->kept),
        .ledger = attachment->ledger,
    };
}

static void close_ledger(struct attachment *attachment)
{
    ledger_free(TAKE(attachment->ledger));
}

static void unmount_kept(struct attachment *attachment)
{
    close_ledger(attachment);
    if (mount_link_unmount(attachment->options->mount_link, TAKE(attachment->kept), true) < 0)
        log_warning("volumes", "cannot unmount '%s'", attachment->mountpoint);
}

static int open_ledger(struct attachment *attachment)
{
    int fd = fcntl(kept_mount_ledger_fd(attachment->kept), F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? -errno : ledger_open(fd, &attachment->ledger);
}

/* Before the volume is opened: what the mount has open goes on. Before other hosts hear of this one: they may have changed
 * what the kernel remembers. */
static void take_mount(struct attachment *attachment)
{
    struct mount_link *link = attachment->options->mount_link;
    if (!link || mount_link_take(link, attachment->name, &attachment->kept) < 0)
        return;
    int r = open_ledger(attachment);
    if (r < 0) {
        log_error("volumes",
                  "cannot go on with the mount of '%s': %s: mounting it anew, what is open ends",
                  attachment->name,
                  r == -EPROTO ? "this version keeps open files in another way" : strerror(-r));
        unmount_kept(attachment);
        return;
    }
    const struct session_mount mount = session_mount_of(attachment);
    session_mount_expire(&mount);
}

int attachment_open(struct attachment *attachment, int64_t deadline_ns)
{
    take_mount(attachment);
    const struct volume_options options = options_of(attachment);
    struct volume *volume;
    int r = volume_open(&options, &volume);
    if (r < 0)
        return r;
    atomic_store(&attachment->volume, volume);
    return replica_start(attachment->replica, volume, deadline_ns);
}

int attachment_resume(struct attachment *attachment)
{
    return volume_resume(attachment->volume);
}

static int install(struct attachment *attachment, int checkpoint, struct volume **ret_volume)
{
    const struct volume_options options = options_of(attachment);
    int r = volume_install(&options, checkpoint);
    return r == 0 ? volume_open(&options, ret_volume) : r;
}

static int empty_directory(struct attachment *attachment)
{
    const struct volume_directories *directories = attachment->options->directories;
    char home[HOST_NAME_MAX_BYTES + 1];
    int r = volume_directory_home(directories, attachment->name, home);
    if (r == 0)
        r = volume_directory_delete(directories, attachment->name);
    if (r == 0)
        r = volume_directory_set_home(directories, attachment->name, home);
    return r;
}

/* Content stays over an installation, but not that of a volume that was removed and made anew under the same name: the
 * new one has the same numbers for other files. */
static int install_anew(struct attachment *attachment, int checkpoint, struct volume **volume)
{
    int64_t born_ns = *volume ? volume_born_ns(*volume) : 0;
    volume_free(TAKE(*volume));
    int r = install(attachment, checkpoint, volume);
    if (r < 0 || born_ns == 0 || volume_born_ns(*volume) == born_ns)
        return r;
    log_info("volumes", "volume '%s' was made anew at its home: what is here of the old one goes",
             attachment->name);
    volume_free(TAKE(*volume));
    r = empty_directory(attachment);
    return r == 0 ? install(attachment, checkpoint, volume) : r;
}

/* What only this host has of a volume that is to be replaced here goes to the operator. */
static int put_aside(struct attachment *attachment, struct volume *volume, int checkpoint)
{
    uint64_t from = replica_diverges_at(attachment->replica);
    const struct saved_options options = {
        .directory = attachment->options->directories->saved,
        .volume_name = attachment->name,
        .volume = volume,
        .from = from,
        .checkpoint_fd = checkpoint,
    };
    return volume && checkpoint >= 0 && from != UINT64_MAX ? saved_put(&options) : 0;
}

/* What could not be opened for want of something is not to be replaced for that. */
static bool is_passing(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOSPC ||
           error == -EDQUOT;
}

/* With what a replica's directory holds already (opened: the join offers its last entry), or with nothing. Nobody else
 * sees the volume before this is over: it may have to be closed and replaced. A host whose log says that it is the
 * home, or about to be, has nobody to join. */
static int join_with_state(struct attachment *attachment, int64_t deadline_ns,
                           struct volume **ret_volume, bool *ret_is_known)
{
    take_mount(attachment);
    const struct volume_options options = options_of(attachment);
    AUTO_CLOSE int checkpoint = -1;
    AUTO(volume_freep) struct volume *volume = NULL;
    int r = volume_open(&options, &volume);
    if (is_passing(r))
        return r;
    *ret_is_known = r == 0;
    r = 0;
    if (!volume || !volume_orders(volume))
        r = replica_join(attachment->replica, attachment->home, volume, deadline_ns, &checkpoint);
    if (r < 0)
        return r;
    r = put_aside(attachment, volume, checkpoint);
    if (r == 0 && (!*ret_is_known || checkpoint >= 0))
        r = install_anew(attachment, checkpoint, &volume);
    if (r == 0)
        *ret_volume = TAKE(volume);
    return r;
}

static bool note_one(void *ctx, const struct inode *inode)
{
    bool *is_any = ctx;
    (void)inode;
    *is_any = true;
    return false;
}

/* An earlier life of this host may have left files open, also when its directory is gone. */
static bool has_left_files_open(struct attachment *attachment)
{
    struct tree *tree = volume_tree(attachment->volume);
    bool is_any = false;
    return tree_each_writer(tree, attachment->options->env->self, note_one, &is_any) < 0 ||
           tree_each_held(tree, attachment->options->env->self, note_one, &is_any) < 0 || is_any;
}

int attachment_join(struct attachment *attachment, int64_t deadline_ns)
{
    struct volume *volume = NULL;
    bool is_known = false;
    int r = join_with_state(attachment, deadline_ns, &volume, &is_known);
    if (r < 0)
        return r;
    atomic_store(&attachment->volume, volume);
    r = replica_start(attachment->replica, volume, deadline_ns);
    if (r == 0 && (is_known || attachment->ledger || has_left_files_open(attachment)))
        r = volume_resume(attachment->volume);
    return r;
}

/* ---- the mount ---- */

static void set_session(struct attachment *attachment, struct session *session)
{
    SCOPED_LOCK(&attachment->lock);
    attachment->session = session;
}

/* Without whiskfs-mountd the session mounts by itself. */
static int prepare_mount(struct attachment *attachment)
{
    struct mount_link *link = attachment->options->mount_link;
    if (attachment->kept)
        return 0;
    struct tree_usage usage;
    tree_usage(volume_tree(attachment->volume), &usage);
    int r = link ? mount_link_mount(link, attachment->name, attachment->mountpoint, usage.is_suid,
                                    usage.is_dev, &attachment->kept)
                 : -ENOTCONN;
    if (r == 0)
        r = open_ledger(attachment);
    if (r == -ENOTCONN && mkdir(attachment->mountpoint, 0755) < 0 && errno != EEXIST &&
        errno != ENOTCONN)
        return -errno;
    return r == -ENOTCONN ? 0 : r;
}

static int serve_mount(struct attachment *attachment)
{
    struct session_options options = {
        .mountpoint = attachment->mountpoint,
        .name = attachment->name,
        .passthrough = attachment->options->passthrough,
    };
    struct session_mount mount;
    struct session *session;
    if (attachment->kept) {
        mount = session_mount_of(attachment);
        options.mount = &mount;
    }
    int r = session_start(attachment->volume, &options, &session);
    if (r < 0)
        return r;
    if (attachment->kept)
        r = mount_link_serve(attachment->options->mount_link, attachment->kept);
    if (r < 0)
        session_stop(session);
    else
        set_session(attachment, session);
    return r;
}

static int start_mount(struct attachment *attachment)
{
    int r = prepare_mount(attachment);
    if (r == 0)
        r = serve_mount(attachment);
    if (r < 0 && attachment->kept)
        unmount_kept(attachment);
    return r;
}

static void stop_session(struct attachment *attachment)
{
    struct session *session = attachment->session;
    set_session(attachment, NULL);
    session_stop(session);
}

int attachment_mount(struct attachment *attachment)
{
    bool is_old = attachment->kept;
    if (attachment->session && !session_has_ended(attachment->session))
        return 0;
    if (attachment->session) { /* unmounted behind our back */
        stop_session(attachment);
        unmount_kept(attachment);
        is_old = false;
    }
    int r = start_mount(attachment);
    if (r == 0 || !is_old)
        return r;
    log_warning("volumes",
                "cannot go on with the mount of '%s': mounting it anew, what is open ends",
                attachment->name);
    r = volume_resume(attachment->volume);
    return r < 0 ? r : start_mount(attachment);
}

bool attachment_leave_mount(struct attachment *attachment)
{
    struct session *session = attachment->session;
    if (!session || !attachment->kept || !mount_link_wait_up(attachment->options->mount_link))
        return false;
    set_session(attachment, NULL);
    session_leave(session);
    return true;
}

int attachment_unmount(struct attachment *attachment, bool is_forced)
{
    struct mount_link *link = attachment->options->mount_link;
    if (attachment->kept) {
        int r = mount_link_unmount(link, attachment->kept, is_forced);
        if (r < 0)
            return r;
        attachment->kept = NULL;
        stop_session(attachment);
        close_ledger(attachment);
        return 0;
    }
    if (!attachment->session)
        return 0;
    if (!is_forced && umount2(attachment->mountpoint, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY)
        return -EBUSY;
    stop_session(attachment);
    if (rmdir(attachment->mountpoint) < 0)
        log_debug("volumes", "cannot remove mount point '%s': %s", attachment->mountpoint,
                  strerror(errno));
    return 0;
}

void attachment_demote(struct attachment *attachment)
{
    replica_demote(attachment->replica);
}

void attachment_balance(struct attachment *attachment)
{
    SCOPED_LOCK(&attachment->lock);
    if (attachment->session)
        session_balance(attachment->session);
}

void attachment_expire(struct attachment *attachment)
{
    SCOPED_LOCK(&attachment->lock);
    if (attachment->session)
        session_expire(attachment->session);
}

/* ---- what others ask ---- */

struct keeping {
    struct host_id self;
    bool is_needed;
};

static bool look_for_need(void *ctx, const struct inode *inode)
{
    struct keeping *keeping = ctx;
    keeping->is_needed = (inode->size > 0 && host_equal(inode->keeper, keeping->self)) ||
                         host_equal(inode->writer, keeping->self); /* not published yet */
    return !keeping->is_needed;
}

bool attachment_is_needed(struct attachment *attachment)
{
    struct keeping keeping = {.self = attachment->options->env->self};
    if (replica_orders(attachment->replica))
        return true;
    return tree_each(volume_tree(attachment->volume), ROOT_INO, look_for_need, &keeping) < 0 ||
           keeping.is_needed;
}

struct volume *attachment_volume(struct attachment *attachment)
{
    return atomic_load(&attachment->volume);
}

void attachment_frame(struct attachment *attachment, struct conn *conn, const struct frame *frame)
{
    replica_frame(attachment->replica, conn, frame);
}

void attachment_hear(struct attachment *attachment, uint64_t epoch, struct host_id home)
{
    replica_hear(attachment->replica, epoch, home);
}

int attachment_take_home(struct attachment *attachment, may_take_f *may_take, void *ctx)
{
    return replica_take_home(attachment->replica, may_take, ctx);
}

void attachment_conn_closed(struct attachment *attachment, struct conn *conn)
{
    replica_conn_closed(attachment->replica, conn);
}

void attachment_replica_status(struct attachment *attachment, struct replica_status *ret_status)
{
    replica_status(attachment->replica, ret_status);
}

/* A host that attaches knows only whom it asked. */
static void copy_home(struct attachment *attachment, struct volume_status *status)
{
    struct membership *membership = attachment->options->env->membership;
    struct host_id home = status->replica.turn.home;
    struct member_host known;
    if (host_equal(home, NO_HOST))
        home = attachment->home;
    if (host_equal(home, attachment->options->env->self))
        (void)snprintf(status->home, sizeof status->home, "%s", attachment->options->self);
    else if (membership->ops->host_by_id(membership, home, &known) == 0)
        (void)snprintf(status->home, sizeof status->home, "%s", known.name);
}

static void copy_counters(struct attachment *attachment, struct volume_status *status)
{
    SCOPED_LOCK(&attachment->lock);
    if (!attachment->session)
        return;
    const struct session_counters *counters = session_counters(attachment->session);
    status->is_mounted = true;
    status->is_kept = attachment->kept && mount_link_is_up(attachment->options->mount_link);
    status->has_passthrough = session_has_passthrough(attachment->session);
    status->reads_bytes = counters->read_bytes;
    status->read_requests = counters->read_requests;
    status->writes_bytes = counters->write_bytes;
    status->write_requests = counters->write_requests;
    status->wait_ns = counters->wait_ns;
    status->opens_passthrough = counters->opens_passthrough;
    status->opens_cached = counters->opens_cached;
    status->requests = counters->requests;
    status->errors = counters->errors;
}

void attachment_status(struct attachment *attachment, struct volume_status *ret_status)
{
    *ret_status = (struct volume_status){0};
    (void)snprintf(ret_status->name, sizeof ret_status->name, "%s", attachment->name);
    (void)snprintf(ret_status->mountpoint, sizeof ret_status->mountpoint, "%s",
                   attachment->mountpoint);
    attachment_replica_status(attachment, &ret_status->replica);
    copy_home(attachment, ret_status);
    copy_counters(attachment, ret_status);
    struct volume *volume = attachment_volume(attachment);
    if (!volume)
        return;
    tree_usage(volume_tree(volume), &ret_status->usage);
    ret_status->is_image = store_image(volume_store(volume)) != NULL;
    ret_status->applied = volume_applied(volume);
    ret_status->born_ns = volume_born_ns(volume);
    ret_status->durable = log_durable(volume_log(volume));
    ret_status->log_first = log_first(volume_log(volume));
    ret_status->sealed = volume_n_sealed(volume);
    volume_scrub_status(volume, &ret_status->scrub);
    ret_status->damaged = store_damage(volume_store(volume), NULL, 0);
}

/* ---- life ---- */

void attachment_free(struct attachment *attachment)
{
    if (!attachment)
        return;
    /* What was left, or not resumed yet, is the next daemon's, or this one's when it tries again. */
    if (attachment->kept && !attachment->session)
        mount_link_leave(attachment->options->mount_link, TAKE(attachment->kept));
    (void)!attachment_unmount(attachment, true);
    if (attachment->replica)
        replica_stop(attachment->replica);
    if (attachment->volume && attachment->options->env->transfer)
        transfer_let_go(attachment->options->env->transfer, volume_store(attachment->volume));
    volume_free(attachment->volume);
    ledger_free(attachment->ledger);
    replica_free(attachment->replica);
    mutex_done(&attachment->lock);
    free(attachment);
}
