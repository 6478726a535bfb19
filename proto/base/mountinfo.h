/* proto/base/mountinfo.h — the kernel's list of mounts, /proc/PID/mountinfo, see proc(5): a look at a place itself may be a
 * request to whoever serves it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/base/check.h"

struct mountinfo {
    unsigned major, minor; /* of the device */
    const char *at;        /* the mountpoint */
    unsigned shared;       /* its peer group; 0: private */
    unsigned master;       /* the peer group that it is a slave of; 0: none */
    const char *type, *source;
};

/* The next mount in the list; what is no line of mountinfo is passed over. False: there is none. *line and *size are as those of
 * getline(3), freed by the caller; the strings lie in *line. Of two mounts at one place the later one covers the other. */
MUST_USE bool mountinfo_next(FILE *list, char **line, size_t *size, struct mountinfo *ret_mount);
