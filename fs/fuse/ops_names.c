/* fs/fuse/ops_names.c — names: looking them up, making, moving and removing them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/ops.h"
#include "proto/base/clock.h"

static int check_name(const char *name)
{
    return strlen(name) > NAME_BYTES_MAX ? -ENAMETOOLONG : 0;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct call c;
    struct inode inode;

    if (!call_begin(&c, req, "look up", parent, name))
        return;
    call_naming(&c);
    int r = check_name(name);
    if (r == 0)
        r = tree_lookup(c.session->tree, id_ino(parent), name_span(name), &inode);
    if (r == -ENOENT)
        call_negative(&c);
    else if (r < 0)
        call_error(&c, r);
    else
        call_entry(&c, &inode);
}

void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
    struct session *s = fuse_req_userdata(req);

    node_forget(&s->nodes, id, nlookup);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct session *s = fuse_req_userdata(req);

    for (size_t i = 0; i < count; i++)
        node_forget(&s->nodes, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* ---- making ---- */

/* What was made here, and removed by another host before it was looked at: it was there, so the caller hears so. The
 * removal has moved the epoch on; the kernel will not use the name again without asking. */
static struct inode made_and_gone(const struct request *request, uint64_t ino)
{
    int64_t now = clock_real_ns();

    return (struct inode){.ino = ino,
                          .mode = request->mode & ~request->umask,
                          .nlink = S_ISDIR(request->mode) ? 2 : 1,
                          .uid = request->uid,
                          .gid = request->gid,
                          .rdev = request->rdev,
                          .size = request->value.size,
                          .atime_ns = now,
                          .mtime_ns = now,
                          .ctime_ns = now,
                          .btime_ns = now};
}

/* A regular file that is made without being opened is kept here from now on. If its own file cannot be made, the first
 * open tries again. */
static void make_content(struct session *s, const struct request *request, uint64_t ino)
{
    struct content *content;

    if (request->kind == REQUEST_MAKE && S_ISREG(request->mode) &&
        content_make(s->store, ino, &content) == 0)
        content_put(content);
}

/* Replies with the inode that request made or linked. */
static void make(struct call *c, struct request *request)
{
    struct outcome outcome = {0};
    struct inode inode;

    call_naming(c);
    int r = check_name(c->name);
    if (r == 0)
        r = call_change(c, request, &outcome);
    if (r == 0)
        r = tree_get(c->session->tree, outcome.ino, &inode);
    if (r == 0 && !c->is_resent)
        make_content(c->session, request, outcome.ino);
    if (r == 0 && request->kind == REQUEST_LINK)
        node_linked(&c->session->nodes, inode.ino);
    if (r == -ENOENT && outcome.error == 0 && outcome.ino != 0 && request->kind == REQUEST_MAKE) {
        inode = made_and_gone(request, outcome.ino);
        r = 0;
    }
    if (r < 0)
        call_error(c, r);
    else
        call_entry(c, &inode);
}

static struct request make_request(const struct call *c, mode_t mode)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(c->req);

    return (struct request){.kind = REQUEST_MAKE,
                            .parent = id_ino(c->id),
                            .name = name_span(c->name),
                            .mode = mode,
                            .umask = ctx->umask & 0777,
                            .uid = ctx->uid,
                            .gid = ctx->gid};
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct call c;

    if (!call_begin(&c, req, "make", parent, name))
        return;
    struct request request = make_request(&c, mode & S_IFMT ? mode : mode | S_IFREG);
    request.rdev = (uint32_t)rdev;
    make(&c, &request);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct call c;

    if (!call_begin(&c, req, "make directory", parent, name))
        return;
    struct request request = make_request(&c, S_IFDIR | (mode & 07777));
    make(&c, &request);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct call c;

    if (!call_begin(&c, req, "make symbolic link", parent, name))
        return;
    struct request request = make_request(&c, S_IFLNK | 0777);
    request.value = name_span(target);
    make(&c, &request);
}

void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
    struct call c;

    if (!call_begin(&c, req, "link", parent, name))
        return;
    struct request request = {
        .kind = REQUEST_LINK, .ino = id_ino(id), .parent = id_ino(parent), .name = name_span(name)};
    make(&c, &request);
}

/* ---- removing and moving ---- */

/* The inode behind a name that is about to lose it; number 0 if there is none. */
static struct inode target_of(struct call *c, uint64_t parent, const char *name)
{
    struct inode inode;

    int r = tree_lookup(c->session->tree, id_ino(parent), name_span(name), &inode);
    return r == 0 ? inode : (struct inode){.ino = 0};
}

static void drop(struct session *s, uint64_t ino)
{
    struct request request = {.kind = REQUEST_DROP, .ino = ino};
    struct outcome outcome;

    if (session_change(s, &request, &outcome) < 0)
        return; /* the next session of this host ends it */
}

/* After a name of what before was went: what is open of it goes on without the tree. */
static void note_unlinked(struct session *s, const struct inode *before, bool held)
{
    struct inode inode;

    if (before->ino == 0)
        return;
    int r = tree_get(s->tree, before->ino, &inode);
    if (r == 0 && inode.nlink > 0)
        return;
    if (node_unlinked(&s->nodes, before, held && r == 0))
        drop(s, before->ino);
}

static void remove_name(struct call *c, enum request_kind kind)
{
    struct session *s = c->session;
    struct inode loses = target_of(c, c->id, c->name);
    bool held = kind == REQUEST_UNLINK && loses.ino != 0 && node_is_open(&s->nodes, loses.ino);
    struct request request = {.kind = kind,
                              .flags = held ? REQUEST_HOLD : 0,
                              .parent = id_ino(c->id),
                              .name = name_span(c->name)};
    struct outcome outcome;

    int r = call_change(c, &request, &outcome);
    if (r == 0)
        note_unlinked(s, &loses, held);
    call_error(c, r);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct call c;

    if (call_begin(&c, req, "remove", parent, name))
        remove_name(&c, REQUEST_UNLINK);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct call c;

    if (call_begin(&c, req, "remove directory", parent, name))
        remove_name(&c, REQUEST_RMDIR);
}

static int rename_to(struct call *c, uint64_t new_parent, const char *new_name, unsigned flags)
{
    struct session *s = c->session;
    struct inode loses = {.ino = 0};
    if (!(flags & RENAME_EXCHANGE))
        loses = target_of(c, new_parent, new_name);
    bool held = loses.ino != 0 && node_is_open(&s->nodes, loses.ino);
    struct request request = {.kind = REQUEST_RENAME,
                              .flags = held ? REQUEST_HOLD : 0,
                              .parent = id_ino(c->id),
                              .name = name_span(c->name),
                              .new_parent = id_ino(new_parent),
                              .new_name = name_span(new_name),
                              .rename_flags = flags};
    struct outcome outcome;

    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    int r = check_name(new_name);
    if (r == 0)
        r = call_change(c, &request, &outcome);
    if (r == 0)
        note_unlinked(s, &loses, held);
    return r;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
    struct call c;

    if (call_begin(&c, req, "rename", parent, name))
        call_error(&c, rename_to(&c, new_parent, new_name, flags));
}

void op_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct call c;
    char target[SYMLINK_BYTES_MAX + 1];
    size_t used;

    if (!call_begin(&c, req, "read link", id, NULL))
        return;
    int r = tree_readlink(c.session->tree, id_ino(id), target, sizeof target - 1, &used);
    if (r < 0) {
        call_error(&c, r);
        return;
    }
    target[used] = '\0';
    (void)fuse_reply_readlink(req, target);
    call_end(&c, 0);
}
