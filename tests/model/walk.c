/* tests/model/walk.c — from a path to an inode, as namei does it. */
#include "tests/model/impl.h"

#define N_LINKS_MAX 40
#define PATH_BYTES_MAX 4095

struct walk {
    struct model *m;
    struct place place;
    unsigned n_links;
};

static int walk_from(struct walk *w, struct inode *dir, const char *path, bool follow);

/* In a sticky directory that all may write, only the own links of the caller or of the directory's owner are followed. */
static bool may_follow(const struct model *m, const struct inode *dir, const struct inode *link)
{
    return !m->rules.protected_symlinks || link->uid == m->user->uid || link->uid == dir->uid ||
           (dir->mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH);
}

static int follow_link(struct walk *w, struct inode *dir, struct inode *link, bool is_last)
{
    if (is_last && !may_follow(w->m, dir, link))
        return -EACCES;
    if (w->n_links++ >= N_LINKS_MAX)
        return -ELOOP;
    may_touch(w->m, &link->atime);
    return walk_from(w, dir, link->target, true);
}

/* One component, of which place then speaks. */
static int step(struct walk *w, struct inode *dir, const char *text, size_t length)
{
    struct place *place = &w->place;

    if (!S_ISDIR(dir->mode))
        return -ENOTDIR;
    if (!may(w->m, dir, X_OK))
        return -EACCES;
    *place = (struct place){.dir = dir, .is_too_long = length > NAME_BYTES};
    if (place->is_too_long)
        return 0;
    memcpy(place->text, text, length);
    place->text[length] = '\0';
    if (strcmp(place->text, ".") == 0)
        place->inode = dir;
    else if (strcmp(place->text, "..") == 0)
        place->inode = dir->parent;
    else
        place->name = name_find(dir, place->text);
    if (place->name)
        place->inode = place->name->inode;
    return 0;
}

static int walk_from(struct walk *w, struct inode *dir, const char *path, bool follow)
{
    if (*path == '/')
        dir = w->m->root;
    for (;;) {
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        bool is_last = path[length] == '\0';
        int r = length > 0 ? step(w, dir, path, length) : -ENOENT;
        struct inode *found = r == 0 ? w->place.inode : NULL;
        if (found && S_ISLNK(found->mode) && (!is_last || follow))
            r = follow_link(w, dir, found, is_last);
        if (r < 0 || is_last)
            return r;
        dir = w->place.inode;
        if (!dir)
            return w->place.is_too_long ? -ENAMETOOLONG : -ENOENT;
        path += length;
    }
}

int walk_to_last(struct model *m, const char *path, bool follow, struct place *ret_place)
{
    char full[FULL_PATH_SIZE];
    struct walk w = {.m = m};

    op_expand(path, full);
    if (strlen(full) > PATH_BYTES_MAX)
        return -ENAMETOOLONG;
    int r = walk_from(&w, m->root, full, follow);
    *ret_place = w.place;
    return r;
}

int walk(struct model *m, const char *path, bool follow, struct place *ret_place)
{
    int r = walk_to_last(m, path, follow, ret_place);

    return r == 0 && ret_place->is_too_long ? -ENAMETOOLONG : r;
}

int find(struct model *m, const char *path, bool follow, struct inode **ret_inode)
{
    struct place place;

    int r = walk(m, path, follow, &place);
    if (r == 0 && !place.inode)
        r = -ENOENT;
    if (r == 0)
        *ret_inode = place.inode;
    return r;
}
