/* fs/store/store.c — the index of copies, their contents, and what log entries do to them. */
#include "fs/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/disk/disk.h"
#include "fs/store/private.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* For names, maps, checkpoints' files and segments of the log. */
#define FREE_FILES_MIN 64
#define FREE_BYTES_MIN (256u << 10)

/* ---- the index ---- */

struct file *store_find_file(struct store *store, uint64_t ino) REQUIRES(store->lock)
{
    struct file *file;
    HASH_FIND(hh, store->files, &ino, sizeof ino, file);
    return file;
}

static struct copy *find_copy(struct store *store, uint64_t ino, bool is_own, uint64_t version)
    REQUIRES(store->lock)
{
    struct file *file = store_find_file(store, ino);
    if (!file)
        return NULL;
    list_for_each(copy, &file->copies, struct copy, link)
    {
        if (copy->is_own == is_own && (is_own || copy->version == version))
            return copy;
    }
    return NULL;
}

struct copy *store_find_own(struct store *store, uint64_t ino) REQUIRES(store->lock)
{
    return find_copy(store, ino, true, 0);
}

static struct file *make_file(struct store *store, uint64_t ino) REQUIRES(store->lock)
{
    struct file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->ino = ino;
    list_init(&file->copies);
    HASH_ADD(hh, store->files, ino, sizeof file->ino, file);
    return file;
}

static void drop_empty_file(struct store *store, struct file *file) REQUIRES(store->lock)
{
    if (!list_empty(&file->copies))
        return;
    HASH_DEL(store->files, file);
    free(file);
}

struct copy *store_add_copy(struct store *store, uint64_t ino, bool is_own, uint64_t version)
    REQUIRES(store->lock)
{
    struct file *file = store_find_file(store, ino);
    if (!file)
        file = make_file(store, ino);
    if (!file)
        return NULL;
    struct copy *copy = calloc(1, sizeof *copy);
    if (!copy) {
        drop_empty_file(store, file);
        return NULL;
    }
    copy->file = file;
    copy->is_own = is_own;
    copy->version = version;
    copy->used_ns = clock_real_ns();
    list_append(&file->copies, &copy->link);
    return copy;
}

/* Detaches its content, if it is open. */
void store_forget_copy(struct store *store, struct copy *copy) REQUIRES(store->lock)
{
    if (copy->open)
        copy->open->copy = NULL;
    list_remove(&copy->link);
    drop_empty_file(store, copy->file);
    free(copy);
}

void store_forget_all(struct store *store)
{
    SCOPED_LOCK(&store->lock);
    struct file *file, *next;
    HASH_ITER(hh, store->files, file, next)
    {
        list_for_each(copy, &file->copies, struct copy, link)
        {
            list_remove(&copy->link);
            free(copy);
        }
        drop_empty_file(store, file);
    }
}

/* ---- opening ---- */

static void attach(struct store *store, struct copy *copy, struct content *content)
    REQUIRES(store->lock)
{
    copy->open = content;
    content->copy = copy;
    store->n_open++;
    if (content_is_complete(content) && content->map_fd >= 0)
        tidy_completed(&store->tidy, content); /* the daemon ended before its map could go */
}

static int open_own(struct store *store, const struct inode *inode, struct content **ret_content)
    REQUIRES(store->lock)
{
    struct copy *copy = store_add_copy(store, inode->ino, true, 0);
    if (!copy)
        return -ENOMEM;
    int e = copy_open(store, copy, NULL, ret_content);
    if (e < 0) {
        store_forget_copy(store, copy);
        return e;
    }
    attach(store, copy, *ret_content);
    return 0;
}

static int open_drawn(struct store *store, struct copy *copy, const struct inode *inode,
                      struct content **ret_content) REQUIRES(store->lock)
{
    int e = -ENOENT;
    bool is_new = !copy;
    if (is_new)
        copy = store_add_copy(store, inode->ino, false, inode->version);
    if (!copy)
        return -ENOMEM;
    if (!is_new)
        e = copy_open(store, copy, &inode->size, ret_content);
    if (e == -EBADMSG)
        log_warning("store", "the drawn copy of inode %" PRIx64 " is damaged: drawing it anew",
                    inode->ino);
    if (e == -EBADMSG || e == -ENOENT) {
        e = copy_remake(store, inode);
        if (e == 0)
            e = copy_open(store, copy, &inode->size, ret_content);
        if (e < 0)
            store_forget_copy(store, copy);
    }
    if (e < 0)
        return e;
    attach(store, copy, *ret_content);
    return 0;
}

/* A copy that is missing may have gone with an entry that the caller's tree does not show yet: that is his to tell. */
static void warn_lost(const struct inode *inode, int e)
{
    if (e != -ENOENT)
        log_error("store",
                  "cannot open this host's own copy of inode %" PRIx64 ": %s version=%" PRIu64,
                  inode->ino, e == -EBADMSG ? "its map is damaged" : strerror(-e), inode->version);
}

static int get_own(struct store *store, const struct inode *inode, struct content **ret_content)
{
    SCOPED_LOCK(&store->lock);
    struct copy *copy = find_copy(store, inode->ino, true, 0);
    if (!copy)
        return open_own(store, inode, ret_content);
    *ret_content = content_ref(copy->open);
    return 0;
}

static int get_drawn(struct store *store, const struct inode *inode, struct content **ret_content)
{
    SCOPED_LOCK(&store->lock);
    struct copy *copy = find_copy(store, inode->ino, false, inode->version);
    int e = 0;
    if (copy && copy->open)
        *ret_content = content_ref(copy->open);
    else
        e = open_drawn(store, copy, inode, ret_content);
    /* The same version may have got another keeper since. */
    if (e == 0 && content_version(*ret_content) == inode->version)
        atomic_store(&(*ret_content)->upstream, inode->keeper.n);
    return e;
}

int content_get(struct store *store, struct host_id self, const struct inode *inode,
                struct content **ret_content)
{
    struct content *content = NULL;
    bool is_own = host_equal(self, inode->keeper) || host_equal(self, inode->writer);
    int e = is_own ? get_own(store, inode, &content) : get_drawn(store, inode, &content);
    if (e < 0 && is_own)
        warn_lost(inode, e);
    if (e < 0)
        return e == -EBADMSG ? -EUCLEAN : e;
    atomic_store(&content->base_occupied, inode->occupied);
    *ret_content = content;
    return 0;
}

int content_make(struct store *store, uint64_t ino, struct content **ret_content)
{
    int e = copy_make_own(store, ino);
    if (e < 0)
        return e;
    return get_own(store, &(struct inode){.ino = ino}, ret_content);
}

/* Is the copy that this host keeps as own, or has drawn, the version? */
static int find_version(struct store *store, bool is_own, const struct inode *inode,
                        uint64_t version, struct content **ret_content)
{
    SCOPED_LOCK(&store->lock);
    struct copy *copy = find_copy(store, inode->ino, is_own, version);
    if (copy && copy->open) {
        *ret_content = content_ref(copy->open);
        return 0;
    }
    if (is_own)
        return open_own(store, inode, ret_content);
    if (!copy)
        return -ENOENT;
    struct content *content = NULL;
    int e = copy_open(store, copy, NULL, &content);
    if (e < 0)
        return e;
    attach(store, copy, content);
    *ret_content = content;
    return 0;
}

int content_find(struct store *store, struct host_id self, const struct inode *inode,
                 uint64_t version, struct content **ret_content)
{
    struct content *content = NULL;
    bool is_own = host_equal(self, inode->keeper) && inode->version == version;
    int e = find_version(store, is_own, inode, version, &content);
    if (e == -EBADMSG)
        return is_own ? -EIO : -ENOENT; /* a damaged drawn copy is drawn anew by content_get */
    if (e == 0)
        *ret_content = content;
    return e;
}

/* ---- letting go ---- */

static bool drop_unless_last(struct content *content)
{
    unsigned refs = atomic_load(&content->refs);
    while (refs > 1) {
        if (atomic_compare_exchange_weak(&content->refs, &refs, refs - 1))
            return true;
    }
    return false;
}

/* True: it was the last reference, nobody can find it any more. */
static bool drop_last(struct store *store, struct content *content)
{
    SCOPED_LOCK(&store->lock);
    if (atomic_fetch_sub(&content->refs, 1) > 1)
        return false;
    struct copy *copy = content->copy;
    if (copy) {
        copy->open = NULL;
        copy->used_ns = clock_real_ns();
        if (copy->is_own)
            store_forget_copy(store, copy);
    }
    return true;
}

/* The store may go when this returns. */
static void note_freed(struct store *store)
{
    SCOPED_LOCK(&store->lock);
    if (--store->n_open == 0)
        cond_broadcast(&store->closed);
}

void content_put(struct content *content)
{
    struct store *store = content->store;
    if (drop_unless_last(content) || !drop_last(store, content))
        return;
    content_free(content);
    note_freed(store);
}

static void unlink_map(struct store *store, struct content *content)
{
    SCOPED_LOCK(&store->lock);
    struct copy *copy = content->copy;
    if (copy)
        copy_unlink_map(store, content->ino, copy->is_own, copy->version);
}

bool store_is_own(struct store *store, struct content *content)
{
    SCOPED_LOCK(&store->lock);
    return content->copy && content->copy->is_own;
}

int store_settle(struct store *store, struct content *content)
{
    int e = disk_set_mode(content->fd, MODE_SETTLED);
    /* What is drawn can be drawn again; of an own file the mark must not be lost where the map is gone. One that becomes
     * an own file only now is synced by that. */
    if (e == 0 && store_is_own(store, content))
        e = disk_sync(content->fd);
    if (e < 0)
        return e;
    AUTO_CLOSE int map_fd = content_take_map(content);
    if (map_fd >= 0)
        unlink_map(store, content);
    return 0;
}

int store_sync_names(struct store *store)
{
    int e = disk_sync(store->own_dirfd);
    return e < 0 ? e : disk_sync(store->drawn_dirfd);
}

int store_sync_name(struct store *store, struct content *content)
{
    if (atomic_exchange(&content->is_name_synced, true))
        return 0;
    int e = store_sync_names(store);
    if (e < 0)
        atomic_store(&content->is_name_synced, false);
    return e;
}

/* ---- what log entries do ---- */

static int own_copy(struct store *store, struct content *content)
{
    SCOPED_LOCK(&store->lock);
    struct copy *copy = content->copy;
    if (!copy)
        return -ESTALE;
    if (copy->is_own)
        return 0;
    uint64_t version = copy->version;
    /* An own file of a host that was neither keeper nor writer a moment ago is what an ownership without a
     * publication left: the copy that was drawn takes its place. */
    struct copy *left = find_copy(store, content->ino, true, 0);
    int e = copy_rename(store, content->ino, true, version);
    if (e == 0 && left)
        store_forget_copy(store, left);
    if (e < 0)
        return e;
    copy->is_own = true;
    copy->version = 0;
    atomic_store(&content->is_name_synced, false);
    return 0;
}

/* 1: it is a drawn copy, of *ret_version; 0: it is this host's own. */
static int drawn_version(struct store *store, struct content *content, uint64_t *ret_version)
{
    SCOPED_LOCK(&store->lock);
    if (!content->copy)
        return -ESTALE;
    *ret_version = content->copy->version;
    return !content->copy->is_own;
}

int content_own(struct content *content)
{
    uint64_t version;
    int e = drawn_version(content->store, content, &version);
    if (e <= 0)
        return e;

    /* An own file is no cache: what it has, and the map of that, must be there after a power cut too. */
    copy_note_base(content, version);
    e = disk_sync(content->fd);
    if (e == 0 && content_has_map(content))
        e = content_sync(content);
    return e < 0 ? e : own_copy(content->store, content);
}

int store_demote(struct store *store, uint64_t ino, uint64_t old_version)
{
    uint64_t base;
    SCOPED_LOCK(&store->lock);
    if (!copy_exists(store, ino, true, 0) ||
        (copy_base(store, ino, true, 0, &base) && base > old_version))
        return 0; /* an entry replayed */
    struct copy *target = find_copy(store, ino, false, old_version);
    if (target)
        store_forget_copy(store, target);
    struct copy *copy = find_copy(store, ino, true, 0);
    if (!copy)
        copy = store_add_copy(store, ino, true, 0);
    if (!copy)
        return -ENOMEM;
    int e = copy_rename(store, ino, false, old_version);
    if (e < 0) {
        if (!copy->open)
            store_forget_copy(store, copy);
        return e;
    }
    copy->is_own = false;
    copy->version = old_version;
    if (copy->open)
        atomic_store(&copy->open->is_name_synced, false);
    return 0;
}

static int remove_copies(struct store *store, uint64_t ino, uint64_t version) REQUIRES(store->lock)
{
    struct file *file = store_find_file(store, ino);
    struct copy *copy = file ? list_first(&file->copies, struct copy, link) : NULL;
    while (copy) {
        bool is_last = copy->link.next == &file->copies;
        struct copy *next = is_last ? NULL : list_first(&copy->link, struct copy, link);
        if (!copy->is_own && copy->version <= version) {
            int e = copy_unlink(store, ino, false, copy->version);
            if (e < 0)
                return e;
            store_forget_copy(store, copy);
        }
        copy = next;
    }
    return 0;
}

bool store_has_drawn(struct store *store, uint64_t ino, uint64_t version)
{
    SCOPED_LOCK(&store->lock);
    struct file *file = store_find_file(store, ino);
    if (!file)
        return false;
    list_for_each(copy, &file->copies, struct copy, link)
    {
        if (!copy->is_own && copy->version <= version)
            return true;
    }
    return false;
}

int store_superseded(struct store *store, uint64_t ino, uint64_t version)
{
    SCOPED_LOCK(&store->lock);
    return remove_copies(store, ino, version);
}

uint64_t store_pending(struct store *store, uint64_t ino)
{
    uint64_t bytes = 0;
    if (!store->image || copy_occupied(store, ino, true, 0, &bytes) < 0 || bytes == 0)
        return 0;
    image_pending(store->image, bytes);
    return bytes;
}

void store_not_pending(struct store *store, uint64_t bytes)
{
    if (bytes > 0)
        image_freed(store->image, bytes, true);
}

int store_evict(struct store *store, uint64_t ino, uint64_t version)
{
    SCOPED_LOCK(&store->lock);
    struct copy *copy = find_copy(store, ino, false, version);
    if (!copy)
        return -ENOENT;
    if (copy->open)
        return -EBUSY;
    int e = copy_unlink(store, ino, false, version);
    if (e == 0)
        store_forget_copy(store, copy);
    return e;
}

int store_remove(struct store *store, uint64_t ino)
{
    return store_remove_pending(store, ino, 0);
}

int store_remove_pending(struct store *store, uint64_t ino, uint64_t pending_bytes)
{
    SCOPED_LOCK(&store->lock);
    int e = remove_copies(store, ino, UINT64_MAX);
    if (e < 0) {
        store_not_pending(store, pending_bytes);
        return e;
    }
    e = copy_unlink_pending(store, ino, true, 0, pending_bytes);
    struct copy *own = find_copy(store, ino, true, 0);
    if (e == 0 && own)
        store_forget_copy(store, own);
    return e;
}

int store_disk_fd(const struct store *store)
{
    return store->image ? image_fd(store->image) : store->dirfd;
}

bool store_has_room(struct store *store)
{
    struct disk_room room;
    if (disk_room(store_disk_fd(store), &room) < 0 || room.total_bytes == 0)
        return true;
    return room.free_bytes >= FREE_BYTES_MIN &&
           (room.total_files == 0 || room.free_files >= FREE_FILES_MIN);
}

int store_usage(struct store *store, struct store_usage *ret_usage)
{
    struct disk_room room;
    int e = disk_room(store_disk_fd(store), &room);
    if (e == 0)
        ret_usage->disk_free_bytes = room.free_bytes;
    return e;
}
