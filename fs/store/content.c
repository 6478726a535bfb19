/* fs/store/content.c — one open copy: its blocks come in by fills, are waited for, and are written over.
 *
 * Whoever writes a missing block claims it first (its busy bit), writes without the lock, and then makes it present
 * or gives it back: two fills, or a fill and a write, of one block never interleave. Present blocks stay present.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fs/disk/disk.h"
#include "fs/source.h"
#include "fs/store/private.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* ---- life ---- */

int content_new(struct store *store, uint64_t ino, int fd, int map_fd, struct block_map *map,
                struct content **ret_content)
{
    struct content *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->store = store;
    c->ino = ino;
    c->fd = fd;
    c->map_fd = map_fd;
    c->map = *map;
    *map = (struct block_map){0};
    c->written_leaf = SIZE_MAX;
    atomic_init(&c->refs, 1);
    atomic_init(&c->is_complete, c->map.n_missing == 0);
    atomic_init(&c->is_name_synced, false);
    atomic_init(&c->base_version, c->map.base_version);
    atomic_init(&c->upstream, c->map.upstream.n);
    mutex_init(&c->filling, LOCK_fill);
    mutex_init(&c->lock, LOCK_content);
    cond_init(&c->changed);
    *ret_content = c;
    return 0;
}

void content_free(struct content *c)
{
    if (!c)
        return;
    tidy_free(c->store->image, TAKE_FD(c->fd), 0);
    close_fd(&c->map_fd);
    block_map_done(&c->map);
    cond_done(&c->changed);
    mutex_done(&c->lock);
    mutex_done(&c->filling);
    free(c);
}

struct content *content_ref(struct content *c)
{
    CHECK(atomic_fetch_add(&c->refs, 1) > 0);
    return c;
}

/* ---- what it is ---- */

int content_fd(const struct content *c)
{
    return c->fd;
}

bool content_is_complete(struct content *c)
{
    return atomic_load(&c->is_complete);
}

struct store *content_store(const struct content *c)
{
    return c->store;
}

uint64_t content_ino(const struct content *c)
{
    return c->ino;
}

uint64_t content_version(const struct content *c)
{
    return atomic_load(&c->base_version);
}

uint64_t content_size(struct content *c)
{
    struct stat st;
    return disk_stat(c->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

struct host_id content_upstream(const struct content *c)
{
    if (atomic_load(&c->is_complete))
        return NO_HOST;
    return (struct host_id){atomic_load(&c->upstream)};
}

uint64_t content_next_missing(struct content *c, uint64_t block)
{
    uint64_t end = block_count(content_size(c));
    if (content_is_complete(c))
        return end;
    SCOPED_LOCK(&c->lock);
    return block < end ? block_map_next_missing(&c->map, block, end) : end;
}

static uint64_t range_end(uint64_t first, uint64_t n)
{
    uint64_t end;
    return __builtin_add_overflow(first, n, &end) ? UINT64_MAX : end;
}

bool content_has(struct content *c, uint64_t first, uint64_t n)
{
    if (content_is_complete(c))
        return true;
    uint64_t end = range_end(first, n);
    SCOPED_LOCK(&c->lock);
    return block_map_next_missing(&c->map, first, end) == end;
}

/* Bytes of a block of the base. */
static uint64_t block_bytes(const struct content *c, uint64_t block)
{
    return MIN((uint64_t)BLOCK_BYTES, c->map.base_size - block * BLOCK_BYTES);
}

static uint64_t missing_bytes(struct content *c)
{
    SCOPED_LOCK(&c->lock);
    uint64_t bytes = c->map.n_missing * BLOCK_BYTES;
    if (c->map.n_blocks > 0 && !block_map_has(&c->map, c->map.n_blocks - 1))
        bytes -= BLOCK_BYTES - block_bytes(c, c->map.n_blocks - 1);
    return bytes;
}

uint64_t content_present_bytes(struct content *c)
{
    uint64_t size = content_size(c);
    if (content_is_complete(c))
        return size;
    return size - MIN(size, missing_bytes(c));
}

/* ---- what it occupies ---- */

uint64_t content_occupied(struct content *c)
{
    struct stat st;
    uint64_t here = disk_stat(c->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    if (content_is_complete(c))
        return here;
    return here + MIN(missing_bytes(c), atomic_load(&c->base_occupied));
}

/* Where extents cannot be listed, data is what SEEK_DATA says: what was only reserved counts as a hole. */
static bool is_data(int fd, uint64_t offset, uint64_t max, uint64_t *ret_run)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    bool is_there = data == (off_t)offset;
    off_t next = is_there ? lseek(fd, (off_t)offset, SEEK_HOLE) : data;
    *ret_run = next > (off_t)offset ? MIN(max, (uint64_t)next - offset) : max;
    return is_there;
}

bool content_is_allocated(struct content *c, uint64_t offset, uint64_t max, uint64_t *ret_run)
{
    union {
        struct fiemap map;
        uint8_t bytes[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
    } u = {.map = {.fm_start = offset, .fm_length = max, .fm_extent_count = 1}};
    const struct fiemap_extent *found = u.map.fm_extents;
    if (ioctl(c->fd, FS_IOC_FIEMAP, &u.map) < 0)
        return is_data(c->fd, offset, max, ret_run);
    if (u.map.fm_mapped_extents == 0 || found->fe_logical >= offset + max) {
        *ret_run = max;
        return false;
    }
    bool is_there = found->fe_logical <= offset;
    uint64_t next = is_there ? found->fe_logical + found->fe_length : found->fe_logical;
    *ret_run = MIN(max, next - offset);
    return is_there;
}

/* ---- the map file ---- */

/* Writes one dirty leaf without the lock. */
static void write_leaf_locked(struct content *c, size_t leaf) REQUIRES(c->lock)
{
    uint8_t bytes[MAP_LEAF_BYTES];
    block_map_encode_leaf(&c->map, leaf, bytes);
    c->map.dirty[leaf] = false;
    c->is_map_written = true;
    c->written_leaf = leaf;
    int fd = c->map_fd;
    mutex_unlock(&c->lock);
    int error = disk_write(fd, bytes, sizeof bytes, block_map_leaf_offset(&c->map, leaf));
    mutex_lock(&c->lock);
    c->is_map_written = false;
    c->written_leaf = SIZE_MAX;
    if (error < 0 && c->map_error == 0)
        c->map_error = error;
    cond_broadcast(&c->changed);
}

static size_t next_dirty(const struct content *c, size_t first, size_t end)
{
    const bool *hit = first < end ? memchr(c->map.dirty + first, true, end - first) : NULL;
    return hit ? (size_t)(hit - c->map.dirty) : end;
}

/* Writes what is dirty unless somebody is at it already, who then writes it too. */
static void flush_map_locked(struct content *c) REQUIRES(c->lock)
{
    size_t n = 2 * (size_t)c->map.n_leaves;
    while (!c->is_map_written && c->map_fd >= 0 && c->map_error == 0) {
        size_t leaf = next_dirty(c, 0, n);
        if (leaf == n)
            return;
        write_leaf_locked(c, leaf);
    }
}

/* Returns when leaves [first, end) are in the file as they are now. */
static int settle_map_locked(struct content *c, size_t first, size_t end) REQUIRES(c->lock)
{
    for (;;) {
        if (c->map_error < 0)
            return c->map_error;
        if (c->map_fd < 0)
            return 0;
        bool is_under_way = c->written_leaf >= first && c->written_leaf < end;
        size_t leaf = next_dirty(c, first, end);
        if (leaf == end && !is_under_way)
            return 0;
        if (c->is_map_written)
            cond_wait(&c->changed, &c->lock);
        else
            write_leaf_locked(c, leaf);
    }
}

bool content_has_map(struct content *c)
{
    SCOPED_LOCK(&c->lock);
    return c->map_fd >= 0;
}

int content_take_map(struct content *c)
{
    SCOPED_LOCK(&c->lock);
    while (c->is_map_written)
        cond_wait(&c->changed, &c->lock);
    return TAKE_FD(c->map_fd);
}

/* ---- claims ---- */

static bool is_claimed(const struct content *c, uint64_t block)
{
    return !block_map_has(&c->map, block) && block_map_busy(&c->map, block);
}

static bool any_claimed(const struct content *c, uint64_t first, uint64_t end)
{
    for (uint64_t b = block_map_next_missing(&c->map, first, end); b < end;
         b = block_map_next_missing(&c->map, b + 1, end)) {
        if (block_map_busy(&c->map, b))
            return true;
    }
    return false;
}

/* Claims every missing block of [first, end) at once, or none. */
static int claim_missing(struct content *c, uint64_t first, uint64_t end, int64_t deadline_ns)
{
    end = MIN(end, c->map.n_blocks);
    if (first >= end)
        return 0;
    SCOPED_LOCK(&c->lock);
    while (any_claimed(c, first, end)) {
        if (!cond_wait_until(&c->changed, &c->lock, deadline_ns))
            return -ETIMEDOUT;
    }
    for (uint64_t b = block_map_next_missing(&c->map, first, end); b < end;
         b = block_map_next_missing(&c->map, b + 1, end))
        block_map_set_busy(&c->map, b, true);
    return 0;
}

/* Ends the claims on [first, end): blocks of [first, present_end) are present now, the others are free again. */
static void end_claims_locked(struct content *c, uint64_t first, uint64_t end, uint64_t present_end)
    REQUIRES(c->lock)
{
    for (uint64_t b = block_map_next_missing(&c->map, first, end); b < end;
         b = block_map_next_missing(&c->map, b + 1, end)) {
        block_map_set_busy(&c->map, b, false);
        if (b < present_end)
            block_map_set(&c->map, b);
    }
    cond_broadcast(&c->changed);
}

/* True for the one caller that has to tell the tidy thread. */
static bool note_completion_locked(struct content *c) REQUIRES(c->lock)
{
    if (c->map.n_missing > 0 || atomic_load(&c->is_complete))
        return false;
    atomic_store(&c->is_complete, true);
    return true;
}

static int end_claims_and_settle(struct content *c, uint64_t first, uint64_t end,
                                 uint64_t present_end, bool *ret_is_completed)
{
    SCOPED_LOCK(&c->lock);
    end_claims_locked(c, first, end, present_end);
    int e = settle_map_locked(c, first / MAP_LEAF_BLOCKS, (end - 1) / MAP_LEAF_BLOCKS + 1);
    *ret_is_completed = note_completion_locked(c);
    return e;
}

/* As end_claims_locked, and the map's file follows. -EIO: it cannot. */
static int end_claims(struct content *c, uint64_t first, uint64_t end, uint64_t present_end)
{
    bool is_completed;
    end = MIN(end, c->map.n_blocks);
    if (first >= end)
        return 0;
    int e = end_claims_and_settle(c, first, end, present_end, &is_completed);
    if (is_completed)
        tidy_completed(&c->store->tidy, c);
    return e;
}

/* ---- filling ---- */

/* An earlier fill may have failed half-way, so the place is not known to be a hole yet. */
static int write_zeros(int fd, uint64_t offset, uint64_t size)
{
    static const uint8_t zeros[BLOCK_BYTES];
    int e = disk_allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
    return e == -EOPNOTSUPP ? disk_write(fd, zeros, size, offset) : e;
}

static bool is_fill(const struct content *c, uint64_t first, const struct span *blocks, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (first + i >= c->map.n_blocks ||
            (blocks[i].size != 0 && blocks[i].size != block_bytes(c, first + i)))
            return false;
    }
    return true;
}

/* How many of n blocks it claimed, up to the first that is present already or that somebody is writing: then theirs counts. */
static unsigned claim_for_fill(struct content *c, uint64_t first, unsigned n)
{
    unsigned claimed = 0;
    SCOPED_LOCK(&c->lock);
    for (; claimed < n; claimed++) {
        uint64_t block = first + claimed;
        if (block_map_has(&c->map, block) || block_map_busy(&c->map, block))
            break;
        block_map_set_busy(&c->map, block, true);
    }
    return claimed;
}

static bool end_fill(struct content *c, uint64_t first, unsigned n, bool is_present)
{
    SCOPED_LOCK(&c->lock);
    for (uint64_t block = first; block < first + n; block++) {
        block_map_set_busy(&c->map, block, false);
        if (is_present)
            block_map_set(&c->map, block);
    }
    cond_broadcast(&c->changed);
    flush_map_locked(c);
    return note_completion_locked(c);
}

/* What is only cache must leave room for the log and the tree: without it the volume could not go on. */
static bool has_room(const struct store *store)
{
    struct disk_room room;
    if (disk_room(store_disk_fd(store), &room) < 0)
        return true;
    return room.free_bytes >= MIN(FILL_RESERVE_BYTES, room.total_bytes / 16);
}

static uint64_t bytes_of(const struct span *pieces, unsigned n)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < n; i++)
        size += pieces[i].size;
    return size;
}

/* Cache does not come out of what the volume's writers may take. */
static int write_cache(struct content *c, const struct span *pieces, unsigned n, uint64_t offset)
{
    struct image *image = c->store->image;
    uint64_t size = bytes_of(pieces, n);
    if (!has_room(c->store))
        return -ENOSPC;
    image_lend(image, size + IMAGE_OWN_BYTES);
    int e = disk_write_pieces(c->fd, pieces, n, offset);
    image_lent(image, size + IMAGE_OWN_BYTES, e == 0 ? size : 0);
    return e;
}

/* An own file may have been cut inside the block, and have lost what it had of it to a power cut: it stays as short. */
static int write_block(struct content *c, uint64_t block, struct span data)
{
    uint64_t offset = block * BLOCK_BYTES, end = content_size(c);
    uint64_t size = end > offset ? MIN(block_bytes(c, block), end - offset) : 0;
    if (size == 0)
        return 0;
    if (data.size == 0)
        return write_zeros(c->fd, offset, size);
    data.size = (size_t)size;
    return write_cache(c, &data, 1, offset);
}

/* Bytes, all of them inside the file. */
static bool is_plain_run(struct content *c, uint64_t first, const struct span *blocks, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (blocks[i].size == 0)
            return false;
    }
    return first * BLOCK_BYTES + bytes_of(blocks, n) <= content_size(c);
}

static int write_alone(struct content *c, uint64_t first, const struct span *blocks, unsigned n)
{
    int e = 0;
    SCOPED_LOCK(&c->filling);
    if (is_plain_run(c, first, blocks, n))
        return write_cache(c, blocks, n, first * BLOCK_BYTES);
    for (unsigned i = 0; i < n && e == 0; i++)
        e = write_block(c, first + i, blocks[i]);
    return e;
}

int content_fill_run(struct content *c, uint64_t first, const struct span *blocks, unsigned n)
{
    unsigned claimed;
    CHECK(n <= FILL_BLOCKS_MAX);
    if (content_is_complete(c))
        return 0;
    if (!is_fill(c, first, blocks, n))
        return -EINVAL;
    for (unsigned i = 0; i < n; i += MAX(claimed, 1u)) {
        claimed = claim_for_fill(c, first + i, n - i);
        int e = claimed > 0 ? write_alone(c, first + i, blocks + i, claimed) : 0;
        if (claimed > 0 && end_fill(c, first + i, claimed, e == 0))
            tidy_completed(&c->store->tidy, c);
        if (e < 0)
            return e;
    }
    return 0;
}

int content_fill(struct content *c, uint64_t block, const void *data, size_t size)
{
    struct span bytes = {.data = data, .size = size};
    return content_fill_run(c, block, &bytes, 1);
}

/* ---- waiting ---- */

bool content_wait(struct content *c, uint64_t first, uint64_t n, int64_t deadline_ns)
{
    uint64_t end = range_end(first, n);
    SCOPED_LOCK(&c->lock);
    while (block_map_next_missing(&c->map, first, end) < end) {
        if (!cond_wait_until(&c->changed, &c->lock, deadline_ns))
            return block_map_next_missing(&c->map, first, end) == end;
    }
    return true;
}

/* The first missing block of [first, end), once nobody is just writing it; end if none. */
static int first_missing(struct content *c, uint64_t first, uint64_t end, int64_t deadline_ns,
                         uint64_t *ret_block)
{
    SCOPED_LOCK(&c->lock);
    uint64_t block;
    while ((block = block_map_next_missing(&c->map, first, end)) < end && is_claimed(c, block)) {
        if (!cond_wait_until(&c->changed, &c->lock, deadline_ns))
            return -ETIMEDOUT;
    }
    *ret_block = block;
    return 0;
}

static int fetch(struct content *c, uint64_t first, uint64_t n, enum fetch_class class,
                 int64_t deadline_ns)
{
    struct source *source = c->store->source;
    if (!source || host_equal(content_upstream(c), NO_HOST))
        return content_is_complete(c) ? 0 : -EIO;
    return source->ops->fetch(source, c, first, n, class, deadline_ns);
}

static int need_blocks(struct content *c, uint64_t first, uint64_t end, enum fetch_class class,
                       int64_t deadline_ns)
{
    uint64_t missing = first, last = UINT64_MAX;
    int n_repeats = 0;
    end = MIN(end, c->map.n_blocks);
    while (!content_is_complete(c) && first < end) {
        int e = first_missing(c, first, end, deadline_ns, &missing);
        if (e < 0)
            return e;
        if (missing == end)
            return 0;
        /* The source said it was there: its fill gave way to a write, which failed. Not again and again. */
        if (missing == last && ++n_repeats > 3)
            return -EIO;
        e = fetch(c, missing, end - missing, class, deadline_ns);
        if (e < 0)
            return content_has(c, first, end - first) ? 0 : e;
        last = missing;
    }
    return 0;
}

/* A source that hears only of misses would let the wire fall silent while a reader consumes what it drew ahead. */
static void tell_reading(struct content *c, uint64_t first, uint64_t n)
{
    struct source *source = c->store->source;
    if (source && source->ops->reading)
        source->ops->reading(source, c, first, n);
}

int content_need(struct content *c, uint64_t offset, uint64_t size, enum fetch_class class,
                 int64_t deadline_ns)
{
    if (size == 0 || content_is_complete(c))
        return 0;
    uint64_t first = offset / BLOCK_BYTES;
    uint64_t end = MIN(block_count(range_end(offset, size)), c->map.n_blocks);
    if (first >= end)
        return 0; /* past the base nothing is missing */
    if (!content_has(c, first, end - first))
        return need_blocks(c, first, end, class, deadline_ns);
    if (class == FETCH_DEMAND)
        tell_reading(c, first, end - first);
    return 0;
}

void content_opened(struct content *c)
{
    if (content_is_complete(c) && c->store->source && !store_is_own(c->store, c))
        tell_reading(c, 0, block_count(content_size(c)));
}

/* ---- writing ---- */

/* The blocks that [offset, offset + size) covers whole; the base's last block ends where the base ends. */
static void covered_blocks(const struct content *c, uint64_t offset, uint64_t size,
                           uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t end = range_end(offset, size);
    *ret_first = block_count(offset);
    *ret_end = end >= c->map.base_size ? c->map.n_blocks : end / BLOCK_BYTES;
    if (*ret_end < *ret_first)
        *ret_end = *ret_first;
}

int content_prepare_write(struct content *c, uint64_t offset, uint64_t size, int64_t deadline_ns)
{
    if (size == 0 || content_is_complete(c))
        return 0;
    uint64_t first, end, last = (range_end(offset, size) - 1) / BLOCK_BYTES;
    covered_blocks(c, offset, size, &first, &end);
    int e = 0;
    if (offset / BLOCK_BYTES < first)
        e = need_blocks(c, first - 1, first, FETCH_DEMAND, deadline_ns);
    if (e == 0 && last >= end)
        e = need_blocks(c, last, last + 1, FETCH_DEMAND, deadline_ns);
    return e < 0 ? e : claim_missing(c, first, end, deadline_ns);
}

/* How much of a write cut short counts: not what lies in a block that stays missing. */
static int64_t countable(struct content *c, uint64_t offset, int64_t written)
{
    uint64_t cut = offset + (uint64_t)written;
    uint64_t block = cut / BLOCK_BYTES;
    SCOPED_LOCK(&c->lock);
    if (cut % BLOCK_BYTES == 0 || block_map_has(&c->map, block))
        return written;
    uint64_t start = block * BLOCK_BYTES;
    return start > offset ? (int64_t)(start - offset) : -ENOSPC;
}

int64_t content_wrote(struct content *c, uint64_t offset, uint64_t size, int64_t written)
{
    if (size == 0 || content_is_complete(c))
        return written;
    uint64_t first, end, unused, present_end = 0;
    covered_blocks(c, offset, size, &first, &end);
    if (written > 0)
        covered_blocks(c, offset, (uint64_t)written, &unused, &present_end);
    int e = end_claims(c, first, end, present_end);
    if (e < 0)
        return e;
    if (written <= 0 || (uint64_t)written == size || content_is_complete(c))
        return written;
    return countable(c, offset, written);
}

int content_truncate(struct content *c, uint64_t size, int64_t deadline_ns)
{
    uint64_t first = block_count(size), end = c->map.n_blocks;
    if (size < c->map.base_size && size % BLOCK_BYTES != 0) {
        int e = need_blocks(c, first - 1, first, FETCH_DEMAND, deadline_ns);
        if (e < 0)
            return e;
    }
    /* A fill under way past the new end would make the file long again. */
    int e = claim_missing(c, first, end, deadline_ns);
    if (e < 0)
        return e;
    int failed = disk_truncate(c->fd, size);
    e = end_claims(c, first, end, failed ? 0 : end);
    return failed ? failed : e;
}

/* ---- syncing ---- */

/* The present bits as they are, or NULL if there is no map file. */
static int snapshot_present(struct content *c, uint64_t **ret_words)
{
    SCOPED_LOCK(&c->lock);
    if (c->map_fd < 0) {
        *ret_words = NULL;
        return 0;
    }
    size_t bytes = ((size_t)c->map.n_leaves * MAP_LEAF_WORDS + 1) * sizeof(uint64_t);
    *ret_words = malloc(bytes);
    if (!*ret_words)
        return -ENOMEM;
    memcpy(*ret_words, c->map.present, bytes);
    return 0;
}

/* The blocks of snapshot are on stable storage: so says the map from now on. */
static int sync_map(struct content *c, const uint64_t *snapshot)
{
    SCOPED_LOCK(&c->lock);
    block_map_set_synced(&c->map, snapshot);
    int e = settle_map_locked(c, 0, 2 * (size_t)c->map.n_leaves);
    while (c->is_map_written)
        cond_wait(&c->changed, &c->lock);
    if (e < 0 || c->map_fd < 0)
        return e;
    c->is_map_written = true;
    int fd = c->map_fd;
    mutex_unlock(&c->lock);
    e = disk_sync_data(fd);
    mutex_lock(&c->lock);
    c->is_map_written = false;
    cond_broadcast(&c->changed);
    flush_map_locked(c);
    return e;
}

int content_sync(struct content *c)
{
    AUTO_FREE uint64_t *snapshot = NULL;
    int e = snapshot_present(c, &snapshot);
    if (e < 0)
        return e;
    e = disk_sync_data(c->fd);
    if (e == 0 && snapshot)
        e = sync_map(c, snapshot);
    return e < 0 ? e : store_sync_name(c->store, c);
}
