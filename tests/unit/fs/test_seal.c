/* Seals: when a file has one, when not, and what they find. */
#include "fs/fsck/fsck.h"
#include "fs/store/seal.h"
#include "tests/unit/fs/volume_fixture.h"

TestSuite(seal, .init = setup, .fini = teardown, .timeout = 100);

#define BIG_BYTES (40ULL * BLOCK_BYTES + 777) /* two leaves */

static struct content *content_of(struct volume *volume, uint64_t ino)
{
    struct inode inode = get(volume, ino);
    struct content *content = NULL;
    cr_assert_eq(content_get(volume_store(volume), HOME, &inode, &content), 0);
    return content;
}

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}

/* Published and closed; block 3 is a hole. */
static uint64_t big_file(struct volume *volume)
{
    static uint8_t block[BLOCK_BYTES];
    uint64_t ino = write_file(volume, "big", "");
    struct content *content = content_of(volume, ino);
    for (uint64_t at = 0; at < BIG_BYTES; at += BLOCK_BYTES) {
        size_t n = (size_t)MIN((uint64_t)BLOCK_BYTES, BIG_BYTES - at);
        for (size_t i = 0; i < n; i++)
            block[i] = byte_at(at + i);
        if (at != 3 * BLOCK_BYTES)
            cr_assert_eq(pwrite(content_fd(content), block, n, (off_t)at), (ssize_t)n);
    }
    content_put(content);
    cr_assert_eq(publish(volume, ino, BIG_BYTES, REQUEST_LAST_CLOSE).error, 0);
    return ino;
}

static uint64_t small_file(struct volume *volume)
{
    uint64_t ino = write_file(volume, "small", "some bytes");
    cr_assert_eq(publish(volume, ino, 10, REQUEST_LAST_CLOSE).error, 0);
    return ino;
}

static int seal(struct volume *volume, uint64_t ino)
{
    return volume_seal(volume, ino, NULL, NULL);
}

static bool is_sealed(struct volume *volume, uint64_t ino)
{
    struct seal found;
    if (store_find_seal(volume_store(volume), ino, get(volume, ino).version, &found) < 0)
        return false;
    seal_close(&found);
    return true;
}

static void open_for_writing(struct volume *volume, uint64_t ino)
{
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_OPEN_WRITE, .ino = ino}).error, 0);
}

static void close_writing(struct volume *volume, uint64_t ino)
{
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_CLOSE_WRITE, .ino = ino}).error,
                 0);
}

Test(seal, of_what_is_quiet)
{
    struct volume *volume = create_and_open();
    uint64_t ino = write_file(volume, "f", "bytes");
    cr_assert_eq(seal(volume, ino), -EBUSY, "it is being written");
    cr_assert_eq(publish(volume, ino, 5, REQUEST_LAST_CLOSE).error, 0);
    struct content *content = content_of(volume, ino);
    cr_assert_eq(seal(volume, ino), -EBUSY, "it is open");
    content_put(content);
    char path[256];
    (void)snprintf(path, sizeof path, "%s/home/content/own/%016lx", base, ino);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_eq(seal(volume, ino), -EBUSY, "somebody could still write it");
    (void)close(fd);
    cr_assert_eq(seal(volume, ino), 0);
    cr_assert_eq(seal(volume, ino), -EALREADY);
    cr_assert(is_sealed(volume, ino));
    open_for_writing(volume, ino);
    cr_assert(!is_sealed(volume, ino), "the first write-open takes it away");
    close_writing(volume, ino);
    cr_assert_eq(seal(volume, ino), 0, "nothing was changed, and it is quiet again");
    cr_assert_eq(seal(volume, make(volume, "dir")), -EINVAL);
    volume_free(volume);
}

static struct volume *interrupted;
static uint64_t interrupted_ino;

static int write_meanwhile(void *ctx, uint64_t bytes)
{
    (void)bytes;
    if (++*(unsigned *)ctx == 5) {
        open_for_writing(interrupted, interrupted_ino);
        close_writing(interrupted, interrupted_ino);
    }
    return 0;
}

Test(seal, voided_while_it_is_made)
{
    unsigned n = 0;
    interrupted = create_and_open();
    interrupted_ino = big_file(interrupted);
    cr_assert_eq(volume_seal(interrupted, interrupted_ino, write_meanwhile, &n), -EAGAIN);
    cr_assert(!is_sealed(interrupted, interrupted_ino));
    cr_assert_eq(seal(interrupted, interrupted_ino), 0);
    volume_free(interrupted);
}

Test(seal, outlives_the_daemon_and_not_a_power_cut)
{
    struct volume *volume = create_and_open();
    uint64_t big = big_file(volume), small = small_file(volume);
    cr_assert_eq(seal(volume, big), 0);
    cr_assert_eq(seal(volume, small), 0);
    volume_free(volume);
    volume = open_as("home", HOME, NULL);
    cr_assert(is_sealed(volume, big) && is_sealed(volume, small));
    volume_free(volume);
    forget_boot("home");
    volume = open_as("home", HOME, NULL);
    cr_assert(!is_sealed(volume, big) && !is_sealed(volume, small));
    volume_free(volume);
}

Test(seal, goes_with_the_file)
{
    struct volume *volume = create_and_open();
    uint64_t ino = big_file(volume);
    cr_assert_eq(seal(volume, ino), 0);
    cr_assert_eq(
        change(volume,
               (struct request){.kind = REQUEST_UNLINK, .parent = ROOT_INO, .name = span_of("big")})
            .error,
        0);
    settle_removals(volume);
    char name[64];
    (void)snprintf(name, sizeof name, "home/content/own/%016lx" SEAL_SUFFIX, ino);
    cr_assert_eq(access(path_of(name), F_OK), -1);
    volume_free(volume);
}

/* The blocks that a seal finds bad. */
static uint64_t bad[64];
static unsigned n_bad;

static void note_bad(void *ctx, uint64_t block)
{
    (void)ctx;
    bad[n_bad++] = block;
}

static int check(struct volume *volume, uint64_t ino)
{
    char name[64];
    struct seal found;
    n_bad = 0;
    (void)snprintf(name, sizeof name, "home/content/own/%016lx", ino);
    cr_assert_eq(store_find_seal(volume_store(volume), ino, get(volume, ino).version, &found), 0);
    AUTO_CLOSE int fd = seal_open_data(AT_FDCWD, path_of(name));
    int e = seal_check(&found, fd, NULL, note_bad, NULL);
    seal_close(&found);
    return e;
}

Test(seal, names_the_bad_block)
{
    struct volume *volume = create_and_open();
    uint64_t ino = big_file(volume);
    char name[64];
    cr_assert_eq(seal(volume, ino), 0);
    cr_assert_eq(check(volume, ino), 0);
    cr_assert_eq(n_bad, 0);
    (void)snprintf(name, sizeof name, "home/content/own/%016lx", ino);
    AUTO_CLOSE int fd = open(path_of(name), O_RDWR | O_CLOEXEC);
    static const uint64_t places[] = {0, 3 * BLOCK_BYTES + 5, 33 * BLOCK_BYTES, BIG_BYTES - 1};
    for (size_t i = 0; i < N_ELEMENTS(places); i++) {
        uint8_t byte, other;
        cr_assert_eq(pread(fd, &byte, 1, (off_t)places[i]), 1);
        other = byte ^ 16;
        cr_assert_eq(pwrite(fd, &other, 1, (off_t)places[i]), 1);
        cr_assert_eq(check(volume, ino), 0);
        cr_assert_eq(n_bad, 1, "place %zu: %u", i, n_bad);
        cr_assert_eq(bad[0], places[i] / BLOCK_BYTES);
        cr_assert_eq(pwrite(fd, &byte, 1, (off_t)places[i]), 1);
    }
    /* A block that is lost: the file ends before. */
    cr_assert_eq(ftruncate(fd, 39 * BLOCK_BYTES), 0);
    cr_assert_eq(check(volume, ino), 0);
    cr_assert_eq(n_bad, 2);
    volume_free(volume);
}

/* A seal that goes while the file is compared says nothing. */
Test(seal, opened_for_writing_while_compared)
{
    struct seal found;
    char name[64];
    struct volume *volume = create_and_open();
    uint64_t ino = small_file(volume);
    cr_assert_eq(seal(volume, ino), 0);
    cr_assert_eq(store_find_seal(volume_store(volume), ino, get(volume, ino).version, &found), 0);
    open_for_writing(volume, ino);
    (void)snprintf(name, sizeof name, "home/content/own/%016lx", ino);
    AUTO_CLOSE int fd = open(path_of(name), O_RDWR | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, "other", 5, 0), 5);
    n_bad = 0;
    cr_assert_eq(seal_check(&found, fd, NULL, note_bad, NULL), -EAGAIN);
    cr_assert_eq(n_bad, 0);
    cr_assert(!seal_is_broken(&found, 0, block_checksum_of("other", 5)));
    seal_close(&found);
    volume_free(volume);
}

/* The thread seals what was closed, and what was open then when it is not any more. */
Test(seal, by_itself)
{
    create("home");
    struct volume_options options = options_of("home", HOME, NULL);
    options.seal_after_ns = 20 * NS_PER_MS;
    struct volume *volume = NULL;
    cr_assert_eq(volume_open(&options, &volume), 0);
    uint64_t big = big_file(volume), small = small_file(volume);
    int64_t deadline_ns = clock_mono_ns() + 60 * NS_PER_S;
    while (!(is_sealed(volume, big) && is_sealed(volume, small)))
        cr_assert_lt(clock_mono_ns(), deadline_ns);
    volume_free(volume);
}

/* ---- scrub ---- */

static struct scrub_status scrub(struct volume *volume, uint64_t rate)
{
    struct scrub_status status;
    int64_t deadline_ns = clock_mono_ns() + 60 * NS_PER_S;
    cr_assert_eq(volume_scrub(volume, rate), 0);
    for (volume_scrub_status(volume, &status); status.is_running;
         volume_scrub_status(volume, &status))
        cr_assert_lt(clock_mono_ns(), deadline_ns);
    return status;
}

static void flip(uint64_t ino, uint64_t at)
{
    char name[64];
    uint8_t byte;
    (void)snprintf(name, sizeof name, "home/content/own/%016lx", ino);
    AUTO_CLOSE int fd = open(path_of(name), O_RDWR | O_CLOEXEC);
    cr_assert_eq(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 2;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
}

/* The first pass seals what has no seal; the next compares, and remembers what is damaged until the file is written anew. */
Test(seal, scrubbed)
{
    struct damage damage[4];
    struct volume *volume = create_and_open();
    struct store *store = volume_store(volume);
    uint64_t big = big_file(volume), small = small_file(volume);
    uint64_t writing = write_file(volume, "writing", "x");
    struct scrub_status status = scrub(volume, 0);
    cr_assert_eq(status.sealed, 2);
    cr_assert(is_sealed(volume, big) && is_sealed(volume, small) && !is_sealed(volume, writing));
    cr_assert_eq(store_damage(store, damage, 4), 0);

    flip(big, 7 * BLOCK_BYTES + 3);
    flip(small, 3);
    status = scrub(volume, 0);
    cr_assert_eq(status.files, 2);
    cr_assert_eq(status.bytes, BIG_BYTES + 10);
    cr_assert_eq(status.passes, 2);
    cr_assert_eq(store_damage(store, damage, 4), 2);
    cr_assert(damage[0].ino == big && damage[0].block == 7);
    cr_assert(store_is_damaged(store, big, 8 * BLOCK_BYTES - 1, 1));
    cr_assert(!store_is_damaged(store, big, 8 * BLOCK_BYTES, BIG_BYTES));
    cr_assert(store_is_damaged(store, small, 0, UINT64_MAX));
    (void)scrub(volume, 0);
    cr_assert_eq(store_damage(store, damage, 4), 2, "a block is damaged once");

    open_for_writing(volume, small);
    cr_assert(!store_is_damaged(store, small, 0, 1));
    cr_assert_eq(store_damage(store, damage, 4), 1);
    volume_free(volume);
}

/* A damaged seal is replaced. */
Test(seal, scrubbed_with_a_bad_seal)
{
    struct volume *volume = create_and_open();
    uint64_t ino = small_file(volume);
    (void)scrub(volume, 0);
    AUTO_CLOSE int fd = open(path_of("home/content/" SEAL_TABLE), O_RDWR | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, "?", 1, (off_t)(ino * SEAL_ENTRY_BYTES + 40)), 1);
    struct scrub_status status = scrub(volume, 0);
    cr_assert_eq(status.bad_seals, 1);
    cr_assert_eq(status.sealed, 1);
    cr_assert(is_sealed(volume, ino));
    volume_free(volume);
}

/* It takes its time, there is one at a time, and it does not keep a volume open. */
Test(seal, scrubbed_slowly)
{
    struct volume *volume = create_and_open();
    (void)big_file(volume);
    int64_t start_ns = clock_mono_ns();
    (void)scrub(volume, 16u << 20); /* 5 MiB */
    cr_assert_geq(clock_mono_ns() - start_ns, 200 * NS_PER_MS);
    cr_assert_eq(volume_scrub(volume, 1), 0);
    cr_assert_eq(volume_scrub(volume, 1), -EALREADY);
    start_ns = clock_mono_ns();
    volume_free(volume);
    cr_assert_lt(clock_mono_ns() - start_ns, 20 * NS_PER_S);
}
