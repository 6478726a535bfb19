/* fs/fuse/session.c — mounting, what is negotiated, and the end. */
#include "fs/fuse/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>

#include "fs/fuse/device.h"
#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"
#include "fs/fuse/record.h"
#include "fs/store/image.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define THREADS_DEFAULT 64
#define BALANCE_TRIES 8
#define FREED_NS (2 * NS_PER_S)
#define SHORT_BYTES (256ULL << 20) /* so little available that what was freed is wanted at once */
#define BACKGROUND_MAX 48 /* of the workers; the rest is for requests that somebody waits for */
#define INIT_TIMEOUT_NS (5 * NS_PER_S)

/* ---- negotiation ---- */

static bool want(struct fuse_conn_info *conn, uint64_t flag)
{
    return fuse_set_feature_flag(conn, flag);
}

static void announce(struct session *s, int error)
{
    SCOPED_LOCK(&s->lock);

    s->init_error = error;
    s->initialized = true;
    cond_broadcast(&s->changed);
}

/* The kernel goes on with what it was told by the daemon that answered INIT: another one must mean the same. */
static int check_negotiated(struct session *s, const struct fuse_conn_info *conn)
{
    struct ledger_header *header = ledger_header(s->ledger);
    const uint64_t now[N_ELEMENTS(header->negotiated)] = {
        conn->want_ext, (uint64_t)conn->max_write << 32 | conn->max_readahead,
        (uint64_t)conn->max_background << 32 | conn->congestion_threshold,
        (uint64_t)conn->time_gran << 32 | conn->max_backing_stack_depth};

    if (!atomic_load(&header->is_negotiated)) {
        memcpy(header->negotiated, now, sizeof now);
        atomic_store(&header->is_negotiated, 1);
        return 0;
    }
    if (memcmp(header->negotiated, now, sizeof now) == 0)
        return 0;
    log_error("fuse",
              "cannot resume the mount: this version negotiates otherwise with the kernel than the "
              "one that mounted it volume=%s",
              s->name);
    return -EPROTO;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct session *s = userdata;

    (void)want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
    (void)want(conn, FUSE_CAP_POSIX_ACL);
    (void)want(conn, FUSE_CAP_DONT_MASK); /* a default ACL takes the umask's place */
    (void)want(conn, FUSE_CAP_PARALLEL_DIROPS);
    (void)want(conn, FUSE_CAP_CACHE_SYMLINKS);
    /* A node is one content generation, so its pages stay right whatever its times say. */
    if (want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA))
        fuse_unset_feature_flag(conn, FUSE_CAP_AUTO_INVAL_DATA);
    fuse_unset_feature_flag(conn,
                            FUSE_CAP_SPLICE_READ); /* the loop reads the request's header itself */
    fuse_unset_feature_flag(conn, FUSE_CAP_OVER_IO_URING);
    /* The kernel makes EIO of a write that is cut short, as at the limit, when it has sent it asynchronously. */
    fuse_unset_feature_flag(conn, FUSE_CAP_ASYNC_DIO);
    fuse_unset_feature_flag(conn, FUSE_CAP_WRITEBACK_CACHE);
    s->passthrough = s->want_passthrough && want(conn, FUSE_CAP_PASSTHROUGH);
    if (s->passthrough)
        conn->max_backing_stack_depth = 1;
    s->maps_direct = want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
    s->opens_directories = fuse_get_feature_flag(conn, FUSE_CAP_NO_OPENDIR_SUPPORT);
    s->has_epoch = conn->proto_minor >= 44;
    conn->max_write = MIN(conn->max_write, WORKER_WRITE_MAX);
    conn->max_background = BACKGROUND_MAX;
    conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
    announce(s, check_negotiated(s, conn));
}

static const struct fuse_lowlevel_ops session_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .link = op_link,
    .create = op_create,
    .open = op_open,
    .read = op_read,
    .write_buf = op_write_buf,
    .flush = op_flush,
    .fsync = op_fsync,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .setxattr = op_setxattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
    .access = op_access,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .copy_file_range = op_copy_file_range,
    .tmpfile = op_tmpfile,
    .statx = op_statx,
};

/* ---- mounting ---- */

/* libfuse's own lines, which end in a newline. */
__attribute__((format(printf, 2, 0))) static void log_libfuse(enum fuse_log_level level,
                                                              const char *format, va_list arguments)
{
    char line[256];

    (void)vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\n")] = '\0';
    if (level <= FUSE_LOG_WARNING)
        log_warning("fuse", "%s", line);
    else
        log_debug("fuse", "%s", line);
}

static int make_fuse_session(struct session *s)
{
    char options[512];
    char program[] = "whiskfs", flag[] = "-o";
    char *argv[] = {program, flag, options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);

    struct tree_usage usage;
    tree_usage(volume_tree(s->volume), &usage);
    int n = snprintf(options, sizeof options,
                     "fsname=whiskfs:%s,subtype=whiskfs,allow_other,default_permissions,%s,%s",
                     s->name, usage.is_suid ? "suid" : "nosuid", usage.is_dev ? "dev" : "nodev");
    if (n < 0 || (size_t)n >= sizeof options || strpbrk(s->name, ",\\"))
        return -EINVAL;
    s->fuse = fuse_session_new(&args, &session_ops, sizeof session_ops, s);
    fuse_opt_free_args(&args);
    return s->fuse ? 0 : -ENOMEM;
}

static int wait_initialized(struct session *s)
{
    int64_t deadline_ns = clock_mono_ns() + INIT_TIMEOUT_NS;
    SCOPED_LOCK(&s->lock);

    while (!s->initialized) {
        if (!cond_wait_until(&s->changed, &s->lock, deadline_ns) && !s->initialized)
            return -ETIMEDOUT;
    }
    return s->init_error;
}

static int mount_alone(struct session *s)
{
    /* At the last moment: what is written to the bare directory between the two mounts is in no volume. */
    unmount_stale(s->mountpoint);
    errno = EIO;
    if (fuse_session_mount(s->fuse, s->mountpoint) != 0)
        return errno ? -errno : -EIO;
    s->is_mounted = true;
    return 0;
}

/* libfuse does not unmount what it is given this way. */
static int mount_given(struct session *s, int given)
{
    char path[32];

    int fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    (void)snprintf(path, sizeof path, "/dev/fd/%d", fd);
    if (fuse_session_mount(s->fuse, path) == 0)
        return 0;
    (void)close(fd);
    return -EIO;
}

static int open_mount(struct session *s, const struct session_mount *mount)
{
    fuse_set_log_func(log_libfuse);
    tune_request_size();
    int r = make_fuse_session(s);
    if (r < 0)
        return r;
    return mount ? mount_given(s, mount->fd) : mount_alone(s);
}

/* ---- resuming ---- */

static int64_t birth_of(struct session *s)
{
    struct inode root;

    return tree_get(s->tree, ROOT_INO, &root) == 0 ? root.btime_ns : 0;
}

/* What the daemon before had taken and not answered comes again (Linux >= 6.9). */
static int ask_resend(struct session *s)
{
    int r = device_resend(fuse_session_fd(s->fuse));

    if (r == 0)
        return 0;
    log_error("fuse",
              "cannot resume the mount: the kernel does not send requests again: %s volume=%s",
              strerror(-r), s->name);
    return -EPROTO;
}

/* libfuse learns from the INIT request what the kernel can; the kernel, which does not wait for it, drops the reply. */
static int feed_init(struct session *s)
{
    struct ledger_header *header = ledger_header(s->ledger);
    struct fuse_buf request = {.size = atomic_load(&header->init_bytes)};

    if (request.size == 0 || request.size > sizeof header->init)
        return 0; /* it was not read, or not noted, yet: it comes again with the rest */
    AUTO_FREE void *copy = malloc(sizeof header->init);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, header->init, request.size);
    request.mem = copy;
    fuse_session_process_buf(s->fuse, &request);
    return wait_initialized(s);
}

static int resume(struct session *s)
{
    if (ledger_header(s->ledger)->born_ns != birth_of(s)) {
        log_error("fuse", "cannot resume the mount: it is of another volume named '%s'", s->name);
        return -EPROTO;
    }
    int r = feed_init(s);
    if (r == 0)
        r = record_resume(s);
    if (r == 0)
        r = ask_resend(s);
    if (r == 0)
        log_info("fuse", "resumed the mount volume=%s nodes=%" PRIu64, s->name, s->nodes.n_nodes);
    return r;
}

static int serve(struct session *s, unsigned max_threads)
{
    int r = 0;

    if (s->is_resumed)
        r = resume(s);
    else
        ledger_begin(s->ledger, birth_of(s));
    if (r == 0)
        r = kernel_workers_start(&s->workers, s->fuse, s->ledger,
                                 max_threads ? max_threads : THREADS_DEFAULT);
    if (r == 0)
        r = wait_initialized(s);
    if (r < 0)
        return r;
    if (s->is_resumed)
        notify_all(s); /* an id names another generation than before: names lead to the right one */
    else
        tune_readahead(s->mountpoint);
    return 0;
}

static void unmount(struct session *s)
{
    if (!s->is_mounted)
        return;
    int r = umount2(s->mountpoint, UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
    s->needs_helper = r == -EPERM;
    if (r == -EBUSY) {
        log_info("fuse", "%s is in use: unmounting it from the tree; what is open ends volume=%s",
                 s->mountpoint, s->name);
        (void)umount2(s->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
}

/* In the order in which things may still call each other: kernel, workers, watcher, then what is open. */
static void session_end(struct session *s, bool is_leaving)
{
    if (!s)
        return;
    unmount(s);
    kernel_workers_stop(&s->workers);
    if (s->needs_helper)
        fuse_session_unmount(s->fuse);
    if (s->watcher.changed)
        volume_watch(s->volume, NULL);
    if (s->closer.session)
        closer_stop(&s->closer);
    if (is_leaving)
        record_leave(s);
    else if (s->fuse)
        close_all(s);
    if (s->fuse)
        fuse_session_destroy(s->fuse);
    node_table_done(&s->nodes);
    if (s->owns_ledger)
        ledger_free(s->ledger);
    free(s->leftover);
    quota_done(&s->quota);
    cond_done(&s->changed);
    mutex_done(&s->lock);
    free(s->name);
    free(s->mountpoint);
    free(s);
}

/* Of one that did not start: what a daemon before had open is not closed by that. */
static void session_free(struct session *s)
{
    session_end(s, s && s->is_resumed);
}
DEFINE_FREEP(session, struct session)

/* The ledger of a mount that is kept says who it is, also to the daemon after this one. */
static int take_ledger(struct session *s, const struct session_mount *mount)
{
    int r = 0;

    if (mount)
        s->ledger = mount->ledger;
    else
        r = ledger_open(-1, &s->ledger);
    if (r < 0)
        return r;
    s->owns_ledger = !mount;
    s->is_resumed = s->nodes.is_resumed = ledger_is_begun(s->ledger);
    struct ledger_header *header = ledger_header(s->ledger);
    if (header->session == 0 &&
        getrandom(&header->session, sizeof header->session, 0) != sizeof header->session)
        return -EIO;
    header->session |= 1; /* 0 would be nobody's */
    s->id = header->session;
    return 0;
}

static int session_new(struct volume *volume, const struct session_options *options,
                       struct session **ret_session)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->volume = volume;
    s->tree = volume_tree(volume);
    s->store = volume_store(volume);
    s->source = volume_source(volume);
    s->self = volume_self(volume);
    s->want_passthrough = options->passthrough;
    mutex_init(&s->lock, LOCK_leaf);
    cond_init(&s->changed);
    quota_init(&s->quota, s->tree, store_image(s->store) != NULL);
    int r = node_table_init(&s->nodes, s->self);
    s->name = strdup(options->name);
    s->mountpoint = strdup(options->mountpoint);
    if (r == 0)
        r = take_ledger(s, options->mount);
    if (r < 0 || !s->name || !s->mountpoint) {
        session_free(s);
        return r < 0 ? r : -ENOMEM;
    }
    *ret_session = s;
    return 0;
}

int session_start(struct volume *volume, const struct session_options *options,
                  struct session **ret_session)
{
    AUTO(session_freep) struct session *s = NULL;

    int r = session_new(volume, options, &s);
    if (r < 0)
        return r;
    r = closer_start(&s->closer, s);
    if (r == 0)
        r = open_mount(s, options->mount);
    if (r < 0)
        return r;
    notify_watch(s);
    r = serve(s, options->max_threads);
    if (r < 0)
        return r;
    session_balance(s);
    *ret_session = TAKE(s);
    return 0;
}

void session_stop(struct session *session)
{
    session_end(session, false);
}

void session_leave(struct session *session)
{
    if (!session)
        return;
    notify_all(session); /* a host that has left is not waited for: its kernel keeps no names */
    session_end(session, true);
}

const struct session_counters *session_counters(const struct session *session)
{
    return &session->counters;
}

/* The kernel says so of the descriptor. */
bool session_has_ended(const struct session *session)
{
    struct pollfd fd = {.fd = fuse_session_fd(session->fuse)};

    return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLERR | POLLNVAL));
}

bool session_has_passthrough(const struct session *session)
{
    return session->passthrough;
}

/* Usage and free blocks fit each other if nothing was written between two looks. */
static bool balance(struct session *s, struct image *image, bool is_last)
{
    struct image_state before, after;

    if (image_look(image, &before) < 0)
        return true;
    uint64_t room = quota_room(&s->quota);
    if (image_look(image, &after) < 0)
        return true;
    /* What was written in between counts once with `after`, twice with `before`: never not at all. */
    bool is_steady = before.free == after.free;
    return (is_steady || is_last) &&
           image_set_room(image, room, &before, quota_has_writers(&s->quota));
}

void session_balance(struct session *s)
{
    struct image *image = store_image(s->store);

    for (int i = 0; image && i < BALANCE_TRIES; i++)
        if (balance(s, image, i == BALANCE_TRIES - 1))
            return;
}

/* So little may still be written that every change matters at once. */
static bool is_short(struct session *s, struct image_state *ret_state)
{
    struct image *image = store_image(s->store);

    return image && image_look(image, ret_state) == 0 && ret_state->available < SHORT_BYTES;
}

/* Content goes a moment after its name. Where most of the room is still to come of that, it is waited for. */
static void balance_with_pending(struct session *s)
{
    struct image_state state;
    int64_t deadline_ns = clock_mono_ns() + FREED_NS;

    session_balance(s);
    if (!is_short(s, &state) || state.pending <= state.available)
        return;
    if (volume_wait_removed(s->volume, deadline_ns))
        (void)!store_wait_freed(s->store, deadline_ns);
    session_balance(s);
}

void session_writes(struct session *s)
{
    struct image *image = store_image(s->store);

    if (image && !image_is_written(image))
        balance_with_pending(s);
}

void session_used(struct session *s)
{
    struct image_state state;

    if (is_short(s, &state))
        session_balance(s);
}

void session_freed(struct session *s)
{
    struct image_state state;

    if (is_short(s, &state) && image_is_written(store_image(s->store)))
        balance_with_pending(s);
}

void session_expire(struct session *session)
{
    notify_all(session);
}
