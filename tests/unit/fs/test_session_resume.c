/* A mount that is kept elsewhere, here by the test: a session leaves it and the next one goes on. */
#include <dirent.h>
#include <sys/file.h>
#include <sys/mman.h>

#include "fs/fuse/ledger.h"
#include "tests/unit/fs/mount_fixture.h"

#define HOST (&hosts[0])

static struct session_mount kept;

static void keep_mount(void)
{
    char options[128];
    kept.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    cr_assert(kept.fd >= 0);
    snprintf(options, sizeof options,
             "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", kept.fd);
    cr_assert_eq(mount("whiskfs:kept", HOST->mount, "fuse.whiskfs", MS_NOSUID | MS_NODEV, options),
                 0);
    cr_assert_eq(ledger_open(-1, &kept.ledger), 0);
}

static void serve(void)
{
    const struct session_options options = {
        .mountpoint = HOST->mount, .name = "kept", .passthrough = true, .mount = &kept};
    cr_assert_eq(session_start(HOST->volume, &options, &HOST->session), 0);
}

static void set_up(void)
{
    one_host(1ULL << 30, true);
    session_stop(HOST->session);
    keep_mount();
    serve();
}

static void tear_down(void)
{
    cr_assert_eq(umount2(HOST->mount, MNT_DETACH), 0);
    fixture_end();
    ledger_free(kept.ledger);
    close(kept.fd);
}

TestSuite(session_resume, .init = set_up, .fini = tear_down, .timeout = 60);

static void next_daemon(void)
{
    session_leave(HOST->session);
    volume_free(HOST->volume);
    const struct volume_options options = {
        .directory = HOST->state, .self = HOST->self, .survivors = ledger_survivors(kept.ledger)};
    cr_assert_eq(volume_open(&options, &HOST->volume), 0);
    cr_assert_eq(volume_resume(HOST->volume), 0);
    serve();
}

static struct inode inode_of(const char *name)
{
    struct inode inode;
    struct span span = {.data = (const uint8_t *)name, .size = strlen(name)};
    cr_assert_eq(tree_lookup(volume_tree(HOST->volume), ROOT_INO, span, &inode), 0);
    return inode;
}

/* Descriptors of every kind go on: read, written, mapped, unlinked, locked; and the inode is still being written. */
Test(session_resume, open_files_go_on)
{
    AUTO_FREE char *data = pattern(MIB, 1);
    char back[16];
    put_file(HOST, "large", data, MIB);
    put_file(HOST, "small", data, 4096);
    int large = open(path_on(HOST, "large"), O_RDONLY),
        small = open(path_on(HOST, "small"), O_RDONLY);
    int written = open(path_on(HOST, "written"), O_RDWR | O_CREAT, 0644);
    int gone = open(path_on(HOST, "gone"), O_RDWR | O_CREAT, 0644);
    cr_assert(large >= 0 && small >= 0 && written >= 0 && gone >= 0);
    cr_assert_eq(write(gone, "unlinked", 8), 8);
    cr_assert_eq(unlink(path_on(HOST, "gone")), 0);
    cr_assert_eq(ftruncate(written, 4096), 0);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, written, 0);
    cr_assert(map != MAP_FAILED);
    cr_assert_eq(flock(written, LOCK_EX), 0);
    for (int i = 0; i < 3; i++) {
        next_daemon();
        cr_assert_eq(pread(large, back, 8, 4096 * i), 8);
        cr_assert_eq(memcmp(back, data + 4096 * i, 8), 0);
        cr_assert_eq(pread(small, back, 8, 100), 8);
        cr_assert_eq(memcmp(back, data + 100, 8), 0);
        cr_assert_eq(pread(gone, back, 8, 0), 8);
        cr_assert_eq(memcmp(back, "unlinked", 8), 0);
        cr_assert_eq(inode_of("written").writer.n, HOST->self.n, "it is still being written");
        cr_assert_eq(pwrite(written, data + i, 1, i), 1);
        memcpy(map + 100 * (i + 1), "map", 3);
    }
    cr_assert_eq(fsync(written), 0);
    cr_assert_eq(inode_of("written").size, 4096);
    int other = open(path_on(HOST, "written"), O_RDONLY);
    cr_assert_eq(flock(other, LOCK_EX | LOCK_NB), -1);
    cr_assert_eq(pread(other, back, 3, 300), 3);
    cr_assert_eq(memcmp(back, "map", 3), 0);
    cr_assert_eq(munmap(map, 4096), 0);
    cr_assert_eq(close(large) + close(small) + close(written) + close(gone) + close(other), 0);
}

/* What a daemon did not publish the next one does, though only the ledger knows that there is something. */
Test(session_resume, what_was_written_is_published)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
    char back[8];
    put_file(HOST, "f", "before", 6);
    int fd = open(path_on(HOST, "f"), O_WRONLY);
    uint64_t version = inode_of("f").version;
    cr_assert_eq(pwrite(fd, "after!", 6, 0), 6);
    cr_assert_eq(futimens(fd, times), 0);
    next_daemon();
    cr_assert_eq(close(fd), 0);
    cr_assert_gt(inode_of("f").version, version);
    cr_assert_eq(inode_of("f").mtime_ns, 1000 * NS_PER_S);
    cr_assert_eq(get_file(HOST, "f", back, 8), 6);
    cr_assert_eq(memcmp(back, "after!", 6), 0);
}

/* A directory is read on where the last daemon stopped; a working directory that was never opened is still known. */
Test(session_resume, directories_go_on)
{
    char name[32];
    unsigned n = 0;
    cr_assert_eq(mkdir(path_on(HOST, "d"), 0755), 0);
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "d/%u", i);
        cr_assert_eq(mknod(path_on(HOST, name), S_IFREG | 0644, 0), 0);
    }
    int cwd = open(path_on(HOST, "d"), O_PATH);
    DIR *dir = opendir(path_on(HOST, "d"));
    for (const struct dirent *entry; (entry = readdir(dir)); n++) {
        if (n == 10 || n == 2000)
            next_daemon();
    }
    cr_assert_eq(n, 3002);
    cr_assert_eq(closedir(dir), 0);
    struct stat st;
    cr_assert_eq(fstatat(cwd, "17", &st, 0), 0);
    cr_assert_eq(mkdirat(cwd, "made", 0755), 0);
    cr_assert_eq(close(cwd), 0);
}

/* An unlinked file that was closed under the next daemon is gone. */
Test(session_resume, unlinked_files_end)
{
    struct tree_usage before, after;
    tree_usage(volume_tree(HOST->volume), &before);
    int fd = open(path_on(HOST, "f"), O_RDWR | O_CREAT, 0644);
    cr_assert_eq(unlink(path_on(HOST, "f")), 0);
    next_daemon();
    cr_assert_eq(close(fd), 0);
    int64_t deadline_ns = clock_mono_ns() + 5 * NS_PER_S;
    do {
        tree_usage(volume_tree(HOST->volume), &after);
        cr_assert(clock_mono_ns() < deadline_ns, "the inode is still there");
        sched_yield();
    } while (after.n_inodes != before.n_inodes);
}

/* Another volume of the same name is not what this mount is of. */
Test(session_resume, another_volume_is_refused)
{
    session_leave(HOST->session);
    HOST->session = NULL;
    ledger_header(kept.ledger)->born_ns++;
    const struct session_options options = {
        .mountpoint = HOST->mount, .name = "kept", .mount = &kept};
    cr_assert_eq(session_start(HOST->volume, &options, &HOST->session), -EPROTO);
    ledger_header(kept.ledger)->born_ns--;
    serve();
}

/* A daemon that negotiates otherwise does not go on. */
Test(session_resume, other_negotiation_is_refused)
{
    session_leave(HOST->session);
    HOST->session = NULL;
    ledger_header(kept.ledger)->negotiated[0] ^= 1;
    const struct session_options options = {
        .mountpoint = HOST->mount, .name = "kept", .passthrough = true, .mount = &kept};
    cr_assert_eq(session_start(HOST->volume, &options, &HOST->session), -EPROTO);
    ledger_header(kept.ledger)->negotiated[0] ^= 1;
    serve();
}
