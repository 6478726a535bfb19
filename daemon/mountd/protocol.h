/* daemon/mountd/protocol.h — what whiskfsd and whiskfs-mountd say to each other over a Unix socket (SOCK_SEQPACKET).
 *
 * One packet is one message, little-endian:
 *
 *     u16 version 1 | u16 type | i32 error | u32 flags | string name | string mountpoint      string: u16 size, bytes
 *
 * The daemon asks, whiskfs-mountd answers each request with one REPLY, in order; ACCESS comes unasked, after AUTOFS, and at
 * most 64 are unanswered at a time. The first REPLY, a welcome, has a name if AUTOFS is understood: MOUNTD_KNOWS_AUTOFS, so
 * that either side may be older than the other. Descriptors travel beside the packet
 * (SCM_RIGHTS): none or two, /dev/fuse and the ledger. A connection is one daemon; while there is one, another one is
 * answered REPLY -EBUSY and closed. A message that does not decode ends the connection.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"

#define MOUNTD_BYTES_MAX 2048
#define MOUNTD_NAME_MAX 255
#define MOUNTD_PATH_MAX 1023
#define MOUNTD_N_FDS 2
#define MOUNTD_KNOWS_AUTOFS "autofs"

enum mountd_type {
    MOUNTD_MOUNT =
        1, /* name, mountpoint, flags NOSUID…: mounts. -> two descriptors. -EEXIST: take it */
    MOUNTD_TAKE, /* name -> mountpoint, two descriptors. -ENOENT */
    MOUNTD_SERVE, /* name: the daemon answers its requests from now on. -ENOENT: given up meanwhile */
    MOUNTD_KEEP, /* name, mountpoint, two descriptors: of a mount that the daemon serves. -ENODEV: it is unmounted */
    MOUNTD_UNMOUNT, /* name, flags LAZY. -EBUSY, -ENOENT */
    MOUNTD_LIST, /* name: the first mount whose name comes after -> name, mountpoint, flags SERVED. -ENOENT: none */
    MOUNTD_REPLY,
    MOUNTD_AUTOFS, /* mountpoint: first access below it is told from now on; see autofs_open() */
    MOUNTD_ACCESS, /* name: somebody waits for it. Not answered by a REPLY */
    MOUNTD_ANSWER, /* name, error: 0: it is mounted. -ENOENT: nobody waits any more */
    MOUNTD_TYPE_END
};

#define MOUNTD_NOSUID 1u
#define MOUNTD_NODEV 2u
#define MOUNTD_LAZY 4u
#define MOUNTD_SERVED 8u
#define MOUNTD_FLAGS_ALL 15u

struct mountd_message {
    enum mountd_type type;
    int32_t error; /* REPLY: 0 or a negative errno */
    uint32_t flags;
    char name[MOUNTD_NAME_MAX + 1];
    char mountpoint[MOUNTD_PATH_MAX + 1];
};

/* -EBADMSG for anything that is not exactly one valid encoding: unknown versions, types, flags, positive errors, strings
 * that are too long or hold NUL, a name with '/' or ',', a mountpoint that is not absolute. Both may be empty. */
MUST_USE int mountd_decode(const void *data, size_t size, struct mountd_message *ret_message);
/* Returns how many bytes it wrote to data, which has room for MOUNTD_BYTES_MAX. */
size_t mountd_encode(const struct mountd_message *message, void *data);

/* Sends one message; fds NULL: without descriptors. Does not block: -EAGAIN. */
MUST_USE int mountd_send(int socket, const struct mountd_message *message, const int *fds);
/* Receives one message. ret_fds are the caller's to close, or -1 both. -ECONNRESET: the other side is gone; -EBADMSG;
 * -EAGAIN. */
MUST_USE int mountd_receive(int socket, struct mountd_message *ret_message,
                            int ret_fds[static MOUNTD_N_FDS]);
