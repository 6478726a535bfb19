#include "fs/store/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/disk/disk.h"
#include "fs/store/private.h"

static int check_map(int fd, uint64_t ino, const struct stat *st, bool *ret_is_damaged)
{
    AUTO(block_map_done) struct block_map map = {0};
    if (st->st_size <= 0 || st->st_size > MAP_FILE_BYTES_MAX) {
        *ret_is_damaged = true;
        return 0;
    }
    size_t size = (size_t)st->st_size;
    AUTO_FREE uint8_t *bytes = malloc(size);
    if (!bytes)
        return -ENOMEM;
    int64_t n = disk_read(fd, bytes, size, 0);
    if (n < 0 && n != -EIO)
        return (int)n;
    int e = n < 0 ? -EBADMSG : block_map_decode(&map, ino, (struct span){bytes, (size_t)n}, false);
    *ret_is_damaged = e == -EBADMSG;
    return e == -EBADMSG ? 0 : e;
}

int store_check_copy(int dirfd, const char *name, bool is_own, struct copy_state *ret_copy)
{
    struct copy_state copy = {0};
    enum copy_part part;
    char map_name[COPY_NAME_MAX];
    struct stat st;
    if (!copy_parse_name(name, is_own, &copy.ino, &copy.version, &part))
        return -EINVAL;
    copy.is_map = part == COPY_MAP;
    copy.is_seal = part == COPY_SEAL;
    AUTO_CLOSE int fd = disk_open(dirfd, name, O_RDONLY | O_NOFOLLOW);
    int e = fd < 0 ? fd : disk_stat(fd, &st);
    if (e == 0 && copy.is_map)
        e = check_map(fd, copy.ino, &st, &copy.is_damaged);
    if (e < 0)
        return e;
    (void)snprintf(map_name, sizeof map_name, "%s" MAP_SUFFIX, name);
    if (part == COPY_DATA)
        copy.is_damaged = (st.st_mode & 07777) == MODE_UNSETTLED && !disk_exists(dirfd, map_name);
    *ret_copy = copy;
    return 0;
}

int store_check_own(int own_dirfd, uint64_t ino, uint64_t *ret_size)
{
    char name[COPY_NAME_MAX];
    struct stat st;
    (void)snprintf(name, sizeof name, "%016" PRIx64, ino);
    AUTO_CLOSE int fd = disk_open(own_dirfd, name, O_RDONLY | O_NOFOLLOW);
    int e = fd < 0 ? fd : disk_stat(fd, &st);
    if (e == 0)
        *ret_size = (uint64_t)st.st_size;
    return e;
}
