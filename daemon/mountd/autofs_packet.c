#include "daemon/mountd/autofs_packet.h"

#include <assert.h>
#include <errno.h>
#include <linux/auto_fs.h>
#include <string.h>

#include "proto/wire.h"

#define VERSION 5u

static_assert(sizeof(struct autofs_v5_packet) == AUTOFS_PACKET_BYTES, "a pipe holds these");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "wire.h reads the kernel's integers");
static_assert(AUTOFS_PACKET_MISSING == (int)autofs_ptype_missing_indirect, "linux/auto_fs.h");
static_assert(AUTOFS_PACKET_EXPIRE == (int)autofs_ptype_expire_indirect, "linux/auto_fs.h");

static bool is_component(struct span name)
{
    bool is_dots =
        name.data[0] == '.' && (name.size == 1 || (name.size == 2 && name.data[1] == '.'));
    return !is_dots && !memchr(name.data, '/', name.size) && !memchr(name.data, '\0', name.size);
}

int autofs_packet_decode(const void *data, size_t size, struct autofs_packet *ret_packet)
{
    struct reader r = reader_over(data, size);
    uint32_t version = get_u32(&r), type = get_u32(&r), token = get_u32(&r);
    (void)get_bytes(&r, 4 + 8 + 4 * 4); /* dev, ino, uid, gid, pid, tgid */
    uint32_t length = get_u32(&r);
    struct span name = get_bytes(&r, AUTOFS_NAME_MAX + 1);
    (void)get_bytes(&r, 4);
    if (!reader_finished(&r) || version != VERSION || length == 0 || length > AUTOFS_NAME_MAX ||
        (type != AUTOFS_PACKET_MISSING && type != AUTOFS_PACKET_EXPIRE))
        return -EBADMSG;
    name.size = length;
    if (!is_component(name))
        return -EBADMSG;
    *ret_packet = (struct autofs_packet){.type = (enum autofs_packet_type)type, .token = token};
    memcpy(ret_packet->name, name.data, name.size);
    return 0;
}
