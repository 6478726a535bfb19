/* bench/loops.c — one filesystem call many times in a row, in one directory: what bench/local measures with.
 *
 *     loops create|open|stat|rename|unlink|mkdir|rmdir|mknod DIR N [TIMES]
 *                                                                      names f0 … fN-1 (directories: d0 …), all of them so
 *                                                                      many times
 *     loops readdir DIR N                                              lists DIR so many times
 *     loops pread|rewrite FILE N [THREADS]                             4 KiB at random places, in all threads together
 *     loops read|map FILE N                                            the whole file so many times
 *     loops write FILE N                                               so many MiB anew, then fsync
 *
 * Result: nanoseconds that all of them took, on one line. Setting up and closing is not counted, but for create and
 * open, where it is what is measured.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

#define SMALL_BYTES 4096u
#define LARGE_BYTES (1u << 20)
#define THREADS_MAX 16 /* and TIMES */
#define NAME_MAX_BYTES 16

static char buffer[LARGE_BYTES];

__attribute__((noreturn)) static void fail(const char *what)
{
    fprintf(stderr, "loops: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void need(bool ok, const char *what)
{
    if (!ok)
        fail(what);
}

/* ---- one call on one name ---- */

static void op_create(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    need(fd >= 0 && write(fd, buffer, SMALL_BYTES) == SMALL_BYTES && close(fd) == 0, "create");
}

static void op_open(const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    need(fd >= 0 && read(fd, buffer, SMALL_BYTES) == SMALL_BYTES && close(fd) == 0, "open");
}

static void op_stat(const char *name)
{
    struct stat st;
    need(lstat(name, &st) == 0, "stat");
}

static void op_rename(const char *name)
{
    char renamed[NAME_MAX_BYTES + 1];
    (void)snprintf(renamed, sizeof renamed, "r%s", name);
    need(rename(name, renamed) == 0 && rename(renamed, name) == 0, "rename");
}

static void op_unlink(const char *name)
{
    need(unlink(name) == 0, "unlink");
}

static void op_mknod(const char *name)
{
    need(mknod(name, S_IFREG | 0644, 0) == 0, "mknod");
}

static void op_mkdir(const char *name)
{
    need(mkdir(name, 0755) == 0, "mkdir");
}

static void op_rmdir(const char *name)
{
    need(rmdir(name) == 0, "rmdir");
}

static void each_name(void (*op)(const char *), char letter, unsigned n)
{
    char name[NAME_MAX_BYTES];
    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "%c%u", letter, i);
        op(name);
    }
}

static void list_directory(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        DIR *dir = opendir(".");
        need(dir != NULL, "opendir");
        errno = 0;
        while (readdir(dir))
            continue;
        need(errno == 0 && closedir(dir) == 0, "readdir");
    }
}

static bool run_in_directory(const char *what, const char *path, unsigned n, unsigned times)
{
    static const struct {
        const char *what;
        void (*op)(const char *);
        char letter;
    } ops[] = {{"create", op_create, 'f'}, {"open", op_open, 'f'},     {"stat", op_stat, 'f'},
               {"rename", op_rename, 'f'}, {"unlink", op_unlink, 'f'}, {"mknod", op_mknod, 'f'},
               {"mkdir", op_mkdir, 'd'},   {"rmdir", op_rmdir, 'd'}};
    for (size_t i = 0; i < N_ELEMENTS(ops); i++) {
        if (strcmp(ops[i].what, what) != 0)
            continue;
        need(chdir(path) == 0, path);
        int64_t start = clock_mono_ns();
        for (unsigned j = 0; j < times; j++)
            each_name(ops[i].op, ops[i].letter, n);
        printf("%" PRId64 "\n", clock_mono_ns() - start);
        return true;
    }
    return false;
}

/* ---- one file ---- */

struct share {
    pthread_t thread;
    int fd;
    uint64_t size;
    unsigned n, seed;
    bool is_write;
};

/* xorshift: places that neither the disk nor read-ahead can guess. */
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void *run_share(void *arg)
{
    const struct share *share = arg;
    char small[SMALL_BYTES] = "";
    uint32_t state = share->seed;
    for (unsigned i = 0; i < share->n; i++) {
        off_t at = (off_t)(next_random(&state) % (share->size / SMALL_BYTES) * SMALL_BYTES);
        ssize_t done = share->is_write ? pwrite(share->fd, small, SMALL_BYTES, at)
                                       : pread(share->fd, small, SMALL_BYTES, at);
        need(done == SMALL_BYTES, "pread, pwrite");
    }
    return NULL;
}

static void run_shares(int fd, uint64_t size, unsigned n, unsigned n_threads, bool is_write)
{
    struct share shares[THREADS_MAX];
    for (unsigned i = 0; i < n_threads; i++) {
        shares[i] = (struct share){
            .fd = fd, .size = size, .n = n / n_threads, .seed = i + 1, .is_write = is_write};
        need(pthread_create(&shares[i].thread, NULL, run_share, &shares[i]) == 0, "thread");
    }
    for (unsigned i = 0; i < n_threads; i++)
        need(pthread_join(shares[i].thread, NULL) == 0, "thread");
}

static void read_whole(int fd, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ssize_t done;
        off_t at = 0;
        while ((done = pread(fd, buffer, sizeof buffer, at)) > 0)
            at += done;
        need(done == 0, "read");
    }
}

/* A map that is made and read through: one word of each page. */
static void map_whole(int fd, uint64_t size, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        need(map != MAP_FAILED, "mmap");
        for (uint64_t at = 0; at < size; at += SMALL_BYTES)
            sum += (uint64_t)map[at];
        need(munmap((void *)(uintptr_t)map, size) == 0, "munmap");
    }
    __asm__ volatile("" : : "r"(sum)); /* or the loads might be left out */
}

static void write_whole(int fd, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        need(write(fd, buffer, sizeof buffer) == (ssize_t)sizeof buffer, "write");
    need(fsync(fd) == 0, "fsync");
}

static bool run_on_file(const char *what, const char *path, unsigned n, unsigned n_threads)
{
    bool is_write = strcmp(what, "write") == 0, is_rewrite = strcmp(what, "rewrite") == 0;
    /* Open for reading and writing, a file is served by the daemon: a shared map could write it. */
    int flags = is_write ? O_WRONLY | O_CREAT | O_TRUNC : is_rewrite ? O_RDWR : O_RDONLY;
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC, 0644);
    need(fd >= 0 && fstat(fd, &st) == 0, path);
    uint64_t size = (uint64_t)st.st_size;
    int64_t start = clock_mono_ns();
    if (is_write)
        write_whole(fd, n);
    else if (is_rewrite || strcmp(what, "pread") == 0)
        run_shares(fd, size, n, n_threads, is_rewrite);
    else if (strcmp(what, "read") == 0)
        read_whole(fd, n);
    else if (strcmp(what, "map") == 0)
        map_whole(fd, size, n);
    else
        return false;
    printf("%" PRId64 "\n", clock_mono_ns() - start);
    need(close(fd) == 0, "close");
    return true;
}

int main(int argc, char **argv)
{
    unsigned n = argc >= 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    unsigned more = argc >= 5 ? (unsigned)strtoul(argv[4], NULL, 10) : 1;
    if (n == 0 || more == 0 || more > THREADS_MAX) {
        fprintf(stderr, "usage: loops WHAT PATH N [TIMES|THREADS]\n");
        return 2;
    }
    if (strcmp(argv[1], "readdir") == 0) {
        need(chdir(argv[2]) == 0, argv[2]);
        int64_t start = clock_mono_ns();
        list_directory(n);
        printf("%" PRId64 "\n", clock_mono_ns() - start);
        return 0;
    }
    if (run_in_directory(argv[1], argv[2], n, more) || run_on_file(argv[1], argv[2], n, more))
        return 0;
    fprintf(stderr, "loops: '%s' is none of the loops\n", argv[1]);
    return 2;
}
