/* fs/store/files.c — a copy's files on disk: names, maps, and the order in which they come and go.
 *
 * A data file without a map is complete. So a map is made before its data file and removed after it, or when the
 * copy is complete and synced; whatever moment the daemon is killed at, no copy looks more complete than it is. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/disk/disk.h"
#include "fs/store/private.h"
#include "proto/base/log.h"

/* On an own file that began as a drawn copy: the version it was drawn of, in hexadecimal. */
#define BASE_XATTR "user.whiskfs.base"
#define PAGE_BYTES 4096u
#define MAP_BYTES_MOST (1u << 20) /* of a file of 512 GiB; larger ones take what is available */

/* ---- names ---- */

static void copy_name(char name[COPY_NAME_MAX], uint64_t ino, bool is_own, uint64_t version,
                      const char *suffix)
{
    if (is_own)
        (void)snprintf(name, COPY_NAME_MAX, "own/%016" PRIx64 "%s", ino, suffix);
    else
        (void)snprintf(name, COPY_NAME_MAX, "drawn/%016" PRIx64 ".%016" PRIx64 "%s", ino, version,
                       suffix);
}

static bool parse_hex(const char *text, uint64_t *ret)
{
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        char ch = text[i];
        if (ch >= '0' && ch <= '9')
            v = v << 4 | (uint64_t)(ch - '0');
        else if (ch >= 'a' && ch <= 'f')
            v = v << 4 | (uint64_t)(ch - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

static bool parse_suffix(const char *suffix, bool is_own, enum copy_part *ret_part)
{
    *ret_part = strcmp(suffix, MAP_SUFFIX) == 0    ? COPY_MAP
                : strcmp(suffix, SEAL_SUFFIX) == 0 ? COPY_SEAL
                                                   : COPY_DATA;
    return *ret_part == COPY_MAP || (*ret_part == COPY_SEAL && is_own) || suffix[0] == '\0';
}

bool copy_parse_name(const char *name, bool is_own, uint64_t *ret_ino, uint64_t *ret_version,
                     enum copy_part *ret_part)
{
    size_t at = 16;
    *ret_version = 0;
    if (!parse_hex(name, ret_ino))
        return false;
    if (!is_own) {
        if (name[at] != '.' || !parse_hex(name + at + 1, ret_version))
            return false;
        at += 17;
    }
    return parse_suffix(name + at, is_own, ret_part);
}

/* ---- removing and renaming ---- */

static int unlink_if_there(struct store *store, const char *name)
{
    int e = disk_unlink(store->dirfd, name);
    return e == -ENOENT ? 0 : e;
}

/* Blocks are freed when the tidy thread closes the descriptor, not here under the lock. */
static int unlink_data(struct store *store, const char *name, uint64_t pending_bytes)
{
    int fd = disk_open(store->dirfd, name, O_PATH | O_NOFOLLOW);
    int e = unlink_if_there(store, name);
    if (fd >= 0)
        tidy_close(&store->tidy, store->image, fd, pending_bytes);
    else if (pending_bytes > 0)
        image_freed(store->image, pending_bytes, true);
    return e;
}

/* Of an own file that goes, or that will not be one any more. */
static int remove_seal(struct store *store, uint64_t ino)
{
    char name[COPY_NAME_MAX];
    store_forget_damage(store, ino);
    int r = seal_take_away(store->seals_fd, ino);
    if (r <= 0)
        return r;
    store->seals_changed = true;
    copy_name(name, ino, true, 0, SEAL_SUFFIX);
    return unlink_data(store, name, 0);
}

int copy_unlink_pending(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                        uint64_t pending_bytes)
{
    char name[COPY_NAME_MAX];
    copy_name(name, ino, is_own, version, "");
    int e = unlink_data(store, name, pending_bytes);
    if (e < 0)
        return e;
    if (is_own)
        e = remove_seal(store, ino);
    copy_name(name, ino, is_own, version, MAP_SUFFIX);
    int map = unlink_if_there(store, name);
    return e < 0 ? e : map;
}

int copy_unlink(struct store *store, uint64_t ino, bool is_own, uint64_t version)
{
    return copy_unlink_pending(store, ino, is_own, version, 0);
}

int copy_occupied(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                  uint64_t *ret_bytes)
{
    char name[COPY_NAME_MAX];
    struct stat st;
    copy_name(name, ino, is_own, version, "");
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_PATH | O_NOFOLLOW);
    int e = fd < 0 ? fd : disk_stat(fd, &st);
    if (e == 0)
        *ret_bytes = (uint64_t)st.st_blocks * 512;
    return e;
}

void copy_unlink_map(struct store *store, uint64_t ino, bool is_own, uint64_t version)
{
    char name[COPY_NAME_MAX];
    copy_name(name, ino, is_own, version, MAP_SUFFIX);
    (void)!unlink_data(store, name, 0);
}

bool copy_exists(struct store *store, uint64_t ino, bool is_own, uint64_t version)
{
    char name[COPY_NAME_MAX];
    copy_name(name, ino, is_own, version, "");
    return disk_exists(store->dirfd, name);
}

/* The map gets a second, durable name before the data moves, and loses the first one once that is durable too. */
int copy_rename(struct store *store, uint64_t ino, bool to_own, uint64_t drawn_version)
{
    char from[COPY_NAME_MAX], to[COPY_NAME_MAX], from_map[COPY_NAME_MAX], to_map[COPY_NAME_MAX];
    copy_name(from, ino, !to_own, drawn_version, "");
    copy_name(from_map, ino, !to_own, drawn_version, MAP_SUFFIX);
    copy_name(to, ino, to_own, drawn_version, "");
    copy_name(to_map, ino, to_own, drawn_version, MAP_SUFFIX);
    int e = copy_unlink(store, ino, to_own, drawn_version);
    if (e == 0 && !to_own)
        e = remove_seal(store, ino);
    if (e < 0)
        return e;
    int to_dirfd = to_own ? store->own_dirfd : store->drawn_dirfd;
    e = disk_link(store->dirfd, from_map, store->dirfd, to_map);
    bool has_map = e == 0;
    if (has_map)
        e = disk_sync(to_dirfd);
    if (e < 0 && e != -ENOENT)
        return e;
    e = disk_rename(store->dirfd, from, store->dirfd, to);
    if (e < 0)
        (void)!disk_unlink(store->dirfd, to_map);
    else if (!has_map ||
             disk_sync(to_dirfd) == 0) /* else it stays beside nothing, which does no harm */
        (void)!disk_unlink(store->dirfd, from_map);
    return e;
}

int copy_end_rename(struct store *store, uint64_t ino, uint64_t drawn_version)
{
    char from[COPY_NAME_MAX], to[COPY_NAME_MAX], from_map[COPY_NAME_MAX], to_map[COPY_NAME_MAX];
    copy_name(from, ino, false, drawn_version, "");
    copy_name(from_map, ino, false, drawn_version, MAP_SUFFIX);
    copy_name(to, ino, true, 0, "");
    copy_name(to_map, ino, true, 0, MAP_SUFFIX);
    if (disk_exists(store->dirfd, from_map) || !disk_exists(store->dirfd, to_map))
        return copy_rename(store, ino, true, drawn_version);
    return disk_rename(store->dirfd, from, store->dirfd, to);
}

int map_write(int fd, const struct block_map *map)
{
    size_t size = block_map_file_bytes(map);
    AUTO_FREE uint8_t *bytes = malloc(size);
    if (!bytes)
        return -ENOMEM;
    block_map_encode(map, bytes);
    return disk_write(fd, bytes, size, 0);
}

int map_read(struct store *store, uint64_t ino, bool is_own, uint64_t version, bool synced_only,
             struct block_map *ret_map, int *ret_fd)
{
    char name[COPY_NAME_MAX];
    copy_name(name, ino, is_own, version, MAP_SUFFIX);
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDWR | O_NOFOLLOW);
    struct stat st;
    int e = fd < 0 ? fd : disk_stat(fd, &st);
    if (e < 0)
        return e;
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAP_FILE_BYTES_MAX)
        return -EBADMSG;
    size_t size = (size_t)st.st_size;
    AUTO_FREE uint8_t *bytes = malloc(size);
    if (!bytes)
        return -ENOMEM;
    int64_t n = disk_read(fd, bytes, size, 0);
    if (n < 0)
        return (int)n;
    e = block_map_decode(ret_map, ino, (struct span){bytes, (size_t)n}, synced_only);
    if (e == 0)
        *ret_fd = TAKE_FD(fd);
    return e;
}

/* -ENODATA: it has none; -EOPNOTSUPP: this filesystem cannot say. */
static int read_base(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                     uint64_t *ret_base)
{
    char name[COPY_NAME_MAX], text[17] = "";
    copy_name(name, ino, is_own, version, "");
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDONLY | O_NOFOLLOW);
    int n = fd < 0 ? fd : disk_get_xattr(fd, BASE_XATTR, text, sizeof text - 1);
    if (n < 0)
        return n;
    return n == 16 && parse_hex(text, ret_base) ? 0 : -ENODATA;
}

bool copy_base(struct store *store, uint64_t ino, bool is_own, uint64_t version, uint64_t *ret_base)
{
    return read_base(store, ino, is_own, version, ret_base) == 0;
}

/* ---- opening ---- */

/* A map whose removal was lost, of the copy that was here before. */
static bool is_of_another_base(struct store *store, uint64_t ino, const struct block_map *map)
{
    uint64_t base;
    int e = read_base(store, ino, true, 0, &base);
    return e == -ENODATA || (e == 0 && base != map->base_version);
}

int copy_open(struct store *store, const struct copy *copy, const uint64_t *size,
              struct content **ret_content)
{
    char name[COPY_NAME_MAX];
    uint64_t ino = copy->file->ino;
    copy_name(name, ino, copy->is_own, copy->version, "");
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDWR | O_NOFOLLOW);
    struct stat st;
    int e = fd < 0 ? fd : disk_stat(fd, &st);
    if (e < 0)
        return e;
    if (!S_ISREG(st.st_mode) || (size && (uint64_t)st.st_size != *size))
        return -EBADMSG;
    AUTO(block_map_done) struct block_map map = {0};
    AUTO_CLOSE int map_fd = -1;
    e = map_read(store, ino, copy->is_own, copy->version, false, &map, &map_fd);
    if (e == 0 && copy->is_own && is_of_another_base(store, ino, &map)) {
        block_map_done(&map);
        close_fd(&map_fd);
        map_fd = -1;
        e = -ENOENT;
    }
    if (e == -ENOENT)
        e = (st.st_mode & 07777) == MODE_UNSETTLED ? -EBADMSG : block_map_init(&map, 0);
    /* Own and shorter than its base: cut, by a daemon that was killed before the map said so. */
    if (e == 0 && copy->is_own && block_map_cut(&map, block_count((uint64_t)st.st_size)))
        e = map_write(map_fd, &map);
    if (e < 0)
        return e;
    e = content_new(store, ino, fd, map_fd, &map, ret_content);
    if (e < 0)
        return e;
    (void)TAKE_FD(fd);
    (void)TAKE_FD(map_fd);
    return 0;
}

/* Makes the files of an empty drawn copy: the map first. */
static int make_files(struct store *store, const struct inode *inode, uint64_t *ret_map_bytes)
{
    char name[COPY_NAME_MAX];
    struct stat st;
    AUTO(block_map_done) struct block_map map = {0};
    int e = block_map_init(&map, inode->size);
    if (e < 0)
        return e;
    map.ino = inode->ino;
    map.base_version = inode->version;
    map.upstream = inode->keeper;
    if (inode->size > 0) {
        copy_name(name, inode->ino, false, inode->version, MAP_SUFFIX);
        AUTO_CLOSE int map_fd =
            disk_open(store->dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW);
        if (map_fd < 0)
            return map_fd;
        e = map_write(map_fd, &map);
        if (e == 0)
            e = disk_stat(map_fd, &st);
        if (e < 0)
            return e;
        *ret_map_bytes = (uint64_t)st.st_blocks * 512;
    }
    copy_name(name, inode->ino, false, inode->version, "");
    AUTO_CLOSE int fd = disk_open_mode(store->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
                                       inode->size > 0 ? MODE_UNSETTLED : MODE_SETTLED);
    return fd < 0 ? fd : disk_truncate(fd, inode->size);
}

/* A copy that is not as it should be is no copy: it is cache. */
int copy_remake(struct store *store, const struct inode *inode)
{
    int e = copy_unlink(store, inode->ino, false, inode->version);
    if (e < 0)
        return e;
    uint64_t map_bytes = 0;
    image_lend(store->image, MAP_BYTES_MOST);
    e = make_files(store, inode, &map_bytes);
    image_lent(store->image, MAP_BYTES_MOST, map_bytes);
    if (e < 0 && copy_unlink(store, inode->ino, false, inode->version) < 0)
        log_warning("store", "cannot remove a half-made copy of inode %" PRIx64, inode->ino);
    return e;
}

/* ---- own files ---- */

static int make_own(struct store *store, uint64_t ino)
{
    char name[COPY_NAME_MAX];
    copy_name(name, ino, true, 0, "");
    /* Inode numbers are never used again: a file that is there is this inode's, from before a crash. */
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW);
    return MIN(fd, 0);
}

/* A full volume's directories may still grow: they are ours and not the volume's. */
int copy_make_own(struct store *store, uint64_t ino)
{
    int e = make_own(store, ino);
    if (e != -ENOSPC || !store->image)
        return e;
    image_lend(store->image, IMAGE_OWN_BYTES);
    e = make_own(store, ino);
    image_lent(store->image, IMAGE_OWN_BYTES, 0);
    return e;
}

/* What lies behind the base in its last page was not synced if that block was not: the page comes anew, with zeros. */
int copy_cut_last_page(struct store *store, uint64_t ino, const struct block_map *map)
{
    static const uint8_t zeros[PAGE_BYTES];
    uint64_t size, end = map->base_size;
    uint64_t page_end = (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    int e = store_own_size(store, ino, &size);
    if (e < 0 || map->n_blocks == 0 || block_map_has(map, map->n_blocks - 1) || size <= end ||
        end == page_end)
        return e == -ENOENT ? 0 : e;
    char name[COPY_NAME_MAX];
    copy_name(name, ino, true, 0, "");
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDWR | O_NOFOLLOW);
    return fd < 0 ? fd : disk_write(fd, zeros, MIN(size, page_end) - end, end);
}

int store_own_size(struct store *store, uint64_t ino, uint64_t *ret_size)
{
    char name[COPY_NAME_MAX];
    struct stat st;
    copy_name(name, ino, true, 0, "");
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDONLY | O_NOFOLLOW);
    int e = fd < 0 ? fd : disk_stat(fd, &st);
    if (e == 0)
        *ret_size = (uint64_t)st.st_size;
    return e;
}

int store_set_own_size(struct store *store, uint64_t ino, uint64_t size)
{
    char name[COPY_NAME_MAX];
    copy_name(name, ino, true, 0, "");
    AUTO_CLOSE int fd = disk_open(store->dirfd, name, O_RDWR | O_NOFOLLOW);
    return fd < 0 ? fd : disk_truncate(fd, size);
}

void copy_note_base(struct content *content, uint64_t version)
{
    char text[17];
    (void)snprintf(text, sizeof text, "%016" PRIx64, version);
    int e = disk_set_xattr(content->fd, BASE_XATTR, text, 16);
    if (e < 0 && e != -EOPNOTSUPP)
        log_warning("store", "cannot note the base of inode %" PRIx64 ": %s", content->ino,
                    strerror(-e));
}
