/* fs/store/recover.c — opening the store, and what it does at the start: its index, distrust, sweeping. */
#include <errno.h>
#include <stdlib.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
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
                        enum copy_part part, void *ctx);

struct walk {
    struct store *store;
    bool is_own;
    copy_seen_f *seen;
    void *ctx;
};

static int see_name(void *ctx, const char *name)
{
    const struct walk *walk = ctx;
    uint64_t ino, version;
    enum copy_part part;
    if (!copy_parse_name(name, walk->is_own, &ino, &version, &part))
        return 0;
    return walk->seen(walk->store, ino, walk->is_own, version, part, walk->ctx);
}

/* Calls seen for each name of ours in own/ or drawn/. */
static int each_name(struct store *store, bool is_own, copy_seen_f *seen, void *ctx)
{
    struct walk walk = {.store = store, .is_own = is_own, .seen = seen, .ctx = ctx};
    return disk_list(is_own ? store->own_dirfd : store->drawn_dirfd, see_name, &walk);
}

static int index_copy(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                      enum copy_part part, void *ctx)
{
    (void)ctx;
    SCOPED_LOCK(&store->lock);
    if (part == COPY_DATA)
        return store_add_copy(store, ino, is_own, version) ? 0 : -ENOMEM;
    if (!copy_exists(store, ino, is_own, version))
        return copy_unlink(store, ino, is_own,
                           version); /* the daemon ended between its two steps */
    return 0;
}

/* After a power cut only what was synced is known to be there. The map says so from now on. */
static int distrust_map(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                        enum copy_part part, void *ctx)
{
    (void)ctx;
    AUTO(block_map_done) struct block_map map = {0};
    AUTO_CLOSE int fd = -1;
    if (part != COPY_MAP)
        return 0;
    int e = map_read(store, ino, is_own, version, true, &map, &fd);
    if (e == 0)
        e = map_write(fd, &map);
    if (e == 0)
        return is_own ? copy_cut_last_page(store, ino, &map) : 0;
    if (e != -EBADMSG || is_own) /* an own copy with a damaged map is named when it is asked for */
        return e == -EBADMSG ? 0 : e;
    return copy_unlink(store, ino, is_own, version);
}

static int open_dirs(struct store *store, int dirfd)
{
    store->dirfd = directory_make(dirfd, "content");
    if (store->dirfd < 0)
        return store->dirfd;
    store->own_dirfd = directory_make(store->dirfd, "own");
    if (store->own_dirfd < 0)
        return store->own_dirfd;
    store->drawn_dirfd = directory_make(store->dirfd, "drawn");
    if (store->drawn_dirfd < 0)
        return store->drawn_dirfd;
    disk_without_atimes(store->own_dirfd);
    disk_without_atimes(store->drawn_dirfd);
    int e = disk_sync(store->dirfd);
    return e < 0 ? e : disk_sync(dirfd);
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
    made->dirfd = made->own_dirfd = made->drawn_dirfd = made->seals_fd = -1;
    made->source = source;
    mutex_init(&made->lock, LOCK_store);
    flow_init(&made->flow);
    cond_init(&made->closed);
    AUTO(store_freep) struct store *store = made;
    int e = open_dirs(store, dirfd);
    if (e == 0)
        e = store_open_seals(store);
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
    close_fd(&store->seals_fd);
    close_fd(&store->dirfd);
    cond_done(&store->closed);
    flow_done(&store->flow);
    mutex_done(&store->lock);
    free(store);
}

bool store_wait_closed(struct store *store, int64_t deadline_ns)
{
    SCOPED_LOCK(&store->lock);
    while (store->n_open > 0) {
        if (!cond_wait_until(&store->closed, &store->lock, deadline_ns))
            return store->n_open == 0;
    }
    return true;
}

void store_use_image(struct store *store, struct image *image)
{
    store->image = image;
}

bool store_wait_freed(struct store *store, int64_t deadline_ns)
{
    return tidy_wait(&store->tidy, deadline_ns);
}

struct image *store_image(struct store *store)
{
    return store->image;
}

struct flow *store_flow(struct store *store)
{
    return &store->flow;
}

static int collect_ino(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                       enum copy_part part, void *ctx)
{
    (void)store, (void)is_own, (void)version, (void)part;
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
