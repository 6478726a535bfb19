/* fs/fuse/session.c — mounting, what is negotiated, and the end. */
#include "fs/fuse/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>

#include "fs/fuse/notify.h"
#include "fs/fuse/ops.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define THREADS_DEFAULT 64
#define BACKGROUND_MAX 48 /* of the workers; the rest is for requests that somebody waits for */
#define INIT_TIMEOUT_NS (5 * NS_PER_S)

/* ---- negotiation ---- */

static bool want(struct fuse_conn_info *conn, uint64_t flag)
{
    return fuse_set_feature_flag(conn, flag);
}

static void announce(struct session *s)
{
    SCOPED_LOCK(&s->lock);

    s->initialized = true;
    cond_broadcast(&s->changed);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct session *s = userdata;

    (void)want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
    (void)want(conn, FUSE_CAP_PARALLEL_DIROPS);
    (void)want(conn, FUSE_CAP_CACHE_SYMLINKS);
    /* A node is one content generation, so its pages stay right whatever its times say. */
    if (want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA))
        fuse_unset_feature_flag(conn, FUSE_CAP_AUTO_INVAL_DATA);
    fuse_unset_feature_flag(conn,
                            FUSE_CAP_SPLICE_READ); /* the loop reads the request's header itself */
    fuse_unset_feature_flag(conn, FUSE_CAP_OVER_IO_URING);
    fuse_unset_feature_flag(conn, FUSE_CAP_WRITEBACK_CACHE);
    s->passthrough = s->want_passthrough && want(conn, FUSE_CAP_PASSTHROUGH);
    if (s->passthrough)
        conn->max_backing_stack_depth = 1;
    s->maps_direct = want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
    s->has_epoch = conn->proto_minor >= 44;
    conn->max_background = BACKGROUND_MAX;
    conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
    announce(s);
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

    int n = snprintf(
        options, sizeof options,
        "fsname=whiskfs:%s,subtype=whiskfs,allow_other,default_permissions,nosuid,nodev", s->name);
    if (n < 0 || (size_t)n >= sizeof options || strpbrk(s->name, ",\\"))
        return -EINVAL;
    s->fuse = fuse_session_new(&args, &session_ops, sizeof session_ops, s);
    fuse_opt_free_args(&args);
    return s->fuse ? 0 : -ENOMEM;
}

static bool wait_initialized(struct session *s)
{
    int64_t deadline_ns = clock_mono_ns() + INIT_TIMEOUT_NS;
    SCOPED_LOCK(&s->lock);

    while (!s->initialized) {
        if (!cond_wait_until(&s->changed, &s->lock, deadline_ns))
            return s->initialized;
    }
    return true;
}

static int mount_volume(struct session *s, unsigned max_threads)
{
    fuse_set_log_func(log_libfuse);
    tune_request_size();
    int r = make_fuse_session(s);
    if (r < 0)
        return r;
    /* At the last moment: what is written to the bare directory between the two mounts is in no volume. */
    unmount_stale(s->mountpoint);
    errno = EIO;
    if (fuse_session_mount(s->fuse, s->mountpoint) != 0)
        return errno ? -errno : -EIO;
    s->is_mounted = true;
    r = kernel_workers_start(&s->workers, s->fuse, max_threads ? max_threads : THREADS_DEFAULT);
    if (r < 0)
        return r;
    if (!wait_initialized(s))
        return -ETIMEDOUT;
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
static void session_free(struct session *s)
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
    if (s->fuse)
        close_all(s);
    if (s->fuse)
        fuse_session_destroy(s->fuse);
    node_table_done(&s->nodes);
    quota_done(&s->quota);
    cond_done(&s->changed);
    mutex_done(&s->lock);
    free(s->name);
    free(s->mountpoint);
    free(s);
}
DEFINE_FREEP(session, struct session)

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
    s->next_unique = 1;
    mutex_init(&s->lock, LOCK_leaf);
    cond_init(&s->changed);
    quota_init(&s->quota, s->tree);
    int r = node_table_init(&s->nodes, s->self);
    s->name = strdup(options->name);
    s->mountpoint = strdup(options->mountpoint);
    if (r < 0 || !s->name || !s->mountpoint || getrandom(&s->id, sizeof s->id, 0) != sizeof s->id) {
        session_free(s);
        return r < 0 ? r : -ENOMEM;
    }
    s->id |= 1; /* 0 would be nobody's */
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
    if (r < 0)
        return r;
    notify_watch(s);
    r = mount_volume(s, options->max_threads);
    if (r < 0)
        return r;
    *ret_session = TAKE(s);
    return 0;
}

void session_stop(struct session *session)
{
    session_free(session);
}

const struct session_counters *session_counters(const struct session *session)
{
    return &session->counters;
}

bool session_has_passthrough(const struct session *session)
{
    return session->passthrough;
}

void session_expire(struct session *session)
{
    notify_all(session);
}
