/* client/cli/propagation.h — whether what is mounted below a directory appears in other mount namespaces.
 *
 * A reading of /proc/PID/mountinfo, see proc(5) and mount_namespaces(7). The mount that a directory lies on decides: as a member
 * of a peer group it passes on what is mounted below it to the members of that group and to the slaves of it.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "proto/base/check.h"

#define PROPAGATION_PATH_MAX 4095

struct propagation {
    char at[PROPAGATION_PATH_MAX + 1]; /* the mountpoint that the directory lies on */
    unsigned shared;                   /* its peer group; 0: private */
    unsigned master;                   /* the peer group that it is a slave of; 0: none */
};

/* Of the mount that path, absolute and without "..", lies on. -ENOENT: there is none in it. */
MUST_USE int propagation_read(FILE *mountinfo, const char *path, struct propagation *ret);
/* What is mounted below from appears below to. Not seen: a slave of a slave. */
bool propagation_reaches(const struct propagation *from, const struct propagation *to);
