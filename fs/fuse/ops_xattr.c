/* fs/fuse/ops_xattr.c — extended attributes, ACLs among them. Who may see or set which is the kernel's to check. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/acl.h"
#include "fs/fuse/ops.h"

#define TRUSTED "trusted."

static int check_name(const char *name)
{
    static const char *const namespaces[] = {"user.", TRUSTED, "security."};

    if (strlen(name) > XATTR_NAME_BYTES_MAX)
        return -ERANGE;
    for (size_t i = 0; i < N_ELEMENTS(namespaces); i++) {
        if (strncmp(name, namespaces[i], strlen(namespaces[i])) == 0)
            return name[strlen(namespaces[i])] ? 0 : -EINVAL;
    }
    return acl_is_access(name_span(name)) || acl_is_default(name_span(name)) ? 0 : -EOPNOTSUPP;
}

static bool is_in_group(fuse_req_t req, gid_t gid)
{
    gid_t groups[1024];
    int n = fuse_req_getgroups(req, N_ELEMENTS(groups), groups);

    for (int i = 0; i < MIN(n, (int)N_ELEMENTS(groups)); i++) {
        if (groups[i] == gid)
            return true;
    }
    return fuse_req_ctx(req)->gid == gid;
}

/* As chmod(2): nobody but root makes a file run as a group that he is not in. */
static bool clears_setgid(struct call *c, const char *name)
{
    struct inode inode;

    if (!acl_is_access(name_span(name)) || fuse_req_ctx(c->req)->uid == 0 ||
        tree_get(c->session->tree, id_ino(c->id), &inode) < 0)
        return false;
    return (inode.mode & S_ISGID) && !is_in_group(c->req, inode.gid);
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
    if (r == 0 && clears_setgid(&c, name))
        request.flags = REQUEST_CLEAR_SETGID;
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

/* Names that only the system's administrator may know of, out of what used bytes at buffer list. */
static size_t without_trusted(char *buffer, size_t used)
{
    size_t kept = 0;

    for (size_t at = 0, n; at < used; at += n) {
        n = strlen(buffer + at) + 1;
        if (strncmp(buffer + at, TRUSTED, strlen(TRUSTED)) == 0)
            continue;
        memmove(buffer + kept, buffer + at, n);
        kept += n;
    }
    return kept;
}

void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
    struct call c;
    char buffer[XATTR_VALUE_BYTES_MAX];
    size_t used = 0;

    if (!call_begin(&c, req, "list attributes", id, NULL))
        return;
    int r = tree_listxattr(c.session->tree, id_ino(id), buffer, sizeof buffer, &used);
    if (r == 0 && fuse_req_ctx(req)->uid != 0)
        used = without_trusted(buffer, used);
    if (r == 0 && size > 0 && used > size)
        r = -ERANGE;
    reply(&c, r, buffer, size, used);
}
