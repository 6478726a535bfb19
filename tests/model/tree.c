/* tests/model/tree.c — comparing whole trees: names, attributes, content. */
#include "tests/model/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

#define PATH_SIZE 4096

struct look {
    struct model *model;
    unsigned host;
    char path[PATH_SIZE];
    char *why;
};

static bool differs(struct look *look, const char *format, ...) PRINTF_LIKE(2, 3);

static bool differs(struct look *look, const char *format, ...)
{
    char what[WHY_SIZE / 2];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    (void)snprintf(look->why, WHY_SIZE, "%.200s: %s", look->path, what);
    return false;
}

/* ---- one file ---- */

static bool content_agrees(struct look *look, const struct inode *inode)
{
    static _Thread_local uint8_t got[FILE_SIZE_MAX + DATA_MAX];
    AUTO_CLOSE int fd = open(look->path, O_RDONLY | O_CLOEXEC);
    size_t size, used = 0;
    ssize_t n = 0;

    if (fd < 0)
        return differs(look, "open: %s", strerror(errno));
    while (used < sizeof got && (n = read(fd, got + used, sizeof got - used)) > 0)
        used += (size_t)n;
    if (n < 0)
        return differs(look, "read: %s", strerror(errno));
    const uint8_t *want = inode_data(inode, &size);
    if (used != size)
        return differs(look, "wanted %zu bytes of content, got %zu", size, used);
    for (size_t i = 0; i < size; i++)
        if (got[i] != want[i])
            return differs(look, "byte %zu of %zu: wanted %02x, got %02x", i, size, want[i],
                           got[i]);
    return true;
}

static bool target_agrees(struct look *look, const struct inode *inode)
{
    char got[FULL_PATH_SIZE];
    ssize_t n = readlink(look->path, got, sizeof got - 1);

    if (n < 0)
        return differs(look, "readlink: %s", strerror(errno));
    got[n] = '\0';
    return strcmp(got, inode_target(inode)) == 0 || differs(look, "points to %s", got);
}

static bool attributes_agree(struct look *look, const struct inode *inode)
{
    static _Thread_local uint8_t value[DATA_MAX];
    size_t size = 0;

    for (const struct attribute *a = inode_attributes(inode); a; a = a->next) {
        ssize_t n = lgetxattr(look->path, a->name, value, sizeof value);
        if (n < 0)
            return differs(look, "attribute %s: %s", a->name, strerror(errno));
        if ((size_t)n != a->size || memcmp(value, a->value, a->size) != 0)
            return differs(look, "attribute %s has another value", a->name);
        size += strlen(a->name) + 1;
    }
    ssize_t n = llistxattr(look->path, NULL, 0);
    return n == (ssize_t)size || differs(look, "has other attributes: %zd bytes, not %zu", n, size);
}

static bool stat_agrees(struct look *look, struct inode *inode)
{
    char why[WHY_SIZE];
    struct stat st;

    if (lstat(look->path, &st) < 0)
        return differs(look, "stat: %s", strerror(errno));
    return model_stat_agrees(look->model, inode, &st, why) || differs(look, "%.200s", why);
}

/* ---- directories ---- */

static bool has_name(const struct inode *dir, const char *text)
{
    for (const struct name *name = inode_names(dir); name; name = name->next)
        if (strcmp(name->text, text) == 0)
            return true;
    return false;
}

/* No name but the model's, and as many. That each of these is there is found by looking at it. */
static bool names_agree(struct look *look, const struct inode *dir)
{
    DIR *stream = opendir(look->path);
    const struct dirent *entry;
    bool agrees = true;
    int n = 0;

    if (!stream)
        return differs(look, "opendir: %s", strerror(errno));
    for (; agrees && (entry = readdir(stream)); n++)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !has_name(dir, entry->d_name))
            agrees = differs(look, "has a name %.100s", entry->d_name);
    for (const struct name *name = inode_names(dir); name; name = name->next)
        n--;
    if (agrees && n != 2)
        agrees = differs(look, "reads %d names too many", n - 2);
    closedir(stream);
    return agrees;
}

static bool inode_agrees(struct look *look, struct inode *inode);

static bool dir_agrees(struct look *look, const struct inode *dir)
{
    size_t length = strlen(look->path);

    if (!names_agree(look, dir))
        return false;
    for (const struct name *name = inode_names(dir); name; name = name->next) {
        if ((size_t)snprintf(look->path + length, PATH_SIZE - length, "/%s", name->text) >=
            PATH_SIZE - length)
            continue; /* deeper than a path can say */
        if (!inode_agrees(look, name->inode))
            return false;
        look->path[length] = '\0';
    }
    look->path[length] = '\0';
    return true;
}

static bool inode_agrees(struct look *look, struct inode *inode)
{
    mode_t mode = inode_mode(inode);

    if (!stat_agrees(look, inode) || !attributes_agree(look, inode))
        return false;
    if (S_ISDIR(mode))
        return dir_agrees(look, inode);
    if (S_ISLNK(mode))
        return target_agrees(look, inode);
    return !S_ISREG(mode) || inode_is_elsewhere(inode, look->host) || content_agrees(look, inode);
}

bool tree_agrees(struct model *model, struct real *real, unsigned host, char why[WHY_SIZE])
{
    struct look look = {.model = model, .host = host, .path = ".", .why = why};

    real_as(real, host, 0);
    return inode_agrees(&look, model_root(model));
}
