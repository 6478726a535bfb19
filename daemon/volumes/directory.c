#include "daemon/volumes/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/volumes/volumes.h"
#include "fs/directory.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

static int make_directory(const char *path)
{
    return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int make_below(const char *state, const char *name, char **ret_path)
{
    AUTO_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s", state, name) < 0) {
        path = NULL;
        return -ENOMEM;
    }
    int r = make_directory(path);
    if (r == 0)
        *ret_path = TAKE(path);
    return r;
}

int volume_directories_open(struct volume_directories *dirs, const char *state, struct host_id self)
{
    *dirs = (struct volume_directories){.self = self};
    int r = make_directory(state);
    if (r == 0)
        r = make_below(state, "volumes", &dirs->path);
    if (r == 0)
        r = make_below(state, "saved", &dirs->saved);
    if (r < 0)
        volume_directories_close(dirs);
    return r;
}

void volume_directories_close(struct volume_directories *dirs)
{
    free(TAKE(dirs->path));
    free(TAKE(dirs->saved));
}

int volume_directory_path(const struct volume_directories *dirs, const char *name,
                          char ret_path[VOLUME_PATH_MAX])
{
    int n = snprintf(ret_path, VOLUME_PATH_MAX, "%s/%s", dirs->path, name);
    return n < 0 || n >= VOLUME_PATH_MAX ? -ENAMETOOLONG : 0;
}

static int open_directory(const struct volume_directories *dirs, const char *name, int *ret_fd)
{
    char path[VOLUME_PATH_MAX];
    int r = volume_directory_path(dirs, name, path);
    if (r < 0)
        return r;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

int volume_directory_home(const struct volume_directories *dirs, const char *name,
                          char ret_home[HOST_NAME_MAX_BYTES + 1])
{
    AUTO_CLOSE int dirfd = -1;
    int r = open_directory(dirs, name, &dirfd);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = openat(dirfd, "home", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char home[HOST_NAME_MAX_BYTES + 1];
    ssize_t n = read(fd, home, sizeof home);
    if (n <= 0 || (size_t)n > HOST_NAME_MAX_BYTES)
        return n < 0 ? -errno : -EBADMSG;
    memcpy(ret_home, home, (size_t)n);
    ret_home[n] = '\0';
    return 0;
}

int volume_directory_set_home(const struct volume_directories *dirs, const char *name,
                              const char *home)
{
    char path[VOLUME_PATH_MAX];
    AUTO_CLOSE int dirfd = -1;
    int r = volume_directory_path(dirs, name, path);
    if (r == 0)
        r = make_directory(path);
    if (r == 0)
        r = open_directory(dirs, name, &dirfd);
    return r < 0 ? r : directory_write_file(dirfd, "home", home, strlen(home));
}

int volume_directory_create(const struct volume_directories *dirs, const char *name,
                            const char *home, const struct volume_genesis *genesis)
{
    char path[VOLUME_PATH_MAX];
    int r = volume_directory_path(dirs, name, path);
    if (r < 0)
        return r;
    const struct volume_options options = {.directory = path, .self = dirs->self};
    r = volume_create(&options, genesis);
    if (r < 0)
        return r;
    r = volume_directory_set_home(dirs, name, home);
    if (r < 0)
        (void)!volume_delete(path);
    return r;
}

int volume_directory_rename(const struct volume_directories *dirs, const char *name,
                            const char *new_name)
{
    AUTO_CLOSE int fd = open(dirs->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || renameat2(fd, name, fd, new_name, RENAME_NOREPLACE) < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

int volume_directory_delete(const struct volume_directories *dirs, const char *name)
{
    char path[VOLUME_PATH_MAX];
    int r = volume_directory_path(dirs, name, path);
    if (r == 0)
        r = volume_delete(path);
    return r == -ENOENT ? 0 : r;
}

static void close_directory(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

int volume_directories_each(const struct volume_directories *dirs, volume_directory_f *each,
                            void *ctx)
{
    AUTO(close_directory) DIR *dir = opendir(dirs->path);
    if (!dir)
        return -errno;
    const struct dirent *found;
    while ((found = readdir(dir))) {
        char home[HOST_NAME_MAX_BYTES + 1];
        if (volume_name_check(found->d_name) < 0)
            continue;
        int r = volume_directory_home(dirs, found->d_name, home);
        if (r == 0)
            each(ctx, found->d_name, home);
        else /* the daemon ended before it was made or attached */
            log_warning("volumes", "'%s/%s' does not say which host is its home: left alone",
                        dirs->path, found->d_name);
    }
    return 0;
}
