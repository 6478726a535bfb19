/* A volume's limit: exact however it is written, and room again when files go. With the content in an image the kernel
 * holds it; in a plain directory the daemon does. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "fs/store/image.h"
#include "fs/store/loop.h"
#include "tests/unit/fs/mount_fixture.h"

#define HOST (&hosts[0])
#define LIMIT (32ULL * MIB)

static void begin_on_disk(bool image)
{
    one_host(LIMIT, image);
    if (image && !store_image(volume_store(HOST->volume)))
        cr_skip("this host cannot mount images");
}

/* The directory lies in memory: a disk that is in pieces takes blocks of its own for a file, when it likes, and nobody can
 * be exact there. */
static void begin(bool image)
{
    backing_type = image ? NULL : "tmpfs";
    begin_on_disk(image);
}

static uint64_t free_bytes(void)
{
    struct statvfs st;
    cr_assert_eq(statvfs(HOST->mount, &st), 0);
    cr_assert_eq(st.f_blocks * st.f_frsize, LIMIT);
    return st.f_bavail * st.f_frsize;
}

static uint64_t occupied(const char *name)
{
    struct stat st;
    cr_assert_eq(stat(path_on(HOST, name), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static int open_new(const char *name, int flags)
{
    int fd = open(path_on(HOST, name), O_CREAT | O_TRUNC | O_WRONLY | flags, 0644);
    cr_assert_geq(fd, 0);
    return fd;
}

/* Writes until it fails, which must be for want of room. */
static size_t fill(int fd, size_t size)
{
    size_t written = 0;
    ssize_t n;
    AUTO_FREE char *data = aligned_alloc(4096, MIB);
    memset(data, 'q', MIB);
    while ((n = write(fd, data, size)) > 0)
        written += (size_t)n;
    cr_assert(n < 0 && errno == ENOSPC, "%zd after %zu bytes: %s", n, written, strerror(errno));
    return written;
}

static size_t fill_file(const char *name, int flags, size_t size)
{
    int fd = open_new(name, flags);
    size_t written = fill(fd, size);
    cr_assert_eq(close(fd), 0);
    return written;
}

static void remove_file(const char *name)
{
    cr_assert_eq(unlink(path_on(HOST, name)), 0);
}

/* The kernel tells of a close after close(2) has returned. */
static void wait_a_moment(void)
{
    (void)poll(NULL, 0, 5);
}

TestSuite(quota, .fini = fixture_end, .timeout = 120);

ParameterizedTestParameters(quota, written_to_the_limit)
{
    static const bool kinds[] = {true, false};
    return cr_make_param_array(bool, kinds, 2);
}

/* Exactly the limit, whatever the size of the writes; what was written stays; a removal makes room at once. */
ParameterizedTest(const bool *image, quota, written_to_the_limit)
{
    begin(*image);
    cr_assert_eq(free_bytes(), LIMIT);
    cr_assert_eq(fill_file("f", 0, 999983), LIMIT);
    cr_assert_eq(free_bytes(), 0);
    AUTO_FREE char *again = malloc(LIMIT);
    cr_assert_eq(get_file(HOST, "f", again, LIMIT), LIMIT);
    for (size_t i = 0; i < LIMIT; i++)
        cr_assert_eq(again[i], 'q');
    remove_file("f");
    cr_assert_eq(free_bytes(), LIMIT);
    cr_assert_eq(fill_file("g", O_DIRECT, MIB), LIMIT);
    cr_assert_eq(truncate(path_on(HOST, "g"), (off_t)MIB), 0);
    cr_assert_eq(free_bytes(), LIMIT - MIB);
    cr_assert_eq(fill_file("h", O_APPEND, 4096), LIMIT - MIB);
}

ParameterizedTestParameters(quota, direct_write_that_does_not_fit)
{
    static const bool kinds[] = {true, false};
    return cr_make_param_array(bool, kinds, 2);
}

/* The daemon writes what there is room for; ext4, to whom writes are passed through, refuses such a direct write whole. */
ParameterizedTest(const bool *image, quota, direct_write_that_does_not_fit)
{
    begin(*image);
    put_file(HOST, "f", "x", 1);
    cr_assert_eq(fill_file("g", O_DIRECT, MIB), LIMIT - (*image ? MIB : 4096));
    (void)fill_file("h", O_DIRECT, 4096);
    cr_assert_eq(occupied("g") + occupied("h"), LIMIT - 4096);
}

ParameterizedTestParameters(quota, counted_by_occupation)
{
    static const bool kinds[] = {true, false};
    return cr_make_param_array(bool, kinds, 2);
}

/* Holes are free, also beyond the limit; what is reserved is not; a hole punched makes room. */
ParameterizedTest(const bool *image, quota, counted_by_occupation)
{
    begin_on_disk(*image);
    int fd = open_new("sparse", 0);
    cr_assert_eq(ftruncate(fd, (off_t)(100 * LIMIT)), 0);
    cr_assert_eq(pwrite(fd, "x", 1, (off_t)(50 * LIMIT)), 1);
    cr_assert_eq(free_bytes(), LIMIT - 4096);
    cr_assert_eq(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(LIMIT - 4096)), 0);
    cr_assert_eq(free_bytes(), 0);
    cr_assert_eq(pwrite(fd, "y", 1, (off_t)MIB), 1, "reserved is there to be written");
    cr_assert_eq(pwrite(fd, "z", 1, (off_t)(51 * LIMIT)), -1);
    cr_assert_eq(errno, ENOSPC);
    cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)MIB), 0);
    uint64_t lists = occupied("sparse") - (LIMIT - MIB); /* of the file's pieces */
    cr_assert_leq(lists, 8192);
    cr_assert_eq(free_bytes(), MIB - lists);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(free_bytes(), MIB - lists);
    cr_assert_eq(fill_file("rest", 0, 4096), MIB - lists);
}

ParameterizedTestParameters(quota, unlinked_counts_until_closed)
{
    static const bool kinds[] = {true, false};
    return cr_make_param_array(bool, kinds, 2);
}

ParameterizedTest(const bool *image, quota, unlinked_counts_until_closed)
{
    begin(*image);
    int fd = open_new("f", 0);
    cr_assert_eq(fill(fd, MIB), LIMIT);
    remove_file("f");
    cr_assert_eq(free_bytes(), 0);
    cr_assert_eq(fill_file("g", 0, 4096), 0);
    cr_assert_eq(close(fd), 0);
    while (fill_file("h", 0, MIB) < LIMIT)
        wait_a_moment();
}

struct filler {
    pthread_t thread;
    int fd;
    size_t written;
};

static void *write_much(void *arg)
{
    struct filler *writer = arg;
    char data[65536];
    ssize_t n;
    memset(data, 'w', sizeof data);
    while ((n = write(writer->fd, data, sizeof data)) > 0)
        writer->written += (size_t)n;
    return NULL;
}

ParameterizedTestParameters(quota, many_writers)
{
    static const bool kinds[] = {true, false};
    return cr_make_param_array(bool, kinds, 2);
}

/* Together they get what there is and not a block more. */
ParameterizedTest(const bool *image, quota, many_writers)
{
    enum {
        N = 8
    };
    struct filler writers[N];
    char name[] = "w0";
    uint64_t all = 0, used = 0;
    begin(*image);
    for (int i = 0; i < N; i++, name[1]++)
        writers[i] = (struct filler){.fd = open_new(name, 0)};
    for (int i = 0; i < N; i++)
        cr_assert_eq(pthread_create(&writers[i].thread, NULL, write_much, &writers[i]), 0);
    for (int i = 0; i < N; i++)
        cr_assert_eq(pthread_join(writers[i].thread, NULL), 0);
    for (int i = 0; i < N; i++) {
        all += writers[i].written;
        cr_assert_eq(close(writers[i].fd), 0);
    }
    name[1] = '0';
    for (int i = 0; i < N; i++, name[1]++)
        used += occupied(name);
    cr_assert_leq(used, LIMIT);
    cr_assert_geq(all, LIMIT - N * 65536);
    cr_assert_leq(all, LIMIT);
    cr_assert_leq(free_bytes(), N * 65536);
}

/* A shared map at the limit: the error comes with msync or as a signal, never silently. */
Test(quota, map)
{
    begin(true);
    cr_assert_eq(fill_file("f", 0, MIB), LIMIT);
    cr_assert_eq(truncate(path_on(HOST, "f"), (off_t)(LIMIT - 4 * MIB)), 0);
    int fd = open(path_on(HOST, "m"), O_CREAT | O_RDWR, 0644);
    cr_assert_eq(ftruncate(fd, (off_t)(8 * MIB)), 0);
    char *map = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < 8 * MIB; i += 4096)
            map[i] = 1;
        _exit(msync(map, 8 * MIB, MS_SYNC) < 0 ? 1 : 0);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) == 1);
    (void)munmap(map, 8 * MIB);
    (void)close(fd);
    cr_assert_leq(occupied("m"), 4 * MIB);
}

static void configure(uint64_t limit_bytes, uint64_t limit_inodes, int error)
{
    struct request request = {
        .kind = REQUEST_CONFIGURE, .limit_bytes = limit_bytes, .limit_inodes = limit_inodes};
    struct outcome outcome;
    cr_assert_eq(volume_change(HOST->volume, &request, &outcome), error);
    session_balance(HOST->session);
}

ParameterizedTestParameters(quota, resized)
{
    static const bool kinds[] = {true, false};
    return cr_make_param_array(bool, kinds, 2);
}

/* While a file is open for writing: more can be written at once, or less. */
ParameterizedTest(const bool *image, quota, resized)
{
    begin(*image);
    int fd = open_new("f", 0);
    cr_assert_eq(fill(fd, MIB), LIMIT);
    configure(48 * MIB, 3, 0);
    cr_assert_eq(fill(fd, MIB), 16 * MIB);
    cr_assert_eq(fsync(fd), 0);
    configure(47 * MIB, 0, -EDQUOT);
    cr_assert_eq(ftruncate(fd, 0), 0);
    cr_assert_eq(fsync(fd), 0);
    configure(2 * MIB, 0, 0);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    cr_assert_eq(fill(fd, 4096), 2 * MIB);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(mkdir(path_on(HOST, "d"), 0755), 0);
    cr_assert_eq(mkdir(path_on(HOST, "e"), 0755), -1);
    cr_assert_eq(errno, ENOSPC);
    struct statvfs st;
    cr_assert_eq(statvfs(HOST->mount, &st), 0);
    cr_assert(st.f_files == 3 && st.f_ffree == 0);
}

/* The number in the file, -1: there is none. */
static long number_of(const char *path)
{
    long number = -1;
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%ld", &number) != 1)
        number = -1;
    if (file)
        (void)fclose(file);
    return number;
}

/* Writing back into the image is held back as on its disk, not as on the SSD that a loop device is taken for. */
Test(quota, throttled_as_the_disk)
{
    begin(true);
    struct image *image = store_image(volume_store(HOST->volume));
    char path[96], device[LOOP_NAME_MAX];
    struct stat st;
    cr_assert_eq(fstat(image_fd(image), &st), 0);
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/wbt_lat_usec", major(st.st_dev),
                   minor(st.st_dev));
    long of_disk = number_of(path);
    if (of_disk < 0 || access("/sys/block", W_OK) < 0)
        cr_skip("%s is not there, or /sys cannot be written", path);
    cr_assert_eq(loop_name(image_dirfd(image), device), 0);
    (void)snprintf(path, sizeof path, "/sys/block/%s/queue/wbt_lat_usec", device);
    cr_assert_eq(number_of(path), of_disk);
}

/* What nobody writes to is promised little, so that others can be promised what the disk has. */
Test(quota, promised_to_who_writes)
{
    begin(true);
    struct image *image = store_image(volume_store(HOST->volume));
    struct image_state state;
    configure(8ULL << 30, 0, 0);
    cr_assert_eq(image_look(image, &state), 0);
    cr_assert_leq(state.available, 64 * MIB);
    int fd = open_new("f", 0);
    cr_assert_eq(image_look(image, &state), 0);
    cr_assert_gt(state.available, 128 * MIB);
    cr_assert_eq(fallocate(fd, 0, 0, (off_t)(128 * MIB)), 0);
    cr_assert_eq(close(fd), 0);
    do {
        wait_a_moment();
        session_balance(HOST->session);
        cr_assert_eq(image_look(image, &state), 0);
    } while (state.available > 64 * MIB);
}
