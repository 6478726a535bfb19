/* fs/fuse/live.c — from the backing file to the log. */
#include "fs/fuse/live.h"
#include "fs/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fuse/tune.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* How long an entry that is being applied may take to show. */
#define SETTLE_NS (100 * NS_PER_MS)

#define TICK_NS (20 * NS_PER_MS)

#define WRITER_GRACE_NS (500 * NS_PER_MS)

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static struct timespec omit_or(bool omit, int64_t ns)
{
    if (omit)
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;
    return rest < 0 ? (struct timespec){.tv_sec = s - 1, .tv_nsec = rest + NS_PER_S}
                    : (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

/* An inode that is gone has nothing to publish and nobody to publish to. */
static bool is_gone(struct node *node)
{
    SCOPED_LOCK(node->lock);
    return node->gone;
}

/* ---- content ---- */

static bool is_at(struct session *s, struct node *node, const struct inode *inode)
{
    SCOPED_LOCK(node->lock);

    if (node->stale)
        return false;
    if (inode->version == node->version)
        return true;
    if (inode->version > node->version && !(node->writing && host_equal(inode->keeper, s->self)))
        node->stale = true;
    return !node->stale;
}

static void set_content(struct node *node, struct content *content)
{
    SCOPED_LOCK(node->lock);
    node->content = content;
}

/* The node's content as the tree has it now. -ENOENT: the inode, or (the tree was read a moment too early) its copy. */
static int get_content(struct session *s, struct node *node, struct content **ret_content)
{
    struct inode inode;

    int r = tree_get(s->tree, node->ino, &inode);
    if (r == -ENOENT)
        return -ESTALE;
    if (r < 0)
        return r;
    if (!is_at(s, node, &inode))
        return -ESTALE;
    return node->content ? 0 : content_get(s->store, s->self, &inode, ret_content);
}

/* Made here, but its answer or the daemon was lost before its file was: what is empty is not lost. */
static int make_empty(struct session *s, struct node *node, struct content **ret_content)
{
    struct inode inode;

    int r = tree_get(s->tree, node->ino, &inode);
    if (r < 0)
        return r;
    if (inode.size > 0 || !host_equal(inode.keeper, s->self))
        return -ENOENT;
    return content_make(s->store, node->ino, ret_content);
}

/* An entry takes copies out of the store before the tree shows what it did. So a copy that is missing is lost only if
 * it is still missing after the entry that may be under way. */
static int get_settled_content(struct call *c, struct node *node, struct content **ret_content)
{
    struct volume *volume = c->session->volume;
    bool is_moving = true;

    for (;;) {
        uint64_t applied = volume_applied(volume);
        int r = get_content(c->session, node, ret_content);
        if (r != -ENOENT)
            return r;
        if (!is_moving || clock_mono_ns() > c->deadline_ns)
            break;
        is_moving = volume_wait_applied(volume, applied + 1, clock_mono_ns() + SETTLE_NS);
    }
    if (make_empty(c->session, node, ret_content) == 0)
        return 0;
    log_error("fuse", "this host's own copy of a file is lost volume=%s inode=%" PRIu64,
              c->session->name, node->ino);
    return -EIO;
}

int live_use(struct call *c, struct node *node)
{
    struct content *content = NULL;

    if (node->content && is_gone(node))
        return 0;
    int r = get_settled_content(c, node, &content);
    if (r == 0 && content)
        set_content(node, content);
    return r;
}

void live_unuse(struct node *node)
{
    struct content *content = NULL;
    {
        SCOPED_LOCK(node->lock);
        if (node->n_open == 0 && !node->writing)
            content = TAKE(node->content);
    }
    if (content)
        content_put(content);
}

/* ---- becoming the writer ---- */

/* A clock of whole ticks may give the next write the time that the file has now. */
static bool is_fresh(const struct stat *st)
{
    return clock_real_ns() - ns_of(st->st_mtim) < TICK_NS;
}

/* What the backing file looks like while everything in it is published. */
static void set_sample(struct node *node, const struct stat *st, bool fresh)
{
    SCOPED_LOCK(node->lock);

    node->sample_size = (uint64_t)st->st_size;
    node->sample_mtime_ns = ns_of(st->st_mtim);
    node->sample_is_fresh = fresh;
}

static int sample(struct session *s, struct node *node)
{
    struct stat st;
    int fd = content_fd(node->content);

    if (s->backing_clock == CLOCK_UNKNOWN)
        s->backing_clock = backing_clock_of(fd);
    node_set_dirty(node, false);
    int r = disk_stat(fd, &st);
    if (r < 0)
        return r;
    set_sample(node, &st, is_fresh(&st));
    return 0;
}

/* The backing file of a drawn copy is as old as its arrival; from here on its times are the file's. */
static int align_times(struct node *node, const struct inode *inode)
{
    struct stat st;
    int fd = content_fd(node->content);

    int r = disk_stat(fd, &st);
    if (r < 0)
        return r;
    if (ns_of(st.st_mtim) == inode->mtime_ns)
        return 0;
    const struct timespec times[2] = {omit_or(true, 0), omit_or(false, inode->mtime_ns)};
    return disk_set_times(fd, times);
}

static int begin_writing(struct session *s, struct node *node, const struct inode *inode)
{
    int r = align_times(node, inode);
    if (r == 0)
        r = sample(s, node);
    if (r < 0)
        return r;
    {
        SCOPED_LOCK(node->lock);
        node->writing = true;
    }
    quota_join(&s->quota, node, inode->occupied);
    session_writes(s);
    return 0;
}

int live_made(struct session *s, struct node *node, const struct inode *inode)
{
    struct content *content;

    int r = content_make(s->store, inode->ino, &content);
    if (r == 0) {
        set_content(node, content);
        node->undurable = true;
        r = begin_writing(s, node, inode);
    }
    if (r < 0) { /* the write ownership came with the making */
        node->unsure = true;
        closer_add(&s->closer, node);
    }
    return r;
}

void live_resume(struct session *s, struct node *node, const struct inode *inode, bool is_dirty)
{
    const struct stat st = {.st_size = (off_t)inode->size,
                            .st_mtim = omit_or(false, inode->mtime_ns)};

    if (s->backing_clock == CLOCK_UNKNOWN)
        s->backing_clock = backing_clock_of(content_fd(node->content));
    set_sample(node, &st, true);
    node->undurable = true;
    {
        SCOPED_LOCK(node->lock);
        node->writing = true;
        node->dirty = is_dirty;
    }
    quota_join(&s->quota, node, inode->occupied);
}

/* Takes the ownership back that did not lead to writing. */
static void abandon(struct session *s, uint64_t ino)
{
    struct request request = {.kind = REQUEST_CLOSE_WRITE, .ino = ino};
    struct outcome outcome;

    if (session_change(s, &request, &outcome) < 0)
        log_debug("fuse", "cannot give the write ownership back volume=%s inode=%" PRIu64, s->name,
                  ino);
}

static int own_content(struct session *s, struct node *node, struct inode *ret_inode)
{
    int r = tree_get(s->tree, node->ino, ret_inode);
    if (r < 0)
        return r;
    if (!is_at(s, node, ret_inode))
        return -ESTALE;
    return content_own(node->content);
}

/* True: nobody writes it any more. */
static bool wait_for_writer(struct session *s, uint64_t ino, int64_t deadline_ns)
{
    struct inode inode;

    for (;;) {
        uint64_t applied = volume_applied(s->volume);
        if (tree_get(s->tree, ino, &inode) < 0 || host_equal(inode.writer, NO_HOST))
            return true;
        if (!volume_wait_applied(s->volume, applied + 1, deadline_ns))
            return false;
    }
}

/* The kernel tells the other host of its last close after close(2) has returned: whoever comes next waits that long. */
static int ask_to_write(struct session *s, uint64_t ino)
{
    struct request request = {.kind = REQUEST_OPEN_WRITE, .ino = ino};
    struct outcome outcome;
    int64_t deadline_ns = clock_mono_ns() + WRITER_GRACE_NS;

    int r = session_change(s, &request, &outcome);
    while (r == -EBUSY && wait_for_writer(s, ino, deadline_ns) && clock_mono_ns() < deadline_ns)
        r = session_change(s, &request, &outcome);
    return r;
}

int live_check(struct session *s, struct node *node)
{
    return store_is_damaged(s->store, node->ino, 0, UINT64_MAX) ? -EIO : 0;
}

int live_write(struct call *c, struct node *node)
{
    struct session *s = c->session;
    struct inode inode;

    if (node->writing)
        return 0;
    int r = ask_to_write(s, node->ino);
    if (r == -ENOENT)
        return -ESTALE;
    if (r < 0 && r != -EBUSY) {
        node->unsure = true;
        closer_add(&s->closer, node);
    }
    if (r < 0)
        return r;
    node->unsure = false;
    r = own_content(s, node, &inode);
    if (r == 0)
        r = begin_writing(s, node, &inode);
    if (r < 0)
        abandon(s, node->ino);
    return r == -ENOENT ? -ESTALE : r; /* unlinked meanwhile: the kernel looks the name up again */
}

/* ---- publishing ---- */

static bool is_changed(struct session *s, const struct node *node, bool dirty,
                       const struct stat *st)
{
    if (dirty || (uint64_t)st->st_size != node->sample_size ||
        ns_of(st->st_mtim) != node->sample_mtime_ns)
        return true;
    return s->backing_clock == CLOCK_COARSE && node->n_write > 0 && node->n_passthrough > 0 &&
           node->sample_is_fresh;
}

static void set_version_locked(struct node *node, uint64_t version)
{
    node->version = MAX(node->version, version);
    if (node->record)
        atomic_store(&node->record->version, node->version);
}

/* What the next version is built upon. A version that the tree has from this host is of this very file, even if its
 * answer never came. */
static uint64_t base_version(struct session *s, struct node *node)
{
    struct inode inode;
    bool is_ours = tree_get(s->tree, node->ino, &inode) == 0 && host_equal(inode.keeper, s->self);
    SCOPED_LOCK(node->lock);

    if (is_ours && node->writing)
        set_version_locked(node, inode.version);
    return node->version;
}

/* Somebody else's version is in the tree. If not, a publication that came too late for it came from here, and its
 * entry is still on its way. */
static bool is_overtaken(struct session *s, struct node *node)
{
    struct inode inode;

    int r = tree_get(s->tree, node->ino, &inode);
    return r == -ENOENT || (r == 0 && inode.version > base_version(s, node));
}

static void published(struct session *s, struct node *node, const struct stat *st, bool fresh,
                      const struct outcome *outcome, uint64_t occupied)
{
    {
        SCOPED_LOCK(node->lock);
        set_version_locked(node, outcome->index);
    }
    node_note_dirty(node);
    set_sample(node, st, fresh);
    quota_published(&s->quota, node, occupied);
}

static int publish(struct session *s, struct node *node, uint32_t flags, const struct stat *st)
{
    struct outcome outcome;
    bool was_fresh = is_fresh(st);
    struct request request = {.kind = REQUEST_PUBLISH,
                              .flags = flags,
                              .ino = node->ino,
                              .size = (uint64_t)st->st_size,
                              .occupied = content_occupied(node->content),
                              .mtime_ns = ns_of(st->st_mtim),
                              .base_version = base_version(s, node)};

    if (!content_is_complete(node->content))
        request.flags |= REQUEST_INCOMPLETE;
    quota_publishing(&s->quota, node);
    int r = session_change(s, &request, &outcome);
    if (r == 0) {
        published(s, node, st, was_fresh, &outcome, request.occupied);
        return 0;
    }
    quota_published(&s->quota, node, node->published_bytes);
    if (r == -ENOENT && is_gone(node))
        return 0;
    node_set_dirty(node, true);
    return r;
}

int live_publish(struct session *s, struct node *node, uint32_t flags, bool *ret_published)
{
    struct stat st;
    bool is_published = false;

    /* A write from here on is the next publish's. */
    bool dirty = node->writing && atomic_exchange(&node->dirty, false);
    int r = node->writing ? disk_stat(content_fd(node->content), &st) : 0;
    if (r < 0)
        return r;
    if (node->writing && is_changed(s, node, dirty, &st)) {
        r = publish(s, node, flags, &st);
        if (r < 0)
            return r;
        is_published = true;
        node->undurable = !(flags & REQUEST_DURABLE);
    }
    if (ret_published)
        *ret_published = is_published;
    return 0;
}

/* What was opened for writing and not changed is again a copy of what another host keeps. */
static void give_back(struct session *s, struct node *node)
{
    struct inode inode;

    if (tree_get(s->tree, node->ino, &inode) < 0 || inode.version != base_version(s, node) ||
        host_equal(inode.keeper, s->self) || host_equal(inode.writer, s->self))
        return;
    int r = store_demote(s->store, node->ino, inode.version);
    if (r < 0) /* the next ownership replaces it */
        log_debug("fuse", "cannot give content back: %s volume=%s inode=%" PRIu64, strerror(-r),
                  s->name, node->ino);
}

static int close_write(struct session *s, struct node *node)
{
    struct request request = {.kind = REQUEST_CLOSE_WRITE, .ino = node->ino};
    struct outcome outcome;

    int r = session_change(s, &request, &outcome);
    if (r == 0)
        give_back(s, node);
    return r == -ENOENT ? 0 : r;
}

/* An ownership that nobody here uses. */
static int end_unsure(struct session *s, struct node *node)
{
    int r = node->unsure ? close_write(s, node) : 0;
    node->unsure = node->unsure && r < 0;
    return r;
}

int live_end_write(struct session *s, struct node *node)
{
    bool is_published;

    if (!node->writing)
        return end_unsure(s, node);
    int r = live_publish(s, node, REQUEST_LAST_CLOSE, &is_published);
    if (r == 0 && !is_published)
        r = close_write(s, node);
    /* What was overtaken is not to be published any more, and the ownership went with it. */
    if (r == 0 || (r == -ESTALE && is_overtaken(s, node)))
        live_abandon(s, node);
    return r;
}

void live_abandon(struct session *s, struct node *node)
{
    quota_leave(&s->quota, node);
    SCOPED_LOCK(node->lock);
    node->writing = false;
}

void live_close(struct session *s, struct node *node)
{
    int r = live_end_write(s, node);
    if (r == 0)
        return;
    log_error("fuse", "cannot publish what was written at close: %s volume=%s inode=%" PRIu64 "%s",
              strerror(-r), s->name, node->ino,
              node->writing && !s->is_ending ? " (trying again)" : "");
    if (node->writing)
        closer_add(&s->closer, node);
}

int session_sync_log(struct session *s)
{
    struct request request = {.kind = REQUEST_SETATTR, .flags = REQUEST_DURABLE, .ino = ROOT_INO};
    struct outcome outcome;

    if (volume_is_home(s->volume))
        return log_sync(volume_log(s->volume), log_last(volume_log(s->volume)));
    return session_change(s, &request,
                          &outcome); /* changes nothing; the home syncs before it answers */
}

int live_set_times(struct node *node, const struct timespec times[2])
{
    struct stat st;
    int fd = content_fd(node->content);

    int r = disk_stat(fd, &st);
    if (r < 0)
        return r;
    if ((uint64_t)st.st_size != node->sample_size || ns_of(st.st_mtim) != node->sample_mtime_ns)
        node_set_dirty(node, true);
    uint64_t size = node->sample_size;
    r = disk_set_times(fd, times);
    if (r == 0)
        r = disk_stat(fd, &st);
    if (r < 0)
        return r;
    st.st_size = (off_t)size;
    set_sample(node, &st, is_fresh(&st));
    return 0;
}

/* ---- looking ---- */

static void overlay_backing(const struct node *node, struct inode *inode)
{
    struct stat st;

    if (!node->content || disk_stat(content_fd(node->content), &st) < 0)
        return;
    inode->size = (uint64_t)st.st_size;
    if (!node->writing)
        return;
    inode->occupied = (uint64_t)st.st_blocks * 512;
    int64_t mtime_ns = ns_of(st.st_mtim);
    bool is_written =
        inode->size != node->sample_size || mtime_ns != node->sample_mtime_ns || node->dirty;
    inode->mtime_ns = mtime_ns;
    if (is_written)
        inode->ctime_ns = MAX(inode->ctime_ns, MIN(mtime_ns, clock_real_ns())); /* as published */
}

void live_overlay(struct session *s, struct node *node, struct inode *inode)
{
    SCOPED_LOCK(node->lock);

    if (!S_ISREG(inode->mode))
        return;
    if (node->writing)
        inode->writer = s->self;
    if (node->writing || (node->content && (node->stale || node->gone)))
        overlay_backing(node, inode);
    if (node->stale)
        inode->mtime_ns = node->mtime_ns;
}
