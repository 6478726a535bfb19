#include "daemon/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int add_ino(struct ino_list *list, uint64_t ino)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        if (capacity > PATHS_INOS_MAX)
            return -ENOSPC;
        uint64_t *inos = reallocarray(list->inos, capacity, sizeof *inos);
        if (!inos)
            return -ENOMEM;
        list->inos = inos;
        list->capacity = capacity;
    }
    list->inos[list->n++] = ino;
    return 0;
}

/* Walks component by component; directories of the volume hold no "..". */
static int resolve(struct tree *tree, const char *path, struct inode *ret_inode)
{
    struct inode at;
    int r = tree_get(tree, ROOT_INO, &at);
    while (r == 0) {
        path += strspn(path, "/");
        size_t size = strcspn(path, "/");
        if (size == 0)
            break;
        if (S_ISLNK(at.mode))
            return -ELOOP;
        if (size > NAME_BYTES_MAX)
            return -ENAMETOOLONG;
        if (size != 1 || path[0] != '.')
            r = tree_lookup(tree, at.ino, (struct span){(const uint8_t *)path, size}, &at);
        path += size;
    }
    if (r == 0)
        *ret_inode = at;
    return r;
}

struct walk {
    struct ino_list *files, *directories;
    int r;
};

static bool visit(void *ctx, struct span name, uint64_t cookie, const struct inode *inode)
{
    struct walk *walk = ctx;
    (void)name, (void)cookie;
    if (S_ISREG(inode->mode))
        walk->r = add_ino(walk->files, inode->ino);
    else if (S_ISDIR(inode->mode))
        walk->r = add_ino(walk->directories, inode->ino);
    return walk->r == 0;
}

/* Breadth first: the directories still to read are a list, not the stack. */
static int add_below(struct tree *tree, uint64_t directory, struct ino_list *list)
{
    struct ino_list directories = {0};
    struct walk walk = {list, &directories, add_ino(&directories, directory)};
    for (size_t i = 0; walk.r == 0 && i < directories.n; i++) {
        int r = tree_readdir(tree, directories.inos[i], 0, visit, &walk);
        if (r < 0 && r != -ENOENT && walk.r == 0) /* removed meanwhile */
            walk.r = r;
    }
    free(directories.inos);
    return walk.r;
}

int paths_add(struct tree *tree, const char *path, struct ino_list *list)
{
    struct inode inode = {0};
    int r = resolve(tree, path, &inode);
    if (r < 0)
        return r;
    if (S_ISDIR(inode.mode))
        return add_below(tree, inode.ino, list);
    return S_ISREG(inode.mode) ? add_ino(list, inode.ino) : S_ISLNK(inode.mode) ? -ELOOP : 0;
}
