#include "daemon/mountd/autofs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/auto_dev-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "daemon/mountd/places.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define SOURCE "whiskfs"

void autofs_init(struct autofs *autofs)
{
    *autofs = (struct autofs){.control = -1, .root = -1, .pipe = -1};
}

/* ---- /dev/autofs ---- */

static void prepare(const struct autofs *autofs, struct autofs_dev_ioctl *command)
{
    init_autofs_dev_ioctl(command);
    command->ioctlfd = autofs->root;
}

static void answer(const struct autofs *autofs, uint32_t token, int error)
{
    struct autofs_dev_ioctl command;
    prepare(autofs, &command);
    if (error < 0) {
        command.fail.token = token;
        command.fail.status = error;
    } else {
        command.ready.token = token;
    }
    unsigned long what = error < 0 ? AUTOFS_DEV_IOCTL_FAIL : AUTOFS_DEV_IOCTL_READY;
    if (ioctl(autofs->control, what, &command) < 0)
        log_debug("mountd", "nobody waits for token %" PRIu32 ": %s", token, strerror(errno));
}

/* What the process before has left: who waited for it fails, from now on the packets come here. */
static int take_over(const struct autofs *autofs, int pipe)
{
    struct autofs_dev_ioctl command;
    prepare(autofs, &command);
    if (ioctl(autofs->control, AUTOFS_DEV_IOCTL_CATATONIC, &command) < 0)
        return -errno;
    prepare(autofs, &command);
    command.setpipefd.pipefd = pipe;
    return ioctl(autofs->control, AUTOFS_DEV_IOCTL_SETPIPEFD, &command) < 0 ? -errno : 0;
}

void autofs_fail_all(const char *path)
{
    struct autofs_dev_ioctl command;
    AUTO_CLOSE int control = open("/dev/autofs", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    init_autofs_dev_ioctl(&command);
    command.ioctlfd = root;
    if (ioctl(control, AUTOFS_DEV_IOCTL_CATATONIC, &command) < 0)
        log_warning("mounts", "cannot fail who waits below %s: %s", path, strerror(errno));
}

/* ---- mounting ---- */

static int open_root(struct autofs *autofs)
{
    autofs->root = open(autofs->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return autofs->root < 0 ? -errno : 0;
}

static void close_root(struct autofs *autofs)
{
    close_fd(&autofs->root);
    autofs->root = -1;
}

static int mount_new(struct autofs *autofs, int pipe)
{
    char options[128];
    if (places_has_below(autofs->path))
        return -EBUSY;
    (void)snprintf(options, sizeof options, "fd=%d,pgrp=%d,minproto=5,maxproto=5,indirect", pipe,
                   (int)getpgrp());
    if (mount(SOURCE, autofs->path, "autofs", MS_NOSUID | MS_NODEV, options) < 0)
        return -errno;
    /* Containers get the mounts below it: whatever it lies on. */
    if (mount(NULL, autofs->path, NULL, MS_SHARED, NULL) < 0)
        log_warning("mountd", "cannot make %s shared: %s", autofs->path, strerror(errno));
    return open_root(autofs);
}

/* Containers that are bound to the mount that is there stay so. Where that cannot be (it is of another pid namespace) it
 * goes, with all that is below. */
static int mount_or_take_over(struct autofs *autofs, int pipe)
{
    while (places_has(autofs->path, "autofs", SOURCE)) {
        int r = open_root(autofs);
        if (r == 0)
            r = take_over(autofs, pipe);
        if (r == 0) {
            log_info("mountd", "goes on with the autofs at %s", autofs->path);
            return 0;
        }
        log_warning("mountd", "cannot go on with the autofs at %s: %s: mounting it anew",
                    autofs->path, strerror(-r));
        close_root(autofs);
        if (umount2(autofs->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return -errno;
    }
    return mount_new(autofs, pipe);
}

static int open_all(struct autofs *autofs)
{
    int ends[2];
    autofs->control = open("/dev/autofs", O_RDONLY | O_CLOEXEC);
    if (autofs->control < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    AUTO_CLOSE int kernels = ends[1];
    autofs->pipe = ends[0];
    if (fcntl(autofs->pipe, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    return mount_or_take_over(autofs, kernels);
}

int autofs_open(struct autofs *autofs, const char *path)
{
    AUTO_FREE char *real = realpath(path, NULL); /* as the kernel's list has it */
    if (!real)
        return -errno;
    if (autofs->root >= 0)
        return strcmp(autofs->path, real) == 0 ? 0 : -EBUSY;
    int n = snprintf(autofs->path, sizeof autofs->path, "%s", real);
    int r = n < (int)sizeof autofs->path ? open_all(autofs) : -ENAMETOOLONG;
    if (r < 0)
        autofs_leave(autofs);
    else
        log_info("mountd", "first access below %s is answered", path);
    return r;
}

void autofs_leave(struct autofs *autofs)
{
    close_fd(&autofs->pipe);
    close_root(autofs);
    close_fd(&autofs->control);
    autofs->pipe = autofs->control = -1;
    autofs->accesses.n = 0;
}

void autofs_close(struct autofs *autofs)
{
    if (autofs->root < 0)
        return;
    autofs_read(autofs);
    (void)autofs_look(autofs, 0);
    autofs_leave(autofs);
    if (umount2(autofs->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
        log_warning("mountd", "cannot unmount %s: %s", autofs->path, strerror(errno));
}

/* ---- accesses ---- */

static void take_packet(struct autofs *autofs, const struct autofs_packet *packet)
{
    static struct log_limit refused;
    uint64_t suppressed;
    if (packet->type == AUTOFS_PACKET_EXPIRE) { /* nothing here asks for these */
        answer(autofs, packet->token, -EBUSY);
        return;
    }
    if (accesses_add(&autofs->accesses, packet, clock_mono_ns()) == 0)
        return;
    if (log_allow(&refused, &suppressed))
        log_warning("mountd", "more than %u names are waited for below %s: refused", ACCESSES_MAX,
                    autofs->path);
    answer(autofs, packet->token, -EAGAIN);
}

void autofs_read(struct autofs *autofs)
{
    uint8_t data[AUTOFS_PACKET_BYTES + 1];
    struct autofs_packet packet;
    ssize_t n;
    while ((n = read(autofs->pipe, data, sizeof data)) > 0) {
        if (autofs_packet_decode(data, (size_t)n, &packet) == 0)
            take_packet(autofs, &packet);
        else
            log_warning("mountd", "the kernel sent %zd bytes that are no packet of an autofs", n);
    }
    if (n < 0)
        return; /* all are taken */
    log_error("mountd", "the autofs at %s was taken from this process", autofs->path);
    autofs_leave(autofs);
}

int autofs_answer(struct autofs *autofs, const char *name, int error)
{
    struct access access;
    int r = -ENOENT;
    while (accesses_take(&autofs->accesses, name, &access)) {
        answer(autofs, access.token, error);
        r = 0;
    }
    return r;
}

int autofs_look(struct autofs *autofs, int64_t timeout_ns)
{
    struct access access;
    int64_t now = clock_mono_ns();
    while (accesses_take_older(&autofs->accesses, now - timeout_ns, &access)) {
        log_warning("mountd", "no daemon has answered for '%s' within %" PRId64 " s: an error",
                    access.name, (int64_t)(timeout_ns / NS_PER_S));
        answer(autofs, access.token, -ETIMEDOUT);
    }
    if (autofs->accesses.n == 0)
        return -1;
    return (int)((autofs->accesses.all[0].since_ns + timeout_ns - now) / NS_PER_MS) + 1;
}
