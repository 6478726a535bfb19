/* fs/tree/path.c — a name for an inode, for people. Files do not say where they are: all names are looked at. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/tree/impl.h"

struct search {
    uint64_t ino, parent;
    char name[NAME_BYTES_MAX + 1];
};

static int see_cookie(void *ctx, struct span key, struct span value)
{
    struct search *search = ctx;
    struct name_row row;
    struct span name;
    if (cookie_decode(key, value, &row, &name) < 0 || row.ino != search->ino)
        return 0;
    search->parent = key_u64(key, 0);
    (void)snprintf(search->name, sizeof search->name, "%.*s", (int)name.size,
                   (const char *)name.data);
    return 1;
}

/* Puts "/NAME" before what is at the end of the buffer. */
static int prepend(char *buffer, size_t *at, const char *name)
{
    size_t size = strlen(name) + 1;
    if (size > *at)
        return -ENAMETOOLONG;
    *at -= size;
    buffer[*at] = '/';
    memcpy(buffer + *at + 1, name, size - 1);
    return 0;
}

int tree_path(struct tree *tree, uint64_t ino, char *buffer, size_t size)
{
    struct key from = key_1(0);
    size_t at = size - 1;
    TREE_READ(read);
    int r = tree_read_start(tree, &read);
    buffer[at] = '\0';
    while (r == 0 && ino != ROOT_INO) {
        struct search search = {.ino = ino};
        r = rows_scan(&read.rows, DB_COOKIES, &from, 0, see_cookie, &search);
        if (r == 0 && search.parent == 0)
            r = -ENOENT;
        if (r == 0)
            r = prepend(buffer, &at, search.name);
        ino = search.parent;
    }
    if (r == 0)
        memmove(buffer, buffer + at, size - at);
    return r;
}
