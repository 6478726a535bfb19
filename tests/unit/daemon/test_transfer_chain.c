/* A keeper that lacks blocks of its own version: three hosts, each knowing only the next. */
#include <criterion/criterion.h>

#include "tests/lib/hosts.h"

#define N_BLOCKS 40ULL
#define SIZE (N_BLOCKS * BLOCK_BYTES - 500)
#define WRITTEN 7ULL

static struct test_host *first = &hosts[0], *writer = &hosts[1], *reader = &hosts[2];
static uint64_t ino;

/* The first host makes a file; the second writes one block of it, and publishes without having the others. */
static void setup(void)
{
    uint8_t *block = malloc(BLOCK_BYTES);
    hosts_start(3);
    ino = home_make_file("a", 1, 0, SIZE);
    hosts_follow();
    (void)host_change(writer, (struct request){.kind = REQUEST_OPEN_WRITE, .ino = ino});
    struct content *content = host_content(writer, ino);
    REQUIRE(content_own(content) == 0);
    hosts_follow();
    memset(block, 'w', BLOCK_BYTES);
    REQUIRE(content_prepare_write(content, WRITTEN * BLOCK_BYTES, BLOCK_BYTES, hosts_soon()) == 0);
    int64_t n = pwrite(content_fd(content), block, BLOCK_BYTES, WRITTEN * BLOCK_BYTES);
    REQUIRE(content_wrote(content, WRITTEN * BLOCK_BYTES, BLOCK_BYTES, n) == BLOCK_BYTES);
    REQUIRE(content_present_bytes(content) == BLOCK_BYTES);
    content_put(content);
    free(block);
    (void)host_change(writer, (struct request){.kind = REQUEST_PUBLISH,
                                               .flags = REQUEST_LAST_CLOSE | REQUEST_INCOMPLETE,
                                               .ino = ino,
                                               .size = SIZE,
                                               .mtime_ns = 5});
    hosts_follow();
}

TestSuite(transfer_chain, .init = setup, .fini = hosts_stop, .timeout = 100);

static bool is_merged(struct content *content)
{
    uint8_t *block = malloc(BLOCK_BYTES);
    bool is_right =
        pread(content_fd(content), block, BLOCK_BYTES, WRITTEN * BLOCK_BYTES) == BLOCK_BYTES;
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        is_right = is_right && block[i] == 'w';
    free(block);
    uint64_t after = (WRITTEN + 1) * BLOCK_BYTES;
    return is_right && content_is(content, 1, 0, 0, WRITTEN * BLOCK_BYTES) &&
           content_is(content, 1, 0, after, SIZE - after);
}

/* The keeper draws what it lacks from the host before it, and passes it on. */
Test(transfer_chain, passes_blocks_on)
{
    struct content *content = host_content(reader, ino);
    cr_assert_eq(content_upstream(content).n, writer->id.n);
    cr_assert_eq(content_need(content, 0, SIZE, FETCH_DEMAND, hosts_soon()), 0);
    cr_assert(is_merged(content));
    content_put(content);
    content = host_content(writer, ino);
    cr_assert(content_is_complete(content));
    cr_assert(is_merged(content));
    content_put(content);
}

/* The keeper completes itself. */
Test(transfer_chain, completes_its_keeper)
{
    struct content *content = host_content(writer, ino);
    cr_assert_eq(content_upstream(content).n, first->id.n);
    cr_assert_eq(content_need(content, 0, SIZE, FETCH_PREFETCH, hosts_soon()), 0);
    cr_assert(is_merged(content));
    content_put(content);
}

/* What the keeper has is served while the host before it is gone; what it lacks is an error, in time. */
Test(transfer_chain, serves_what_it_has)
{
    struct content *content = host_content(reader, ino);
    host_stop_peers(first);
    cr_assert_eq(
        content_need(content, WRITTEN * BLOCK_BYTES, BLOCK_BYTES, FETCH_DEMAND, hosts_soon()), 0);
    cr_assert_lt(content_need(content, 0, 1, FETCH_DEMAND, clock_mono_ns() + 2 * NS_PER_S), 0);
    cr_assert_eq(content_present_bytes(content), BLOCK_BYTES);
    content_put(content);
}
