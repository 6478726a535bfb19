/* fs/fuse/notify.c — from applied changes to notifications. */
#include "fs/fuse/notify.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#include "fs/fuse/device.h"
#include "fs/fuse/state.h"
#include "proto/base/log.h"

#define IDS_MAX                                                                                    \
    32 /* generations of one inode; beyond them only the newest matter and their names have expired */

static void expire_names(struct session *s)
{
    if (!s->has_epoch)
        return;
    int r = fuse_lowlevel_notify_increment_epoch(s->fuse);
    if (r < 0 && r != -ENOTCONN && r != -ENODEV)
        log_debug("fuse", "cannot expire names: error %d volume=%s", r, s->name);
}

static void expire_attributes(struct session *s, uint64_t ino)
{
    uint64_t ids[IDS_MAX];
    unsigned n = 0;

    /* What only a daemon before knew was looked up with its first generation: others' names have expired since. */
    if (!node_ids(&s->nodes, ino, ids, IDS_MAX, &n) && s->is_resumed)
        ids[n++] = ino;
    for (unsigned i = 0; i < n; i++)
        (void)fuse_lowlevel_notify_inval_inode(s->fuse, ids[i], -1, 0);
}

static bool is_known(struct session *s, uint64_t ino)
{
    uint64_t id;
    unsigned n;

    return ino != 0 && (s->is_resumed || node_ids(&s->nodes, ino, &id, 1, &n));
}

/* Whether the kernel may remember, or be about to hear, a name that this change makes wrong. */
static bool concerns_names(struct session *s, const struct change *change)
{
    const struct request *request = &change->request;

    /* A reply under way may carry the state from before, of an inode that nobody knew until then. */
    if (atomic_load(&s->naming) > 0)
        return true;
    switch (request->kind) {
    case REQUEST_MAKE:
    case REQUEST_LINK:
    case REQUEST_UNLINK:
    case REQUEST_RMDIR:
        return is_known(s, request->parent);
    case REQUEST_RENAME:
        return is_known(s, request->parent) || is_known(s, request->new_parent);
    case REQUEST_PUBLISH: /* names lead to a new node */
        return is_known(s, change->ino);
    default:
        return false;
    }
}

static void note_content(struct session *s, const struct change *change)
{
    bool elsewhere = !host_equal(change->request.identity.host, s->self);

    if (change->request.kind != REQUEST_PUBLISH)
        return;
    node_published(&s->nodes, change->ino, change->index, elsewhere);
    session_used(s);
}

/* An inode that another host removed; what this host has open of it goes on. */
static void note_gone(struct session *s, const struct tree_effect *effect)
{
    struct inode before = effect->before;

    if (effect->gone != 0 && effect->gone != before.ino)
        before = (struct inode){.ino = effect->gone};
    if (effect->gone != 0 || (effect->before.ino != 0 && effect->after.ino == 0))
        (void)!node_unlinked(&s->nodes, &before, false);
}

static void changed(struct volume_watcher *watcher, const struct change *change,
                    const struct tree_effect *effect)
{
    struct session *s = container_of(watcher, struct session, watcher);

    note_content(s, change);
    note_gone(s, effect);
    if (concerns_names(s, change))
        expire_names(s);
    for (size_t i = 0; i < N_ELEMENTS(effect->touched) && effect->touched[i] != 0; i++)
        expire_attributes(s, effect->touched[i]);
    if (change->ino != 0)
        expire_attributes(s, change->ino);
}

void notify_watch(struct session *s)
{
    s->watcher = (struct volume_watcher){.changed = changed, .session = s->id};
    volume_watch(s->volume, &s->watcher);
}

static bool expire_one(void *ctx, const struct inode *inode)
{
    struct session *s = ctx;

    (void)fuse_lowlevel_notify_inval_inode(s->fuse, inode->ino, -1, 0);
    return true;
}

void notify_all(struct session *s)
{
    AUTO_FREE uint64_t *ids = NULL;
    size_t n;

    expire_names(s);
    if (s->is_resumed)
        (void)!tree_each(s->tree, ROOT_INO, expire_one, s);
    if (node_all_ids(&s->nodes, &ids, &n) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        (void)fuse_lowlevel_notify_inval_inode(s->fuse, ids[i], -1, 0);
}

/* ---- a mount that nobody serves yet ---- */

static int expire_record(void *ctx, struct ledger_slot *slot)
{
    const struct session_mount *mount = ctx;
    const struct fuse_notify_inval_inode_out body = {.ino = slot->id, .off = -1};
    const struct fuse_out_header head = {.len = sizeof head + sizeof body,
                                         .error = FUSE_NOTIFY_INVAL_INODE};
    const struct iovec parts[] = {{(void *)(uintptr_t)&head, sizeof head},
                                  {(void *)(uintptr_t)&body, sizeof body}};

    (void)!writev(mount->fd, parts, 2); /* what the kernel does not know needs nothing */
    return 0;
}

void session_mount_expire(const struct session_mount *mount)
{
    struct session_mount expired = *mount;

    (void)!device_expire_names(mount->fd);
    (void)!ledger_each(mount->ledger, LEDGER_NODE, expire_record, &expired);
}
