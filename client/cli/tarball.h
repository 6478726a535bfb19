/* client/cli/tarball.h — a directory tree as a tar stream (pax), with all that a volume keeps of a file: owners by number,
 * times to the nanosecond, extended attributes, ACLs, holes, hard links, devices and fifos. GNU tar reads and writes the
 * same (--acls --xattrs). A socket has no place in a tar stream.
 *
 * Runs on one thread and changes the working directory while it works.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"

struct tarball {
    int fd;                /* the stream */
    const char *directory; /* the tree */
    int stop_fd;           /* readable: stop with -ECANCELED; -1: never */
    void (*report)(void *ctx, const struct tarball *tarball); /* now and then; or NULL */
    void *ctx;

    uint64_t bytes;     /* of content so far, holes included */
    uint64_t n_entries; /* so far: files, directories, links … */
    uint64_t n_sockets; /* left out */
    uint64_t n_cut;     /* files that became shorter while they were read: zeros follow */
    char error[512];    /* why it failed: a sentence */
};

/* Negative errno: the stream ends early. Files that go away meanwhile are left out; one that grows is as long as it was. */
MUST_USE int tarball_write(struct tarball *tarball);
/* Negative errno, also where something of an entry cannot be restored: a part of the tree is there. What lies there
 * already is replaced. No entry gets out of the directory. */
MUST_USE int tarball_read(struct tarball *tarball);
