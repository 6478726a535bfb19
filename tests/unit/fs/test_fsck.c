/* fsck: nothing is found in a volume that is well; a bit that is flipped anywhere in log, checkpoint, state, map, block or
 * seal is. */
#include <dirent.h>
#include <pthread.h>

#include "fs/fsck/fsck.h"
#include "fs/request.h"
#include "fs/store/seal.h"
#include "fs/volume/snapshot.h"
#include "tests/unit/fs/volume_fixture.h"

TestSuite(fsck, .init = setup, .fini = teardown, .timeout = 100);

static char said[8192];

static void note(void *ctx, const char *sentence)
{
    (void)ctx;
    size_t used = strlen(said);
    (void)snprintf(said + used, sizeof said - used, "%s\n", sentence);
}

static unsigned check(bool repairs)
{
    const struct fsck_options options = {
        .directory = path_of("home"), .self = HOME, .repairs = repairs, .say = note};
    struct fsck_result result;
    said[0] = '\0';
    int error = fsck_volume(&options, &result);
    cr_assert_eq(error, 0, "%s", strerror(-error));
    return result.n_found;
}

/* A volume with directories, files, attributes, a link, a drawn copy with a map and a checkpoint in its middle. */
static uint64_t drawn_ino;
static void build(void)
{
    create("home");
    struct fake fake = {0};
    struct volume *volume = open_as("home", HOME, &fake);
    make(volume, "a");
    uint64_t ino = write_file(volume, "f", "bytes of f");
    cr_assert_eq(publish(volume, ino, 10, REQUEST_LAST_CLOSE).error, 0);
    cr_assert_eq(volume_checkpoint(volume, true), 0);
    make(volume, "b");
    drawn_ino = write_file(volume, "g", "bytes of g");
    uint64_t version = publish(volume, drawn_ino, 10, REQUEST_LAST_CLOSE).index;
    struct outcome outcome;
    struct request other = {.kind = REQUEST_OPEN_WRITE, .ino = drawn_ino};
    other.identity = (struct identity){.host = OTHER, .session = 1, .unique = 1};
    cr_assert_eq(volume_execute(volume, &other, &outcome), 0);
    other = (struct request){.kind = REQUEST_PUBLISH,
                             .flags = REQUEST_LAST_CLOSE,
                             .ino = drawn_ino,
                             .size = 3 * BLOCK_BYTES,
                             .mtime_ns = 1,
                             .base_version = version};
    other.identity = (struct identity){.host = OTHER, .session = 1, .unique = 2};
    cr_assert_eq(volume_execute(volume, &other, &outcome), 0);
    struct inode inode = get(volume, drawn_ino);
    struct content *content = NULL;
    cr_assert_eq(content_get(volume_store(volume), HOME, &inode, &content), 0);
    static uint8_t block[BLOCK_BYTES];
    cr_assert_eq(content_fill(content, 1, block, sizeof block), 0);
    content_put(content);
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_SETXATTR,
                                                 .ino = ROOT_INO,
                                                 .name = span_of("user.x"),
                                                 .value = span_of("value")})
                     .error,
                 0);
    volume_free(volume);
}

static void flip(const char *path, uint64_t bit)
{
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, bit / 8), 1);
    byte ^= (uint8_t)(1u << bit % 8);
    cr_assert_eq(pwrite(fd, &byte, 1, bit / 8), 1);
}

static uint64_t bits_of(const char *path)
{
    struct stat st;
    cr_assert_eq(stat(path, &st), 0, "%s", path);
    return (uint64_t)st.st_size * 8;
}

/* Flips bits one after the other, at `n` places, and wants each to be found and the file to be named. */
static void flip_many(const char *path, const char *name, unsigned n)
{
    uint64_t bits = bits_of(path);
    for (unsigned i = 0; i < n; i++) {
        uint64_t bit = (i * 0x9e3779b97f4a7c15ULL) % bits;
        flip(path, bit);
        cr_assert_gt(check(false), 0, "bit %lu of %s was not missed", bit, name);
        cr_assert_not_null(strstr(said, name), "%s", said);
        flip(path, bit);
    }
    cr_assert_eq(check(false), 0, "%s", said);
}

Test(fsck, finds_nothing)
{
    build();
    cr_assert_eq(check(false), 0, "%s", said);
    /* Nor after a kill, with entries that the state has and no clean end. */
    forget_boot("home");
    cr_assert_eq(check(false), 0, "%s", said);
}

Test(fsck, flipped_in_the_log)
{
    build();
    char path[512];
    (void)snprintf(path, sizeof path, "%s/home/log/0000000000000001.log", base);
    flip_many(path, "log/0000000000000001.log", 150);
}

static void checkpoint_path(char ret_path[512])
{
    const char *directory = path_of("home/checkpoint");
    DIR *dir = opendir(directory);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strstr(entry->d_name, ".mdb"))
            (void)snprintf(ret_path, 512, "%s/%s", directory, entry->d_name);
    closedir(dir);
}

Test(fsck, flipped_in_the_checkpoint)
{
    char path[512];
    build();
    checkpoint_path(path);
    flip_many(path, "checkpoint/", 100);
}

Test(fsck, flipped_in_a_map)
{
    char path[256], name[128];
    build();
    struct volume *volume = open_as("home", HOME, NULL);
    struct inode inode = get(volume, drawn_ino);
    volume_free(volume);
    (void)snprintf(name, sizeof name, "%016lx.%016lx.map", inode.ino, inode.version);
    (void)snprintf(path, sizeof path, "%s/home/content/drawn/%s", base, name);
    flip_many(path, name, 100);
}

/* Rows as they lie in the state's file: what is flipped there is found, and mended by making the state again. */
Test(fsck, flipped_in_the_state)
{
    build();
    char path[512];
    (void)snprintf(path, sizeof path, "%s/home/state/data.mdb", base);
    static uint8_t file[1 << 20];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = pread(fd, file, sizeof file, 0);
    cr_assert_gt(size, 0);
    unsigned n_rows = 0;
    for (ssize_t at = 0; at + 10 < size; at++) {
        if (memcmp(file + at, "user.xvalue", 11) != 0)
            continue;
        n_rows++;
    }
    cr_assert_gt(n_rows, 0);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t bit = (i * 0x9e3779b97f4a7c15ULL) % ((uint64_t)size * 8);
        flip(path, bit);
        /* Nothing is found in a page that nothing points to, or between rows. */
        cr_assert(check(false) == 0 || strstr(said, "state"), "%s", said);
        flip(path, bit);
    }
    for (ssize_t at = 0; at + 10 < size; at++) {
        if (memcmp(file + at, "user.xvalue", 11) == 0)
            flip(path, (uint64_t)at * 8 + 49);
    }
    cr_assert_gt(check(true), 0, "a row is another one");
    cr_assert_not_null(strstr(said, "xattrs"), "%s", said);
    cr_assert_eq(access(path_of("home/lost+found/volume.state/data.mdb"), F_OK), 0, "%s", said);
    struct volume *volume = open_as("home", HOME, NULL);
    char value[16];
    size_t used;
    cr_assert_eq(
        tree_getxattr(volume_tree(volume), ROOT_INO, span_of("user.x"), value, sizeof value, &used),
        0);
    cr_assert(used == 5 && memcmp(value, "value", 5) == 0);
    volume_free(volume);
    cr_assert_eq(check(false), 0, "%s", said);
}

/* What nobody knows is put aside and not thrown away; a volume that is open is not touched. */
Test(fsck, orphans)
{
    build();
    AUTO_CLOSE int fd =
        open(path_of("home/content/own/00000000000fffff"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(check(false), 1, "%s", said);
    cr_assert_eq(check(true), 1, "%s", said);
    cr_assert_eq(access(path_of("home/lost+found/own.00000000000fffff"), F_OK), 0);
    cr_assert_eq(check(false), 0, "%s", said);
    struct volume *volume = open_as("home", HOME, NULL);
    const struct fsck_options options = {.directory = path_of("home"), .self = HOME, .say = note};
    struct fsck_result result;
    cr_assert_eq(fsck_volume(&options, &result), -EBUSY);
    volume_free(volume);
}

/* ---- bits anywhere ---- */

#define BIG_BLOCKS 33ULL /* two leaves of a seal */

/* As build(), and of what this host keeps one file of many blocks and one of a few bytes are sealed. */
static uint64_t sealed_ino;
static void build_sealed(void)
{
    static uint8_t bytes[BIG_BLOCKS * BLOCK_BYTES];
    struct content *content = NULL;
    build();
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    struct volume *volume = open_as("home", HOME, NULL);
    sealed_ino = write_file(volume, "sealed", "");
    struct inode inode = get(volume, sealed_ino);
    cr_assert_eq(content_get(volume_store(volume), HOME, &inode, &content), 0);
    cr_assert_eq(pwrite(content_fd(content), bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
    content_put(content);
    cr_assert_eq(publish(volume, sealed_ino, sizeof bytes, REQUEST_LAST_CLOSE).error, 0);
    cr_assert_eq(volume_seal(volume, sealed_ino, NULL, NULL), 0);
    cr_assert_eq(tree_lookup(volume_tree(volume), ROOT_INO, span_of("f"), &inode), 0);
    cr_assert_eq(volume_seal(volume, inode.ino, NULL, NULL), 0);
    volume_free(volume);
}

static const char *path_of_content(const char *suffix, uint64_t ino)
{
    static char name[128];
    (void)snprintf(name, sizeof name, "home/content/own/%016lx%s", ino, suffix);
    return path_of(name);
}

static unsigned n_flips(unsigned n)
{
    return getenv("WHISKFS_LONG") ? n * 20 : n;
}

/* Flips one bit after the other, anywhere in the file. wanted: what the finding must say; NULL: there may be none, as
 * nothing need lie there. */
static void flip_anywhere(const char *path, unsigned n, const char *wanted)
{
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", path);
    uint64_t bits = bits_of(copy), seed = 88172645463325252ULL;
    for (unsigned i = 0; i < n_flips(n); i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint64_t bit = seed % bits;
        flip(copy, bit);
        unsigned found = check(false);
        cr_assert(found > 0 || !wanted, "bit %lu of %s was missed", bit, copy);
        cr_assert(found == 0 || !wanted || strstr(said, wanted), "bit %lu of %s: %s", bit, copy,
                  said);
        flip(copy, bit);
    }
    cr_assert_eq(check(false), 0, "%s", said);
}

/* Which block it is, and of which file. */
Test(fsck, flipped_in_a_block)
{
    build_sealed();
    flip_anywhere(path_of_content("", sealed_ino), 150, "('/sealed'): blocks");
    flip(path_of_content("", sealed_ino), (5ULL * BLOCK_BYTES + 99) * 8);
    flip(path_of_content("", sealed_ino), (6ULL * BLOCK_BYTES + 9) * 8);
    flip(path_of_content("", sealed_ino), (BIG_BLOCKS * BLOCK_BYTES - 1) * 8);
    cr_assert_eq(check(false), 2, "%s", said);
    cr_assert_not_null(strstr(said, "('/sealed'): blocks 5 to 6 are damaged"), "%s", said);
    cr_assert_not_null(strstr(said, "('/sealed'): blocks 32 to 32 are damaged"), "%s", said);
    /* Nobody knows what is right: it stays. */
    cr_assert_eq(check(true), 2, "%s", said);
    cr_assert_eq(check(false), 2, "%s", said);
}

/* Also in the entries of files that have no seal. A repair takes it away, and it can be sealed again. */
Test(fsck, flipped_in_a_seal)
{
    build_sealed();
    flip_anywhere(path_of_content(SEAL_SUFFIX, sealed_ino), 150,
                  "('/sealed'): its seal is damaged");
    char table[256];
    (void)snprintf(table, sizeof table, "%s", path_of("home/content/" SEAL_TABLE));
    flip_anywhere(table, 150, NULL);
    for (uint64_t bit = 0; bit < SEAL_ENTRY_BYTES * 8; bit += getenv("WHISKFS_LONG") ? 1 : 7) {
        flip(table, sealed_ino * SEAL_ENTRY_BYTES * 8 + bit);
        cr_assert_eq(check(false), 1, "bit %lu", bit);
        cr_assert_not_null(strstr(said, "('/sealed'): its seal is damaged"), "%s", said);
        flip(table, sealed_ino * SEAL_ENTRY_BYTES * 8 + bit);
    }
    flip(table, (sealed_ino * SEAL_ENTRY_BYTES + 20) * 8);
    cr_assert_eq(check(true), 1, "%s", said);
    cr_assert_eq(check(false), 0, "%s", said);
    struct volume *volume = open_as("home", HOME, NULL);
    cr_assert_eq(volume_seal(volume, sealed_ino, NULL, NULL), 0);
    volume_free(volume);
    cr_assert_eq(check(false), 0, "%s", said);
}

/* After a power cut nothing that a seal says counts. */
Test(fsck, seals_before_a_power_cut)
{
    build_sealed();
    flip(path_of_content("", sealed_ino), 77);
    cr_assert_eq(check(false), 1, "%s", said);
    forget_boot("home");
    cr_assert_eq(check(false), 0, "%s", said);
}

/* Wherever a bit of the state flips, looking at it ends, and what is found there is said of the state. */
Test(fsck, flipped_anywhere_in_the_state)
{
    char path[256];
    build_sealed();
    (void)snprintf(path, sizeof path, "%s", path_of("home/state/data.mdb"));
    flip_anywhere(path, 200, NULL);
}

/* ---- a volume that is open ---- */

/* Held by a worker while it changes something, and over what forks. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static unsigned check_live(struct volume *volume, bool repairs, unsigned *ret_repaired)
{
    struct fsck_result result;
    struct fsck_options options = {.self = HOME, .repairs = repairs, .say = note};
    said[0] = '\0';
    cr_assert_eq(volume_snapshot(volume), 0);
    options.directory = path_of("home/" SNAPSHOT_DIRECTORY);
    cr_assert_eq(pthread_mutex_lock(&gate), 0);
    cr_assert_eq(fsck_volume(&options, &result), 0);
    cr_assert_eq(pthread_mutex_unlock(&gate), 0);
    unsigned n_found = result.n_found;
    cr_assert_eq(volume_snapshot_remove(volume), 0);
    cr_assert_eq(fsck_live_store(volume, &options, &result), 0);
    if (ret_repaired)
        *ret_repaired = result.n_repaired;
    return n_found + result.n_found;
}

struct worker {
    struct volume *volume;
    atomic_bool is_stopping;
    unsigned n;
};

static void change_something(struct worker *w)
{
    char name[32];
    (void)snprintf(name, sizeof name, "w%u", w->n++);
    uint64_t ino = write_file(w->volume, name, "0123456789");
    cr_assert_eq(publish(w->volume, ino, 10, REQUEST_LAST_CLOSE).error, 0);
    if (w->n % 3 > 0)
        return;
    cr_assert_eq(
        change(w->volume,
               (struct request){.kind = REQUEST_UNLINK, .parent = ROOT_INO, .name = span_of(name)})
            .error,
        0);
    if (w->n % 60 == 0)
        cr_assert_eq(volume_checkpoint(w->volume, true), 0);
}

static void *make_and_remove(void *arg)
{
    struct worker *w = arg;
    while (!atomic_load(&w->is_stopping)) {
        cr_assert_eq(pthread_mutex_lock(&gate), 0);
        change_something(w);
        cr_assert_eq(pthread_mutex_unlock(&gate), 0);
    }
    return NULL;
}

/* Segments end often, checkpoints are written, the log is trimmed, files come and go: nothing is found. */
Test(fsck, finds_nothing_while_the_volume_changes)
{
    pthread_t thread;
    log_set_segment_bytes(4096);
    build();
    struct worker w = {.volume = open_as("home", HOME, NULL)};
    cr_assert_eq(pthread_create(&thread, NULL, make_and_remove, &w), 0);
    for (unsigned i = 0; i < 30; i++)
        cr_assert_eq(check_live(w.volume, true, NULL), 0, "%s", said);
    atomic_store(&w.is_stopping, true);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_gt(w.n, 0);
    volume_free(w.volume);
    cr_assert_eq(check(false), 0, "%s", said);
}

static void spoil(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, "spoilt", 6), 6);
}

Test(fsck, of_an_open_volume_finds_and_mends)
{
    char map[256];
    unsigned n_repaired;
    build();
    struct volume *volume = open_as("home", HOME, NULL);
    struct inode inode = get(volume, drawn_ino);
    (void)snprintf(map, sizeof map, "%s/home/content/drawn/%016lx.%016lx.map", base, inode.ino,
                   inode.version);
    spoil(map);
    spoil(path_of("home/content/own/00000000000f0000"));
    spoil(path_of("home/content/own/what"));
    cr_assert_eq(check_live(volume, false, &n_repaired), 3, "%s", said);
    cr_assert_eq(n_repaired, 0);
    cr_assert_not_null(strstr(said, ".map: the map is damaged"), "%s", said);
    cr_assert_not_null(strstr(said, "00000000000f0000: its inode is not in the volume"), "%s",
                       said);
    cr_assert_not_null(strstr(said, "own/what: is no copy"), "%s", said);
    cr_assert_eq(check_live(volume, true, &n_repaired), 3, "%s", said);
    cr_assert_eq(n_repaired, 3, "%s", said);
    cr_assert_eq(check_live(volume, false, NULL), 0, "%s", said);
    cr_assert_eq(access(path_of("home/lost+found/own.what"), F_OK), 0);
    volume_free(volume);
    cr_assert_eq(check(false), 0, "%s", said);
}

/* What is open is left out, and what has lost its bytes is told. */
Test(fsck, of_an_open_volume_misses_content)
{
    char path[256];
    build();
    struct volume *volume = open_as("home", HOME, NULL);
    struct inode inode;
    cr_assert_eq(tree_lookup(volume_tree(volume), ROOT_INO, span_of("f"), &inode), 0);
    (void)snprintf(path, sizeof path, "%s/home/content/own/%016lx", base, inode.ino);
    spoil(path);
    cr_assert_eq(check_live(volume, false, NULL), 1, "%s", said);
    cr_assert_not_null(strstr(said, "has 6 bytes and should have 10"), "%s", said);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(check_live(volume, true, NULL), 1, "%s", said);
    cr_assert_not_null(strstr(said, "which this host keeps, is lost"), "%s", said);
    volume_free(volume);
}

/* A bit of the log that is flipped while the volume is open. */
Test(fsck, of_an_open_volume_reads_the_log)
{
    build();
    struct volume *volume = open_as("home", HOME, NULL);
    flip(path_of("home/log/0000000000000001.log"), 8 * 100);
    cr_assert_gt(check_live(volume, false, NULL), 0);
    cr_assert_not_null(strstr(said, "log/0000000000000001.log: entry"), "%s", said);
    flip(path_of("home/log/0000000000000001.log"), 8 * 100);
    volume_free(volume);
}
