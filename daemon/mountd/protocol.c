#include "daemon/mountd/protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/base/cleanup.h"
#include "proto/wire.h"

#define VERSION 1
#define ERROR_MAX 4095

/* ---- bytes ---- */

static void get_text(struct reader *r, char *text, size_t max)
{
    struct span s = get_string(r);
    if (s.size > max || (s.size > 0 && memchr(s.data, '\0', s.size))) {
        r->bad = true;
        return;
    }
    if (s.size > 0)
        memcpy(text, s.data, s.size);
    text[s.size] = '\0';
}

int mountd_decode(const void *data, size_t size, struct mountd_message *ret_message)
{
    struct mountd_message m = {0};
    struct reader r = reader_over(data, size);
    uint16_t version = get_u16(&r), type = get_u16(&r);
    m.error = (int32_t)get_u32(&r);
    m.flags = get_u32(&r);
    get_text(&r, m.name, MOUNTD_NAME_MAX);
    get_text(&r, m.mountpoint, MOUNTD_PATH_MAX);
    if (!reader_finished(&r) || version != VERSION || type == 0 || type >= MOUNTD_TYPE_END)
        return -EBADMSG;
    m.type = (enum mountd_type)type;
    if (m.error > 0 || m.error < -ERROR_MAX || (m.flags & ~MOUNTD_FLAGS_ALL) ||
        strpbrk(m.name, "/,") || (m.mountpoint[0] != '\0' && m.mountpoint[0] != '/'))
        return -EBADMSG;
    *ret_message = m;
    return 0;
}

size_t mountd_encode(const struct mountd_message *message, void *data)
{
    struct writer w = writer_over(data, MOUNTD_BYTES_MAX);
    put_u16(&w, VERSION);
    put_u16(&w, (uint16_t)message->type);
    put_u32(&w, (uint32_t)message->error);
    put_u32(&w, message->flags);
    put_string(&w, message->name, strlen(message->name));
    put_string(&w, message->mountpoint, strlen(message->mountpoint));
    CHECK(!w.bad);
    return writer_used(&w);
}

/* ---- packets ---- */

union control {
    char bytes[CMSG_SPACE(MOUNTD_N_FDS * sizeof(int))];
    struct cmsghdr align;
};

int mountd_send(int socket, const struct mountd_message *message, const int *fds)
{
    uint8_t data[MOUNTD_BYTES_MAX];
    union control control = {.bytes = {0}};
    struct iovec part = {.iov_base = data, .iov_len = mountd_encode(message, data)};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (fds) {
        packet.msg_control = control.bytes;
        packet.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&packet);
        *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(MOUNTD_N_FDS * sizeof(int)),
                              .cmsg_level = SOL_SOCKET,
                              .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, MOUNTD_N_FDS * sizeof(int));
    }
    return sendmsg(socket, &packet, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Takes what came, and closes what there is no place for. */
static size_t take_fds(struct msghdr *packet, int fds[static MOUNTD_N_FDS])
{
    size_t n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(packet); c; c = CMSG_NXTHDR(packet, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n_here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n_here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (n < MOUNTD_N_FDS)
                fds[n++] = fd;
            else
                close_fd(&fd);
        }
    }
    return n;
}

int mountd_receive(int socket, struct mountd_message *ret_message, int ret_fds[static MOUNTD_N_FDS])
{
    uint8_t data[MOUNTD_BYTES_MAX];
    union control control;
    struct iovec part = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr packet = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    int fds[MOUNTD_N_FDS] = {-1, -1};
    ssize_t n = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return n == 0 ? -ECONNRESET : -errno;
    size_t n_fds = take_fds(&packet, fds);
    int r = packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || n_fds == 1
                ? -EBADMSG
                : mountd_decode(data, (size_t)n, ret_message);
    if (r < 0) {
        close_fd(&fds[0]);
        close_fd(&fds[1]);
        return r;
    }
    memcpy(ret_fds, fds, sizeof fds);
    return 0;
}
