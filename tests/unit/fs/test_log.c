/* The log on disk: what survives, what is cut, what is refused. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/log/log.h"

/* The linker sends the library's fdatasync here (--wrap). */
int __wrap_fdatasync(int fd);
int __real_fdatasync(int fd);
static atomic_uint n_syncs;
static atomic_bool sync_fails;

int __wrap_fdatasync(int fd)
{
    atomic_fetch_add(&n_syncs, 1);
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return __real_fdatasync(fd);
}

/* ---- fixture: a directory of its own ---- */

static char directory[64];
static int dirfd_;

static void setup(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/whiskfs-log-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    dirfd_ = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(dirfd_, 0);
}

static void teardown(void)
{
    AUTO_CLOSE int fd = openat(dirfd_, "log", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(dup(fd));
    for (struct dirent *e; dir && (e = readdir(dir));)
        (void)unlinkat(fd, e->d_name, 0);
    if (dir)
        closedir(dir);
    (void)unlinkat(dirfd_, "log", AT_REMOVEDIR);
    close(dirfd_);
    cr_assert_eq(rmdir(directory), 0);
}

TestSuite(log, .init = setup, .fini = teardown, .timeout = 60);

static struct log *open_log(void)
{
    struct log *log = NULL;
    cr_assert_eq(log_open(dirfd_, 0, &log), 0);
    return log;
}

/* Payloads differ in length and content, and the index says how. */
static size_t fill(uint64_t index, size_t size, uint8_t *payload)
{
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(index * 31 + i * 7 + (i >> 8));
    return size;
}

static void append(struct log *log, size_t size)
{
    static _Thread_local uint8_t payload[LOG_ENTRY_BYTES_MAX];
    uint64_t index = log_last(log) + 1;
    struct log_entry entry;
    cr_assert_eq(log_append(log, 5, (struct span){payload, fill(index, size, payload)}, &entry), 0);
    cr_assert_eq(entry.index, index);
    cr_assert_eq(entry.bytes.size, size + LOG_HEADER_BYTES);
}

static void assert_entry(struct log *log, uint64_t index, size_t size)
{
    static uint8_t payload[LOG_ENTRY_BYTES_MAX], buffer[LOG_ENTRY_BYTES_MAX];
    size_t used;
    cr_assert_eq(log_read(log, index, buffer, sizeof buffer, &used), 0);
    struct reader r = reader_over(buffer, used);
    struct log_entry entry;
    cr_assert_eq(log_entry_get(&r, &entry), 0);
    cr_assert(entry.index == index && entry.epoch == 5 && entry.payload.size == size);
    cr_assert_eq(memcmp(entry.payload.data, payload, fill(index, size, payload)), 0);
}

static int open_segment(const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof path, "log/%s", name);
    int fd = openat(dirfd_, path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

#define FIRST "0000000000000001.log"

static off_t size_of(const char *name)
{
    AUTO_CLOSE int fd = open_segment(name);
    struct stat st;
    cr_assert_eq(fstat(fd, &st), 0);
    return st.st_size;
}

static void flip(const char *name, off_t at, unsigned bit)
{
    AUTO_CLOSE int fd = open_segment(name);
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
}

/* ---- cases ---- */

/* A new log is empty and says so; a checkpoint's index is where it goes on. */
Test(log, empty)
{
    struct log *log = open_log();
    uint8_t buffer[64];
    size_t used;
    cr_assert(log_first(log) == 1 && log_last(log) == 0 && log_durable(log) == 0);
    cr_assert_eq(log_read(log, 1, buffer, sizeof buffer, &used), -ENODATA);
    cr_assert_eq(log_sync(log, 0), 0);
    cr_assert_eq(log_sync(log, 1), -EINVAL);
    log_free(log);
    log = open_log();
    cr_assert(log_first(log) == 1 && log_last(log) == 0);
    append(log, 0);
    assert_entry(log, 1, 0);
    log_free(log);
    /* All of it is in a checkpoint at 10: it begins anew. */
    cr_assert_eq(log_open(dirfd_, 10, &log), 0);
    cr_assert(log_first(log) == 11 && log_last(log) == 10 && log_durable(log) == 10);
    append(log, 3);
    log_free(log);
    cr_assert_eq(log_open(dirfd_, 10, &log), 0);
    cr_assert(log_first(log) == 11 && log_last(log) == 11);
    cr_assert_eq(log_read(log, 10, buffer, sizeof buffer, &used), -ENOENT);
    log_free(log);
}

/* Every entry is found by its index, before and after the log is opened again. */
Test(log, read_by_index)
{
    struct log *log = open_log();
    for (unsigned i = 1; i <= 300; i++)
        append(log, i * 13 % 997);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 300; i > 0; i--)
            assert_entry(log, i, i * 13 % 997);
        log_free(log);
        log = open_log();
        cr_assert_eq(log_last(log), 300);
    }
    log_free(log);
}

/* A read returns whole entries only, as many as fit, and at least one or -ENOBUFS. */
Test(log, read_fits)
{
    struct log *log = open_log();
    for (unsigned i = 0; i < 10; i++)
        append(log, 100);
    uint8_t buffer[10 * 132];
    size_t used;
    cr_assert_eq(log_read(log, 1, buffer, 131, &used), -ENOBUFS);
    cr_assert_eq(log_read(log, 1, buffer, 132, &used), 0);
    cr_assert_eq(used, 132);
    cr_assert_eq(log_read(log, 4, buffer, 3 * 132 - 1, &used), 0);
    cr_assert_eq(used, 2 * 132);
    cr_assert_eq(log_read(log, 1, buffer, sizeof buffer, &used), 0);
    cr_assert_eq(used, sizeof buffer);
    log_free(log);
}

/* Segments roll; a read goes on over their borders; trimming leaves what is asked for. */
Test(log, segments)
{
    struct log *log = open_log();
    size_t size = 500000;
    for (unsigned i = 0; i < 110; i++) /* 55 MB */
        append(log, size);
    AUTO_FREE uint8_t *buffer = malloc(4 * (size + LOG_HEADER_BYTES));
    size_t used;
    for (uint64_t i = 1; i <= 107; i++) {
        cr_assert_eq(log_read(log, i, buffer, 4 * (size + LOG_HEADER_BYTES), &used), 0);
        cr_assert_eq(used, 4 * (size + LOG_HEADER_BYTES), "at %u", (unsigned)i);
    }
    uint64_t all = log_bytes_from(log, 1);
    cr_assert_eq(all, 110 * (size + LOG_HEADER_BYTES));
    cr_assert_eq(log_trim(log, 40), 0);
    uint64_t first = log_first(log);
    cr_assert(first > 1 && first <= 40, "first is %u", (unsigned)first);
    cr_assert_eq(log_bytes_from(log, 1), all - (first - 1) * (size + LOG_HEADER_BYTES));
    cr_assert_eq(log_read(log, first - 1, buffer, size * 2, &used), -ENOENT);
    assert_entry(log, 40, size);
    log_free(log);
    log = open_log();
    cr_assert(log_first(log) == first && log_last(log) == 110);
    assert_entry(log, first, size);
    /* The last segment stays, whatever is asked. */
    cr_assert_eq(log_trim(log, 1000), 0);
    cr_assert(log_first(log) <= 110 && log_last(log) == 110);
    append(log, 1);
    assert_entry(log, 111, 1);
    log_free(log);
}

/* Wherever the last entry is torn, opening cuts it off and the others stay; the next takes its index. */
Test(log, torn_tail)
{
    struct log *log = open_log();
    for (unsigned i = 0; i < 3; i++)
        append(log, 50);
    log_free(log);
    off_t whole = size_of(FIRST);
    off_t start = whole - 50 - LOG_HEADER_BYTES;
    for (off_t cut = whole - 1; cut >= start; cut--) {
        {
            AUTO_CLOSE int fd = open_segment(FIRST);
            cr_assert_eq(ftruncate(fd, cut), 0);
        }
        log = open_log();
        cr_assert_eq(log_last(log), 2, "cut to %d", (int)cut);
        cr_assert_eq(size_of(FIRST), start);
        append(log, 50);
        assert_entry(log, 3, 50);
        log_free(log);
    }
}

/* A bit that flips in the last entry makes it a torn one; zeros at the end, as a power cut leaves, too. */
Test(log, damaged_tail)
{
    struct log *log = open_log();
    append(log, 50);
    append(log, 50);
    log_free(log);
    off_t whole = size_of(FIRST);
    for (off_t at = whole - 82; at < whole; at++) {
        flip(FIRST, at, (unsigned)at % 8);
        log = open_log();
        cr_assert_eq(log_last(log), 1, "byte %d", (int)at);
        append(log, 50);
        log_free(log);
    }
    {
        AUTO_CLOSE int fd = open_segment(FIRST);
        cr_assert_eq(ftruncate(fd, whole + 10000), 0);
    }
    log = open_log();
    cr_assert_eq(log_last(log), 2);
    cr_assert_eq(size_of(FIRST), whole);
    log_free(log);
}

/* A bit that flips before whole entries is damage, named and not cut: what was synced must not vanish. */
Test(log, damage_before_whole_entries)
{
    struct log *log = open_log();
    for (unsigned i = 0; i < 3; i++)
        append(log, 700);
    log_free(log);
    for (off_t at = 0; at < 2 * 732; at++) {
        flip(FIRST, at, (unsigned)at % 8);
        cr_assert_eq(log_open(dirfd_, 0, &log), -EBADMSG, "byte %d", (int)at);
        flip(FIRST, at, (unsigned)at % 8);
    }
    log = open_log();
    cr_assert_eq(log_last(log), 3);
    log_free(log);
}

/* Pages that a power cut left out read as zeros: the entries from there on were not synced and go. */
Test(log, holes_of_a_power_cut)
{
    struct log *log = open_log();
    for (unsigned i = 0; i < 8; i++)
        append(log, 3000);
    log_free(log);
    static const uint8_t zeros[4096];
    {
        AUTO_CLOSE int fd = open_segment(FIRST);
        cr_assert_eq(pwrite(fd, zeros, sizeof zeros, 8192), sizeof zeros);
    }
    log = open_log();
    cr_assert_eq(log_last(log), 2);
    log_free(log);
}

/* In a closed segment no flipped bit passes: header, payload, end. */
Test(log, closed_segment)
{
    struct log *log = open_log();
    append(log, 200);
    while (log_bytes_from(log, 1) < LOG_SEGMENT_BYTES)
        append(log, 1000000);
    uint64_t n = log_last(log);
    append(log, 10);
    log_free(log);
    off_t size = size_of(FIRST);
    for (off_t at = 0; at < size; at = at < 300 ? at + 1 : at + 999983) {
        flip(FIRST, at, (unsigned)at % 8);
        cr_assert_eq(log_open(dirfd_, 0, &log), -EBADMSG, "byte %d", (int)at);
        flip(FIRST, at, (unsigned)at % 8);
    }
    {
        AUTO_CLOSE int fd = open_segment(FIRST);
        cr_assert_eq(ftruncate(fd, size - 1), 0);
    }
    cr_assert_eq(log_open(dirfd_, 0, &log), -EBADMSG);
    /* Whole, but entries are missing before the next segment. */
    {
        AUTO_CLOSE int fd = open_segment(FIRST);
        cr_assert_eq(ftruncate(fd, 232), 0);
    }
    cr_assert_eq(log_open(dirfd_, 0, &log), -EBADMSG);
    cr_assert_gt(n, 16);
}

/* Damage that comes while the log is open is met by the read. */
Test(log, damage_while_open)
{
    struct log *log = open_log();
    append(log, 100);
    append(log, 100);
    flip(FIRST, 132 + 60, 3);
    uint8_t buffer[1000];
    size_t used;
    cr_assert_eq(log_read(log, 2, buffer, sizeof buffer, &used), -EBADMSG);
    cr_assert_eq(log_read(log, 1, buffer, 132, &used), 0);
    log_free(log);
}

/* Files that are no segments do not matter; one that has an impossible size does. */
Test(log, other_files)
{
    struct log *log = open_log();
    append(log, 1);
    log_free(log);
    static const char *const names[] = {"log/note", "log/1.log", "log/0000000000000000.log",
                                        "log/000000000000000G.log", "log/0000000000000002.log~"};
    for (size_t i = 0; i < N_ELEMENTS(names); i++) {
        AUTO_CLOSE int fd = openat(dirfd_, names[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        cr_assert_eq(write(fd, "junk", 4), 4);
    }
    log = open_log();
    cr_assert_eq(log_last(log), 1);
    log_free(log);
    {
        AUTO_CLOSE int fd = open_segment(FIRST);
        cr_assert_eq(ftruncate(fd, 1LL << 40), 0);
    }
    cr_assert_eq(log_open(dirfd_, 0, &log), -EBADMSG);
}

/* A replica appends what the home encoded, byte for byte, and nothing out of order. */
Test(log, append_entry)
{
    struct log *log = open_log();
    append(log, 10);
    append(log, 20);
    uint8_t buffer[256], again[256];
    size_t used, used_again;
    cr_assert_eq(log_read(log, 1, buffer, sizeof buffer, &used), 0);
    log_free(log);
    {
        AUTO_CLOSE int fd = open_segment(FIRST);
        cr_assert_eq(ftruncate(fd, 0), 0);
    }
    log = open_log();
    struct reader r = reader_over(buffer, used);
    struct log_entry one, two;
    cr_assert_eq(log_entry_get(&r, &one), 0);
    cr_assert_eq(log_entry_get(&r, &two), 0);
    cr_assert_eq(log_entry_get(&r, &two), -ENODATA);
    cr_assert_eq(log_append_entry(log, &two), -EINVAL);
    cr_assert_eq(log_append_entry(log, &one), 0);
    cr_assert_eq(log_append_entry(log, &one), -EINVAL);
    cr_assert_eq(log_append_entry(log, &two), 0);
    cr_assert_eq(log_read(log, 1, again, sizeof again, &used_again), 0);
    cr_assert(used == used_again && memcmp(buffer, again, used) == 0);
    log_free(log);
}

/* An entry that does not fit leaves the log as it was; when there is room again, it goes on. */
Test(log, disk_full)
{
    struct log *log = open_log();
    append(log, 1000);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, tight = {.rlim_cur = 1500, .rlim_max = RLIM_INFINITY};
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight.rlim_max = old.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
    static uint8_t payload[1000];
    struct log_entry entry;
    cr_assert_eq(log_append(log, 5, (struct span){payload, sizeof payload}, &entry), -ENOSPC);
    cr_assert_eq(log_last(log), 1);
    cr_assert_eq(size_of(FIRST), 1032);
    append(log, 100);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    append(log, 1000);
    log_free(log);
    log = open_log();
    cr_assert_eq(log_last(log), 3);
    assert_entry(log, 3, 1000);
    log_free(log);
}

/* What was synced is not synced again; a failure to sync is remembered. */
Test(log, sync)
{
    struct log *log = open_log();
    append(log, 10);
    append(log, 10);
    atomic_store(&n_syncs, 0);
    cr_assert_eq(log_sync(log, 1), 0);
    cr_assert_eq(log_durable(log), 2);
    cr_assert_eq(log_sync(log, 2), 0);
    cr_assert_eq(atomic_load(&n_syncs), 1);
    append(log, 10);
    atomic_store(&sync_fails, true);
    cr_assert_eq(log_sync(log, 3), -EIO);
    atomic_store(&sync_fails, false);
    cr_assert_eq(log_sync(log, 3), -EIO);
    cr_assert_eq(log_durable(log), 2);
    uint8_t byte = 0;
    struct log_entry entry;
    cr_assert_eq(log_append(log, 5, (struct span){&byte, 1}, &entry), -EIO);
    cr_assert_eq(log_last(log), 3);
    log_free(log);
}

struct crowd {
    struct log *log;
    pthread_mutex_t appending; /* stands for the volume's lock */
    atomic_bool done;
};

static void *append_and_sync(void *arg)
{
    struct crowd *crowd = arg;
    for (unsigned i = 0; i < 100; i++) {
        pthread_mutex_lock(&crowd->appending);
        append(crowd->log, 100);
        uint64_t index = log_last(crowd->log);
        pthread_mutex_unlock(&crowd->appending);
        cr_assert_eq(log_sync(crowd->log, index), 0);
        cr_assert_geq(log_durable(crowd->log), index);
    }
    return NULL;
}

static void *read_along(void *arg)
{
    struct crowd *crowd = arg;
    uint8_t buffer[1000];
    while (!atomic_load(&crowd->done)) {
        size_t used;
        uint64_t last = log_last(crowd->log);
        if (last > 0)
            cr_assert_eq(log_read(crowd->log, last, buffer, sizeof buffer, &used), 0);
    }
    return NULL;
}

/* Many callers share one fdatasync, while others read. */
Test(log, group_commit)
{
    struct crowd crowd = {.log = open_log(), .appending = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[8], reader;
    atomic_store(&n_syncs, 0);
    cr_assert_eq(pthread_create(&reader, NULL, read_along, &crowd), 0);
    for (unsigned i = 0; i < 8; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, append_and_sync, &crowd), 0);
    for (unsigned i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&crowd.done, true);
    pthread_join(reader, NULL);
    cr_assert_eq(log_durable(crowd.log), 800);
    cr_assert_leq(atomic_load(&n_syncs), 800);
    log_free(crowd.log);
    crowd.log = open_log();
    cr_assert_eq(log_last(crowd.log), 800);
    log_free(crowd.log);
}
