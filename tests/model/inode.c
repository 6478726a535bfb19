/* tests/model/inode.c — inodes, names, permissions and times. */
#include <stdarg.h>

#include "tests/model/impl.h"

/* ---- times ---- */

void touch(struct model *m, struct moment *moment)
{
    *moment = (struct moment){m->begin_ns - CLOCK_SLACK_NS, m->end_ns};
}

void may_touch(struct model *m, struct moment *moment)
{
    moment->lo = MIN(moment->lo, m->begin_ns - CLOCK_SLACK_NS);
    moment->hi = MAX(moment->hi, m->end_ns);
}

void touch_content(struct model *m, struct inode *inode)
{
    touch(m, &inode->mtime);
    touch(m, &inode->ctime);
}

/* ---- inodes ---- */

struct inode *inode_new(struct model *m, mode_t mode)
{
    struct inode *inode = calloc(1, sizeof *inode);

    CHECK(inode);
    inode->mode = mode;
    inode->nlink = S_ISDIR(mode) ? 2 : 1;
    inode->next = m->inodes;
    m->inodes = inode;
    touch(m, &inode->atime);
    touch_content(m, inode);
    return inode;
}

static void inode_free(struct inode *inode)
{
    while (inode->names)
        name_drop(inode, inode->names);
    while (inode->attributes) {
        struct attribute *attribute = inode->attributes;
        inode->attributes = attribute->next;
        free(attribute->value);
        free(attribute);
    }
    free(inode->target);
    free(inode->data);
    free(inode);
}

static bool is_open(const struct inode *inode)
{
    for (unsigned host = 0; host < N_HOSTS_MAX; host++)
        if (inode->n_open[host] > 0)
            return true;
    return false;
}

void inode_collect(struct model *m, struct inode *inode)
{
    struct inode **link = &m->inodes;

    if (inode->nlink > 0 || is_open(inode))
        return;
    while (*link != inode)
        link = &(*link)->next;
    *link = inode->next;
    inode_free(inode);
}

void inode_open(struct inode *inode, unsigned host, bool writes)
{
    inode->n_open[host]++;
    inode->n_writers[host] += writes;
}

void inode_close(struct model *m, struct inode *inode, unsigned host, bool writes)
{
    inode->n_open[host]--;
    inode->n_writers[host] -= writes;
    if (inode->n_writers[host] == 0)
        inode->late_setid = false;
    inode_collect(m, inode);
}

void inode_resize(struct inode *inode, size_t size)
{
    if (size != inode->size) {
        uint8_t *data = realloc(inode->data, MAX(size, 1));
        CHECK(data);
        if (size > inode->size)
            memset(data + inode->size, 0, size - inode->size);
        inode->data = data;
        inode->size = size;
    }
}

bool inode_is_elsewhere(const struct inode *inode, unsigned host)
{
    for (unsigned h = 0; h < N_HOSTS_MAX; h++)
        if (h != host && inode->n_writers[h] > 0)
            return true;
    return false;
}

/* ---- permissions ---- */

bool is_owner(const struct model *m, const struct inode *inode)
{
    return m->user->uid == 0 || m->user->uid == inode->uid;
}

bool may(const struct model *m, const struct inode *inode, int mask)
{
    unsigned bits = inode->mode & 07;

    if (m->user->uid == 0)
        return S_ISDIR(inode->mode) || !(mask & X_OK) || (inode->mode & 0111);
    if (m->user->uid == inode->uid)
        bits = inode->mode >> 6 & 07;
    else if (m->user->gid == inode->gid)
        bits = inode->mode >> 3 & 07;
    return (bits & (unsigned)mask) == (unsigned)mask;
}

/* A file whose group may execute it has a real setgid bit; without that it was once a lock's mark, which the kernel's
 * FUSE still leaves alone. Nor does a daemon see what is passed through, if the bits came after the open, or a chown to
 * nobody new. */
static void strip(struct model *m, struct inode *inode, bool of_group, bool is_seen)
{
    mode_t gone = S_ISUID;

    if ((inode->mode & S_IXGRP) || !of_group)
        gone |= S_ISGID;
    gone &= inode->mode;
    inode->mode &= ~gone;
    if (m->rules.is_fuse && !is_seen)
        inode->may_keep |= gone;
    else if (m->rules.is_fuse && !(inode->mode & S_IXGRP))
        inode->may_keep |= gone & S_ISGID;
}

void strip_privileges(struct model *m, struct inode *inode)
{
    if (m->user->uid != 0 && S_ISREG(inode->mode))
        strip(m, inode, m->user->gid == inode->gid, !inode->late_setid);
}

void strip_by_chown(struct model *m, struct inode *inode, bool changes)
{
    if (!S_ISDIR(inode->mode))
        strip(m, inode, m->user->uid == 0 || m->user->gid == inode->gid, changes);
}

/* ---- names ---- */

struct name *name_find(const struct inode *dir, const char *text)
{
    for (struct name *name = dir->names; name; name = name->next)
        if (strcmp(name->text, text) == 0)
            return name;
    return NULL;
}

void name_add(struct model *m, struct inode *dir, const char *text, struct inode *inode)
{
    size_t size = strlen(text) + 1;
    struct name *name = malloc(sizeof *name + size);

    CHECK(name);
    *name = (struct name){.next = dir->names, .inode = inode, .id = ++m->next_id};
    memcpy(name->text, text, size);
    dir->names = name;
}

void name_drop(struct inode *dir, struct name *name)
{
    struct name **link = &dir->names;

    while (*link != name)
        link = &(*link)->next;
    *link = name->next;
    free(name);
}

/* ---- the whole ---- */

void complain(struct model *m, const char *format, ...)
{
    va_list arguments;

    if (m->why[0])
        return;
    va_start(arguments, format);
    (void)vsnprintf(m->why, WHY_SIZE, format, arguments);
    va_end(arguments);
}

struct model *model_new(const struct rules *rules)
{
    struct model *m = calloc(1, sizeof *m);

    CHECK(m);
    m->want = calloc(1, sizeof *m->want);
    CHECK(m->want);
    m->rules = *rules;
    m->end_ns = INT64_MAX; /* the root's times are what they are */
    m->begin_ns = CLOCK_SLACK_NS;
    m->root = inode_new(m, S_IFDIR | 0777);
    m->root->parent = m->root;
    return m;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < N_STREAMS; i++) {
        free(m->streams[i].must);
        free(m->streams[i].seen);
    }
    while (m->inodes) {
        struct inode *inode = m->inodes;
        m->inodes = inode->next;
        inode_free(inode);
    }
    free(m->want);
    free(m);
}

struct inode *model_root(struct model *m)
{
    return m->root;
}

mode_t inode_mode(const struct inode *inode)
{
    return inode->mode;
}

const struct name *inode_names(const struct inode *dir)
{
    return dir->names;
}

const struct attribute *inode_attributes(const struct inode *inode)
{
    return inode->attributes;
}

const char *inode_target(const struct inode *link)
{
    return link->target;
}

const uint8_t *inode_data(const struct inode *inode, size_t *ret_size)
{
    *ret_size = inode->size;
    return inode->data;
}

const struct inode *model_fd(const struct model *m, unsigned fd)
{
    return m->fds[fd].inode;
}

bool model_map_is_used(const struct model *m, unsigned map, int64_t *ret_size)
{
    *ret_size = m->maps[map].size;
    return m->maps[map].inode;
}

bool model_stream_is_used(const struct model *m, unsigned stream)
{
    return m->streams[stream].dir;
}
