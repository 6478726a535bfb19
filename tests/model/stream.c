/* tests/model/stream.c — reading directories bit by bit while they change.
 *
 * A name that was there from opendir to the end is read exactly once. One that came or went meanwhile may be read or
 * not, but no name that never was.
 */
#include <stdio.h>

#include "tests/model/impl.h"

static void list_add(struct listed **list, size_t *n, uint64_t id, const char *text)
{
    *list = realloc(*list, (*n + 1) * sizeof **list);
    CHECK(*list);
    (*list)[*n].id = id;
    (void)snprintf((*list)[*n].text, sizeof(*list)[*n].text, "%s", text);
    ++*n;
}

int64_t do_opendir(struct model *m, const struct op *op)
{
    struct stream *stream = &m->streams[op->other];
    struct inode *dir;

    int r = find(m, op->path, true, &dir);
    if (r < 0)
        return r;
    if (!S_ISDIR(dir->mode))
        return -ENOTDIR;
    if (!may(m, dir, R_OK))
        return -EACCES;
    free(stream->must);
    free(stream->seen);
    *stream = (struct stream){.dir = dir, .host = m->host};
    inode_open(dir, m->host, false);
    for (const struct name *name = dir->names; name; name = name->next)
        list_add(&stream->must, &stream->n_must, name->id, name->text);
    return 0;
}

static void see(struct model *m, struct stream *stream, const char *text)
{
    const struct name *name = name_find(stream->dir, text);
    uint64_t id = name ? name->id : 0;

    for (size_t i = 0; i < stream->n_seen && id != 0; i++)
        if (stream->seen[i].id == id)
            complain(m, "%s is read a second time", text);
    list_add(&stream->seen, &stream->n_seen, id, text);
}

static bool is_seen(const struct stream *stream, const char *text)
{
    for (size_t i = 0; i < stream->n_seen; i++)
        if (strcmp(stream->seen[i].text, text) == 0)
            return true;
    return false;
}

static void check_end(struct model *m, const struct stream *stream)
{
    for (size_t i = 0; i < stream->n_must; i++) {
        const struct name *name = name_find(stream->dir, stream->must[i].text);
        if (name && name->id == stream->must[i].id && !is_seen(stream, name->text))
            complain(m, "%s was there all the time and is not read", name->text);
    }
}

/* real->data: names, each with a NUL; "." and ".." left out. value: how many bytes the kernel returned. */
int64_t do_readdir(struct model *m, const struct op *op)
{
    struct stream *stream = &m->streams[op->other];
    const struct answer *real = m->real;

    if (!stream->dir)
        return -EBADF;
    may_touch(m, &stream->dir->atime);
    for (size_t at = 0; at < real->size; at += strlen((const char *)real->data + at) + 1)
        see(m, stream, (const char *)real->data + at);
    if (real->value == 0 && stream->dir->nlink > 0)
        check_end(m, stream);
    m->want->size = real->size;
    memcpy(m->want->data, real->data, real->size);
    return real->value < 0 && stream->dir->nlink > 0 ? 0 : real->value;
}

int64_t do_seekdir(struct model *m, const struct op *op)
{
    struct stream *stream = &m->streams[op->other];

    if (!stream->dir)
        return -EBADF;
    if ((size_t)op->offset > stream->n_seen)
        return -EINVAL;
    stream->n_seen = (size_t)op->offset;
    return 0;
}

int64_t do_closedir(struct model *m, const struct op *op)
{
    struct stream *stream = &m->streams[op->other];

    if (!stream->dir)
        return -EBADF;
    inode_close(m, TAKE(stream->dir), stream->host, false);
    return 0;
}
