/* fs/tree/read.c — reading: what was applied, as of one moment. What calls back has a snapshot, and no lock. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/tree/impl.h"

/* A row that another row names must be there. */
static int dangling(int r)
{
    return r == -ENOENT ? -EIO : r;
}

int tree_get(struct tree *tree, uint64_t ino, struct inode *ret_inode)
{
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    return r < 0 ? r : rows_get_inode(&rows, ino, ret_inode);
}

static int check_dir(const struct rows *rows, uint64_t ino)
{
    struct inode inode;
    int r = rows_get_inode(rows, ino, &inode);
    if (r < 0)
        return r;
    return S_ISDIR(inode.mode) ? 0 : -ENOTDIR;
}

int tree_lookup(struct tree *tree, uint64_t parent, struct span name, struct inode *ret_inode)
{
    if (name.size > NAME_BYTES_MAX)
        return -ENAMETOOLONG;
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    if (r < 0)
        return r;
    struct name_row row;
    r = rows_get_name(&rows, parent, name, &row);
    if (r == -ENOENT) {
        r = check_dir(&rows, parent);
        return r < 0 ? r : -ENOENT;
    }
    if (r < 0)
        return r;
    return dangling(rows_get_inode(&rows, row.ino, ret_inode));
}

static int copy_out(struct span value, void *buffer, size_t size, size_t *ret_used)
{
    if (size > 0) {
        if (value.size > size)
            return -ERANGE;
        if (value.size > 0)
            memcpy(buffer, value.data, value.size);
    }
    *ret_used = value.size;
    return 0;
}

int tree_readlink(struct tree *tree, uint64_t ino, char *buffer, size_t size, size_t *ret_used)
{
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    if (r < 0)
        return r;
    struct inode inode;
    r = rows_get_inode(&rows, ino, &inode);
    if (r < 0)
        return r;
    if (!S_ISLNK(inode.mode))
        return -EINVAL;
    struct span target;
    r = rows_get_target(&rows, ino, &target);
    return r < 0 ? r : copy_out(target, buffer, size, ret_used);
}

int tree_getxattr(struct tree *tree, uint64_t ino, struct span name, void *buffer, size_t size,
                  size_t *ret_used)
{
    if (name.size > XATTR_NAME_BYTES_MAX)
        return -ERANGE;
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    if (r < 0)
        return r;
    struct key key = key_named(ino, name);
    struct span value;
    r = rows_get(&rows, DB_XATTRS, &key, &value);
    if (r == -ENOENT) {
        struct inode inode;
        r = rows_get_inode(&rows, ino, &inode);
        return r < 0 ? r : -ENODATA;
    }
    return r < 0 ? r : copy_out(value, buffer, size, ret_used);
}

struct list_names {
    char *buffer;
    size_t size, used;
};

static int list_name(void *ctx, struct span key, struct span value UNUSED)
{
    struct list_names *l = ctx;
    size_t n = key.size - 8;
    if (l->size > 0) {
        if (l->size - l->used < n + 1)
            return -ERANGE;
        memcpy(l->buffer + l->used, key.data + 8, n);
        l->buffer[l->used + n] = '\0';
    }
    l->used += n + 1;
    return 0;
}

int tree_listxattr(struct tree *tree, uint64_t ino, char *buffer, size_t size, size_t *ret_used)
{
    SCOPED_LOCK(&tree->lock);
    struct rows rows;
    int r = tree_rows_locked(tree, &rows);
    if (r < 0)
        return r;
    struct inode inode;
    r = rows_get_inode(&rows, ino, &inode);
    if (r < 0)
        return r;
    struct list_names l = {.buffer = buffer, .size = size};
    struct key from = key_1(ino);
    r = rows_scan(&rows, DB_XATTRS, &from, from.size, list_name, &l);
    if (r < 0)
        return r;
    *ret_used = l.used;
    return 0;
}

struct list_entries {
    const struct rows *rows;
    tree_entry_f *entry;
    void *ctx;
};

static int list_entry(void *ctx, struct span key, struct span value)
{
    struct list_entries *l = ctx;
    struct name_row row;
    struct span name;
    int r = cookie_decode(key, value, &row, &name);
    if (r < 0)
        return r;
    struct inode inode;
    r = dangling(rows_get_inode(l->rows, row.ino, &inode));
    if (r < 0)
        return r;
    return l->entry(l->ctx, name, row.cookie, &inode) ? 0 : 1;
}

int tree_readdir(struct tree *tree, uint64_t dir, uint64_t cookie, tree_entry_f *entry, void *ctx)
{
    TREE_READ(read);
    int r = tree_read_start(tree, &read);
    if (r < 0)
        return r;
    r = check_dir(&read.rows, dir);
    if (r < 0 || cookie == UINT64_MAX)
        return r;
    struct list_entries l = {.rows = &read.rows, .entry = entry, .ctx = ctx};
    struct key from = key_2(dir, cookie + 1);
    return rows_scan(&read.rows, DB_COOKIES, &from, 8, list_entry, &l);
}

struct list_inodes {
    const struct rows *rows;
    tree_inode_f *each;
    void *ctx;
};

/* Rows whose key ends with an inode number: (host, ino). */
static int list_hosts_inode(void *ctx, struct span key, struct span value UNUSED)
{
    struct list_inodes *l = ctx;
    struct inode inode;
    int r = dangling(rows_get_inode(l->rows, key_u64(key, 1), &inode));
    if (r < 0)
        return r;
    return l->each(l->ctx, &inode) ? 0 : 1;
}

static int each_of_host(struct tree *tree, enum tree_db db, struct host_id host, tree_inode_f *each,
                        void *ctx)
{
    TREE_READ(read);
    int r = tree_read_start(tree, &read);
    if (r < 0)
        return r;
    struct list_inodes l = {.rows = &read.rows, .each = each, .ctx = ctx};
    struct key from = key_1(host.n);
    return rows_scan(&read.rows, db, &from, from.size, list_hosts_inode, &l);
}

int tree_each_writer(struct tree *tree, struct host_id host, tree_inode_f *each, void *ctx)
{
    return each_of_host(tree, DB_WRITERS, host, each, ctx);
}

int tree_each_held(struct tree *tree, struct host_id host, tree_inode_f *each, void *ctx)
{
    return each_of_host(tree, DB_HELD, host, each, ctx);
}

int tree_each_incomplete(struct tree *tree, struct host_id host, tree_inode_f *each, void *ctx)
{
    return each_of_host(tree, DB_INCOMPLETE, host, each, ctx);
}

struct list_results {
    tree_result_f *each;
    void *ctx;
};

static int list_result(void *ctx, struct span key, struct span value UNUSED)
{
    struct list_results *l = ctx;
    return l->each(l->ctx, key_u64(key, 2)) ? 0 : 1;
}

int tree_each_result(struct tree *tree, struct host_id host, uint64_t session, tree_result_f *each,
                     void *ctx)
{
    TREE_READ(read);
    int r = tree_read_start(tree, &read);
    if (r < 0)
        return r;
    struct list_results l = {.each = each, .ctx = ctx};
    struct key from = key_2(host.n, session);
    return rows_scan(&read.rows, DB_RESULTS, &from, from.size, list_result, &l);
}

static int list_inode(void *ctx, struct span key, struct span value)
{
    struct list_inodes *l = ctx;
    struct inode inode;
    int r = inode_decode(key_u64(key, 0), value, &inode);
    if (r < 0)
        return r;
    return l->each(l->ctx, &inode) ? 0 : 1;
}

int tree_each(struct tree *tree, uint64_t from, tree_inode_f *each, void *ctx)
{
    TREE_READ(read);
    int r = tree_read_start(tree, &read);
    if (r < 0)
        return r;
    struct list_inodes l = {.each = each, .ctx = ctx};
    struct key key = key_1(from);
    return rows_scan(&read.rows, DB_INODES, &key, 0, list_inode, &l);
}
