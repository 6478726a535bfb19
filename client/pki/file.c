#include "client/pki/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Writes one file beside its final place. */
static int stage(const char *staged, const struct pki_file *file)
{
    (void)unlink(staged);
    AUTO_CLOSE int fd = open(staged, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int r = write_all(fd, file->text, file->size);
    if (r == 0 && (fchmod(fd, file->mode) < 0 || fsync(fd) < 0))
        r = -errno;
    return r;
}

static int settle(const char *staged, const char *path, bool force)
{
    /* link(2) refuses to replace; rename(2) replaces. */
    if (force ? rename(staged, path) < 0 : link(staged, path) < 0)
        return -errno;
    (void)unlink(staged);
    return 0;
}

static int save_one(const struct pki_file *file, bool force, const char *path)
{
    char staged[PATH_MAX];
    if (snprintf(staged, sizeof staged, "%s.new-%d", path, (int)getpid()) >= (int)sizeof staged)
        return -ENAMETOOLONG;
    int r = stage(staged, file);
    if (r == 0)
        r = settle(staged, path, force);
    if (r < 0)
        (void)unlink(staged);
    return r;
}

static int sync_dir(const char *dir)
{
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int save_all(const char *dir, const char *name, const struct pki_file *files, unsigned n,
                    bool force, unsigned *ret_done, char *ret_path, size_t path_size)
{
    for (unsigned i = 0; i < n && !force; i++) {
        (void)snprintf(ret_path, path_size, "%s/%s.%s", dir, name, files[i].suffix);
        if (access(ret_path, F_OK) == 0)
            return -EEXIST;
    }
    for (*ret_done = 0; *ret_done < n; ++*ret_done) {
        (void)snprintf(ret_path, path_size, "%s/%s.%s", dir, name, files[*ret_done].suffix);
        int r = save_one(&files[*ret_done], force, ret_path);
        if (r < 0)
            return r;
    }
    return sync_dir(dir);
}

int pki_save(const char *dir, const char *name, const struct pki_file *files, unsigned n,
             bool force, char *ret_path, size_t path_size)
{
    unsigned done = 0;
    int r = save_all(dir, name, files, n, force, &done, ret_path, path_size);
    for (unsigned i = 0; r < 0 && !force && i < done; i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s.%s", dir, name, files[i].suffix);
        (void)unlink(path);
    }
    return r;
}
