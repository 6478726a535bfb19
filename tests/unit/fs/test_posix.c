/* What ext4 does and a mounted volume does too: ACLs, files without a name, attributes, locks. */
#include <dirent.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "fs/acl.h"
#include "tests/unit/fs/mount_fixture.h"

#define HOST (&hosts[0])
#define ALICE 4001
#define STAFF 4002

static void set_up(void)
{
    one_host(10ULL << 30, true);
    cr_assert_eq(chmod(fixture_dir, 0755), 0); /* others come by, too */
    umask(022);
}

TestSuite(posix, .init = set_up, .fini = fixture_end, .timeout = 60);

static struct stat stat_of(const char *name)
{
    struct stat st;
    cr_assert_eq(lstat(path_on(HOST, name), &st), 0, "%s: %s", name, strerror(errno));
    return st;
}

static mode_t mode_of(const char *name)
{
    return stat_of(name).st_mode & 07777;
}

static uint64_t n_inodes(void)
{
    struct tree_usage usage;
    tree_usage(volume_tree(HOST->volume), &usage);
    return usage.n_inodes;
}

/* RELEASE, and what it leads to, comes after close(2) has returned. */
static void wait_for_inodes(uint64_t n)
{
    int64_t deadline_ns = clock_mono_ns() + 5 * NS_PER_S;
    while (n_inodes() != n) {
        cr_assert(clock_mono_ns() < deadline_ns, "%lu inodes", n_inodes());
        sched_yield();
    }
}

static void make(const char *name, mode_t mode)
{
    int fd = open(path_on(HOST, name), O_CREAT | O_EXCL | O_WRONLY, mode);
    cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
    cr_assert_eq(close(fd), 0);
}

/* Runs f as somebody else, in a process of its own. */
static bool as_user(uid_t uid, gid_t gid, bool (*f)(const char *), const char *name)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
            _exit(2);
        _exit(f(name) ? 0 : 1);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

static bool can_read(const char *name)
{
    return open(path_on(HOST, name), O_RDONLY) >= 0;
}

static bool can_write(const char *name)
{
    return open(path_on(HOST, name), O_WRONLY) >= 0;
}

/* ---- ACLs ---- */

/* "u:rw,alice:r,g:r,m:rw,o:" without the letters: permissions of the six kinds of entries, -1: none. */
struct entries {
    int user, alice, group, staff, mask, other;
};

static void add(struct writer *w, unsigned tag, int permissions, uint32_t id)
{
    if (permissions < 0)
        return;
    put_u16(w, (uint16_t)tag);
    put_u16(w, (uint16_t)permissions);
    put_u32(w, id);
}

static size_t encode(const struct entries *e, uint8_t *buffer, size_t size)
{
    struct writer w = writer_over(buffer, size);
    put_u32(&w, 2);
    add(&w, 0x01, e->user, UINT32_MAX);
    add(&w, 0x02, e->alice, ALICE);
    add(&w, 0x04, e->group, UINT32_MAX);
    add(&w, 0x08, e->staff, STAFF);
    add(&w, 0x10, e->mask, UINT32_MAX);
    add(&w, 0x20, e->other, UINT32_MAX);
    return writer_used(&w);
}

static int set_acl(const char *name, const char *kind, struct entries entries)
{
    uint8_t value[64];
    size_t size = encode(&entries, value, sizeof value);
    return setxattr(path_on(HOST, name), kind, value, size, 0) < 0 ? -errno : 0;
}

static void expect_acl(const char *name, const char *kind, struct entries entries)
{
    uint8_t wanted[64], value[ACL_BYTES_MAX];
    ssize_t size = (ssize_t)encode(&entries, wanted, sizeof wanted);
    cr_assert_eq(getxattr(path_on(HOST, name), kind, value, sizeof value), size, "%s of %s", kind,
                 name);
    cr_assert_eq(memcmp(wanted, value, (size_t)size), 0, "%s of %s", kind, name);
}

static void expect_no_acl(const char *name, const char *kind)
{
    cr_assert_eq(getxattr(path_on(HOST, name), kind, NULL, 0), -1, "%s of %s", kind, name);
    cr_assert_eq(errno, ENODATA);
}

/* Mode and mask are one thing, whichever is set; an ACL that says no more than a mode is not kept. */
Test(posix, acl_and_mode_in_step)
{
    make("f", 0640);
    cr_assert_eq(set_acl("f", ACL_ACCESS, (struct entries){6, 6, 4, -1, 6, 0}), 0);
    cr_assert_eq(mode_of("f"), 0660);
    cr_assert_eq(chmod(path_on(HOST, "f"), 0704), 0);
    expect_acl("f", ACL_ACCESS, (struct entries){7, 6, 4, -1, 0, 4});
    cr_assert_eq(set_acl("f", ACL_ACCESS, (struct entries){6, -1, 4, -1, -1, 4}), 0);
    expect_no_acl("f", ACL_ACCESS);
    cr_assert_eq(mode_of("f"), 0644);
    cr_assert_eq(removexattr(path_on(HOST, "f"), ACL_ACCESS), 0, "as on ext4: nothing to remove");
}

/* The kernel asks the ACL, also after it has changed. */
Test(posix, acl_decides_who_may)
{
    make("f", 0600);
    cr_assert(!as_user(ALICE, STAFF, can_read, "f"));
    cr_assert_eq(set_acl("f", ACL_ACCESS, (struct entries){6, 4, 0, -1, 4, 0}), 0);
    cr_assert(as_user(ALICE, STAFF, can_read, "f"));
    cr_assert(!as_user(ALICE, STAFF, can_write, "f"));
    cr_assert_eq(set_acl("f", ACL_ACCESS, (struct entries){6, -1, 0, 6, 6, 0}), 0);
    cr_assert(as_user(ALICE, STAFF, can_write, "f"));
    cr_assert(!as_user(ALICE, ALICE, can_read, "f"));
    cr_assert_eq(chmod(path_on(HOST, "f"), 0600), 0);
    cr_assert(!as_user(ALICE, STAFF, can_read, "f"), "the mask is closed");
}

/* What is made in a directory with a default ACL inherits it instead of obeying the umask. */
Test(posix, default_acl_is_inherited)
{
    const struct entries inherited = {7, 7, 5, -1, 7, 0};
    umask(077);
    cr_assert_eq(mkdir(path_on(HOST, "d"), 0755), 0);
    cr_assert_eq(mode_of("d"), 0700);
    cr_assert_eq(set_acl("d", ACL_DEFAULT, inherited), 0);

    make("d/f", 0666);
    cr_assert_eq(mode_of("d/f"), 0660);
    expect_acl("d/f", ACL_ACCESS, (struct entries){6, 7, 5, -1, 6, 0});
    expect_no_acl("d/f", ACL_DEFAULT);
    cr_assert_eq(mknod(path_on(HOST, "d/pipe"), S_IFIFO | 0640, 0), 0);
    cr_assert_eq(mode_of("d/pipe"), 0640);
    cr_assert_eq(mkdir(path_on(HOST, "d/sub"), 0777), 0);
    cr_assert_eq(mode_of("d/sub"), 0770);
    expect_acl("d/sub", ACL_ACCESS, inherited);
    expect_acl("d/sub", ACL_DEFAULT, inherited);
    cr_assert_eq(symlink("f", path_on(HOST, "d/link")), 0);
    cr_assert_eq(mode_of("d/link"), 0777);

    cr_assert_eq(removexattr(path_on(HOST, "d"), ACL_DEFAULT), 0);
    make("d/g", 0666);
    cr_assert_eq(mode_of("d/g"), 0600);
    expect_no_acl("d/g", ACL_ACCESS);
}

/* A default ACL without names narrows the mode and leaves no ACL on files. */
Test(posix, minimal_default_acl)
{
    cr_assert_eq(mkdir(path_on(HOST, "d"), 0755), 0);
    cr_assert_eq(set_acl("d", ACL_DEFAULT, (struct entries){6, -1, 4, -1, -1, 4}), 0);
    make("d/f", 0777);
    cr_assert_eq(mode_of("d/f"), 0644);
    expect_no_acl("d/f", ACL_ACCESS);
}

Test(posix, acls_only_where_they_mean_something)
{
    make("f", 0644);
    cr_assert_eq(set_acl("f", ACL_DEFAULT, (struct entries){6, -1, 4, -1, -1, 4}), -EACCES);
    cr_assert_eq(set_acl("f", ACL_ACCESS, (struct entries){6, 4, 4, -1, -1, 4}), -EINVAL,
                 "no mask");
    cr_assert_eq(symlink("f", path_on(HOST, "l")), 0);
    cr_assert_eq(lsetxattr(path_on(HOST, "l"), ACL_ACCESS, "", 0, 0), -1);
}

static bool sets_acl(const char *name)
{
    return set_acl(name, ACL_ACCESS, (struct entries){7, -1, 7, 7, 7, 5}) == 0;
}

/* As with chmod: only who is in the group, or root, keeps the right to run as it. */
Test(posix, acl_of_a_stranger_to_the_group_clears_setgid)
{
    make("f", 0755);
    cr_assert_eq(chown(path_on(HOST, "f"), ALICE, STAFF), 0);
    cr_assert_eq(chmod(path_on(HOST, "f"), 02755), 0);
    cr_assert(as_user(ALICE, STAFF, sets_acl, "f"));
    cr_assert_eq(mode_of("f"), 02775);
    cr_assert(as_user(ALICE, ALICE, sets_acl, "f"));
    cr_assert_eq(mode_of("f"), 0775);
}

/* ---- files without a name ---- */

static int open_nameless(int flags)
{
    int fd = open(path_on(HOST, "."), O_TMPFILE | O_RDWR | flags, 0666);
    cr_assert(fd >= 0, "%s", strerror(errno));
    return fd;
}

static int name_it(int fd, const char *name)
{
    char from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, from, AT_FDCWD, path_on(HOST, name), AT_SYMLINK_FOLLOW) < 0 ? -errno
                                                                                        : 0;
}

/* Nobody sees it, and nothing is left of it after the close. */
Test(posix, nameless_file_ends_with_its_close)
{
    struct stat st;
    uint64_t before = n_inodes();
    int fd = open_nameless(0);
    cr_assert_eq(write(fd, "abc", 3), 3);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_nlink, 0);
    cr_assert_eq(st.st_size, 3);
    cr_assert_eq(st.st_mode, S_IFREG | 0644);
    cr_assert_eq(n_inodes(), before + 1);
    DIR *dir = opendir(path_on(HOST, "."));
    for (struct dirent *e; (e = readdir(dir));)
        cr_assert_eq(e->d_name[0], '.', "%s", e->d_name);
    closedir(dir);
    cr_assert_eq(close(fd), 0);
    wait_for_inodes(before);
}

Test(posix, nameless_file_gets_a_name)
{
    char text[8] = "";
    uint64_t before = n_inodes();
    int fd = open_nameless(0);
    cr_assert_eq(write(fd, "abc", 3), 3);
    cr_assert_eq(name_it(fd, "f"), 0);
    cr_assert_eq(name_it(fd, "g"), 0);
    cr_assert_eq(name_it(fd, "f"), -EEXIST);
    cr_assert_eq(stat_of("f").st_nlink, 2);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(get_file(HOST, "g", text, sizeof text), 3);
    cr_assert_str_eq(text, "abc");
    cr_assert_eq(unlink(path_on(HOST, "f")), 0);
    cr_assert_eq(unlink(path_on(HOST, "g")), 0);
    wait_for_inodes(before);
}

/* Named, unnamed again while open: from then on like any unlinked file. */
Test(posix, unlinked_is_not_nameless)
{
    uint64_t before = n_inodes();
    int fd = open_nameless(0), exclusive = open_nameless(O_EXCL);
    cr_assert_eq(name_it(fd, "f"), 0);
    cr_assert_eq(unlink(path_on(HOST, "f")), 0);
    cr_assert_eq(name_it(exclusive, "g"), -ENOENT);
    cr_assert_eq(n_inodes(), before + 2);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(close(exclusive), 0);
    wait_for_inodes(before);
}

/* ---- attributes ---- */

static void expect_time(const char *name, struct timespec wanted)
{
    const struct timespec times[2] = {wanted, wanted};
    cr_assert_eq(utimensat(AT_FDCWD, path_on(HOST, name), times, AT_SYMLINK_NOFOLLOW), 0);
    struct stat st = stat_of(name);
    cr_assert(st.st_mtim.tv_sec == wanted.tv_sec && st.st_mtim.tv_nsec == wanted.tv_nsec,
              "mtime of %s: %ld.%09ld", name, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    cr_assert(st.st_atim.tv_sec == wanted.tv_sec && st.st_atim.tv_nsec == wanted.tv_nsec,
              "atime of %s: %ld.%09ld", name, st.st_atim.tv_sec, st.st_atim.tv_nsec);
}

/* Before the epoch, beyond 32 bits, to the nanosecond; also while the file is being written. */
Test(posix, times_are_exact)
{
    static const struct timespec times[] = {
        {-1, 999999999}, {-86400 * 365, 1}, {1LL << 33, 123456789}, {4102444800, 0}, {0, 0}};
    make("f", 0644);
    cr_assert_eq(mkdir(path_on(HOST, "d"), 0755), 0);
    cr_assert_eq(symlink("f", path_on(HOST, "l")), 0);
    for (size_t i = 0; i < N_ELEMENTS(times); i++) {
        expect_time("f", times[i]);
        expect_time("d", times[i]);
        expect_time("l", times[i]);
    }
    int fd = open(path_on(HOST, "f"), O_RDWR);
    cr_assert_eq(write(fd, "x", 1), 1);
    for (size_t i = 0; i < N_ELEMENTS(times); i++)
        expect_time("f", times[i]);
    cr_assert_eq(close(fd), 0);
}

Test(posix, birth_time_stays)
{
    struct statx first, later;
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    make("f", 0644);
    const char *f = path_on(HOST, "f");
    cr_assert_eq(statx(AT_FDCWD, f, 0, STATX_ALL, &first), 0);
    cr_assert(first.stx_mask & STATX_BTIME);
    cr_assert(llabs(first.stx_btime.tv_sec - time(NULL)) < 30);
    cr_assert_eq(utimensat(AT_FDCWD, f, times, 0), 0);
    cr_assert_eq(statx(AT_FDCWD, f, 0, STATX_ALL, &later), 0);
    cr_assert_eq(later.stx_btime.tv_nsec, first.stx_btime.tv_nsec);
    cr_assert_eq(later.stx_mtime.tv_sec, 1);
    cr_assert_eq(later.stx_ino, stat_of("f").st_ino);
}

static bool lists_no_trusted(const char *name)
{
    char names[256];
    ssize_t n = listxattr(path_on(HOST, name), names, sizeof names);
    return n == sizeof "user.a" && strcmp(names, "user.a") == 0;
}

/* Names of four namespaces; values up to 64 KiB; what others must not know is not listed. */
Test(posix, extended_attributes)
{
    AUTO_FREE char *value = pattern(65536, 3);
    AUTO_FREE char *again = malloc(65536);
    char name[300];
    make("f", 0666);
    const char *f = path_on(HOST, "f");
    cr_assert_eq(setxattr(f, "user.a", value, 65536, XATTR_CREATE), 0);
    cr_assert_eq(getxattr(f, "user.a", again, 65536), 65536);
    cr_assert_eq(memcmp(value, again, 65536), 0);
    cr_assert_eq(setxattr(f, "user.a", "", 0, XATTR_CREATE), -1);
    cr_assert_eq(errno, EEXIST);
    cr_assert_eq(setxattr(f, "user.b", "", 0, XATTR_REPLACE), -1);
    cr_assert_eq(errno, ENODATA);
    cr_assert_eq(setxattr(f, "trusted.t", "x", 1, 0), 0);
    cr_assert_eq(setxattr(f, "nonsense", "x", 1, 0), -1);
    cr_assert_eq(errno, EOPNOTSUPP);
    cr_assert(as_user(ALICE, STAFF, lists_no_trusted, "f"));
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[255] = '\0';
    cr_assert_eq(setxattr(f, name, "x", 1, 0), 0, "%s", strerror(errno));
    cr_assert_eq(removexattr(f, name), 0);
    cr_assert_eq(removexattr(f, name), -1);
    cr_assert_eq(errno, ENODATA);
}

static bool appends(const char *name)
{
    int fd = open(path_on(HOST, name), O_WRONLY | O_APPEND);
    return fd >= 0 && write(fd, "x", 1) == 1;
}

/* Whoever writes takes the right to run as somebody else, and file capabilities, away. */
Test(posix, writing_takes_privileges_away)
{
    static const char capability[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    make("f", 0777);
    cr_assert_eq(chmod(path_on(HOST, "f"), 06777), 0);
    cr_assert_eq(setxattr(path_on(HOST, "f"), "security.capability", capability, 20, 0), 0);
    cr_assert(as_user(ALICE, STAFF, appends, "f"));
    cr_assert_eq(mode_of("f"), 0777);
    cr_assert_eq(getxattr(path_on(HOST, "f"), "security.capability", NULL, 0), -1);
    cr_assert_eq(chmod(path_on(HOST, "f"), 06777), 0);
    cr_assert_eq(chown(path_on(HOST, "f"), ALICE, STAFF), 0);
    cr_assert_eq(mode_of("f"), 0777);
}

/* 255 bytes in a name, and a path as long as the kernel takes. */
Test(posix, long_names_and_paths)
{
    char name[300], path[4096] = "";
    cr_assert_eq(chdir(HOST->mount), 0);
    memset(name, 'a', sizeof name);
    name[256] = '\0';
    cr_assert_eq(mkdir(name, 0755), -1);
    cr_assert_eq(errno, ENAMETOOLONG);
    name[255] = '\0';
    for (size_t at = 0; at < 15 * 256; at += 256) {
        memcpy(path + at, name, 256);
        cr_assert_eq(mkdir(path, 0755), 0, "%s", strerror(errno));
        path[at + 255] = '/';
    }
    memset(path + 15 * 256, 'b', 255);
    cr_assert_eq(strlen(path), 4095);
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    cr_assert(fd >= 0, "%s", strerror(errno));
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(access(path, F_OK), 0);
    cr_assert_eq(chdir("/"), 0);
}

/* ---- locks ---- */

enum lock_kind {
    LOCK_FLOCK,
    LOCK_PROCESS,
    LOCK_OPEN_FILE
};

static int lock(int fd, enum lock_kind kind, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    if (kind == LOCK_FLOCK)
        return flock(fd, (type == F_UNLCK ? LOCK_UN : LOCK_EX) | LOCK_NB);
    return fcntl(fd, kind == LOCK_PROCESS ? F_SETLK : F_OFD_SETLK, &l);
}

static int open_rw(const char *name)
{
    int fd = open(path_on(HOST, name), O_RDWR | O_CREAT, 0644);
    cr_assert(fd >= 0);
    return fd;
}

/* A process that takes the lock, says so, and waits to be killed. */
static pid_t hold_lock(enum lock_kind kind)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open_rw("f");
        byte = lock(fd, kind, F_WRLCK) == 0;
        (void)!write(ready[1], &byte, 1);
        pause();
    }
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    cr_assert_eq(byte, 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void lock_ends_with_its_process(enum lock_kind kind)
{
    int status, fd = open_rw("f");
    pid_t pid = hold_lock(kind);
    cr_assert_eq(lock(fd, kind, F_WRLCK), -1);
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(lock(fd, kind, F_WRLCK), 0, "kind %d: %s", kind, strerror(errno));
    cr_assert_eq(close(fd), 0);
}

Test(posix, locks_end_with_their_process)
{
    lock_ends_with_its_process(LOCK_FLOCK);
    lock_ends_with_its_process(LOCK_PROCESS);
    lock_ends_with_its_process(LOCK_OPEN_FILE);
}

static bool is_lockable(const char *name)
{
    int fd = open(path_on(HOST, name), O_RDWR);
    return lock(fd, LOCK_PROCESS, F_WRLCK) == 0;
}

/* A process's locks go with the first descriptor it closes; an open file's with the last. */
Test(posix, locks_and_close)
{
    umask(0);
    make("f", 0666);
    int a = open_rw("f"), b = open_rw("f"), status;
    cr_assert_eq(lock(a, LOCK_PROCESS, F_WRLCK), 0);
    cr_assert_eq(lock(b, LOCK_PROCESS, F_WRLCK), 0, "its own does not hinder a process");
    cr_assert(!as_user(ALICE, STAFF, is_lockable, "f"));
    cr_assert_eq(close(b), 0);
    cr_assert(as_user(ALICE, STAFF, is_lockable, "f"));

    b = open_rw("f");
    cr_assert_eq(lock(a, LOCK_OPEN_FILE, F_WRLCK), 0);
    cr_assert_eq(lock(b, LOCK_OPEN_FILE, F_WRLCK), -1);
    int copy = dup(a);
    cr_assert_eq(close(a), 0);
    cr_assert_eq(lock(b, LOCK_OPEN_FILE, F_WRLCK), -1);
    cr_assert_eq(close(copy), 0);
    cr_assert_eq(lock(b, LOCK_OPEN_FILE, F_WRLCK), 0);
    cr_assert_eq(lock(b, LOCK_OPEN_FILE, F_UNLCK), 0);

    cr_assert_eq(flock(b, LOCK_EX), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(flock(b, LOCK_UN) == 0 ? 0 : 1); /* the open file is shared, its lock too */
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    a = open_rw("f");
    cr_assert_eq(flock(a, LOCK_EX | LOCK_NB), 0);
    cr_assert_eq(close(a), 0);
    cr_assert_eq(close(b), 0);
}

/* ---- data ---- */

#define APPENDERS 4
#define RECORDS 500

static void append_records(int number)
{
    int fd = open(path_on(HOST, "log"), O_WRONLY | O_APPEND);
    char record[32];
    memset(record, 'a' + number, sizeof record);
    record[31] = '\n';
    for (int i = 0; i < RECORDS; i++) {
        if (write(fd, record, sizeof record) != sizeof record)
            _exit(1);
    }
    _exit(0);
}

/* Whatever appends, and however: each record is there once and whole. */
Test(posix, appends_of_many_processes)
{
    int counts[APPENDERS] = {0}, status;
    make("log", 0666);
    for (int i = 0; i < APPENDERS; i++) {
        if (fork() == 0)
            append_records(i);
    }
    for (int i = 0; i < APPENDERS; i++) {
        cr_assert(wait(&status) > 0);
        cr_assert_eq(status, 0);
    }
    AUTO_FREE char *data = malloc(APPENDERS * RECORDS * 32 + 1);
    cr_assert_eq(get_file(HOST, "log", data, APPENDERS * RECORDS * 32 + 1),
                 APPENDERS * RECORDS * 32);
    for (int i = 0; i < APPENDERS * RECORDS; i++) {
        const char *record = data + i * 32;
        for (int j = 1; j < 31; j++)
            cr_assert_eq(record[j], record[0]);
        counts[record[0] - 'a']++;
    }
    for (int i = 0; i < APPENDERS; i++)
        cr_assert_eq(counts[i], RECORDS);
}

static int fallocated(int mode)
{
    int fd = open_rw("f");
    int r = fallocate(fd, mode, 0, 4096) < 0 ? -errno : 0;
    cr_assert_eq(close(fd), 0);
    return r;
}

/* Ranges cannot be taken out or put in: Linux refuses that of FUSE files before it asks. */
Test(posix, ranges)
{
    AUTO_FREE char *data = pattern(16384, 4);
    put_file(HOST, "f", data, 16384);
    cr_assert_eq(fallocated(0x08 /* COLLAPSE_RANGE */), -EOPNOTSUPP);
    cr_assert_eq(fallocated(0x20 /* INSERT_RANGE */), -EOPNOTSUPP);
    cr_assert_eq(fallocated(0x02 | 0x01 /* PUNCH_HOLE | KEEP_SIZE */), 0);
    char byte = 1;
    int fd = open_rw("f");
    cr_assert_eq(pread(fd, &byte, 1, 4095), 1);
    cr_assert_eq(byte, 0);
    cr_assert_eq(pread(fd, &byte, 1, 4096), 1);
    cr_assert_eq(byte, data[4096]);
    cr_assert_leq(lseek(fd, 0, SEEK_DATA), 4096);
    cr_assert_eq(close(fd), 0);
}

static bool runs(const char *name)
{
    execl(path_on(HOST, name), name, NULL);
    return false;
}

/* What is being run cannot be written, and what is being written cannot be run. */
Test(posix, running_and_writing)
{
    AUTO_FREE char *program = malloc(4 * MIB);
    int in = open("/bin/true", O_RDONLY);
    size_t size = read_fd(in, program, 4 * MIB);
    cr_assert_eq(close(in), 0);
    put_file(HOST, "true", program, size);
    cr_assert_eq(chmod(path_on(HOST, "true"), 0755), 0);
    cr_assert(as_user(ALICE, STAFF, runs, "true"));
    int fd = open(path_on(HOST, "true"), O_WRONLY);
    cr_assert(fd >= 0);
    cr_assert(!as_user(ALICE, STAFF, runs, "true"), "ETXTBSY");
    cr_assert_eq(close(fd), 0);
}
