/* One copy: fills, waits, local writes, truncation; what wins over what. */
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "tests/unit/fs/store_fixture.h"

static struct content *content;

static void setup(void)
{
    store_setup();
    struct inode inode = theirs(7, 3);
    content = get(&inode);
}

static void teardown(void)
{
    if (content)
        content_put(content);
    store_teardown();
}

TestSuite(content, .init = setup, .fini = teardown, .timeout = 60);

static void write_through(struct content *c, uint64_t offset, uint64_t size, uint8_t byte)
{
    AUTO_FREE uint8_t *data = malloc(size);
    memset(data, byte, size);
    cr_assert_eq(content_prepare_write(c, offset, size, soon()), 0);
    int64_t n = pwrite(content_fd(c), data, size, (off_t)offset);
    cr_assert_eq(content_wrote(c, offset, size, n), (int64_t)size);
}

static uint8_t byte_at(struct content *c, uint64_t offset)
{
    uint8_t byte = 0;
    cr_assert_eq(pread(content_fd(c), &byte, 1, (off_t)offset), 1);
    return byte;
}

/* A drawn copy begins with its full size and no blocks. */
Test(content, begins_empty)
{
    cr_assert_not(content_is_complete(content));
    cr_assert_eq(content_size(content), FILE_BYTES);
    cr_assert_eq(content_present_bytes(content), 0);
    cr_assert_eq(content_next_missing(content, 0), 0);
    cr_assert_eq(content_upstream(content).n, OTHER.n);
    cr_assert_eq(content_version(content), 3);
}

Test(content, keeps_what_it_is_filled_with)
{
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 1), 0);
    cr_assert(content_has(content, 1, 1));
    cr_assert_not(content_has(content, 0, 2));
    cr_assert_eq(content_present_bytes(content), BLOCK_BYTES);
    cr_assert_eq(content_next_missing(content, 1), 2);
    cr_assert(has_pattern(content, 3, BLOCK_BYTES, BLOCK_BYTES));
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 4), 0);
    cr_assert_eq(content_present_bytes(content), BLOCK_BYTES + 1000);
    cr_assert(has_pattern(content, 3, 4 * BLOCK_BYTES, 1000));
}

/* A block that is there already stays: the second fill is dropped. */
Test(content, does_not_fill_twice)
{
    AUTO_FREE uint8_t *data = calloc(1, BLOCK_BYTES);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 0), 0);
    cr_assert_eq(content_fill(content, 0, data, BLOCK_BYTES), 0);
    cr_assert(has_pattern(content, 3, 0, BLOCK_BYTES));
}

Test(content, refuses_blocks_of_wrong_size_or_place)
{
    AUTO_FREE uint8_t *data = calloc(1, BLOCK_BYTES);
    cr_assert_eq(content_fill(content, 0, data, 1000), -EINVAL);
    cr_assert_eq(content_fill(content, 4, data, BLOCK_BYTES), -EINVAL);
    cr_assert_eq(content_fill(content, 5, data, BLOCK_BYTES), -EINVAL);
    cr_assert_eq(content_fill(content, UINT64_MAX, data, 0), -EINVAL);
    cr_assert_eq(content_present_bytes(content), 0);
}

/* Blocks that come together are stored around what is there; zeros and the short last block are among them. */
Test(content, fills_a_run)
{
    struct span run[5];
    for (unsigned i = 0; i < 5; i++) {
        size_t size = i == 4 ? 1000 : BLOCK_BYTES;
        uint8_t *data = malloc(size);
        memset(data, 'a' + (int)i, size);
        run[i] = (struct span){.data = data, .size = size};
    }
    struct span zeros = {.data = run[3].data, .size = 0},
                whole[] = {run[0], run[1], run[2], zeros, run[4]};
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 1), 0);
    cr_assert_eq(content_fill_run(content, 0, whole, 5), 0);
    cr_assert(content_is_complete(content));
    cr_assert_eq(byte_at(content, 0), 'a');
    cr_assert(has_pattern(content, 3, BLOCK_BYTES, BLOCK_BYTES));
    cr_assert_eq(byte_at(content, 2 * BLOCK_BYTES), 'c');
    cr_assert_eq(byte_at(content, 3 * BLOCK_BYTES - 1), 'c');
    cr_assert_eq(byte_at(content, 3 * BLOCK_BYTES), 0);
    cr_assert_eq(byte_at(content, FILE_BYTES - 1), 'e');
    cr_assert_eq(content_size(content), FILE_BYTES);
    for (unsigned i = 0; i < 5; i++)
        free((void *)(uintptr_t)run[i].data);
}

/* One of a wrong size, or past the end: none of them is stored. */
Test(content, refuses_a_run_with_a_wrong_block)
{
    AUTO_FREE uint8_t *data = calloc(1, BLOCK_BYTES);
    struct span good = {.data = data, .size = BLOCK_BYTES}, bad = {.data = data, .size = 1000};
    cr_assert_eq(content_fill_run(content, 0, (struct span[]){good, bad}, 2), -EINVAL);
    cr_assert_eq(content_fill_run(content, 3, (struct span[]){good, good}, 2), -EINVAL);
    cr_assert_eq(content_fill_run(content, 3, (struct span[]){good, bad, bad}, 3), -EINVAL);
    cr_assert_eq(content_present_bytes(content), 0);
}

/* A block of zeros takes no room, even where half a fill had left bytes. */
Test(content, stores_zeros_as_holes)
{
    cr_assert_eq(pwrite(content_fd(content), "left", 4, 100), 4);
    cr_assert_eq(content_fill(content, 0, NULL, 0), 0);
    cr_assert(content_has(content, 0, 1));
    cr_assert_eq(byte_at(content, 100), 0);
    struct stat st;
    cr_assert_eq(fstat(content_fd(content), &st), 0);
    cr_assert_eq(st.st_blocks, 0);
}

/* With its last block a copy is complete for everybody, and its map goes once the bytes are synced. */
Test(content, completes_with_its_last_block)
{
    cr_assert(exists("content/drawn/0000000000000007.0000000000000003.map"));
    for (uint64_t b = 0; b < 5; b++) {
        cr_assert_not(content_is_complete(content));
        cr_assert_eq(pattern_fill(content, FILE_BYTES, b), 0);
    }
    cr_assert(content_is_complete(content));
    cr_assert_eq(content_upstream(content).n, NO_HOST.n);
    cr_assert_eq(content_next_missing(content, 0), 5);
    cr_assert(goes_away("content/drawn/0000000000000007.0000000000000003.map"));
    cr_assert(has_pattern(content, 3, 0, FILE_BYTES));
}

/* What is needed is fetched once; what is there is not fetched. */
Test(content, fetches_what_it_needs)
{
    cr_assert_eq(content_need(content, BLOCK_BYTES + 5, 10, FETCH_DEMAND, soon()), 0);
    cr_assert(content_has(content, 1, 1));
    cr_assert_eq(content_present_bytes(content), BLOCK_BYTES);
    cr_assert_eq(content_need(content, BLOCK_BYTES, BLOCK_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert_eq(atomic_load(&source.n_fetches), 1);
    cr_assert_eq(content_need(content, 0, UINT64_MAX, FETCH_DEMAND, soon()), 0);
    cr_assert(content_is_complete(content));
}

/* The source hears of reads of blocks that are here, while others are missing: it decides what comes next. */
Test(content, tells_the_source_who_reads)
{
    cr_assert_eq(content_need(content, 0, BLOCK_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert_eq(atomic_load(&source.n_readings), 0);
    cr_assert_eq(content_need(content, 10, 20, FETCH_DEMAND, soon()), 0);
    cr_assert_eq(atomic_load(&source.n_readings), 1);
    cr_assert_eq(content_need(content, 10, 20, FETCH_PREFETCH, soon()), 0);
    cr_assert_eq(content_need(content, FILE_BYTES + BLOCK_BYTES, 20, FETCH_DEMAND, soon()), 0);
    cr_assert_eq(atomic_load(&source.n_readings), 1);
    cr_assert_eq(atomic_load(&source.n_fetches), 1);
}

/* And of who opens a drawn file that is complete: it may bring what lies beside it. */
Test(content, tells_the_source_who_opens)
{
    struct content *own;
    cr_assert_eq(content_make(store, 4711, &own), 0);
    content_opened(own);
    content_put(own);
    content_opened(content);
    cr_assert_eq(atomic_load(&source.n_readings), 0,
                 "what is missing will be asked for by its reader");
    cr_assert_eq(content_need(content, 0, UINT64_MAX, FETCH_DEMAND, soon()), 0);
    content_opened(content);
    cr_assert_eq(atomic_load(&source.n_readings), 1);
}

Test(content, passes_errors_of_the_source_on)
{
    atomic_store(&source.error, -EHOSTUNREACH);
    cr_assert_eq(content_need(content, 0, 1, FETCH_DEMAND, soon()), -EHOSTUNREACH);
    atomic_store(&source.error, 0);
    atomic_store(&source.is_lying, true);
    cr_assert_eq(content_need(content, 0, 1, FETCH_DEMAND, soon()), -EIO);
}

/* Bytes past the end need nobody. */
Test(content, needs_nothing_past_the_end)
{
    atomic_store(&source.error, -EIO);
    cr_assert_eq(content_need(content, FILE_BYTES + BLOCK_BYTES, 100, FETCH_DEMAND, soon()), 0);
}

static atomic_bool is_waiting;

static void *wait_for_two(void *arg)
{
    atomic_store(&is_waiting, true);
    *(bool *)arg = content_wait(content, 2, 1, soon());
    return NULL;
}

Test(content, wakes_who_waits)
{
    pthread_t thread;
    bool is_there = false;
    cr_assert_eq(pthread_create(&thread, NULL, wait_for_two, &is_there), 0);
    while (!atomic_load(&is_waiting))
        sched_yield();
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 2), 0);
    pthread_join(thread, NULL);
    cr_assert(is_there);
    cr_assert_not(content_wait(content, 0, 1, clock_mono_ns() + 10 * NS_PER_MS));
}

/* A write that covers a block whole needs nobody; a late fill of it is dropped. */
Test(content, writes_whole_blocks_without_fetching)
{
    cr_assert_eq(content_own(content), 0);
    atomic_store(&source.error, -EHOSTUNREACH);
    write_through(content, BLOCK_BYTES, 2 * BLOCK_BYTES, 'w');
    cr_assert(content_has(content, 1, 2));
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 1), 0);
    cr_assert_eq(byte_at(content, BLOCK_BYTES + 17), 'w');
    cr_assert_eq(content_present_bytes(content), 2 * BLOCK_BYTES);
}

/* While a write is under way a fill of the same block gives way, whichever ends first. */
Test(content, keeps_fills_away_from_a_write)
{
    AUTO_FREE uint8_t *data = malloc(BLOCK_BYTES);
    memset(data, 'w', BLOCK_BYTES);
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(content_prepare_write(content, 0, BLOCK_BYTES, soon()), 0);
    cr_assert_eq(pwrite(content_fd(content), data, BLOCK_BYTES, 0), BLOCK_BYTES);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 0), 0);
    cr_assert_not(content_has(content, 0, 1), "not before the write has ended");
    cr_assert_eq(content_wrote(content, 0, BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES);
    cr_assert_eq(byte_at(content, 5), 'w');
}

/* A write that fails gives its blocks back. */
Test(content, refills_after_a_failed_write)
{
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(content_prepare_write(content, 0, 2 * BLOCK_BYTES, soon()), 0);
    cr_assert_eq(content_wrote(content, 0, 2 * BLOCK_BYTES, -ENOSPC), -ENOSPC);
    cr_assert_eq(content_need(content, 0, BLOCK_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert(has_pattern(content, 3, 0, BLOCK_BYTES));
}

/* A write cut short inside a missing block counts up to that block. */
Test(content, counts_a_short_write_by_blocks)
{
    int64_t n = BLOCK_BYTES + 100;
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(content_prepare_write(content, 0, 2 * BLOCK_BYTES, soon()), 0);
    cr_assert_eq(content_wrote(content, 0, 2 * BLOCK_BYTES, n), BLOCK_BYTES);
    cr_assert(content_has(content, 0, 1));
    cr_assert_not(content_has(content, 1, 1));
    cr_assert_eq(content_prepare_write(content, 2 * BLOCK_BYTES, BLOCK_BYTES, soon()), 0);
    cr_assert_eq(content_wrote(content, 2 * BLOCK_BYTES, BLOCK_BYTES, 100), -ENOSPC);
}

/* Blocks that a write covers in part are brought in first. */
Test(content, merges_partial_writes)
{
    cr_assert_eq(content_own(content), 0);
    write_through(content, BLOCK_BYTES - 10, 2 * BLOCK_BYTES, 'w');
    cr_assert(content_has(content, 0, 3));
    cr_assert(has_pattern(content, 3, 0, BLOCK_BYTES - 10));
    cr_assert(has_pattern(content, 3, 3 * BLOCK_BYTES - 10, 10));
    cr_assert_eq(byte_at(content, BLOCK_BYTES - 10), 'w');
    cr_assert_eq(byte_at(content, 3 * BLOCK_BYTES - 11), 'w');
}

/* Appending to a file whose tail is elsewhere brings the tail in; what is past it is a hole or written. */
Test(content, appends_past_a_missing_tail)
{
    cr_assert_eq(content_own(content), 0);
    write_through(content, FILE_BYTES, 50, 'a');
    cr_assert(content_has(content, 4, 1));
    cr_assert(has_pattern(content, 3, 4 * BLOCK_BYTES, 1000));
    write_through(content, FILE_BYTES + 9 * BLOCK_BYTES, 50, 'b');
    cr_assert_eq(content_next_missing(content, 4), block_count(FILE_BYTES + 9 * BLOCK_BYTES + 50));
    cr_assert_eq(byte_at(content, FILE_BYTES + BLOCK_BYTES), 0);
}

/* The base's last block ends where the base ends: writing that much covers it whole. */
Test(content, covers_the_short_last_block)
{
    cr_assert_eq(content_own(content), 0);
    atomic_store(&source.error, -EIO);
    write_through(content, 4 * BLOCK_BYTES, 1000, 'e');
    cr_assert(content_has(content, 4, 1));
}

Test(content, truncates)
{
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(content_truncate(content, BLOCK_BYTES + 10, soon()), 0);
    cr_assert_eq(content_size(content), BLOCK_BYTES + 10);
    cr_assert(has_pattern(content, 3, BLOCK_BYTES, 10), "its new tail was brought in");
    cr_assert_not(content_has(content, 0, 1));
    cr_assert_eq(content_truncate(content, FILE_BYTES, soon()), 0);
    cr_assert_eq(byte_at(content, BLOCK_BYTES + 10), 0);
    cr_assert(content_has(content, 1, 100), "what was cut off does not come back");
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 3), 0);
    cr_assert_eq(byte_at(content, 3 * BLOCK_BYTES), 0);
    cr_assert_eq(content_truncate(content, 0, soon()), 0);
    cr_assert(content_is_complete(content));
}

/* Making a file longer needs nobody. */
Test(content, grows_without_fetching)
{
    cr_assert_eq(content_own(content), 0);
    atomic_store(&source.error, -EIO);
    cr_assert_eq(content_truncate(content, 9 * FILE_BYTES, soon()), 0);
    cr_assert_eq(content_next_missing(content, 0), 0);
    cr_assert_eq(content_next_missing(content, 5), block_count(9 * FILE_BYTES));
}

/* A disk that fills up keeps its reserve: what comes from elsewhere is refused before the log has no room. */
Test(content_full, leaves_the_reserve, .timeout = 60)
{
    enum {
        DISK_BYTES = 16 << 20
    };
    static uint8_t block[BLOCK_BYTES];
    char place[] = "/tmp/whiskfs-full-XXXXXX";
    struct statvfs fs;
    struct store *small;
    struct content *big;
    cr_assert(mkdtemp(place) != NULL);
    cr_assert_eq(unshare(CLONE_NEWNS), 0);
    cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("full", place, "tmpfs", 0, "size=16m"), 0);
    int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct inode inode = theirs(9, 3);
    inode.size = 4 * DISK_BYTES;
    cr_assert_eq(store_open(fd, true, NULL, &small), 0);
    cr_assert_eq(content_get(small, SELF, &inode, &big), 0);
    memset(block, 7, sizeof block);
    int e = 0;
    for (uint64_t i = 0; e == 0 && i < 2 * DISK_BYTES / BLOCK_BYTES; i++)
        e = content_fill(big, i, block, sizeof block);
    cr_assert_eq(e, -ENOSPC);
    cr_assert_eq(fstatvfs(fd, &fs), 0);
    cr_assert(fs.f_bavail * fs.f_frsize >= DISK_BYTES / 16 - BLOCK_BYTES);
    cr_assert(fs.f_bavail * fs.f_frsize < DISK_BYTES / 4);
    content_put(big);
    store_free(small);
    close(fd);
    umount2(place, MNT_DETACH);
    rmdir(place);
}
