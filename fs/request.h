/* fs/request.h — requests to change a volume, and the changes that the log records.
 *
 * A request says what a caller wants. The home validates it against its tree and turns it into a change: the same
 * fields made absolute (modes and owners as they will be stored), and the inode number and time it decided. The
 * change is the payload of one log entry; applying it is deterministic. Between hosts a request travels in the same
 * encoding. All strings and blobs point into the caller's or the decoder's buffer; nothing here owns memory.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fs/identity.h"
#include "fs/inode.h"
#include "proto/base/check.h"
#include "proto/wire.h"

enum request_kind {
    REQUEST_MAKE =
        1, /* ino (decided) <- parent, name, mode, umask, uid, gid, rdev, target. mkdir, mknod, symlink, create */
    REQUEST_LINK,        /* parent, name -> ino */
    REQUEST_UNLINK,      /* parent, name; not a directory */
    REQUEST_RMDIR,       /* parent, name */
    REQUEST_RENAME,      /* parent, name -> new_parent, new_name; rename_flags */
    REQUEST_SETATTR,     /* ino; set: any of SET_*; never the size: that is content, see PUBLISH */
    REQUEST_SETXATTR,    /* ino, name, value; xattr_flags as of setxattr(2) */
    REQUEST_REMOVEXATTR, /* ino, name */
    REQUEST_OPEN_WRITE, /* ino: the first open for writing on identity.host takes the write ownership */
    REQUEST_PUBLISH, /* ino, size, occupied, mtime_ns, base_version: the content as it now is on identity.host */
    REQUEST_CLOSE_WRITE, /* ino: the last writer on identity.host is gone */
    REQUEST_KEEP, /* ino, base_version: identity.host, the keeper, now has every block of that version */
    REQUEST_DROP,    /* ino: an unlinked inode that identity.host held open is closed */
    REQUEST_SESSION, /* identity.host opened the volume anew: its older sessions' results, write
                           * ownerships and open-unlinked inodes end */
    REQUEST_CONFIGURE, /* limit_bytes, limit_inodes, copies (0: as it is); the first entry of every volume: home, mode,
                        * uid, gid of the root */
    REQUEST_STOP, /* the home decides nothing more: home is to go on with epoch. Only by volume_stop */
    REQUEST_START, /* identity.host is the home from here on, with epoch. Only by volume_start */
    REQUEST_KIND_END
};

/* flags */
#define REQUEST_HOLD                                                                               \
    1u /* UNLINK, RENAME: the inode that loses its last name is open on identity.host: keep it */
#define REQUEST_FOR_WRITE 2u  /* MAKE: the file is made open for writing by identity.host */
#define REQUEST_INCOMPLETE 4u /* PUBLISH: some blocks are still the base version's, at its keeper */
#define REQUEST_DURABLE 8u    /* answer only when the entry is durable at the home */
#define REQUEST_LAST_CLOSE 16u /* PUBLISH: also does what CLOSE_WRITE does */
#define REQUEST_GOES_ON                                                                            \
    32u /* SESSION: of a mount that outlived its daemon: its ownerships and inodes stay */
#define REQUEST_CLEAR_SETGID                                                                       \
    64u /* SETXATTR of an access ACL: by somebody outside the file's group */
#define REQUEST_NAMELESS                                                                           \
    128u /* MAKE: a file without a name, open on identity.host until DROP or LINK */
/* CONFIGURE: whether set-id programs and device files have an effect where the volume is mounted; neither: as it is */
#define REQUEST_SUID 256u
#define REQUEST_NO_SUID 512u
#define REQUEST_DEV 1024u
#define REQUEST_NO_DEV 2048u
#define REQUEST_FLAGS_ALL 4095u

/* set of SETATTR */
#define SET_MODE 1u
#define SET_UID 2u
#define SET_GID 4u
#define SET_ATIME 8u
#define SET_MTIME 16u
#define SET_ATIME_NOW 32u /* the home's clock decides */
#define SET_MTIME_NOW 64u
#define SET_ALL 127u

/* Identities that were answered since this session's last request; their results leave the state. */
#define REQUEST_RETIRE_MAX 16

struct request {
    enum request_kind kind;
    struct identity identity;
    uint32_t flags;
    uint64_t ino;
    uint64_t parent, new_parent;
    struct span name, new_name; /* not NUL-terminated */
    struct span value;          /* SETXATTR: value. MAKE: a symlink's target */
    uint32_t mode, uid, gid, rdev;
    uint32_t umask; /* MAKE: what the directory's default ACL, if it has one, takes the place of */
    uint32_t set;
    uint32_t rename_flags; /* RENAME_NOREPLACE, RENAME_EXCHANGE of renameat2(2) */
    uint32_t xattr_flags;
    int64_t atime_ns, mtime_ns;
    uint64_t size, occupied;
    uint64_t base_version;
    uint64_t limit_bytes, limit_inodes;
    uint32_t copies;
    uint64_t home;  /* CONFIGURE, STOP, START: host id of the home */
    uint64_t epoch; /* STOP, START: term << 32 | turn */
    uint32_t n_retire;
    uint64_t retire[REQUEST_RETIRE_MAX];
};

struct change {
    struct request request;
    uint64_t index;  /* of its log entry */
    uint64_t ino;    /* decided: the inode made or mainly concerned */
    int64_t time_ns; /* decided: the change's time */
};

struct outcome {
    int error;      /* 0 or a negative errno, for the caller's kernel */
    uint64_t index; /* of the log entry; 0 with an error */
    uint64_t ino;   /* the inode made, linked, found or changed */
};

/* No encoded request or change is larger than this. */
#define REQUEST_BYTES_MAX (XATTR_VALUE_BYTES_MAX + 4096)

/* put_: sticky bad when it does not fit. get_: -EBADMSG for anything that is not exactly one valid encoding:
 * unknown kinds, flags or set bits, names that are empty, too long, "." or "..", or that hold '/' or NUL. */
void put_request(struct writer *w, const struct request *request);
MUST_USE int get_request(struct reader *r, struct request *ret_request);
void put_change(struct writer *w, const struct change *change);
MUST_USE int get_change(struct reader *r, struct change *ret_change);

const char *request_kind_name(enum request_kind kind);
