#include "fs/store/format.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define ARGUMENTS_MAX 32

static struct template
{
    struct mutex lock; /* leaf */
    int fd;            /* a memfd; -1: none yet */
    uint64_t bytes;
}
template = {.fd = -1};

static void init_template(void)
{
    mutex_init(&template.lock, LOCK_leaf);
}

static struct template *get_template(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(pthread_once(&once, init_template) == 0);
    return &template;
}

/* ---- mkfs ---- */

static int run(char *const argv[])
{
    int status = 0;
    pid_t pid;
    int e = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (e != 0)
        return -e;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* No blocks for root, no zeroing of tables that a sparse file has as zeros anyway. */
static int run_mkfs(char *path)
{
    char line[] = "mkfs.ext4 -q -F -b 4096 -I 256 -i 8192 -m 0 -J size=16 -O ^resize_inode "
                  "-E lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    char *argv[ARGUMENTS_MAX];
    char *rest = line;
    size_t n = 0;
    for (char *word; n < ARGUMENTS_MAX - 2 && (word = strsep(&rest, " "));)
        argv[n++] = word;
    argv[n++] = path;
    argv[n] = NULL;
    return run(argv);
}

static int make(uint64_t bytes, int *ret_fd)
{
    char path[64];
    AUTO_CLOSE int fd = memfd_create("whiskfs-ext4", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), fd);
    int e = disk_truncate(fd, bytes);
    if (e == 0)
        e = run_mkfs(path);
    if (e == 0)
        *ret_fd = TAKE_FD(fd);
    return e;
}

/* ---- the template ---- */

/* A descriptor of the caller's own. -ENOENT: there is none of that size. */
static int find(struct template *t, uint64_t bytes)
{
    SCOPED_LOCK(&t->lock);
    if (t->fd < 0 || t->bytes != bytes)
        return -ENOENT;
    int fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? -errno : fd;
}

static int keep(struct template *t, int fd, uint64_t bytes)
{
    AUTO_CLOSE int old = -1;
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (kept < 0)
        return -errno;
    SCOPED_LOCK(&t->lock);
    old = t->fd;
    t->fd = kept;
    t->bytes = bytes;
    return 0;
}

static int get(uint64_t bytes, int *ret_fd)
{
    struct template *t = get_template();
    AUTO_CLOSE int fd = find(t, bytes);
    int e = MIN(fd, 0);
    if (e == -ENOENT) {
        e = make(bytes, &fd);
        if (e == 0)
            e = keep(t, fd, bytes);
    }
    if (e == 0)
        *ret_fd = TAKE_FD(fd);
    return e;
}

int format_file(int fd, uint64_t bytes)
{
    AUTO_CLOSE int from = -1;
    int e = get(bytes, &from);
    return e < 0 ? e : directory_copy_data(from, fd, bytes);
}

void format_prepare(uint64_t bytes)
{
    AUTO_CLOSE int fd = -1;
    int e = get(bytes, &fd);
    if (e < 0)
        log_debug("store", "cannot format an image ahead of time: %s", strerror(-e));
}
