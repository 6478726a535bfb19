/* fs/fuse/pages.c — the first read of a small file, done by its open. */
#include "fs/fuse/pages.h"

#include "fs/disk/disk.h"

/* The kernel waits for a page that is being read; of a file that nobody has open there is none. */
bool pages_give(struct session *s, struct node *node)
{
    uint64_t size = content_size(node->content);
    void *buffer = size > 0 && size <= PAGES_GIVEN_MAX ? worker_buffer(PAGES_GIVEN_MAX) : NULL;

    if (!buffer || disk_read(content_fd(node->content), buffer, size, 0) != (int64_t)size)
        return false;
    struct fuse_bufvec pages = FUSE_BUFVEC_INIT(size);
    pages.buf[0].mem = buffer;
    return fuse_lowlevel_notify_store(s->fuse, node->id, 0, &pages, FUSE_BUF_NO_SPLICE) == 0;
}
