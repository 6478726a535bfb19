/* daemon/mountd/autofs.h — the kernel's autofs at the directory of the volumes: mounted, read, answered and unmounted here.
 *
 *     a process opens PATH/NAME ─► kernel: packet ─► pipe ─► accesses ─► the daemon attaches ─► answer ─► it goes on
 *
 * Who is not of this process's group and names what is not mounted waits for the answer: so all that is mounted, made and
 * removed below PATH is done by this process. Documentation: linux/Documentation/filesystems/autofs.rst and
 * autofs-mount-control.rst (/dev/autofs: answers with an errno, and another process's mount is taken over).
 */
#pragma once

#include "daemon/mountd/accesses.h"
#include "daemon/mountd/protocol.h"

struct autofs {
    char path[MOUNTD_PATH_MAX + 1];
    int control; /* /dev/autofs */
    int root;    /* of the mount; -1: none */
    int pipe;    /* the kernel's packets; the kernel holds its other end */
    struct accesses accesses;
};

void autofs_init(struct autofs *autofs);
/* Mounts an autofs at path, or goes on with one that an earlier process left; nothing to do when there is one. Its
 * propagation is shared. -ENODEV: not in this kernel; -ENOENT: no /dev/autofs, or no path; -EBUSY: something is mounted
 * below path without it, or there is one at another path. */
MUST_USE int autofs_open(struct autofs *autofs, const char *path);
/* Fails who waits, and unmounts, with all that is below. */
void autofs_close(struct autofs *autofs);
/* This process ends, and another one takes it over. */
void autofs_leave(struct autofs *autofs);
/* For the daemon, when the process that serves the autofs at path is gone: who waits there fails, and so does who comes,
 * until it is taken over. */
void autofs_fail_all(const char *path);
/* Takes the packets that are there. */
void autofs_read(struct autofs *autofs);
/* Lets those go on who wait for name: into what is mounted there (0), or with an errno. -ENOENT: nobody waits. */
MUST_USE int autofs_answer(struct autofs *autofs, const char *name, int error);
/* Fails who waits for longer than timeout_ns. Returns in how many ms to look again; -1: not by itself. */
int autofs_look(struct autofs *autofs, int64_t timeout_ns);
