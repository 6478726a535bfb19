#include "daemon/mountd/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "daemon/mountd/places.h"
#include "fs/fuse/device.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define FILESYSTEM "fuse.whiskfs"
/* How often leases are looked at: a host that grants one waits 500 ms longer than it says. */
#define LEASE_LOOK_NS (100 * NS_PER_MS)
#define LOOK_MS 1000

/* ---- one mount ---- */

static void mount_free(struct mount *m)
{
    if (!m)
        return;
    list_remove(&m->link);
    if (m->header)
        (void)munmap(m->header, LEDGER_PAGE);
    close_fd(&m->fuse_fd);
    close_fd(&m->ledger_fd);
    free(m);
}
DEFINE_FREEP(mount, struct mount)

/* Takes both descriptors. */
static int mount_new(int fuse_fd, int ledger_fd, struct mount **ret_mount)
{
    AUTO(mount_freep) struct mount *m = calloc(1, sizeof *m);
    if (!m) {
        close_fd(&fuse_fd);
        close_fd(&ledger_fd);
        return -ENOMEM;
    }
    list_init(&m->link);
    m->fuse_fd = fuse_fd;
    m->ledger_fd = ledger_fd;
    m->since_ns = clock_mono_ns();
    void *page = mmap(NULL, LEDGER_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ledger_fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    m->header = page;
    *ret_mount = TAKE(m);
    return 0;
}

/* The daemon makes it longer as files are opened, and nobody can make it shorter: the page stays readable here. */
static int make_ledger(int *ret_fd)
{
    AUTO_CLOSE int fd = memfd_create("whiskfs-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, LEDGER_PAGE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* A ledger that came from outside. */
static int check_ledger(int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || st.st_size < LEDGER_PAGE)
        return -EBADMSG;
    return 0;
}

static int check_header(const struct ledger_header *header)
{
    return header->magic == LEDGER_MAGIC && header->name[LEDGER_NAME_MAX - 1] == '\0' &&
                   header->mountpoint[LEDGER_PATH_MAX - 1] == '\0' &&
                   header->mountpoint[0] == '/' && header->name[0] != '\0'
               ? 0
               : -EBADMSG;
}

/* The kernel says so of a descriptor whose mount is gone. */
static bool is_unmounted(const struct mount *m)
{
    struct pollfd p = {.fd = m->fuse_fd};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLNVAL));
}

/* ---- systemd's descriptor store ---- */

static void store_name(const struct mount *m, char name[static 17])
{
    (void)snprintf(name, 17, "%016" PRIx64, m->header->session);
}

static void store(const struct mount *m)
{
    char name[17], text[64];
    const int fds[] = {m->fuse_fd, m->ledger_fd};
    store_name(m, name);
    (void)snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    if (sd_pid_notify_with_fds(0, 0, text, fds, N_ELEMENTS(fds)) < 0)
        log_warning("mountd", "cannot hand the mount of '%s' to systemd: it ends with this process",
                    m->header->name);
}

static void unstore(const struct mount *m)
{
    char name[17];
    store_name(m, name);
    (void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

bool mounts_hand_over(struct mounts *mounts)
{
    if (!getenv("NOTIFY_SOCKET"))
        return false;
    list_for_each(m, &mounts->all, struct mount, link)
    {
        log_info("mountd", "leaving the mount of '%s' to systemd", m->header->name);
        mount_free(m);
    }
    return true;
}

/* ---- the table ---- */

void mounts_init(struct mounts *mounts)
{
    *mounts = (struct mounts){0};
    list_init(&mounts->all);
}

struct mount *mounts_after(struct mounts *mounts, const char *name)
{
    list_for_each(m, &mounts->all, struct mount, link)
    {
        if (strcmp(m->header->name, name) > 0)
            return m;
    }
    return NULL;
}

static void add(struct mounts *mounts, struct mount *m)
{
    struct mount *next = mounts_after(mounts, m->header->name);
    list_append(next ? &next->link : &mounts->all, &m->link);
    mounts->n++;
}

static void forget(struct mounts *mounts, struct mount *m)
{
    unstore(m);
    mounts->n--;
    mount_free(m);
}

struct mount *mounts_find(struct mounts *mounts, const char *name)
{
    list_for_each(m, &mounts->all, struct mount, link)
    {
        if (strcmp(m->header->name, name) != 0)
            continue;
        if (!is_unmounted(m))
            return m;
        log_warning("mountd", "the mount of '%s' at %s was unmounted", name, m->header->mountpoint);
        forget(mounts, m);
        return NULL;
    }
    return NULL;
}

/* ---- mounting ---- */

/* What a daemon that mounted by itself, or an earlier process of this kind, has left. */
static void unmount_stale(const char *mountpoint)
{
    while (places_has(mountpoint, FILESYSTEM, NULL)) {
        log_warning("mountd", "unmounting what was left at %s", mountpoint);
        if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return;
    }
}

static int mount_fuse(const char *name, const char *mountpoint, unsigned long flags, int *ret_fd)
{
    char source[LEDGER_NAME_MAX + 16], options[128];
    if (mkdir(mountpoint, 0755) < 0 && errno != EEXIST && errno != ENOTCONN)
        return -errno;
    unmount_stale(mountpoint);
    AUTO_CLOSE int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    (void)snprintf(source, sizeof source, "whiskfs:%s", name);
    (void)snprintf(options, sizeof options,
                   "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd);
    if (mount(source, mountpoint, FILESYSTEM, flags, options) < 0) {
        int r = -errno;
        (void)rmdir(mountpoint);
        return r;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int fill_header(struct ledger_header *header, const char *name, const char *mountpoint)
{
    (void)snprintf(header->name, sizeof header->name, "%s", name);
    (void)snprintf(header->mountpoint, sizeof header->mountpoint, "%s", mountpoint);
    if (getrandom(&header->session, sizeof header->session, 0) != sizeof header->session)
        return -EIO;
    header->session |= 1; /* 0 would be nobody's */
    header->magic = LEDGER_MAGIC;
    return 0;
}

int mounts_make(struct mounts *mounts, const char *name, const char *mountpoint,
                unsigned long flags, struct mount **ret_mount)
{
    AUTO(mount_freep) struct mount *m = NULL;
    int fd = -1;
    if (mounts_find(mounts, name))
        return -EEXIST;
    if (mounts->n >= MOUNTS_MAX)
        return -ENFILE;
    int r = make_ledger(&fd);
    if (r == 0)
        r = mount_new(-1, fd, &m);
    if (r == 0)
        r = fill_header(m->header, name, mountpoint);
    if (r == 0)
        r = mount_fuse(name, mountpoint, flags, &m->fuse_fd);
    if (r < 0)
        return r;
    log_info("mountd", "mounted '%s' at %s", name, mountpoint);
    store(m);
    add(mounts, m);
    *ret_mount = TAKE(m);
    return 0;
}

int mounts_keep(struct mounts *mounts, int fuse_fd, int ledger_fd, struct mount **ret_mount)
{
    AUTO(mount_freep) struct mount *m = NULL;
    int r = check_ledger(ledger_fd);
    if (r < 0) {
        close_fd(&fuse_fd);
        close_fd(&ledger_fd);
        return r;
    }
    r = mount_new(fuse_fd, ledger_fd, &m);
    if (r == 0)
        r = check_header(m->header);
    if (r == 0 && is_unmounted(m))
        r = -ENODEV;
    if (r < 0)
        return r;
    struct mount *known = mounts_find(mounts, m->header->name);
    if (known && known->header->session != m->header->session)
        return -EEXIST;
    if (!known) {
        store(m);
        add(mounts, m);
        known = TAKE(m);
    }
    *ret_mount = known;
    return 0;
}

int mounts_unmount(struct mounts *mounts, struct mount *m, bool is_lazy)
{
    struct ledger_header *header = m->header;
    int flags = UMOUNT_NOFOLLOW | (is_lazy ? MNT_DETACH : 0);
    if (umount2(header->mountpoint, flags) < 0 && errno != EINVAL && errno != ENOENT)
        return -errno;
    (void)rmdir(header->mountpoint);
    log_info("mountd", "unmounted '%s'", header->name);
    forget(mounts, m);
    return 0;
}

void mounts_end(struct mounts *mounts)
{
    list_for_each(m, &mounts->all, struct mount, link)
    {
        if (mounts_unmount(mounts, m, true) < 0)
            log_warning("mountd", "cannot unmount '%s'", m->header->name);
    }
}

/* ---- after a restart of this process ---- */

/* A pair has one name; the ledger is the regular file. */
static void adopt_pair(struct mounts *mounts, int one, int other)
{
    struct mount *m;
    struct stat st;
    bool is_ledger = fstat(one, &st) == 0 && S_ISREG(st.st_mode);
    int r = mounts_keep(mounts, is_ledger ? other : one, is_ledger ? one : other, &m);
    if (r < 0)
        log_warning("mountd", "cannot use what systemd kept: %s", strerror(-r));
    else
        log_info("mountd", "goes on with the mount of '%s'", m->header->name);
}

void mounts_adopt(struct mounts *mounts)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < n; i++) {
        for (int j = i + 1; names[i] && j < n; j++) {
            if (!names[j] || strcmp(names[i], names[j]) != 0)
                continue;
            adopt_pair(mounts, SD_LISTEN_FDS_START + i, SD_LISTEN_FDS_START + j);
            free(TAKE(names[j]));
            break;
        }
        free(names[i]);
    }
    free(names);
}

/* ---- what others left below an autofs ---- */

static bool is_known(const struct mounts *mounts, const char *mountpoint)
{
    list_for_each(m, &mounts->all, struct mount, link)
    {
        if (strcmp(m->header->mountpoint, mountpoint) == 0)
            return true;
    }
    return false;
}

void mounts_sweep(struct mounts *mounts, const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char mountpoint[LEDGER_PATH_MAX];
        int n = snprintf(mountpoint, sizeof mountpoint, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' || n >= (int)sizeof mountpoint || is_known(mounts, mountpoint))
            continue;
        unmount_stale(mountpoint);
        (void)rmdir(mountpoint);
    }
    if (directory)
        (void)closedir(directory);
}

/* ---- looking after them ---- */

void mounts_abandon(struct mounts *mounts)
{
    int64_t now = clock_mono_ns();
    list_for_each(m, &mounts->all, struct mount, link)
    {
        if (m->is_served)
            m->since_ns = now;
        m->is_served = false;
    }
}

/* The kernel must not show names that another host may have changed since. */
static void look_at_lease(struct mount *m, int64_t now_ns)
{
    int64_t end = atomic_load(&m->header->lease_end_ns);
    if (end == 0 || end == LEDGER_LEASE_FOREVER || end == m->expired_lease_ns ||
        end > now_ns + LEASE_LOOK_NS)
        return;
    m->expired_lease_ns = end;
    int r = device_expire_names(m->fuse_fd);
    log_debug("mountd", "the lease on '%s' ends: names expire: %s", m->header->name,
              r < 0 ? strerror(-r) : "done");
}

static bool has_lease(const struct mount *m)
{
    int64_t end = atomic_load(&m->header->lease_end_ns);
    return end != 0 && end != LEDGER_LEASE_FOREVER;
}

static void give_up(struct mounts *mounts, struct mount *m, int64_t timeout_ns)
{
    log_error("mountd",
              "no daemon serves '%s' for %" PRId64
              " s: its requests end with an error now, and it is "
              "unmounted; start whiskfsd and attach the volume again",
              m->header->name, (int64_t)(timeout_ns / NS_PER_S));
    if (umount2(m->header->mountpoint, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
        log_warning("mountd", "cannot unmount %s: %s", m->header->mountpoint, strerror(errno));
    (void)rmdir(m->header->mountpoint);
    forget(mounts, m);
}

int mounts_look(struct mounts *mounts, int64_t timeout_ns)
{
    int64_t now = clock_mono_ns(), wait_ns = LOOK_MS * NS_PER_MS;
    list_for_each(m, &mounts->all, struct mount, link)
    {
        look_at_lease(m, now);
        if (has_lease(m))
            wait_ns = MIN(wait_ns, LEASE_LOOK_NS);
        if (m->is_served)
            continue;
        if (now - m->since_ns >= timeout_ns)
            give_up(mounts, m, timeout_ns);
        else
            wait_ns = MIN(wait_ns, m->since_ns + timeout_ns - now + NS_PER_MS);
    }
    return mounts->n == 0 ? -1 : (int)(wait_ns / NS_PER_MS);
}
