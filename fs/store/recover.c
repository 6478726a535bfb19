/* fs/store/recover.c — opening the store, and what it does at the start: its index, distrust, sweeping. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/store/private.h"

struct inos {
    uint64_t *items;
    size_t n, room;
};

static int inos_add(struct inos *inos, uint64_t ino)
{
    if (inos->n == inos->room) {
        size_t room = inos->room ? inos->room * 2 : 64;
        uint64_t *items = reallocarray(inos->items, room, sizeof *items);
        if (!items)
            return -ENOMEM;
        inos->items = items;
        inos->room = room;
    }
    inos->items[inos->n++] = ino;
    return 0;
}

static void inos_done(struct inos *inos)
{
    free(inos->items);
}

typedef int copy_seen_f(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                        bool is_map, void *ctx);

static void close_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* Calls seen for each name of ours in own/ or drawn/. */
static int each_name(struct store *store, bool is_own, copy_seen_f *seen, void *ctx)
{
    AUTO_CLOSE int fd =
        openat(store->dirfd, is_own ? "own" : "drawn", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    AUTO(close_dir) DIR *dir = fdopendir(fd);
    if (!dir)
        return -errno;
    (void)TAKE_FD(fd);
    const struct dirent *entry;
    uint64_t ino, version;
    bool is_map;
    int e = 0;
    while (e == 0 && ((void)(errno = 0), entry = readdir(dir))) {
        if (copy_parse_name(entry->d_name, is_own, &ino, &version, &is_map))
            e = seen(store, ino, is_own, version, is_map, ctx);
    }
    return e == 0 ? -errno : e;
}

static int index_copy(struct store *store, uint64_t ino, bool is_own, uint64_t version, bool is_map,
                      void *ctx)
{
    (void)ctx;
    SCOPED_LOCK(&store->lock);
    if (!is_map)
        return store_add_copy(store, ino, is_own, version) ? 0 : -ENOMEM;
    if (!copy_exists(store, ino, is_own, version))
        return copy_unlink(store, ino, is_own,
                           version); /* the daemon ended between its two steps */
    return 0;
}

/* After a power cut only what was synced is known to be there. The map says so from now on. */
static int distrust_map(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                        bool is_map, void *ctx)
{
    (void)ctx;
    AUTO(block_map_done) struct block_map map = {0};
    AUTO_CLOSE int fd = -1;
    if (!is_map)
        return 0;
    int e = map_read(store, ino, is_own, version, true, &map, &fd);
    if (e == 0)
        return map_write(fd, &map);
    if (e != -EBADMSG || is_own) /* an own copy with a damaged map is named when it is asked for */
        return e == -EBADMSG ? 0 : e;
    return copy_unlink(store, ino, is_own, version);
}

static int make_dir(int dirfd, const char *name, int *ret_fd)
{
    if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int open_dirs(struct store *store, int dirfd)
{
    int e = make_dir(dirfd, "content", &store->dirfd);
    if (e == 0)
        e = make_dir(store->dirfd, "own", &store->own_dirfd);
    if (e == 0)
        e = make_dir(store->dirfd, "drawn", &store->drawn_dirfd);
    return e;
}

static int recover(struct store *store, bool clean_boot)
{
    int e = 0;
    if (!clean_boot)
        e = each_name(store, false, distrust_map, NULL);
    if (!clean_boot && e == 0)
        e = each_name(store, true, distrust_map, NULL);
    return e < 0 ? e : each_name(store, false, index_copy, NULL);
}

int store_open(int dirfd, bool clean_boot, struct source *source, struct store **ret_store)
{
    struct store *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    made->dirfd = made->own_dirfd = made->drawn_dirfd = -1;
    made->source = source;
    mutex_init(&made->lock, LOCK_store);
    AUTO(store_freep) struct store *store = made;
    int e = open_dirs(store, dirfd);
    if (e == 0)
        e = tidy_start(&store->tidy);
    if (e == 0)
        e = recover(store, clean_boot);
    if (e < 0)
        return e;
    *ret_store = TAKE(store);
    return 0;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    tidy_stop(&store->tidy);
    CHECK(store->n_open == 0 && "every content_get has its content_put");
    store_forget_all(store);
    close_fd(&store->own_dirfd);
    close_fd(&store->drawn_dirfd);
    close_fd(&store->dirfd);
    mutex_done(&store->lock);
    free(store);
}

static int collect_ino(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                       bool is_map, void *ctx)
{
    (void)store, (void)is_own, (void)version, (void)is_map;
    struct inos *inos = ctx;
    if (inos->n > 0 && inos->items[inos->n - 1] == ino)
        return 0;
    return inos_add(inos, ino);
}

int store_sweep(struct store *store, store_wanted_f *wanted, void *ctx)
{
    AUTO(inos_done) struct inos inos = {0};
    int e = each_name(store, true, collect_ino, &inos);
    if (e == 0)
        e = each_name(store, false, collect_ino, &inos);
    for (size_t i = 0; e == 0 && i < inos.n; i++) {
        if (!wanted(ctx, inos.items[i]))
            e = store_remove(store, inos.items[i]);
    }
    return e;
}
