/* tests/unit/fs/mapper.h — maps of mounted files, held by a process of their own.
 *
 * A process must not map files that its own threads serve: munmap, msync and page faults wait for an answer while the
 * kernel holds the address space's lock, and the thread that would answer may need that lock (malloc, a fresh page).
 * So the map lives in a child, which does what it is told over a socket and answers each order.
 */
#pragma once

#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct mapper {
    pid_t pid;
    int fd;
};

enum mapper_verb {
    MAPPER_STORE = 1,
    MAPPER_LOAD,
    MAPPER_SYNC,
    MAPPER_CLOSE,
    MAPPER_UNMAP
};

struct mapper_order {
    enum mapper_verb verb;
    size_t offset, size;
    char bytes[64];
};

__attribute__((noreturn)) static inline void mapper_main(int socket, const char *path, size_t size,
                                                         bool is_writable)
{
    struct mapper_order order;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(path, is_writable ? O_RDWR : O_RDONLY);
    char *map = mmap(NULL, size, PROT_READ | (is_writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    char is_good = map != MAP_FAILED;
    (void)!write(socket, &is_good, 1);
    while (is_good && read(socket, &order, sizeof order) == sizeof order) {
        switch (order.verb) {
        case MAPPER_STORE:
            memcpy(map + order.offset, order.bytes, order.size);
            break;
        case MAPPER_LOAD:
            is_good = memcmp(map + order.offset, order.bytes, order.size) == 0;
            break;
        case MAPPER_SYNC:
            is_good = msync(map, size, MS_SYNC) == 0;
            break;
        case MAPPER_CLOSE:
            is_good = close(fd) == 0;
            break;
        case MAPPER_UNMAP:
            is_good = munmap(map, size) == 0;
            break;
        }
        (void)!write(socket, &is_good, 1);
    }
    _exit(is_good ? 0 : 1);
}

static inline void mapper_check(struct mapper *mapper)
{
    char is_good = 0;
    cr_assert_eq(read(mapper->fd, &is_good, 1), 1);
    cr_assert_eq(is_good, 1);
}

/* Opens and maps the whole file, shared. */
static inline struct mapper mapper_start(const char *path, size_t size, bool is_writable)
{
    int sockets[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    struct mapper mapper = {.pid = fork(), .fd = sockets[0]};
    if (mapper.pid == 0) {
        (void)close(sockets[0]);
        mapper_main(sockets[1], path, size, is_writable);
    }
    (void)close(sockets[1]);
    mapper_check(&mapper);
    return mapper;
}

static inline void mapper_do(struct mapper *mapper, enum mapper_verb verb, size_t offset,
                             const void *bytes, size_t size)
{
    struct mapper_order order = {.verb = verb, .offset = offset, .size = size};
    cr_assert(size <= sizeof order.bytes);
    if (size > 0)
        memcpy(order.bytes, bytes, size);
    cr_assert_eq(write(mapper->fd, &order, sizeof order), sizeof order);
    mapper_check(mapper);
}

/* What is still mapped or open ends with it. */
static inline void mapper_stop(struct mapper *mapper)
{
    int status;
    (void)close(mapper->fd);
    cr_assert_eq(waitpid(mapper->pid, &status, 0), mapper->pid);
    cr_assert_eq(status, 0);
}
