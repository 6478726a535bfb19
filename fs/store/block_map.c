#include "fs/store/block_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "fs/store/store.h"

#define MAP_FORMAT 1u

static const uint8_t map_magic[8] = "whiskmap";

static size_t n_words(const struct block_map *map)
{
    return (size_t)map->n_leaves * MAP_LEAF_WORDS;
}

int block_map_init(struct block_map *map, uint64_t base_size)
{
    uint64_t n_blocks = block_count(base_size);
    if (n_blocks > MAP_BLOCKS_MAX)
        return -EFBIG;
    *map = (struct block_map){.base_size = base_size, .n_blocks = n_blocks, .n_missing = n_blocks};
    map->n_leaves = (n_blocks + MAP_LEAF_BLOCKS - 1) / MAP_LEAF_BLOCKS;
    size_t words = n_words(map) + 1; /* never an allocation of nothing */
    map->present = calloc(words, sizeof *map->present);
    map->synced = calloc(words, sizeof *map->synced);
    map->busy = calloc(words, sizeof *map->busy);
    map->dirty = calloc((size_t)map->n_leaves * 2 + 1, sizeof *map->dirty);
    if (map->present && map->synced && map->busy && map->dirty)
        return 0;
    block_map_done(map);
    return -ENOMEM;
}

void block_map_done(struct block_map *map)
{
    free(map->present);
    free(map->synced);
    free(map->busy);
    free(map->dirty);
    *map = (struct block_map){0};
}

static bool bit_get(const uint64_t *words, uint64_t bit)
{
    return (words[bit / 64] >> (bit % 64)) & 1;
}

bool block_map_has(const struct block_map *map, uint64_t block)
{
    return block >= map->n_blocks || bit_get(map->present, block);
}

bool block_map_busy(const struct block_map *map, uint64_t block)
{
    return block < map->n_blocks && bit_get(map->busy, block);
}

void block_map_set_busy(struct block_map *map, uint64_t block, bool busy)
{
    if (block >= map->n_blocks)
        return;
    uint64_t bit = 1ULL << (block % 64);
    if (busy)
        map->busy[block / 64] |= bit;
    else
        map->busy[block / 64] &= ~bit;
}

void block_map_set(struct block_map *map, uint64_t block)
{
    if (block_map_has(map, block))
        return;
    map->present[block / 64] |= 1ULL << (block % 64);
    map->n_missing--;
    map->dirty[block / MAP_LEAF_BLOCKS] = true;
}

uint64_t block_map_next_missing(const struct block_map *map, uint64_t block, uint64_t end)
{
    uint64_t stop = MIN(end, map->n_blocks);
    while (block < stop) {
        uint64_t missing = ~map->present[block / 64] >> (block % 64);
        if (missing != 0) {
            block += (uint64_t)__builtin_ctzll(missing);
            return block < stop ? block : end;
        }
        block = (block / 64 + 1) * 64;
    }
    return end;
}

bool block_map_cut(struct block_map *map, uint64_t block)
{
    uint64_t n_before = map->n_missing;
    for (uint64_t b = block; (b = block_map_next_missing(map, b, map->n_blocks)) < map->n_blocks;)
        block_map_set(map, b);
    return map->n_missing < n_before;
}

void block_map_set_synced(struct block_map *map, const uint64_t *snapshot)
{
    for (size_t w = 0; w < n_words(map); w++) {
        if ((snapshot[w] & ~map->synced[w]) == 0)
            continue;
        map->synced[w] |= snapshot[w];
        map->dirty[map->n_leaves + w / MAP_LEAF_WORDS] = true;
    }
}

/* ---- the file ---- */

size_t block_map_file_bytes(const struct block_map *map)
{
    return MAP_HEADER_BYTES + 2 * (size_t)map->n_leaves * MAP_LEAF_BYTES;
}

size_t block_map_leaf_offset(const struct block_map *map, size_t leaf)
{
    CHECK(leaf < 2 * map->n_leaves);
    return MAP_HEADER_BYTES + leaf * MAP_LEAF_BYTES;
}

static uint64_t *leaf_words(const struct block_map *map, size_t leaf)
{
    if (leaf < map->n_leaves)
        return map->present + leaf * MAP_LEAF_WORDS;
    return map->synced + (leaf - (size_t)map->n_leaves) * MAP_LEAF_WORDS;
}

/* The seed ties a leaf to its place and its file: leaves cannot be mistaken for one another. */
static uint64_t leaf_checksum(const struct block_map *map, size_t leaf, const uint8_t *bytes)
{
    uint64_t seed = map->ino * 0x9e3779b97f4a7c15ULL ^ map->base_version << 20 ^ leaf;
    return XXH3_64bits_withSeed(bytes, MAP_LEAF_BYTES - 8, seed);
}

void block_map_encode_leaf(const struct block_map *map, size_t leaf,
                           uint8_t ret_leaf[MAP_LEAF_BYTES])
{
    struct writer w = writer_over(ret_leaf, MAP_LEAF_BYTES);
    const uint64_t *words = leaf_words(map, leaf);
    for (size_t i = 0; i < MAP_LEAF_WORDS; i++)
        put_u64(&w, words[i]);
    put_u64(&w, leaf_checksum(map, leaf, ret_leaf));
    CHECK(!w.bad && writer_used(&w) == MAP_LEAF_BYTES);
}

static void encode_header(const struct block_map *map, uint8_t *header)
{
    memset(header, 0, MAP_HEADER_BYTES);
    struct writer w = writer_over(header, MAP_HEADER_BYTES);
    put_bytes(&w, map_magic, sizeof map_magic);
    put_u32(&w, MAP_FORMAT);
    put_u32(&w, BLOCK_BYTES);
    put_u64(&w, map->ino);
    put_u64(&w, map->base_version);
    put_u64(&w, map->base_size);
    put_u64(&w, map->upstream.n);
    w.at = header + MAP_HEADER_BYTES - 8;
    put_u64(&w, XXH3_64bits(header, MAP_HEADER_BYTES - 8));
    CHECK(!w.bad);
}

void block_map_encode(const struct block_map *map, uint8_t *file)
{
    encode_header(map, file);
    for (size_t leaf = 0; leaf < 2 * map->n_leaves; leaf++)
        block_map_encode_leaf(map, leaf, file + block_map_leaf_offset(map, leaf));
}

static int decode_header(struct reader *r, uint64_t ino, struct block_map *ret_map)
{
    const uint8_t *start = r->at;
    struct span magic = get_bytes(r, sizeof map_magic);
    uint32_t format = get_u32(r), block_bytes = get_u32(r);
    struct block_map map = {.ino = get_u64(r)};
    map.base_version = get_u64(r);
    map.base_size = get_u64(r);
    map.upstream.n = get_u64(r);
    if (!r->bad)
        (void)get_bytes(r, MAP_HEADER_BYTES - 8 - (size_t)(r->at - start));
    uint64_t checksum = get_u64(r);
    if (r->bad || memcmp(magic.data, map_magic, sizeof map_magic) != 0 || format != MAP_FORMAT ||
        block_bytes != BLOCK_BYTES || map.ino != ino ||
        checksum != XXH3_64bits(start, MAP_HEADER_BYTES - 8))
        return -EBADMSG;
    *ret_map = map;
    return 0;
}

static int decode_leaf(struct block_map *map, size_t leaf, struct reader *r)
{
    const uint8_t *start = r->at;
    uint64_t *words = leaf_words(map, leaf);
    for (size_t i = 0; i < MAP_LEAF_WORDS; i++)
        words[i] = get_u64(r);
    uint64_t checksum = get_u64(r);
    return r->bad || checksum != leaf_checksum(map, leaf, start) ? -EBADMSG : 0;
}

/* False: a bit past the last block. */
static bool is_within(const struct block_map *map, const uint64_t *words)
{
    for (size_t w = 0; w < n_words(map); w++) {
        uint64_t first = (uint64_t)w * 64;
        uint64_t allowed = first + 64 <= map->n_blocks ? UINT64_MAX
                           : first >= map->n_blocks    ? 0
                                                       : (1ULL << (map->n_blocks - first)) - 1;
        if ((words[w] & ~allowed) != 0)
            return false;
    }
    return true;
}

static int decode_leaves(struct block_map *map, struct reader *r, bool synced_only)
{
    for (size_t leaf = 0; leaf < 2 * map->n_leaves; leaf++) {
        int e = decode_leaf(map, leaf, r);
        if (e < 0 && !(synced_only && leaf < map->n_leaves))
            return e;
    }
    bool is_sound = is_within(map, map->synced) && (synced_only || is_within(map, map->present));
    return is_sound ? 0 : -EBADMSG;
}

/* What is synced is there, even if the daemon ended before the leaf of present bits was written. */
static void settle_present(struct block_map *map, bool synced_only)
{
    uint64_t n_present = 0;
    for (size_t w = 0; w < n_words(map); w++) {
        uint64_t present = synced_only ? map->synced[w] : map->present[w] | map->synced[w];
        if (map->present[w] != present)
            map->dirty[w / MAP_LEAF_WORDS] = true;
        map->present[w] = present;
        n_present += (uint64_t)__builtin_popcountll(present);
    }
    map->n_missing = map->n_blocks - n_present;
}

int block_map_decode(struct block_map *map, uint64_t ino, struct span file, bool synced_only)
{
    struct reader r = reader_over(file.data, file.size);
    struct block_map header;
    int e = decode_header(&r, ino, &header);
    if (e < 0)
        return e;
    e = block_map_init(map, header.base_size);
    if (e < 0)
        return e == -EFBIG ? -EBADMSG : e;
    map->ino = header.ino;
    map->base_version = header.base_version;
    map->upstream = header.upstream;
    e = block_map_file_bytes(map) == file.size ? decode_leaves(map, &r, synced_only) : -EBADMSG;
    if (e < 0) {
        block_map_done(map);
        return e;
    }
    settle_present(map, synced_only);
    return 0;
}
