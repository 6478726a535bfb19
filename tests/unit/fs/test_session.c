/* One mounted volume: what programs see through the kernel. */
#include <dirent.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "tests/unit/fs/mapper.h"
#include "tests/unit/fs/mount_fixture.h"

#define HOST (&hosts[0])

static void set_up(void)
{
    one_host(10ULL << 30, true);
}

TestSuite(session, .init = set_up, .fini = fixture_end, .timeout = 60);
TestSuite(session_daemon, .fini = fixture_end, .timeout = 60);

static struct inode inode_of(const char *name)
{
    struct inode inode;
    struct span span = {.data = (const uint8_t *)name, .size = strlen(name)};
    cr_assert_eq(tree_lookup(volume_tree(HOST->volume), ROOT_INO, span, &inode), 0);
    return inode;
}

static struct stat stat_of(const char *name)
{
    struct stat st;
    cr_assert_eq(stat(path_on(HOST, name), &st), 0, "%s: %s", name, strerror(errno));
    return st;
}

static int64_t ns(struct timespec t)
{
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* RELEASE comes after close(2) has returned. */
static void wait_closed(const char *name)
{
    int64_t deadline_ns = clock_mono_ns() + 5 * NS_PER_S;
    while (inode_of(name).writer.n != 0) {
        cr_assert(clock_mono_ns() < deadline_ns, "%s is still being written", name);
        sched_yield();
    }
}

static void remount(void)
{
    session_stop(HOST->session);
    volume_free(HOST->volume);
    host_open(HOST, false);
    cr_assert_eq(volume_resume(HOST->volume), 0);
    host_mount(HOST, true);
}

/* What was written is what is read, before and after a remount, and publishing follows close. */
Test(session, bytes_survive_a_remount)
{
    AUTO_FREE char *data = pattern(3 * MIB + 17, 1);
    AUTO_FREE char *again = malloc(4 * MIB);
    put_file(HOST, "f", data, 3 * MIB + 17);
    cr_assert_eq(inode_of("f").size, 3 * MIB + 17, "close publishes");
    cr_assert_eq(inode_of("f").keeper.n, HOST->self.n);
    wait_closed("f");
    cr_assert_eq(get_file(HOST, "f", again, 4 * MIB), 3 * MIB + 17);
    cr_assert_eq(memcmp(data, again, 3 * MIB + 17), 0);
    struct stat before = stat_of("f");
    remount();
    cr_assert_eq(get_file(HOST, "f", again, 4 * MIB), 3 * MIB + 17);
    cr_assert_eq(memcmp(data, again, 3 * MIB + 17), 0);
    struct stat after = stat_of("f");
    cr_assert(ns(before.st_mtim) == ns(after.st_mtim) && before.st_mode == after.st_mode);
}

/* A file written by one large writer is passed through, and the daemon sees none of its bytes. */
Test(session, complete_files_are_passed_through)
{
    if (!session_has_passthrough(HOST->session))
        cr_skip("the kernel has no passthrough");
    AUTO_FREE char *data = pattern(MIB, 2);
    AUTO_FREE char *again = malloc(MIB);
    put_file(HOST, "f", data, MIB);
    cr_assert_eq(get_file(HOST, "f", again, MIB), MIB);
    const struct session_counters *c = session_counters(HOST->session);
    cr_assert(c->opens_passthrough >= 1);
    cr_assert_eq(c->write_bytes, 0);
    cr_assert_eq(c->read_bytes, 0);
}

/* An unchanged file is not published again, however often it is opened for writing, and its times stay. */
Test(session, unchanged_is_not_published)
{
    put_file(HOST, "f", "abc", 3);
    wait_closed("f");
    struct inode before = inode_of("f");
    int fd = open(path_on(HOST, "f"), O_RDWR);
    char byte;
    cr_assert_eq(read(fd, &byte, 1), 1);
    cr_assert_eq(close(fd), 0);
    wait_closed("f");
    struct inode after = inode_of("f");
    cr_assert_eq(before.version, after.version);
    cr_assert_eq(before.mtime_ns, after.mtime_ns);
}

/* Two writes of the same length within one tick of a coarse clock are two versions. */
Test(session, same_size_rewrites_are_published)
{
    uint64_t version = 0;
    for (int i = 0; i < 50; i++) {
        char text[8];
        snprintf(text, sizeof text, "%05d", i);
        int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
        cr_assert_eq(write(fd, text, 5), 5);
        cr_assert_eq(close(fd), 0);
        uint64_t now = inode_of("f").version;
        cr_assert(now > version, "write %d was not published", i);
        version = now;
    }
}

/* Where times are whole ticks a write soon after a publication may leave the same time; it is published all the same,
 * however late the close comes. */
Test(session_daemon, rewrites_within_a_tick)
{
    backing_type = "ramfs";
    one_host(10ULL << 30, true);
    for (int i = 0; i < 10; i++) {
        int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
        cr_assert_eq(pwrite(fd, "one", 3, 0), 3);
        cr_assert_eq(close(dup(fd)), 0);
        uint64_t version = inode_of("f").version;
        cr_assert_eq(pwrite(fd, "two", 3, 0), 3);
        (void)poll(NULL, 0, 60); /* time itself is the matter here */
        cr_assert_eq(close(fd), 0);
        cr_assert_gt(inode_of("f").version, version, "round %d", i);
    }
}

/* Small files are read from the kernel's cache and written past it: what is read is always what was written last. */
Test(session, small_files_are_never_stale)
{
    char text[16], again[16];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "%05d", i);
        int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
        cr_assert_eq(write(fd, text, 5), 5);
        cr_assert_eq(close(fd), 0);
        if (i % 3 == 0)
            wait_closed("f");
        cr_assert_eq(get_file(HOST, "f", again, sizeof again), 5);
        cr_assert_eq(memcmp(text, again, 5), 0, "%.5s instead of %s", again, text);
    }
    cr_assert_gt(session_counters(HOST->session)->opens_cached, 0);
}

/* fstat of a file being written shows what was written so far. */
Test(session, attributes_while_writing)
{
    int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
    struct stat st;
    for (int i = 1; i <= 10; i++) {
        cr_assert_eq(write(fd, "0123456789", 10), 10);
        cr_assert_eq(fstat(fd, &st), 0);
        cr_assert_eq(st.st_size, 10 * i);
        cr_assert_eq(stat_of("f").st_size, 10 * i);
    }
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(inode_of("f").size, 100);
}

/* Times that were set stay as set: on a closed file, on one being written, and across the close. */
Test(session, set_times_stay)
{
    const struct timespec times[2] = {{.tv_sec = 100, .tv_nsec = 1}, {.tv_sec = 200, .tv_nsec = 2}};
    int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
    cr_assert_eq(write(fd, "abc", 3), 3);
    cr_assert_eq(futimens(fd, times), 0);
    cr_assert_eq(ns(stat_of("f").st_mtim), 200 * NS_PER_S + 2);
    cr_assert_eq(close(fd), 0);
    wait_closed("f");
    cr_assert_eq(ns(stat_of("f").st_mtim), 200 * NS_PER_S + 2);
    cr_assert_eq(inode_of("f").size, 3, "and the bytes were published");
    fd = open(path_on(HOST, "f"), O_RDWR);
    cr_assert_eq(ns(stat_of("f").st_mtim), 200 * NS_PER_S + 2, "opening changes nothing");
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(ns(stat_of("f").st_atim), 100 * NS_PER_S + 1);
}

/* It was the write that changed the file: publishing it, at fsync and at close, moves no time that was seen. */
Test(session, publishing_moves_no_time)
{
    int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
    struct stat st;
    cr_assert_eq(write(fd, "abc", 3), 3);
    cr_assert_eq(fstat(fd, &st), 0);
    int64_t mtime_ns = ns(st.st_mtim), ctime_ns = ns(st.st_ctim);
    cr_assert_eq(fsync(fd), 0);
    cr_assert_eq(ns(stat_of("f").st_ctim), ctime_ns);
    cr_assert_eq(close(fd), 0);
    wait_closed("f");
    cr_assert_eq(ns(stat_of("f").st_mtim), mtime_ns);
    cr_assert_eq(ns(stat_of("f").st_ctim), ctime_ns);
    cr_assert_eq(mtime_ns, ctime_ns);
}

/* What is unlinked while open works until its last close, and is gone then, from tree and store. */
Test(session, unlinked_while_open)
{
    char buffer[8];
    struct stat st;
    int fd = open(path_on(HOST, "f"), O_CREAT | O_RDWR, 0644);
    cr_assert_eq(write(fd, "abc", 3), 3);
    struct inode inode = inode_of("f");
    cr_assert_eq(unlink(path_on(HOST, "f")), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_nlink, 0);
    cr_assert_eq(st.st_size, 3);
    cr_assert_eq(ftruncate(fd, 2), 0);
    cr_assert_eq(fchmod(fd, 0600), 0);
    cr_assert_eq(fsync(fd), 0);
    cr_assert_eq(pread(fd, buffer, 8, 0), 2);
    cr_assert_eq(close(fd), 0);
    int64_t deadline_ns = clock_mono_ns() + 5 * NS_PER_S;
    while (tree_get(volume_tree(HOST->volume), inode.ino, &inode) != -ENOENT) {
        cr_assert(clock_mono_ns() < deadline_ns, "the inode stays");
        sched_yield();
    }
}

/* Replaced by a rename while open: the old descriptor keeps the old file. */
Test(session, replaced_while_open)
{
    char buffer[8] = "";
    put_file(HOST, "old", "old", 3);
    put_file(HOST, "new", "newer", 5);
    int fd = open(path_on(HOST, "old"), O_RDONLY);
    cr_assert_eq(rename(path_on(HOST, "new"), path_on(HOST, "old")), 0);
    cr_assert_eq(pread(fd, buffer, 8, 0), 3);
    cr_assert_eq(memcmp(buffer, "old", 3), 0);
    cr_assert_eq(get_file(HOST, "old", buffer, 8), 5);
    cr_assert_eq(close(fd), 0);
}

/* The flags of renameat2. */
Test(session, rename_flags)
{
    char buffer[8];
    put_file(HOST, "a", "a", 1);
    put_file(HOST, "b", "bb", 2);
    cr_assert_eq(
        renameat2(AT_FDCWD, path_on(HOST, "a"), AT_FDCWD, path_on(HOST, "b"), RENAME_NOREPLACE),
        -1);
    cr_assert_eq(errno, EEXIST);
    cr_assert_eq(
        renameat2(AT_FDCWD, path_on(HOST, "a"), AT_FDCWD, path_on(HOST, "b"), RENAME_EXCHANGE), 0);
    cr_assert_eq(get_file(HOST, "a", buffer, 8), 2);
    cr_assert_eq(get_file(HOST, "b", buffer, 8), 1);
}

/* A directory of thousands of names is listed once each, also from a remembered place, also while it changes. */
Test(session, large_directories)
{
    char name[32];
    bool seen[3000] = {false};
    int n = 0;
    cr_assert_eq(mkdir(path_on(HOST, "d"), 0755), 0);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "d/%d", i);
        cr_assert_eq(mknod(path_on(HOST, name), S_IFREG | 0644, 0), 0);
    }
    DIR *dir = opendir(path_on(HOST, "d"));
    struct dirent *entry;
    long place = 0;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        int i = (int)strtol(entry->d_name, NULL, 10);
        cr_assert_not(seen[i], "%d comes twice", i);
        seen[i] = true;
        if (++n == 1000)
            place = telldir(dir);
        if (n % 2 == 0) { /* what was listed goes: the stream goes on */
            snprintf(name, sizeof name, "d/%d", i);
            cr_assert_eq(unlink(path_on(HOST, name)), 0);
        }
    }
    cr_assert_eq(n, 3000);
    /* From the place on the stream may still name what has gone, but nothing twice, and all that is left. */
    seekdir(dir, place);
    for (n = 0; (entry = readdir(dir)); n++)
        seen[strtol(entry->d_name, NULL, 10)] = false;
    cr_assert_leq(n, 2000);
    for (int i = 1; i < 3000; i += 2) {
        snprintf(name, sizeof name, "d/%d", i);
        cr_assert(!seen[i] || i < 1000, "%d is missing", i);
    }
    rewinddir(dir);
    for (n = 0; (entry = readdir(dir));)
        n++;
    cr_assert_eq(n, 2 + 1500, "half of them are left: %d", n);
    closedir(dir);
}

/* Holes, reserved space, zeroed ranges; what the backing file knows of them is answered. */
Test(session, allocation)
{
    AUTO_FREE char *data = pattern(MIB, 3);
    AUTO_FREE char *again = malloc(2 * MIB);
    put_file(HOST, "f", data, MIB);
    int fd = open(path_on(HOST, "f"), O_WRONLY); /* where a map may write, all counts as data */
    cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
    memset(data + 4096, 0, 8192);
    cr_assert_eq(fallocate(fd, FALLOC_FL_ZERO_RANGE, MIB - 100, 200), 0);
    memset(data + MIB - 100, 0, 100);
    cr_assert_eq(fallocate(fd, FALLOC_FL_KEEP_SIZE, MIB, MIB), 0);
    struct stat st;
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, MIB + 100);
    cr_assert_eq(lseek(fd, 0, SEEK_HOLE), 4096);
    cr_assert_eq(lseek(fd, 4096, SEEK_DATA), 12288);
    cr_assert_eq(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -1);
    cr_assert_eq(errno, EOPNOTSUPP);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(get_file(HOST, "f", again, 2 * MIB), MIB + 100);
    cr_assert_eq(memcmp(data, again, MIB), 0);
}

/* copy_file_range between two files and within one. */
Test(session, copying_ranges)
{
    AUTO_FREE char *data = pattern(MIB, 4);
    AUTO_FREE char *again = malloc(2 * MIB);
    put_file(HOST, "a", data, MIB);
    int from = open(path_on(HOST, "a"), O_RDONLY),
        to = open(path_on(HOST, "b"), O_CREAT | O_RDWR, 0644);
    off_t in = 0, out = 100;
    cr_assert_eq(copy_file_range(from, &in, to, &out, 2 * MIB, 0), MIB);
    cr_assert_eq(close(from) + close(to), 0);
    cr_assert_eq(get_file(HOST, "b", again, 2 * MIB), MIB + 100);
    cr_assert_eq(memcmp(data, again + 100, MIB), 0);
    cr_assert_eq(inode_of("b").size, MIB + 100);
}

/* Shared writable maps reach the file, with passthrough and while it is also read by read(2). */
Test(session, shared_maps)
{
    char buffer[8];
    int fd = open(path_on(HOST, "f"), O_CREAT | O_RDWR, 0644);
    cr_assert_eq(ftruncate(fd, MIB), 0);
    struct mapper mapper = mapper_start(path_on(HOST, "f"), MIB, true);
    mapper_do(&mapper, MAPPER_STORE, 5000, "mapped", 6);
    mapper_do(&mapper, MAPPER_SYNC, 0, NULL, 0);
    cr_assert_eq(pread(fd, buffer, 6, 5000), 6);
    cr_assert_eq(memcmp(buffer, "mapped", 6), 0);
    mapper_do(&mapper, MAPPER_STORE, 500000, "mapped", 6);
    cr_assert_leq(lseek(fd, 400000, SEEK_DATA), 500000, "what is not written back is no hole");
    mapper_stop(&mapper);
    cr_assert_eq(close(fd), 0);
}

/* A regular file may be made without being opened. */
Test(session, made_without_open)
{
    char buffer[8];
    cr_assert_eq(mknod(path_on(HOST, "f"), S_IFREG | 0644, 0), 0);
    cr_assert_eq(get_file(HOST, "f", buffer, sizeof buffer), 0);
    put_file(HOST, "f", "abc", 3);
    cr_assert_eq(get_file(HOST, "f", buffer, sizeof buffer), 3);
}

/* A map outlives the descriptor it was made with: what is written to it after the last close is published too. */
Test(session, maps_without_a_descriptor)
{
    char buffer[8];
    int fd = open(path_on(HOST, "f"), O_CREAT | O_RDWR, 0644);
    cr_assert_eq(ftruncate(fd, MIB), 0);
    struct mapper mapper = mapper_start(path_on(HOST, "f"), MIB, true);
    mapper_do(&mapper, MAPPER_STORE, 0, "before", 6);
    cr_assert_eq(close(fd), 0);
    mapper_do(&mapper, MAPPER_CLOSE, 0, NULL, 0);
    uint64_t version = inode_of("f").version;
    put_file(HOST, "later", "x", 1); /* whose close is heard of after that of f */
    wait_closed("later");
    cr_assert(host_equal(inode_of("f").writer, HOST->self), "still being written");
    mapper_do(&mapper, MAPPER_STORE, 5000, "mapped", 6);
    mapper_stop(&mapper);
    wait_closed("f");
    cr_assert_gt(inode_of("f").version, version);
    fd = open(path_on(HOST, "f"), O_RDONLY);
    cr_assert_eq(pread(fd, buffer, 6, 5000), 6);
    cr_assert_eq(memcmp(buffer, "mapped", 6), 0);
    cr_assert_eq(close(fd), 0);
}

/* Extended attributes, their sizes and their errors. */
Test(session, extended_attributes)
{
    char buffer[64];
    put_file(HOST, "f", "", 0);
    const char *f = path_on(HOST, "f");
    cr_assert_eq(setxattr(f, "user.a", "value", 5, XATTR_CREATE), 0);
    cr_assert_eq(setxattr(f, "user.a", "value", 5, XATTR_CREATE), -1);
    cr_assert_eq(errno, EEXIST);
    cr_assert_eq(getxattr(f, "user.a", NULL, 0), 5);
    cr_assert_eq(getxattr(f, "user.a", buffer, 2), -1);
    cr_assert_eq(errno, ERANGE);
    cr_assert_eq(getxattr(f, "user.a", buffer, sizeof buffer), 5);
    cr_assert_eq(listxattr(f, buffer, sizeof buffer), 7);
    cr_assert_str_eq(buffer, "user.a");
    cr_assert_eq(removexattr(f, "user.a"), 0);
    cr_assert_eq(getxattr(f, "user.a", buffer, sizeof buffer), -1);
    cr_assert_eq(errno, ENODATA);
}

static void as_nobody(void (*act)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(1);
        act();
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
}

static void write_byte(void)
{
    int fd = open(path_on(HOST, "f"), O_WRONLY);
    if (fd < 0 || write(fd, "x", 1) != 1)
        _exit(1);
}

static void cut_short(void)
{
    if (truncate(path_on(HOST, "f"), 0) != 0)
        _exit(1);
}

static void allocate_more(void)
{
    int fd = open(path_on(HOST, "f"), O_WRONLY);
    if (fd < 0 || fallocate(fd, 0, 0, 10) != 0)
        _exit(1);
}

static void copy_over(void)
{
    int from = open(path_on(HOST, "from"), O_RDONLY), to = open(path_on(HOST, "f"), O_WRONLY);
    if (from < 0 || to < 0 || copy_file_range(from, NULL, to, NULL, 3, 0) != 3)
        _exit(1);
}

static void open_truncated(void)
{
    if (open(path_on(HOST, "f"), O_WRONLY | O_TRUNC) < 0)
        _exit(1);
}

/* Writing, truncating and changing the owner take set-id bits away; passing writes through must not keep them. */
Test(session, set_id_bits_are_killed)
{
    void (*const acts[])(void) = {write_byte, cut_short, open_truncated, allocate_more, copy_over};
    put_file(HOST, "from", "abc", 3);
    put_file(HOST, "f", "abc", 3);
    cr_assert_eq(chmod(fixture_dir, 0755), 0);
    for (size_t i = 0; i < N_ELEMENTS(acts); i++) {
        cr_assert_eq(chmod(path_on(HOST, "f"), 06777), 0);
        as_nobody(acts[i]);
        cr_assert_eq(stat_of("f").st_mode & 07777, 0777, "act %zu leaves %o", i,
                     stat_of("f").st_mode);
    }
    cr_assert_eq(chmod(path_on(HOST, "f"), 06755), 0);
    cr_assert_eq(chown(path_on(HOST, "f"), 1, 1), 0);
    cr_assert_eq(stat_of("f").st_mode & 07777, 0755);
    cr_assert_eq(chmod(path_on(HOST, "f"), 06755), 0);
    write_byte();
    cr_assert_eq(stat_of("f").st_mode & 07777, 06755, "root may");
}

/* Without passthrough everything works through the daemon, coherent with maps and with what is read elsewhere. */
Test(session_daemon, everything_through_the_daemon)
{
    one_host(10ULL << 30, false);
    AUTO_FREE char *data = pattern(2 * MIB, 6);
    AUTO_FREE char *again = malloc(2 * MIB);
    put_file(HOST, "f", data, 2 * MIB);
    cr_assert_eq(get_file(HOST, "f", again, 2 * MIB), 2 * MIB);
    cr_assert_eq(memcmp(data, again, 2 * MIB), 0);
    struct mapper mapper = mapper_start(path_on(HOST, "f"), 2 * MIB, true);
    mapper_do(&mapper, MAPPER_STORE, MIB, "mapped", 6);
    mapper_stop(&mapper);
    remount();
    cr_assert_eq(get_file(HOST, "f", again, 2 * MIB), 2 * MIB);
    memcpy(data + MIB, "mapped", 6);
    cr_assert_eq(memcmp(data, again, 2 * MIB), 0);
    cr_assert_eq(session_counters(HOST->session)->errors, 0);
}

/* A mount whose files are still open is stopped in bounded time, and what was written is published. */
Test(session, stop_while_open)
{
    int fd = open(path_on(HOST, "f"), O_CREAT | O_WRONLY, 0644);
    cr_assert_eq(write(fd, "abc", 3), 3);
    int64_t start_ns = clock_mono_ns();
    session_stop(HOST->session);
    cr_assert(clock_mono_ns() - start_ns < 5 * NS_PER_S);
    HOST->session = NULL;
    struct inode inode = inode_of("f");
    cr_assert_eq(inode.size, 3);
    cr_assert_eq(inode.writer.n, 0);
    (void)close(fd);
}
