#include "fs/store/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "fs/disk/disk.h"
#include "fs/store/store.h"
#include "proto/base/cleanup.h"
#include "proto/wire.h"

#define DIRECT_ALIGNMENT 4096u

/* ---- the table ---- */

static void encode_entry(const struct seal *seal, uint8_t entry[SEAL_ENTRY_BYTES])
{
    struct writer w = writer_over(entry, SEAL_ENTRY_BYTES);
    put_u64(&w, seal->ino);
    put_u64(&w, seal->version);
    put_u64(&w, seal->file_bytes);
    put_u64(&w, seal->serial);
    put_u64(&w, seal->sums[0].low);
    put_u64(&w, seal->sums[0].high);
    put_u64(&w, 0);
    put_u64(&w, XXH3_64bits(entry, SEAL_ENTRY_BYTES - 8));
    CHECK(!w.bad);
}

static int decode_entry(uint64_t ino, const uint8_t entry[SEAL_ENTRY_BYTES], struct seal *ret_seal)
{
    static const uint8_t zeros[SEAL_ENTRY_BYTES];
    struct reader r = reader_over(entry, SEAL_ENTRY_BYTES);
    struct seal seal = {.ino = get_u64(&r), .fd = -1, .leaf = UINT64_MAX};
    seal.version = get_u64(&r);
    seal.file_bytes = get_u64(&r);
    seal.serial = get_u64(&r);
    seal.sums[0].low = get_u64(&r);
    seal.sums[0].high = get_u64(&r);
    (void)get_u64(&r);
    if (memcmp(entry, zeros, sizeof zeros) == 0)
        return -ENOENT;
    if (get_u64(&r) != XXH3_64bits(entry, SEAL_ENTRY_BYTES - 8) || seal.ino != ino)
        return -EBADMSG;
    *ret_seal = seal;
    return 0;
}

static int read_entry(int table_fd, uint64_t ino, struct seal *ret_seal)
{
    uint8_t entry[SEAL_ENTRY_BYTES] = {0};
    int64_t n = disk_read(table_fd, entry, sizeof entry, ino * SEAL_ENTRY_BYTES);
    return n < 0 ? (int)n : decode_entry(ino, entry, ret_seal);
}

int seal_put(int table_fd, const struct seal *seal)
{
    uint8_t entry[SEAL_ENTRY_BYTES];
    encode_entry(seal, entry);
    return disk_write(table_fd, entry, sizeof entry, seal->ino * SEAL_ENTRY_BYTES);
}

int seal_take_away(int table_fd, uint64_t ino)
{
    static const uint8_t zeros[SEAL_ENTRY_BYTES];
    struct seal seal;
    int e = read_entry(table_fd, ino, &seal);
    if (e == -ENOENT)
        return 0;
    e = disk_write(table_fd, zeros, sizeof zeros, ino * SEAL_ENTRY_BYTES);
    return e < 0 ? e : 1;
}

/* ---- leaves ---- */

static uint64_t leaf_count(uint64_t file_bytes)
{
    return (block_count(file_bytes) + SEAL_LEAF_SUMS - 1) / SEAL_LEAF_SUMS;
}

static bool has_leaves(const struct seal *seal)
{
    return block_count(seal->file_bytes) > 1;
}

/* The seed ties a leaf to its place, its file and its seal. */
static uint64_t leaf_checksum(const struct seal *seal, uint64_t leaf, const uint8_t *bytes)
{
    uint64_t seed = seal->ino * 0x9e3779b97f4a7c15ULL ^ seal->serial << 20 ^ leaf;
    return XXH3_64bits_withSeed(bytes, SEAL_LEAF_BYTES - 8, seed);
}

static void encode_leaf(const struct seal *seal, uint64_t leaf, uint8_t bytes[SEAL_LEAF_BYTES])
{
    struct writer w = writer_over(bytes, SEAL_LEAF_BYTES);
    for (unsigned i = 0; i < SEAL_LEAF_SUMS; i++) {
        put_u64(&w, seal->sums[i].low);
        put_u64(&w, seal->sums[i].high);
    }
    put_u64(&w, 0);
    put_u64(&w, leaf_checksum(seal, leaf, bytes));
    CHECK(!w.bad);
}

static int decode_leaf(struct seal *seal, uint64_t leaf, const uint8_t bytes[SEAL_LEAF_BYTES])
{
    struct reader r = reader_over(bytes, SEAL_LEAF_BYTES);
    for (unsigned i = 0; i < SEAL_LEAF_SUMS; i++) {
        seal->sums[i].low = get_u64(&r);
        seal->sums[i].high = get_u64(&r);
    }
    (void)get_u64(&r);
    if (get_u64(&r) != leaf_checksum(seal, leaf, bytes))
        return -EBADMSG;
    seal->leaf = leaf;
    return 0;
}

static int read_leaf(struct seal *seal, uint64_t leaf)
{
    uint8_t bytes[SEAL_LEAF_BYTES];
    seal->leaf = UINT64_MAX;
    int64_t n = disk_read(seal->fd, bytes, sizeof bytes, leaf * SEAL_LEAF_BYTES);
    return n < 0 ? (int)n : n != sizeof bytes ? -EBADMSG : decode_leaf(seal, leaf, bytes);
}

/* ---- a seal ---- */

static int open_leaves(int dirfd, uint64_t ino)
{
    char name[64];
    (void)snprintf(name, sizeof name, "own/%016" PRIx64 SEAL_SUFFIX, ino);
    int fd = disk_open(dirfd, name, O_RDONLY | O_NOFOLLOW);
    return fd == -ENOENT ? -EBADMSG : fd;
}

int seal_open(int dirfd, int table_fd, uint64_t ino, struct seal *ret_seal)
{
    struct seal seal;
    int e = read_entry(table_fd, ino, &seal);
    if (e < 0)
        return e;
    seal.table_fd = table_fd;
    if (has_leaves(&seal))
        seal.fd = open_leaves(dirfd, ino);
    if (has_leaves(&seal) && seal.fd < 0)
        return seal.fd;
    *ret_seal = seal;
    return 0;
}

void seal_close(struct seal *seal)
{
    close_fd(&seal->fd);
}

int seal_get(struct seal *seal, uint64_t block, struct block_checksum *ret_sum)
{
    uint64_t leaf = block / SEAL_LEAF_SUMS;
    if (block >= block_count(seal->file_bytes))
        return -ERANGE;
    int e = has_leaves(seal) && leaf != seal->leaf ? read_leaf(seal, leaf) : 0;
    if (e == 0)
        *ret_sum = seal->sums[block % SEAL_LEAF_SUMS];
    return e;
}

bool seal_stands(const struct seal *seal)
{
    struct seal now;
    return read_entry(seal->table_fd, seal->ino, &now) == 0 && now.serial == seal->serial;
}

static bool is_same(struct block_checksum a, struct block_checksum b)
{
    return a.low == b.low && a.high == b.high;
}

bool seal_is_broken(struct seal *seal, uint64_t block, struct block_checksum sum)
{
    struct block_checksum sealed;
    return seal_get(seal, block, &sealed) == 0 && !is_same(sum, sealed) && seal_stands(seal);
}

/* ---- reading blocks ---- */

struct scan {
    int fd;
    uint64_t file_bytes;
    uint64_t data_from; /* no data between the last block and here: zeros */
    uint8_t *block;
    struct block_checksum zeros; /* of a whole block */
};

static int scan_begin(struct scan *scan, int fd, uint64_t file_bytes)
{
    *scan = (struct scan){.fd = fd, .file_bytes = file_bytes};
    scan->block = aligned_alloc(DIRECT_ALIGNMENT, BLOCK_BYTES);
    if (!scan->block)
        return -ENOMEM;
    memset(scan->block, 0, BLOCK_BYTES);
    scan->zeros = block_checksum_of(scan->block, BLOCK_BYTES);
    return 0;
}

static void scan_end(struct scan *scan)
{
    free(scan->block);
}

/* The checksum of a block as it is. -EIO: it cannot be read; -EAGAIN: the file ends before. */
static int scan_block(struct scan *scan, uint64_t block, struct block_checksum *ret_sum)
{
    uint64_t start = block * BLOCK_BYTES;
    size_t size = (size_t)MIN((uint64_t)BLOCK_BYTES, scan->file_bytes - start);
    if (scan->data_from <= start)
        scan->data_from = disk_next_data(scan->fd, start);
    if (size == BLOCK_BYTES && scan->data_from >= start + size) {
        *ret_sum = scan->zeros;
        return 0;
    }
    int64_t n = disk_read_once(scan->fd, scan->block, BLOCK_BYTES, start);
    if (n < 0)
        return (int)n;
    if ((size_t)n < size)
        return -EAGAIN;
    *ret_sum = block_checksum_of(scan->block, size);
    return 0;
}

static uint64_t bytes_of(const struct seal *seal, uint64_t block)
{
    return MIN((uint64_t)BLOCK_BYTES, seal->file_bytes - block * BLOCK_BYTES);
}

/* ---- making one ---- */

static int make_leaf(struct scan *scan, struct seal *seal, uint64_t leaf, seal_pace_f *pace,
                     void *ctx)
{
    uint64_t first = leaf * SEAL_LEAF_SUMS;
    uint64_t n = MIN(block_count(seal->file_bytes) - first, (uint64_t)SEAL_LEAF_SUMS);
    memset(seal->sums, 0, sizeof seal->sums);
    for (uint64_t i = 0; i < n; i++) {
        int e = scan_block(scan, first + i, &seal->sums[i]);
        if (e == 0 && pace)
            e = pace(ctx, bytes_of(seal, first + i));
        if (e < 0)
            return e;
    }
    return 0;
}

static int write_leaf(const struct seal *seal, uint64_t leaf, int leaves_fd)
{
    uint8_t bytes[SEAL_LEAF_BYTES];
    encode_leaf(seal, leaf, bytes);
    return disk_write(leaves_fd, bytes, sizeof bytes, leaf * SEAL_LEAF_BYTES);
}

int seal_make(int data_fd, struct seal *of, int leaves_fd, seal_pace_f *pace, void *ctx)
{
    AUTO(scan_end) struct scan scan;
    int e = scan_begin(&scan, data_fd, of->file_bytes);
    for (uint64_t leaf = 0; e == 0 && leaf < leaf_count(of->file_bytes); leaf++) {
        e = make_leaf(&scan, of, leaf, pace, ctx);
        if (e == 0 && has_leaves(of))
            e = write_leaf(of, leaf, leaves_fd);
    }
    if (has_leaves(of))
        memset(of->sums, 0, sizeof of->sums);
    return e;
}

/* ---- checking ---- */

int seal_open_data(int dirfd, const char *name)
{
    int fd = disk_open(dirfd, name, O_RDONLY | O_NOFOLLOW | O_DIRECT);
    return fd == -EINVAL ? disk_open(dirfd, name, O_RDONLY | O_NOFOLLOW) : fd;
}

/* A block that cannot be read, or is not there, is as bad as a wrong one. */
static int check_block(struct seal *seal, struct scan *scan, uint64_t block, bool *ret_is_bad)
{
    struct block_checksum sum = {0}, sealed = {0};
    int e = seal_get(seal, block, &sealed);
    if (e < 0)
        return e;
    e = scan_block(scan, block, &sum);
    *ret_is_bad = e == -EIO || e == -EAGAIN || (e == 0 && !is_same(sum, sealed));
    if (*ret_is_bad)
        return seal_stands(seal) ? 0 : -EAGAIN;
    return e;
}

int seal_check(struct seal *seal, int data_fd, seal_pace_f *pace, seal_bad_f *bad, void *ctx)
{
    AUTO(scan_end) struct scan scan;
    int e = scan_begin(&scan, data_fd, seal->file_bytes);
    for (uint64_t b = 0; e == 0 && b < block_count(seal->file_bytes); b++) {
        bool is_bad = false;
        e = check_block(seal, &scan, b, &is_bad);
        if (e == 0 && is_bad)
            bad(ctx, b);
        if (e == 0 && pace)
            e = pace(ctx, bytes_of(seal, b));
    }
    return e;
}
