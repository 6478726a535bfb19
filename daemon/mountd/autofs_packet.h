/* daemon/mountd/autofs_packet.h — what the kernel writes into the pipe of an autofs (linux/auto_fs.h, protocol 5).
 *
 * struct autofs_v5_packet, of this machine's byte order, one packet a read:
 *
 *     i32 version 5 | i32 type | u32 token | u32 dev | u64 ino | u32 uid gid pid tgid len | char name[256] | padding
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"

#define AUTOFS_PACKET_BYTES 304u
#define AUTOFS_NAME_MAX 255u

enum autofs_packet_type {
    AUTOFS_PACKET_MISSING = 3, /* of an indirect mount: somebody waits for name */
    AUTOFS_PACKET_EXPIRE = 4,  /* the kernel asks to unmount it */
};

struct autofs_packet {
    enum autofs_packet_type type;
    uint32_t token; /* what the answer names */
    char name[AUTOFS_NAME_MAX + 1];
};

/* -EBADMSG for anything that is not exactly one packet of an indirect mount whose name is one component. */
MUST_USE int autofs_packet_decode(const void *data, size_t size, struct autofs_packet *ret_packet);
