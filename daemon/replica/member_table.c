#include "daemon/replica/member_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/replica/core/followers.h"
#include "proto/base/cleanup.h"

static int write_names(int fd, const char (*names)[HOST_NAME_MAX_BYTES + 1], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (dprintf(fd, "%s\n", names[i]) < 0)
            return -EIO;
    return fdatasync(fd) < 0 ? -errno : 0;
}

int member_table_save(const char *directory, const char (*names)[HOST_NAME_MAX_BYTES + 1], size_t n)
{
    AUTO_CLOSE int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return -errno;
    AUTO_CLOSE int fd =
        openat(dirfd, "members.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = write_names(fd, names, n);
    if (r < 0)
        return r;
    if (renameat(dirfd, "members.new", dirfd, "members") < 0 || fsync(dirfd) < 0)
        return -errno;
    return 0;
}

static void close_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

int member_table_load(const char *directory, char (**ret_names)[HOST_NAME_MAX_BYTES + 1],
                      size_t *ret_n)
{
    char path[4096], line[HOST_NAME_MAX_BYTES + 3];
    (void)snprintf(path, sizeof path, "%s/members", directory);
    AUTO(close_file) FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : -errno;
    char(*names)[HOST_NAME_MAX_BYTES + 1] = calloc(FOLLOWERS_MAX, sizeof *names);
    size_t n = 0;
    if (!names)
        return -ENOMEM;
    while (n < FOLLOWERS_MAX && fgets(line, sizeof line, f)) {
        size_t length = strcspn(line, "\n");
        if (length == 0 || length > HOST_NAME_MAX_BYTES || line[length] == '\0') {
            free(names);
            return -EBADMSG;
        }
        memcpy(names[n], line, length);
        n++;
    }
    *ret_names = names;
    *ret_n = n;
    return 0;
}
