/* fs/inode.h — one inode as the tree stores it and every host sees it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/identity.h"

#define ROOT_INO 1ULL
#define NAME_BYTES_MAX 255
#define XATTR_NAME_BYTES_MAX 255
#define XATTR_VALUE_BYTES_MAX 65536
#define SYMLINK_BYTES_MAX 4095
#define INO_BITS 48 /* a node id is an inode number and 16 bits of content generation */

struct inode {
    uint64_t ino;
    uint64_t
        parent; /* directories: the directory they are in; the root its own. A file that was made without a
                       * name and has none yet: the one that it was made in. Others: 0 */
    uint64_t size;     /* bytes, as published */
    uint64_t occupied; /* bytes on the publisher's disk: what counts against the volume's limit */
    uint64_t version;  /* content version: the log index of the entry that published it */
    struct host_id
        keeper; /* regular files: the host that has this version's bytes; NO_HOST: nothing was written */
    struct host_id writer; /* the host that has it open for writing, or NO_HOST */
    bool keeper_complete;  /* the keeper has every block of this version itself */
    mode_t mode;           /* type and permissions */
    uint32_t nlink, uid, gid, rdev;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since the epoch */
};
