#include "daemon/net/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/cleanup.h"

#define BACKLOG 128
/* What the kernel may hold unsent: beyond it our own queues decide, in which classes go before one another. */
#define UNSENT_BYTES (256 << 10)

static void info_freep(struct addrinfo **p)
{
    if (*p)
        freeaddrinfo(*p);
}

/* Splits at the last colon; brackets go. */
static int split(const char *address, char *host, size_t host_size, char *port, size_t port_size)
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon[1] == '\0')
        return -EINVAL;
    size_t n = (size_t)(colon - address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    } else if (memchr(address, ':', n)) {
        return -EINVAL;
    }
    if (n >= host_size || strlen(colon + 1) >= port_size)
        return -EINVAL;
    memcpy(host, address, n);
    host[n] = '\0';
    (void)snprintf(port, port_size, "%s", colon + 1);
    return 0;
}

static int resolve(const char *address, int flags, struct addrinfo **ret_info)
{
    char host[256];
    char port[8];
    int r = split(address, host, sizeof host, port, sizeof port);
    if (r < 0)
        return r;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    const char *name = host[0] ? host : NULL;
    int e = getaddrinfo(name, port, &hints, ret_info);
    if (e == 0)
        return 0;
    return e == EAI_NONAME || e == EAI_SERVICE ? -EINVAL : -EHOSTUNREACH;
}

static int stream_socket(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int address_listen(const char *address, int *ret_fd)
{
    AUTO(info_freep) struct addrinfo *info = NULL;
    int r = resolve(address, AI_PASSIVE, &info);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = stream_socket(info);
    if (fd < 0)
        return fd;
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int address_connect(const char *address, int *ret_fd)
{
    AUTO(info_freep) struct addrinfo *info = NULL;
    int r = resolve(address, AI_NUMERICHOST, &info);
    if (r == -EINVAL)
        r = resolve(address, 0, &info);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = stream_socket(info);
    if (fd < 0)
        return fd;
    if (connect(fd, info->ai_addr, info->ai_addrlen) < 0 && errno != EINPROGRESS)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int address_connected(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

void address_of_peer(int fd, char ret_text[static ADDRESS_TEXT_BYTES])
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0 ||
        getnameinfo((struct sockaddr *)&address, size, ret_text, ADDRESS_TEXT_BYTES, NULL, 0,
                    NI_NUMERICHOST) != 0)
        (void)snprintf(ret_text, ADDRESS_TEXT_BYTES, "an unknown address");
}

uint16_t address_port(int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

void address_tune(int fd)
{
    int on = 1;
    int unsent = UNSENT_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}
