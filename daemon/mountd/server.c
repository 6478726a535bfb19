#include "daemon/mountd/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/mountd/protocol.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

/* ---- requests ---- */

/* Fills in reply and, for what answers with them, points *ret_fds to two descriptors. */
typedef void answer_f(struct server *server, const struct mountd_message *request, int fds[2],
                      struct mountd_message *reply, const struct mount **ret_mount);

static void answer_mount(struct server *server, const struct mountd_message *request, int fds[2],
                         struct mountd_message *reply, const struct mount **ret_mount)
{
    unsigned long flags = (request->flags & MOUNTD_NOSUID ? MS_NOSUID : 0) |
                          (request->flags & MOUNTD_NODEV ? MS_NODEV : 0);
    struct mount *m = NULL;
    (void)fds;
    reply->error = request->name[0] == '\0' || request->mountpoint[0] == '\0'
                       ? -EINVAL
                       : mounts_make(server->mounts, request->name, request->mountpoint, flags, &m);
    *ret_mount = m;
}

static void answer_take(struct server *server, const struct mountd_message *request, int fds[2],
                        struct mountd_message *reply, const struct mount **ret_mount)
{
    const struct mount *m = mounts_find(server->mounts, request->name);
    (void)fds;
    reply->error = m ? 0 : -ENOENT;
    if (m)
        (void)snprintf(reply->mountpoint, sizeof reply->mountpoint, "%s", m->header->mountpoint);
    *ret_mount = m;
}

static void answer_serve(struct server *server, const struct mountd_message *request, int fds[2],
                         struct mountd_message *reply, const struct mount **ret_mount)
{
    struct mount *m = mounts_find(server->mounts, request->name);
    (void)fds, (void)ret_mount;
    reply->error = m ? 0 : -ENOENT;
    if (m)
        m->is_served = true;
}

static void answer_keep(struct server *server, const struct mountd_message *request, int fds[2],
                        struct mountd_message *reply, const struct mount **ret_mount)
{
    struct mount *m = NULL;
    (void)request, (void)ret_mount;
    reply->error =
        fds[0] < 0 ? -EINVAL : mounts_keep(server->mounts, TAKE_FD(fds[0]), TAKE_FD(fds[1]), &m);
    if (reply->error == 0)
        m->is_served = true;
}

static void answer_unmount(struct server *server, const struct mountd_message *request, int fds[2],
                           struct mountd_message *reply, const struct mount **ret_mount)
{
    struct mount *m = mounts_find(server->mounts, request->name);
    (void)fds, (void)ret_mount;
    reply->error = m ? mounts_unmount(server->mounts, m, request->flags & MOUNTD_LAZY) : -ENOENT;
}

static void answer_list(struct server *server, const struct mountd_message *request, int fds[2],
                        struct mountd_message *reply, const struct mount **ret_mount)
{
    const struct mount *m = mounts_after(server->mounts, request->name);
    (void)fds, (void)ret_mount;
    reply->error = m ? 0 : -ENOENT;
    if (!m)
        return;
    (void)snprintf(reply->name, sizeof reply->name, "%s", m->header->name);
    (void)snprintf(reply->mountpoint, sizeof reply->mountpoint, "%s", m->header->mountpoint);
    reply->flags = m->is_served ? MOUNTD_SERVED : 0;
}

static void answer_autofs(struct server *server, const struct mountd_message *request, int fds[2],
                          struct mountd_message *reply, const struct mount **ret_mount)
{
    (void)fds, (void)ret_mount;
    bool is_new = server->autofs->root < 0;
    reply->error =
        request->mountpoint[0] == '\0' ? -EINVAL : autofs_open(server->autofs, request->mountpoint);
    server->is_told = reply->error == 0;
    if (server->is_told && is_new)
        mounts_sweep(server->mounts, request->mountpoint);
}

/* The daemon says that it is mounted; what counts is what this process has mounted. */
static void answer_answer(struct server *server, const struct mountd_message *request, int fds[2],
                          struct mountd_message *reply, const struct mount **ret_mount)
{
    (void)fds, (void)ret_mount;
    int error = request->error;
    if (error == 0 && !mounts_find(server->mounts, request->name))
        error = -EIO;
    reply->error = autofs_answer(server->autofs, request->name, error);
}

static answer_f *const answers[MOUNTD_TYPE_END] = {
    [MOUNTD_MOUNT] = answer_mount,     [MOUNTD_TAKE] = answer_take,
    [MOUNTD_SERVE] = answer_serve,     [MOUNTD_KEEP] = answer_keep,
    [MOUNTD_UNMOUNT] = answer_unmount, [MOUNTD_LIST] = answer_list,
    [MOUNTD_AUTOFS] = answer_autofs,   [MOUNTD_ANSWER] = answer_answer,
};

static int answer(struct server *server, const struct mountd_message *request, int fds[2])
{
    struct mountd_message reply = {.type = MOUNTD_REPLY};
    const struct mount *m = NULL;
    if (!answers[request->type])
        return -EBADMSG;
    answers[request->type](server, request, fds, &reply, &m);
    const int pair[] = {m ? m->fuse_fd : -1, m ? m->ledger_fd : -1};
    return mountd_send(server->daemon, &reply, m ? pair : NULL);
}

/* ---- connections ---- */

static void disconnect(struct server *server, int error)
{
    log_warning("mountd", "the daemon is gone (%s): its mounts wait for the next one",
                strerror(-error));
    close_fd(&server->daemon);
    server->daemon = -1;
    server->is_told = false;
    accesses_untell(&server->autofs->accesses);
    mounts_abandon(server->mounts);
}

void server_tell(struct server *server)
{
    struct mountd_message message = {.type = MOUNTD_ACCESS};
    struct access *access;
    while (server->is_told && (access = accesses_untold(&server->autofs->accesses))) {
        (void)snprintf(message.name, sizeof message.name, "%s", access->name);
        int r = mountd_send(server->daemon, &message, NULL);
        if (r == -EAGAIN)
            return; /* it answers, or is seen to be gone, first */
        access->is_told = true;
        if (r < 0)
            disconnect(server, r);
    }
}

void server_answer(struct server *server)
{
    struct mountd_message request;
    int fds[MOUNTD_N_FDS];
    int r = mountd_receive(server->daemon, &request, fds);
    if (r == 0) {
        r = answer(server, &request, fds);
        close_fd(&fds[0]);
        close_fd(&fds[1]);
    }
    if (r < 0 && r != -EAGAIN && r != -EINTR)
        disconnect(server, r);
}

static bool is_ours(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

void server_accept(struct server *server)
{
    static struct log_limit refused;
    uint64_t suppressed;
    const struct mountd_message busy = {.type = MOUNTD_REPLY, .error = -EBUSY};
    AUTO_CLOSE int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || !is_ours(fd))
        return;
    if (server->daemon >= 0) {
        if (log_allow(&refused, &suppressed))
            log_warning("mountd", "refused a second daemon");
        (void)!mountd_send(fd, &busy, NULL);
        return;
    }
    const struct mountd_message welcome = {.type = MOUNTD_REPLY, .name = MOUNTD_KNOWS_AUTOFS};
    if (mountd_send(fd, &welcome, NULL) == 0)
        server->daemon = TAKE_FD(fd);
}

/* ---- the socket ---- */

/* Nobody listens on what a process that was killed has left. */
static int replace_left(int fd, const struct sockaddr_un *address)
{
    AUTO_CLOSE int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return -errno;
    if (connect(probe, (const void *)address, sizeof *address) == 0)
        return -EADDRINUSE;
    if (unlink(address->sun_path) < 0 && errno != ENOENT)
        return -errno;
    return bind(fd, (const void *)address, sizeof *address) < 0 ? -errno : 0;
}

int server_open(struct server *server, const char *path, struct mounts *mounts,
                struct autofs *autofs)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *server = (struct server){.listener = -1, .daemon = -1, .mounts = mounts, .autofs = autofs};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mode_t before = umask(0177);
    int r = bind(fd, (const void *)&address, sizeof address) < 0 ? -errno : 0;
    if (r == -EADDRINUSE)
        r = replace_left(fd, &address);
    (void)umask(before);
    if (r == 0 && listen(fd, 8) < 0)
        r = -errno;
    if (r == 0)
        server->listener = TAKE_FD(fd);
    return r;
}

void server_close(struct server *server)
{
    close_fd(&server->daemon);
    close_fd(&server->listener);
}
