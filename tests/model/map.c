/* tests/model/map.c — shared maps. What lies behind the end of the file, where a touch is SIGBUS, is left alone. */
#include "tests/model/impl.h"

int64_t do_mmap(struct model *m, const struct op *op)
{
    struct fd *fd = &m->fds[op->fd];
    bool writable = op->flags & 1;
    int mode = fd->flags & O_ACCMODE;

    if (!fd->inode)
        return -EBADF;
    if (mode == O_WRONLY || (writable && mode == O_RDONLY))
        return -EACCES;
    if (S_ISDIR(fd->inode->mode))
        return -ENODEV;
    if (op->size == 0)
        return -EINVAL;
    m->maps[op->other] = (struct map){.inode = fd->inode,
                                      .offset = op->offset,
                                      .size = op->size,
                                      .writable = writable,
                                      .host = fd->host};
    inode_open(fd->inode, fd->host, writable);
    may_touch(m, &fd->inode->atime);
    return 0;
}

/* The file's bytes behind a part of the map; NULL where it may not be touched. */
static uint8_t *bytes_of(struct map *map, const struct op *op, bool writes)
{
    if (!map->inode || op->offset + op->size > map->size || (writes && !map->writable) ||
        (size_t)(map->offset + op->offset + op->size) > map->inode->size)
        return NULL;
    return map->inode->data + map->offset + op->offset;
}

/* Its times move at the store, or at any time until the map is synced or gone. */
int64_t do_store(struct model *m, const struct op *op)
{
    struct map *map = &m->maps[op->other];
    uint8_t *bytes = bytes_of(map, op, true);

    if (!bytes)
        return -EFAULT;
    op_fill(bytes, (size_t)op->size, op->pattern);
    map->inode->n_stored += !map->stored;
    map->stored = true;
    may_touch(m, &map->inode->mtime);
    may_touch(m, &map->inode->ctime);
    return op->size;
}

int64_t do_load(struct model *m, const struct op *op)
{
    struct map *map = &m->maps[op->other];
    const uint8_t *bytes = bytes_of(map, op, false);

    if (!bytes)
        return -EFAULT;
    may_touch(m, &map->inode->atime);
    memcpy(m->want->data, bytes, (size_t)op->size);
    m->want->size = (size_t)op->size;
    return op->size;
}

/* From here on its times stay. */
static void settle(struct model *m, struct map *map)
{
    if (map->stored) {
        map->stored = false;
        map->inode->n_stored--;
        may_touch(m, &map->inode->mtime);
        may_touch(m, &map->inode->ctime);
    }
}

int64_t do_msync(struct model *m, const struct op *op)
{
    struct map *map = &m->maps[op->other];

    if (!map->inode)
        return -ENOMEM;
    settle(m, map);
    return 0;
}

int64_t do_munmap(struct model *m, const struct op *op)
{
    struct map *map = &m->maps[op->other];

    if (!map->inode)
        return -EINVAL;
    settle(m, map);
    inode_close(m, TAKE(map->inode), map->host, map->writable);
    return 0;
}
