#include "daemon/mountd/link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "daemon/mountd/autofs.h"
#include "daemon/mountd/protocol.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define CALL_S 10
#define RETRY_MS 200
#define RESTART_NS (5 * NS_PER_S)
/* A daemon that was killed a moment ago may still count as connected. */
#define BUSY_NS (5 * NS_PER_S)

struct kept_mount {
    struct list link;
    char name[MOUNTD_NAME_MAX + 1];
    char mountpoint[MOUNTD_PATH_MAX + 1];
    int fds[MOUNTD_N_FDS];
    bool is_served;
};

struct mount_link {
    struct mount_link_options options;
    struct sockaddr_un address;
    pthread_t thread;
    bool has_thread;
    int wake; /* eventfd: ends the thread's wait */

    struct mutex lock; /* leaf */
    struct cond changed;
    bool is_up;
    bool is_busy; /* somebody speaks, or works on what follows: no lock, since that is I/O */
    bool is_stopping;
    bool has_autofs;

    int socket; /* -1: down */
    struct list mounts;
};

/* ---- one at a time ---- */

static struct mount_link *claim(struct mount_link *link)
{
    SCOPED_LOCK(&link->lock);
    while (link->is_busy)
        cond_wait(&link->changed, &link->lock);
    link->is_busy = true;
    return link;
}

static void unclaim(struct mount_link **link)
{
    SCOPED_LOCK(&(*link)->lock);
    (*link)->is_busy = false;
    cond_broadcast(&(*link)->changed);
}

#define SCOPED_CLAIM(link) AUTO(unclaim) struct mount_link *claimed UNUSED = claim(link)

/* ---- the conversation; claimed ---- */

static int connect_to(const struct sockaddr_un *address, int *ret_socket, bool *ret_knows_autofs)
{
    const struct timeval limit = {.tv_sec = CALL_S};
    struct mountd_message welcome;
    int fds[MOUNTD_N_FDS];
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        connect(fd, (const void *)address, sizeof *address) < 0)
        return -errno;
    int r = mountd_receive(fd, &welcome, fds);
    if (r == 0)
        r = welcome.error;
    if (r == 0) {
        *ret_socket = TAKE_FD(fd);
        *ret_knows_autofs = strcmp(welcome.name, MOUNTD_KNOWS_AUTOFS) == 0;
    }
    return r;
}

/* First accesses are told of at any time. */
static int exchange(struct mount_link *link, const struct mountd_message *request, const int *fds,
                    struct mountd_message *ret_reply, int ret_fds[static MOUNTD_N_FDS])
{
    int r = mountd_send(link->socket, request, fds);
    if (r == 0)
        r = mountd_receive(link->socket, ret_reply, ret_fds);
    while (r == 0 && ret_reply->type == MOUNTD_ACCESS) {
        link->options.accessed(link->options.ctx, ret_reply->name);
        r = mountd_receive(link->socket, ret_reply, ret_fds);
    }
    return r == 0 && ret_reply->type != MOUNTD_REPLY ? -EBADMSG : r;
}

/* The reply's error, or -ENOTCONN. ret_fds may be NULL where none are expected. */
static int call(struct mount_link *link, const struct mountd_message *request, const int *fds,
                struct mountd_message *ret_reply, int *ret_fds)
{
    int got[MOUNTD_N_FDS] = {-1, -1};
    *ret_reply = (struct mountd_message){0};
    if (link->socket < 0)
        return -ENOTCONN;
    int r = exchange(link, request, fds, ret_reply, got);
    if (r < 0) {
        log_warning("mounts", "whiskfs-mountd does not answer: %s", strerror(-r));
        (void)shutdown(link->socket, SHUT_RDWR); /* the thread sees it */
        return -ENOTCONN;
    }
    if (ret_reply->error == 0 && ret_fds && got[0] >= 0) {
        memcpy(ret_fds, got, sizeof got);
        return 0;
    }
    close_fd(&got[0]);
    close_fd(&got[1]);
    return ret_reply->error == 0 && ret_fds ? -EPROTO : ret_reply->error;
}

static struct mountd_message message(enum mountd_type type, const char *name,
                                     const char *mountpoint)
{
    struct mountd_message m = {.type = type};
    (void)snprintf(m.name, sizeof m.name, "%s", name);
    (void)snprintf(m.mountpoint, sizeof m.mountpoint, "%s", mountpoint);
    return m;
}

/* ---- mounts ---- */

static void forget(struct kept_mount *mount)
{
    list_remove(&mount->link);
    close_fd(&mount->fds[0]);
    close_fd(&mount->fds[1]);
    free(mount);
}

static int ask_for(struct mount_link *link, const struct mountd_message *request,
                   struct kept_mount **ret_mount)
{
    struct mountd_message reply;
    SCOPED_CLAIM(link);
    struct kept_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return -ENOMEM;
    int r = call(link, request, NULL, &reply, mount->fds);
    if (r < 0) {
        free(mount);
        return r;
    }
    const char *mountpoint = *request->mountpoint ? request->mountpoint : reply.mountpoint;
    (void)snprintf(mount->name, sizeof mount->name, "%s", request->name);
    (void)snprintf(mount->mountpoint, sizeof mount->mountpoint, "%s", mountpoint);
    list_append(&link->mounts, &mount->link);
    *ret_mount = mount;
    return 0;
}

int mount_link_take(struct mount_link *link, const char *name, struct kept_mount **ret_mount)
{
    const struct mountd_message request = message(MOUNTD_TAKE, name, "");
    return ask_for(link, &request, ret_mount);
}

int mount_link_mount(struct mount_link *link, const char *name, const char *mountpoint,
                     bool is_suid, bool is_dev, struct kept_mount **ret_mount)
{
    struct mountd_message request = message(MOUNTD_MOUNT, name, mountpoint);
    request.flags = (is_suid ? 0 : MOUNTD_NOSUID) | (is_dev ? 0 : MOUNTD_NODEV);
    int r = ask_for(link, &request, ret_mount);
    return r == -ENOTCONN && mount_link_has_autofs(link) ? -EHOSTDOWN : r;
}

int mount_link_serve(struct mount_link *link, struct kept_mount *mount)
{
    const struct mountd_message request = message(MOUNTD_SERVE, mount->name, "");
    struct mountd_message reply;
    SCOPED_CLAIM(link);
    int r = call(link, &request, NULL, &reply, NULL);
    mount->is_served = r == 0 || r == -ENOTCONN;
    return r == -ENOTCONN ? 0 : r; /* it is given back when there is somebody to keep it */
}

static int unmount_here(const struct kept_mount *mount, bool is_lazy)
{
    if (umount2(mount->mountpoint, UMOUNT_NOFOLLOW | (is_lazy ? MNT_DETACH : 0)) == 0 ||
        errno == EINVAL || errno == ENOENT) {
        (void)rmdir(mount->mountpoint);
        return 0;
    }
    return -errno;
}

int mount_link_unmount(struct mount_link *link, struct kept_mount *mount, bool is_lazy)
{
    struct mountd_message request = message(MOUNTD_UNMOUNT, mount->name, "");
    struct mountd_message reply;
    request.flags = is_lazy ? MOUNTD_LAZY : 0;
    SCOPED_CLAIM(link);
    int r = call(link, &request, NULL, &reply, NULL);
    if (r == -ENOTCONN)
        r = unmount_here(mount, is_lazy);
    if (r < 0 && r != -ENOENT)
        return r;
    forget(mount);
    return 0;
}

void mount_link_leave(struct mount_link *link, struct kept_mount *mount)
{
    SCOPED_CLAIM(link);
    forget(mount);
}

int kept_mount_fuse_fd(const struct kept_mount *mount)
{
    return mount->fds[0];
}

int kept_mount_ledger_fd(const struct kept_mount *mount)
{
    return mount->fds[1];
}

/* ---- first accesses ---- */

bool mount_link_has_autofs(struct mount_link *link)
{
    SCOPED_LOCK(&link->lock);
    return link->has_autofs;
}

void mount_link_answer(struct mount_link *link, const char *name, int error)
{
    struct mountd_message request = message(MOUNTD_ANSWER, name, "");
    struct mountd_message reply;
    request.error = error;
    SCOPED_CLAIM(link);
    int r = call(link, &request, NULL, &reply, NULL);
    if (r < 0)
        log_debug("mounts", "nobody waits for '%s' any more: %s", name, strerror(-r));
}

static void open_autofs(struct mount_link *link, bool knows_autofs)
{
    struct mountd_message reply;
    if (!link->options.autofs)
        return;
    const struct mountd_message request = message(MOUNTD_AUTOFS, "", link->options.autofs);
    int r = knows_autofs ? call(link, &request, NULL, &reply, NULL) : -EOPNOTSUPP;
    if (r < 0)
        log_warning("mounts", "no autofs at %s: %s: volumes appear there when they are attached",
                    link->options.autofs,
                    r == -EBUSY ? "volumes are mounted there already" : strerror(-r));
    if (r == -ENOTCONN)
        return;
    SCOPED_LOCK(&link->lock);
    link->has_autofs = r == 0;
}

/* What came unasked. Nobody else reads meanwhile. */
static void take_accesses(struct mount_link *link)
{
    struct mountd_message got;
    int fds[MOUNTD_N_FDS] = {-1, -1};
    struct pollfd fd = {.fd = link->socket, .events = POLLIN};
    SCOPED_CLAIM(link);
    while (poll(&fd, 1, 0) == 1 && fd.revents == POLLIN) {
        int r = mountd_receive(link->socket, &got, fds);
        close_fd(&fds[0]);
        close_fd(&fds[1]);
        if (r == 0 && got.type == MOUNTD_ACCESS) {
            link->options.accessed(link->options.ctx, got.name);
            continue;
        }
        (void)shutdown(link->socket, SHUT_RDWR); /* the thread sees it */
        return;
    }
}

/* ---- the thread ---- */

bool mount_link_is_up(struct mount_link *link)
{
    SCOPED_LOCK(&link->lock);
    return link->is_up;
}

bool mount_link_wait_up(struct mount_link *link)
{
    int64_t deadline_ns = clock_mono_ns() + RESTART_NS;
    SCOPED_LOCK(&link->lock);
    while (!link->is_up) {
        if (!cond_wait_until(&link->changed, &link->lock, deadline_ns))
            return link->is_up;
    }
    return true;
}

static void set_up(struct mount_link *link, bool is_up)
{
    SCOPED_LOCK(&link->lock);
    link->is_up = is_up;
    cond_broadcast(&link->changed);
}

static bool is_stopping(struct mount_link *link)
{
    SCOPED_LOCK(&link->lock);
    return link->is_stopping;
}

static void go_down(struct mount_link *link)
{
    SCOPED_CLAIM(link);
    log_warning("mounts", "whiskfs-mountd is gone: until it is back, mounts end with this daemon");
    close_fd(&link->socket);
    link->socket = -1;
    if (mount_link_has_autofs(link))
        autofs_fail_all(link->options.autofs); /* or what is unmounted here waits for them */
    set_up(link, false);
}

static void give_back(struct mount_link *link, struct kept_mount *mount)
{
    const struct mountd_message request = message(MOUNTD_KEEP, mount->name, mount->mountpoint);
    struct mountd_message reply;
    int r = call(link, &request, mount->fds, &reply, NULL);
    if (r == 0 || r == -ENOTCONN)
        return;
    log_warning("mounts", "whiskfs-mountd does not take the mount of '%s' back: %s", mount->name,
                strerror(-r));
    mount->is_served = false;
    if (r == -ENODEV)
        link->options.lost(link->options.ctx, mount->name);
}

static int come_up(struct mount_link *link)
{
    bool knows_autofs;
    SCOPED_CLAIM(link);
    int r = connect_to(&link->address, &link->socket, &knows_autofs);
    if (r < 0)
        return r;
    log_info("mounts", "whiskfs-mountd keeps the mounts");
    list_for_each(mount, &link->mounts, struct kept_mount, link)
    {
        if (mount->is_served)
            give_back(link, mount);
    }
    open_autofs(link, knows_autofs); /* what is not given back by now goes */
    set_up(link, true);
    return 0;
}

/* Until something happens to the connection, or it is time to try again. */
static void wait(struct mount_link *link, int socket)
{
    struct pollfd fds[] = {{.fd = link->wake, .events = POLLIN}, {.fd = socket, .events = POLLIN}};
    (void)poll(fds, N_ELEMENTS(fds), socket < 0 ? RETRY_MS : -1);
}

static bool has_hung_up(int socket)
{
    struct pollfd fd = {.fd = socket, .events = POLLRDHUP};
    return poll(&fd, 1, 0) == 1;
}

static void *watch_main(void *arg)
{
    struct mount_link *link = arg;
    while (!is_stopping(link)) {
        int socket = link->socket; /* only this thread changes it */
        wait(link, socket);
        if (socket >= 0 && has_hung_up(socket))
            go_down(link);
        else if (socket >= 0)
            take_accesses(link);
        else if (!is_stopping(link))
            (void)!come_up(link);
    }
    return NULL;
}

/* ---- life ---- */

void mount_link_free(struct mount_link *link)
{
    if (!link)
        return;
    if (link->has_thread) {
        const uint64_t one = 1;
        {
            SCOPED_LOCK(&link->lock);
            link->is_stopping = true;
        }
        (void)!write(link->wake, &one, sizeof one);
        thread_join(link->thread);
    }
    list_for_each(mount, &link->mounts, struct kept_mount, link) forget(mount);
    close_fd(&link->socket);
    close_fd(&link->wake);
    cond_done(&link->changed);
    mutex_done(&link->lock);
    free(link);
}
DEFINE_FREEP(mount_link, struct mount_link)

static int connect_first(struct mount_link *link)
{
    int64_t deadline_ns = clock_mono_ns() + BUSY_NS;
    int r = come_up(link);
    while (r == -EBUSY && clock_mono_ns() < deadline_ns) {
        (void)poll(NULL, 0, RETRY_MS);
        r = come_up(link);
    }
    if (r == -EBUSY)
        return r;
    if (r < 0)
        log_warning("mounts", "cannot reach whiskfs-mountd at %s: %s: mounts end with this daemon",
                    link->options.path, strerror(-r));
    return 0;
}

int mount_link_new(const struct mount_link_options *options, struct mount_link **ret_link)
{
    AUTO(mount_link_freep) struct mount_link *link = calloc(1, sizeof *link);
    if (!link)
        return -ENOMEM;
    link->options = *options;
    link->socket = -1;
    list_init(&link->mounts);
    mutex_init(&link->lock, LOCK_leaf);
    cond_init(&link->changed);
    link->wake = eventfd(0, EFD_CLOEXEC);
    if (link->wake < 0)
        return -errno;
    if (strlen(options->path) >= sizeof link->address.sun_path)
        return -ENAMETOOLONG;
    link->address.sun_family = AF_UNIX;
    memcpy(link->address.sun_path, options->path, strlen(options->path) + 1);
    int r = connect_first(link);
    if (r == 0)
        r = thread_start(&link->thread, "whiskfs-mounts", watch_main, link);
    if (r < 0)
        return r;
    link->has_thread = true;
    *ret_link = TAKE(link);
    return 0;
}
