/* fs/fuse/ops_xattr.c — extended attributes. ACLs are not kept, and said so. */
#include <errno.h>
#include <string.h>

#include "fs/fuse/ops.h"

static int check_name(const char *name)
{
    if (strlen(name) > XATTR_NAME_BYTES_MAX)
        return -ERANGE;
    return strncmp(name, "system.", 7) == 0 ? -EOPNOTSUPP : 0;
}

void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size,
                 int flags)
{
    struct call c;
    struct outcome outcome;
    struct request request = {.kind = REQUEST_SETXATTR,
                              .ino = id_ino(id),
                              .name = name_span(name),
                              .value = {.data = (const uint8_t *)value, .size = size},
                              .xattr_flags = (uint32_t)flags};

    if (!call_begin(&c, req, "set attribute", id, name))
        return;
    int r = check_name(name);
    if (r == 0)
        r = size > XATTR_VALUE_BYTES_MAX ? -E2BIG : call_change(&c, &request, &outcome);
    call_error(&c, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
    struct call c;
    struct outcome outcome;
    struct request request = {
        .kind = REQUEST_REMOVEXATTR, .ino = id_ino(id), .name = name_span(name)};

    if (!call_begin(&c, req, "remove attribute", id, name))
        return;
    int r = check_name(name);
    if (r == 0)
        r = call_change(&c, &request, &outcome);
    call_error(&c, r);
}

/* Both readers: size 0 asks how much there is. */
static void reply(struct call *c, int r, const char *buffer, size_t size, size_t used)
{
    if (r < 0) {
        call_error(c, r);
        return;
    }
    if (size == 0)
        (void)fuse_reply_xattr(c->req, used);
    else
        (void)fuse_reply_buf(c->req, buffer, used);
    call_end(c, 0);
}

void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
    struct call c;
    char buffer[XATTR_VALUE_BYTES_MAX];
    size_t used = 0;

    if (!call_begin(&c, req, "read attribute", id, name))
        return;
    int r = check_name(name);
    if (r == 0)
        r = tree_getxattr(c.session->tree, id_ino(id), name_span(name), buffer,
                          MIN(size, sizeof buffer), &used);
    reply(&c, r, buffer, size, used);
}

void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
    struct call c;
    char buffer[XATTR_VALUE_BYTES_MAX];
    size_t used = 0;

    if (!call_begin(&c, req, "list attributes", id, NULL))
        return;
    int r = tree_listxattr(c.session->tree, id_ino(id), buffer, MIN(size, sizeof buffer), &used);
    reply(&c, r, buffer, size, used);
}
