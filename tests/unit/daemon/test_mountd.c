/* Messages of whiskfs-mountd over a socket, with descriptors; what it does with mounts; what a daemon asks of it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/mountd/link.h"
#include "daemon/mountd/protocol.h"
#include "daemon/mountd/server.h"
#include "proto/base/clock.h"

static char directory[] = "/tmp/whiskfs-mountd-XXXXXX";
static char path[64], socket_path[64];
static struct mounts mounts;
static struct autofs autofs;

/* ---- messages ---- */

static struct mountd_message request(enum mountd_type type)
{
    struct mountd_message m = {.type = type, .flags = MOUNTD_NODEV};
    snprintf(m.name, sizeof m.name, "volume");
    snprintf(m.mountpoint, sizeof m.mountpoint, "/mnt/ow/volume");
    return m;
}

/* What is sent is what is received, with the descriptors beside it. */
Test(mountd_protocol, carries_messages_and_descriptors)
{
    int pair[2], ends[2], fds[2], none[2];
    struct mountd_message m = request(MOUNTD_KEEP), got;
    char c;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(mountd_send(pair[0], &m, ends), 0);
    cr_assert_eq(mountd_receive(pair[1], &got, fds), 0);
    cr_assert(got.type == m.type && got.flags == m.flags && !strcmp(got.name, m.name) &&
              !strcmp(got.mountpoint, m.mountpoint));
    cr_assert(write(fds[1], "x", 1) == 1 && read(ends[0], &c, 1) == 1 && c == 'x');
    m.error = -EBUSY;
    cr_assert_eq(mountd_send(pair[0], &m, NULL), 0);
    cr_assert_eq(mountd_receive(pair[1], &got, none), 0);
    cr_assert(got.error == -EBUSY && none[0] == -1 && none[1] == -1);
    close(pair[0]);
    cr_assert_eq(mountd_receive(pair[1], &got, none), -ECONNRESET);
}

/* Anything else is refused. */
Test(mountd_protocol, refuses_other_bytes)
{
    uint8_t bytes[MOUNTD_BYTES_MAX];
    struct mountd_message m = request(MOUNTD_MOUNT), got;
    size_t size = mountd_encode(&m, bytes);
    cr_assert_eq(mountd_decode(bytes, size, &got), 0);
    for (size_t cut = 0; cut < size; cut++)
        cr_assert_eq(mountd_decode(bytes, cut, &got), -EBADMSG);
    bytes[size] = 0;
    cr_assert_eq(mountd_decode(bytes, size + 1, &got), -EBADMSG);
    snprintf(m.name, sizeof m.name, "../volume");
    cr_assert_eq(mountd_decode(bytes, mountd_encode(&m, bytes), &got), -EBADMSG);
    m = request(MOUNTD_MOUNT);
    snprintf(m.mountpoint, sizeof m.mountpoint, "volume");
    cr_assert_eq(mountd_decode(bytes, mountd_encode(&m, bytes), &got), -EBADMSG);
    m = request(MOUNTD_TYPE_END);
    cr_assert_eq(mountd_decode(bytes, mountd_encode(&m, bytes), &got), -EBADMSG);
    m = request(MOUNTD_REPLY);
    m.error = 1;
    cr_assert_eq(mountd_decode(bytes, mountd_encode(&m, bytes), &got), -EBADMSG);
}

/* ---- mounts, in a mount namespace of the test's own ---- */

static void set_up(void)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0 || unshare(CLONE_NEWNS) < 0)
        cr_skip("needs root and /dev/fuse");
    cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/mount", directory);
    snprintf(socket_path, sizeof socket_path, "%s/socket", directory);
    mounts_init(&mounts);
    autofs_init(&autofs);
}

static void tear_down(void)
{
    mounts_end(&mounts);
    (void)unlink(socket_path);
    cr_assert_eq(rmdir(directory), 0, "nothing is left");
}

TestSuite(mountd, .init = set_up, .fini = tear_down, .timeout = 30);

static bool is_alive(int fuse_fd)
{
    struct pollfd fd = {.fd = fuse_fd, .events = POLLIN};
    return poll(&fd, 1, 0) == 1 && !(fd.revents & POLLERR); /* INIT waits to be read */
}

/* One mount a name; unmounting ends it; what was unmounted by hand is forgotten. */
Test(mountd, mounts_and_unmounts)
{
    struct mount *m, *again;
    cr_assert_eq(mounts_make(&mounts, "v", path, MS_NODEV, &m), 0);
    cr_assert(is_alive(m->fuse_fd));
    cr_assert_eq(m->header->magic, LEDGER_MAGIC);
    cr_assert_eq(mounts_make(&mounts, "v", path, MS_NODEV, &again), -EEXIST);
    cr_assert_eq(mounts_find(&mounts, "v"), m);
    cr_assert_eq(mounts_after(&mounts, ""), m);
    cr_assert_null(mounts_after(&mounts, "v"));
    cr_assert_eq(mounts_unmount(&mounts, m, false), 0);
    cr_assert_null(mounts_find(&mounts, "v"));
    cr_assert_eq(access(path, F_OK), -1);
    cr_assert_eq(mounts_make(&mounts, "v", path, 0, &m), 0);
    cr_assert_eq(umount2(path, MNT_DETACH), 0);
    cr_assert_null(mounts_find(&mounts, "v"), "it is not there any more");
    cr_assert_eq(rmdir(path), 0);
}

/* What nobody serves is given up in time, and not before; what is served is not. */
Test(mountd, gives_up_what_is_not_served)
{
    struct mount *m;
    cr_assert_eq(mounts_make(&mounts, "v", path, 0, &m), 0);
    int fd = fcntl(m->fuse_fd, F_DUPFD_CLOEXEC, 3);
    m->is_served = true;
    m->since_ns -= 10 * NS_PER_S;
    cr_assert_gt(mounts_look(&mounts, 5 * NS_PER_S), 0);
    cr_assert(is_alive(fd));
    mounts_abandon(&mounts);
    int wait_ms = mounts_look(&mounts, NS_PER_S / 2);
    cr_assert(wait_ms > 0 && wait_ms <= 501, "it looks again in time: %d", wait_ms);
    m->since_ns -= NS_PER_S;
    cr_assert_eq(mounts_look(&mounts, NS_PER_S / 2), -1);
    cr_assert(!is_alive(fd), "the connection is aborted, whoever has its descriptor");
    cr_assert_eq(mounts.n, 0);
    close(fd);
}

/* A lease that ends is looked at often, and its end is acted upon once. */
Test(mountd, looks_at_leases)
{
    struct mount *m;
    cr_assert_eq(mounts_make(&mounts, "v", path, 0, &m), 0);
    m->is_served = true;
    int64_t end = clock_mono_ns() + 60 * NS_PER_S;
    m->header->lease_end_ns = LEDGER_LEASE_FOREVER;
    cr_assert_geq(mounts_look(&mounts, NS_PER_S), 500);
    m->header->lease_end_ns = end;
    cr_assert_leq(mounts_look(&mounts, NS_PER_S), 100);
    cr_assert_eq(m->expired_lease_ns, 0);
    m->header->lease_end_ns = clock_mono_ns();
    (void)mounts_look(&mounts, NS_PER_S);
    cr_assert_eq(m->expired_lease_ns, m->header->lease_end_ns);
}

/* A ledger that could be made shorter under us, or is none, is refused. */
Test(mountd, keeps_only_ledgers)
{
    struct mount *m;
    int plain = memfd_create("plain", MFD_CLOEXEC);
    cr_assert_eq(ftruncate(plain, LEDGER_PAGE), 0);
    cr_assert_eq(mounts_keep(&mounts, open("/dev/fuse", O_RDWR), plain, &m), -EBADMSG);
    int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(sealed, LEDGER_PAGE), 0);
    cr_assert_eq(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    cr_assert_eq(mounts_keep(&mounts, open("/dev/fuse", O_RDWR), sealed, &m), -EBADMSG);
}

/* ---- both sides ---- */

static struct server server;
static _Atomic bool is_over;
static _Atomic unsigned n_lost;

static void *serve(void *arg)
{
    (void)arg;
    while (!is_over) {
        struct pollfd fds[] = {{.fd = server.listener, .events = POLLIN},
                               {.fd = server.daemon, .events = POLLIN}};
        (void)poll(fds, 2, 20);
        if (fds[1].revents)
            server_answer(&server);
        else if (fds[0].revents)
            server_accept(&server);
    }
    return NULL;
}

static pthread_t start_server(void)
{
    pthread_t thread;
    is_over = false;
    cr_assert_eq(server_open(&server, socket_path, &mounts, &autofs), 0);
    cr_assert_eq(pthread_create(&thread, NULL, serve, NULL), 0);
    return thread;
}

static void stop_server(pthread_t thread)
{
    is_over = true;
    cr_assert_eq(pthread_join(thread, NULL), 0);
    server_close(&server);
}

static void count_lost(void *ctx, const char *name)
{
    (void)ctx, (void)name;
    n_lost++;
}

static void wait_link(struct mount_link *link, bool is_up)
{
    int64_t deadline_ns = clock_mono_ns() + 10 * NS_PER_S;
    while (mount_link_is_up(link) != is_up) {
        cr_assert(clock_mono_ns() < deadline_ns);
        sched_yield();
    }
}

/* A daemon mounts and goes; the next one takes what it left; a second one at a time is refused. */
Test(mountd, one_daemon_after_the_other)
{
    const struct mount_link_options options = {.path = socket_path, .lost = count_lost};
    struct mount_link *link, *second;
    struct kept_mount *kept;
    pthread_t thread = start_server();
    cr_assert_eq(mount_link_new(&options, &link), 0);
    cr_assert_eq(mount_link_new(&options, &second), -EBUSY);
    cr_assert_eq(mount_link_take(link, "v", &kept), -ENOENT);
    cr_assert_eq(mount_link_mount(link, "v", path, false, false, &kept), 0);
    cr_assert_eq(mount_link_serve(link, kept), 0);
    mount_link_free(link);
    cr_assert_eq(mount_link_new(&options, &link), 0);
    cr_assert_eq(mount_link_take(link, "v", &kept), 0);
    cr_assert(is_alive(kept_mount_fuse_fd(kept)));
    cr_assert_eq(mount_link_unmount(link, kept, false), 0);
    mount_link_free(link);
    stop_server(thread);
}

/* The next whiskfs-mountd, which knows of nothing, is given the mount back; one that was unmounted is reported. */
Test(mountd, is_given_mounts_back)
{
    const struct mount_link_options options = {.path = socket_path, .lost = count_lost};
    struct mount_link *link;
    struct kept_mount *kept;
    pthread_t thread = start_server();
    cr_assert_eq(mount_link_new(&options, &link), 0);
    cr_assert_eq(mount_link_mount(link, "v", path, false, false, &kept), 0);
    cr_assert_eq(mount_link_serve(link, kept), 0);
    stop_server(thread);
    wait_link(link, false);
    cr_assert(is_alive(kept_mount_fuse_fd(kept)));
    static struct mount
        *volatile of_killed; /* as if that process had been killed, which frees nothing */
    of_killed = mounts_find(&mounts, "v");
    cr_assert_not_null(of_killed);
    mounts.n = 0;
    list_init(&mounts.all);
    thread = start_server();
    wait_link(link, true);
    struct mount *m = mounts_find(&mounts, "v");
    cr_assert(m && m->is_served);
    stop_server(thread);
    wait_link(link, false);
    mounts_end(&mounts);
    thread = start_server();
    wait_link(link, true);
    cr_assert_eq(n_lost, 1);
    cr_assert_eq(mount_link_unmount(link, kept, true), 0);
    mount_link_free(link);
    stop_server(thread);
}
