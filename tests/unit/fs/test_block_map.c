/* Maps of present blocks: bits, and the bytes of their files. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/block_map.h"
#include "fs/store/store.h"

#define INO 42
#define BLOCKS(n) ((uint64_t)(n)*BLOCK_BYTES)

static struct block_map map;

static void setup(void)
{
    cr_assert_eq(block_map_init(&map, BLOCKS(10000) + 5), 0);
    map.ino = INO;
    map.base_version = 7;
    map.upstream = (struct host_id){99};
}

static void teardown(void)
{
    block_map_done(&map);
}

TestSuite(block_map, .init = setup, .fini = teardown, .timeout = 20);

static uint8_t *encoded(void)
{
    uint8_t *file = malloc(block_map_file_bytes(&map));
    block_map_encode(&map, file);
    return file;
}

static int decode(struct block_map *ret, const uint8_t *file, size_t size, bool synced_only)
{
    return block_map_decode(ret, INO, (struct span){file, size}, synced_only);
}

/* The missing blocks of a new map are all there are, the short one at the end among them. */
Test(block_map, begins_with_nothing)
{
    cr_assert_eq(map.n_blocks, 10001);
    cr_assert_eq(map.n_missing, 10001);
    cr_assert_eq(block_map_next_missing(&map, 0, 10001), 0);
    cr_assert_not(block_map_has(&map, 10000));
}

/* What lies past the base is present: it was written here, or is a hole. */
Test(block_map, has_everything_past_the_base)
{
    cr_assert(block_map_has(&map, 10001));
    cr_assert(block_map_has(&map, UINT64_MAX));
    cr_assert_eq(block_map_next_missing(&map, 10001, 20000), 20000);
}

Test(block_map, finds_missing_blocks_across_words)
{
    for (uint64_t b = 0; b < 5000; b++)
        block_map_set(&map, b);
    cr_assert_eq(map.n_missing, 5001);
    cr_assert_eq(block_map_next_missing(&map, 0, 10001), 5000);
    cr_assert_eq(block_map_next_missing(&map, 0, 4999), 4999, "none below the end asked for");
    for (uint64_t b = 5000; b < 10001; b++)
        block_map_set(&map, b);
    cr_assert_eq(map.n_missing, 0);
    cr_assert_eq(block_map_next_missing(&map, 0, 10001), 10001);
}

Test(block_map, sets_a_block_once)
{
    block_map_set(&map, 3);
    block_map_set(&map, 3);
    block_map_set(&map, 70000);
    cr_assert_eq(map.n_missing, 10000);
}

Test(block_map, comes_back_from_its_file)
{
    block_map_set(&map, 0);
    block_map_set(&map, 4031);
    block_map_set(&map, 4032);
    block_map_set(&map, 10000);
    AUTO_FREE uint8_t *file = encoded();
    struct block_map back;
    cr_assert_eq(decode(&back, file, block_map_file_bytes(&map), false), 0);
    cr_assert_eq(back.n_missing, map.n_missing);
    cr_assert_eq(back.base_size, map.base_size);
    cr_assert_eq(back.base_version, 7);
    cr_assert_eq(back.upstream.n, 99);
    for (uint64_t b = 0; b < 10001; b++)
        cr_assert_eq(block_map_has(&back, b), block_map_has(&map, b));
    block_map_done(&back);
}

/* After a power cut the present bits may be ahead of their bytes; the synced ones never are. */
Test(block_map, can_trust_synced_bits_alone)
{
    uint64_t *snapshot = calloc(map.n_leaves * MAP_LEAF_WORDS, 8);
    block_map_set(&map, 5);
    snapshot[0] = map.present[0];
    block_map_set(&map, 6);
    block_map_set_synced(&map, snapshot);
    AUTO_FREE uint8_t *file = encoded();
    file[MAP_HEADER_BYTES + 3] ^= 1; /* present bits may be torn, too */
    struct block_map back;
    cr_assert_eq(decode(&back, file, block_map_file_bytes(&map), true), 0);
    cr_assert(block_map_has(&back, 5));
    cr_assert_not(block_map_has(&back, 6));
    cr_assert_eq(back.n_missing, 10000);
    block_map_done(&back);
    free(snapshot);
}

/* A file with any bit flipped, of another inode, cut or grown is refused. */
Test(block_map, refuses_damage)
{
    block_map_done(&map);
    cr_assert_eq(block_map_init(&map, BLOCKS(3)), 0);
    map.ino = INO;
    block_map_set(&map, 1);
    size_t size = block_map_file_bytes(&map);
    AUTO_FREE uint8_t *file = encoded();
    struct block_map back;
    for (size_t bit = 0; bit < size * 8; bit++) {
        file[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(decode(&back, file, size, false), -EBADMSG, "bit %zu", bit);
        file[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < size; n++)
        cr_assert_eq(decode(&back, file, n, false), -EBADMSG, "cut to %zu", n);
    cr_assert_eq(block_map_decode(&back, INO + 1, (struct span){file, size}, false), -EBADMSG);
    cr_assert_eq(decode(&back, file, size, false), 0, "and it was sound all the time");
    block_map_done(&back);
}

/* A hostile size must not make us allocate. */
Test(block_map, refuses_huge_files)
{
    struct block_map huge;
    cr_assert_eq(block_map_init(&huge, UINT64_MAX), -EFBIG);
    cr_assert_eq(block_map_init(&huge, BLOCKS(MAP_BLOCKS_MAX) + 1), -EFBIG);
    cr_assert_eq(block_map_init(&huge, BLOCKS(MAP_BLOCKS_MAX)), 0);
    block_map_done(&huge);
}
