#include "fs/tree/rows.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define META_FORMAT 3u
#define META_FORMAT_OLD 2u /* before homes moved: without epoch and successor */
#define INODE_BYTES 101    /* of an encoded record without a target */
#define NAME_ROW_BYTES 17

/* ---- keys ---- */

static void key_add(struct key *key, uint64_t v)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        key->bytes[key->size++] = (uint8_t)(v >> shift);
}

struct key key_1(uint64_t a)
{
    struct key key;
    key.size = 0;
    key_add(&key, a);
    return key;
}

struct key key_2(uint64_t a, uint64_t b)
{
    struct key key = key_1(a);
    key_add(&key, b);
    return key;
}

struct key key_3(uint64_t a, uint64_t b, uint64_t c)
{
    struct key key = key_2(a, b);
    key_add(&key, c);
    return key;
}

struct key key_named(uint64_t a, struct span name)
{
    struct key key = key_1(a);
    CHECK(name.size <= NAME_BYTES_MAX);
    if (name.size > 0)
        memcpy(key.bytes + key.size, name.data, name.size);
    key.size += name.size;
    return key;
}

uint64_t key_u64(struct span key, unsigned n)
{
    uint64_t v = 0;
    if (key.size < 8 * (size_t)n + 8)
        return 0;
    for (size_t i = 0; i < 8; i++)
        v = v << 8 | key.data[8 * (size_t)n + i];
    return v;
}

/* ---- rows of bytes ---- */

int rows_error(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
        return -ENOSPC;
    case MDB_READERS_FULL:
        return -EAGAIN;
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return -EBADMSG;
    default:
        return rc > 0 ? -rc : -EIO;
    }
}

const char *rows_db_name(enum tree_db db)
{
    static const char *const names[DB_N] = {
        [DB_META] = "meta",       [DB_INODES] = "inodes", [DB_NAMES] = "names",
        [DB_COOKIES] = "cookies", [DB_XATTRS] = "xattrs", [DB_RESULTS] = "results",
        [DB_WRITERS] = "writers", [DB_HELD] = "held",     [DB_INCOMPLETE] = "incomplete",
    };
    return names[db];
}

/* LMDB takes keys and values by a pointer that is not const, and only reads them. */
static MDB_val val_of(const void *data, size_t size)
{
    return (MDB_val){.mv_size = size, .mv_data = (void *)(uintptr_t)data};
}

static struct span span_of(const MDB_val *val)
{
    return (struct span){.data = val->mv_data, .size = val->mv_size};
}

int rows_get(const struct rows *rows, enum tree_db db, const struct key *key,
             struct span *ret_value)
{
    MDB_val k = val_of(key->bytes, key->size), v;
    int r = rows_error(mdb_get(rows->txn, rows->dbi[db], &k, &v));
    if (r != 0)
        return MIN(r, -1); /* so that the compiler sees that it is negative */
    *ret_value = span_of(&v);
    return 0;
}

int rows_put(const struct rows *rows, enum tree_db db, const struct key *key, struct span value)
{
    MDB_val k = val_of(key->bytes, key->size), v = val_of(value.data, value.size);
    return rows_error(mdb_put(rows->txn, rows->dbi[db], &k, &v, 0));
}

int rows_delete(const struct rows *rows, enum tree_db db, const struct key *key)
{
    MDB_val k = val_of(key->bytes, key->size);
    return rows_error(mdb_del(rows->txn, rows->dbi[db], &k, NULL));
}

static bool has_prefix(const MDB_val *k, const struct key *from, size_t prefix_size)
{
    return k->mv_size >= prefix_size && memcmp(k->mv_data, from->bytes, prefix_size) == 0;
}

static void cursor_closep(MDB_cursor **p)
{
    if (*p)
        mdb_cursor_close(*p);
}

static int first_row(void *ctx, struct span key, struct span value UNUSED)
{
    *(struct span *)ctx = key;
    return 1;
}

int rows_first(const struct rows *rows, enum tree_db db, const struct key *from, size_t prefix_size,
               struct span *ret_key)
{
    struct span key = {0};
    int r = rows_scan(rows, db, from, prefix_size, first_row, &key);
    if (r < 0)
        return r;
    if (!key.data)
        return -ENOENT;
    *ret_key = key;
    return 0;
}

int rows_delete_prefix(const struct rows *rows, enum tree_db db, const struct key *prefix)
{
    AUTO(cursor_closep) MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(rows->txn, rows->dbi[db], &cursor);
    if (rc != 0)
        return rows_error(rc);
    for (;;) {
        MDB_val k = val_of(prefix->bytes, prefix->size), v;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc == MDB_NOTFOUND || (rc == 0 && !has_prefix(&k, prefix, prefix->size)))
            return 0;
        if (rc == 0)
            rc = mdb_cursor_del(cursor, 0);
        if (rc != 0)
            return rows_error(rc);
    }
}

int rows_scan(const struct rows *rows, enum tree_db db, const struct key *from, size_t prefix_size,
              row_f *row, void *ctx)
{
    AUTO(cursor_closep) MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(rows->txn, rows->dbi[db], &cursor);
    if (rc != 0)
        return rows_error(rc);
    MDB_val k = val_of(from->bytes, from->size), v;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && has_prefix(&k, from, prefix_size)) {
        int r = row(ctx, span_of(&k), span_of(&v));
        if (r != 0)
            return r < 0 ? r : 0;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : rows_error(rc);
}

/* ---- meta ---- */

#define META_SUID 1u
#define META_DEV 2u

static struct key meta_key(void)
{
    static const uint8_t state[8] = {0, 0, 0, 's', 't', 'a', 't', 'e'};
    struct key key;
    key.size = sizeof state;
    memcpy(key.bytes, state, sizeof state);
    return key;
}

int rows_get_meta(const struct rows *rows, struct tree_meta *ret_meta)
{
    struct key key = meta_key();
    struct span value;
    int r = rows_get(rows, DB_META, &key, &value);
    if (r < 0)
        return r;
    struct reader rd = reader_over(value.data, value.size);
    uint32_t format = get_u32(&rd);
    if (format != META_FORMAT && format != META_FORMAT_OLD)
        return -EBADMSG;
    struct tree_meta meta = {.epoch = FIRST_EPOCH};
    meta.applied = get_u64(&rd);
    meta.next_ino = get_u64(&rd);
    meta.used_bytes = get_u64(&rd);
    meta.n_inodes = get_u64(&rd);
    meta.limit_bytes = get_u64(&rd);
    meta.limit_inodes = get_u64(&rd);
    meta.copies = get_u32(&rd);
    meta.home.n = get_u64(&rd);
    uint32_t effects = reader_finished(&rd) ? 0 : get_u32(&rd); /* older ones say nothing of it */
    meta.is_suid = effects & META_SUID;
    meta.is_dev = effects & META_DEV;
    if (effects & ~(META_SUID | META_DEV))
        return -EBADMSG;
    if (format == META_FORMAT) {
        meta.epoch = get_u64(&rd);
        meta.successor.n = get_u64(&rd);
    }
    if (!reader_finished(&rd))
        return -EBADMSG;
    *ret_meta = meta;
    return 0;
}

int rows_put_meta(const struct rows *rows, const struct tree_meta *meta)
{
    struct key key = meta_key();
    uint8_t bytes[96];
    struct writer w = writer_over(bytes, sizeof bytes);
    put_u32(&w, META_FORMAT);
    put_u64(&w, meta->applied);
    put_u64(&w, meta->next_ino);
    put_u64(&w, meta->used_bytes);
    put_u64(&w, meta->n_inodes);
    put_u64(&w, meta->limit_bytes);
    put_u64(&w, meta->limit_inodes);
    put_u32(&w, meta->copies);
    put_u64(&w, meta->home.n);
    put_u32(&w, (meta->is_suid ? META_SUID : 0) | (meta->is_dev ? META_DEV : 0));
    put_u64(&w, meta->epoch);
    put_u64(&w, meta->successor.n);
    CHECK(!w.bad);
    return rows_put(rows, DB_META, &key, (struct span){bytes, writer_used(&w)});
}

/* ---- inodes ---- */

static void put_inode(struct writer *w, const struct inode *inode)
{
    put_u64(w, inode->parent);
    put_u64(w, inode->size);
    put_u64(w, inode->occupied);
    put_u64(w, inode->version);
    put_u64(w, inode->keeper.n);
    put_u64(w, inode->writer.n);
    put_u8(w, inode->keeper_complete);
    put_u32(w, inode->mode);
    put_u32(w, inode->nlink);
    put_u32(w, inode->uid);
    put_u32(w, inode->gid);
    put_u32(w, inode->rdev);
    put_i64(w, inode->atime_ns);
    put_i64(w, inode->mtime_ns);
    put_i64(w, inode->ctime_ns);
    put_i64(w, inode->btime_ns);
}

static void get_inode(struct reader *rd, struct inode *inode)
{
    inode->parent = get_u64(rd);
    inode->size = get_u64(rd);
    inode->occupied = get_u64(rd);
    inode->version = get_u64(rd);
    inode->keeper.n = get_u64(rd);
    inode->writer.n = get_u64(rd);
    inode->keeper_complete = get_u8(rd) != 0;
    inode->mode = get_u32(rd);
    inode->nlink = get_u32(rd);
    inode->uid = get_u32(rd);
    inode->gid = get_u32(rd);
    inode->rdev = get_u32(rd);
    inode->atime_ns = get_i64(rd);
    inode->mtime_ns = get_i64(rd);
    inode->ctime_ns = get_i64(rd);
    inode->btime_ns = get_i64(rd);
}

int inode_decode(uint64_t ino, struct span value, struct inode *ret_inode)
{
    struct reader rd = reader_over(value.data, value.size);
    struct inode inode = {.ino = ino};
    get_inode(&rd, &inode);
    if (rd.bad || (reader_left(&rd) > 0 && !S_ISLNK(inode.mode)))
        return -EBADMSG;
    *ret_inode = inode;
    return 0;
}

int rows_get_inode(const struct rows *rows, uint64_t ino, struct inode *ret_inode)
{
    struct key key = key_1(ino);
    struct span value;
    int r = rows_get(rows, DB_INODES, &key, &value);
    return r < 0 ? r : inode_decode(ino, value, ret_inode);
}

int rows_get_target(const struct rows *rows, uint64_t ino, struct span *ret_target)
{
    struct key key = key_1(ino);
    struct span value;
    int r = rows_get(rows, DB_INODES, &key, &value);
    if (r < 0)
        return r;
    if (value.size < INODE_BYTES)
        return -EBADMSG;
    *ret_target = (struct span){value.data + INODE_BYTES, value.size - INODE_BYTES};
    return 0;
}

int rows_make_inode(const struct rows *rows, const struct inode *inode, struct span target)
{
    uint8_t bytes[INODE_BYTES + SYMLINK_BYTES_MAX];
    struct writer w = writer_over(bytes, sizeof bytes);
    put_inode(&w, inode);
    put_bytes(&w, target.data, target.size);
    if (w.bad)
        return -EBADMSG;
    struct key key = key_1(inode->ino);
    return rows_put(rows, DB_INODES, &key, (struct span){bytes, writer_used(&w)});
}

int rows_update_inode(const struct rows *rows, const struct inode *inode)
{
    struct span target = {0};
    if (S_ISLNK(inode->mode)) {
        int r = rows_get_target(rows, inode->ino, &target);
        if (r < 0)
            return r;
    }
    return rows_make_inode(rows, inode, target);
}

/* ---- names ---- */

int rows_get_acl(const struct rows *rows, uint64_t ino, const char *name, struct acl *ret_acl)
{
    struct key key = key_named(ino, (struct span){(const uint8_t *)name, strlen(name)});
    struct span value;
    int r = rows_get(rows, DB_XATTRS, &key, &value);
    if (r < 0)
        return r;
    return acl_parse(value, ret_acl) < 0 ? -EBADMSG : 0;
}

int rows_get_name(const struct rows *rows, uint64_t parent, struct span name,
                  struct name_row *ret_row)
{
    struct key key = key_named(parent, name);
    struct span value;
    int r = rows_get(rows, DB_NAMES, &key, &value);
    if (r < 0)
        return r;
    struct reader rd = reader_over(value.data, value.size);
    struct name_row row = {.ino = get_u64(&rd)};
    row.type = (mode_t)get_u8(&rd) << 12;
    row.cookie = get_u64(&rd);
    if (!reader_finished(&rd))
        return -EBADMSG;
    *ret_row = row;
    return 0;
}

int rows_put_name(const struct rows *rows, uint64_t parent, struct span name,
                  const struct name_row *row)
{
    uint8_t bytes[NAME_ROW_BYTES + NAME_BYTES_MAX];
    struct writer w = writer_over(bytes, sizeof bytes);
    put_u64(&w, row->ino);
    put_u8(&w, (uint8_t)((row->type & S_IFMT) >> 12));
    put_u64(&w, row->cookie);
    struct key key = key_named(parent, name);
    int r = rows_put(rows, DB_NAMES, &key, (struct span){bytes, writer_used(&w)});
    if (r < 0)
        return r;

    w = writer_over(bytes, sizeof bytes);
    put_u64(&w, row->ino);
    put_u8(&w, (uint8_t)((row->type & S_IFMT) >> 12));
    put_bytes(&w, name.data, name.size);
    CHECK(!w.bad);
    key = key_2(parent, row->cookie);
    return rows_put(rows, DB_COOKIES, &key, (struct span){bytes, writer_used(&w)});
}

int rows_delete_name(const struct rows *rows, uint64_t parent, struct span name, uint64_t cookie)
{
    struct key key = key_named(parent, name);
    int r = rows_delete(rows, DB_NAMES, &key);
    if (r < 0)
        return r;
    key = key_2(parent, cookie);
    return rows_delete(rows, DB_COOKIES, &key);
}

int cookie_decode(struct span key, struct span value, struct name_row *ret_row,
                  struct span *ret_name)
{
    struct reader rd = reader_over(value.data, value.size);
    struct name_row row = {.cookie = key_u64(key, 1)};
    row.ino = get_u64(&rd);
    row.type = (mode_t)get_u8(&rd) << 12;
    struct span name = get_bytes(&rd, reader_left(&rd));
    if (rd.bad || name.size == 0)
        return -EBADMSG;
    *ret_row = row;
    *ret_name = name;
    return 0;
}

int rows_is_empty_dir(const struct rows *rows, uint64_t dir)
{
    struct key from = key_1(dir);
    struct span key;
    int r = rows_first(rows, DB_COOKIES, &from, from.size, &key);
    if (r == -ENOENT)
        return 1;
    return r;
}

/* ---- results ---- */

static struct key result_key(const struct identity *identity)
{
    return key_3(identity->host.n, identity->session, identity->unique);
}

int rows_get_result(const struct rows *rows, const struct identity *identity,
                    struct outcome *ret_outcome)
{
    struct key key = result_key(identity);
    struct span value;
    int r = rows_get(rows, DB_RESULTS, &key, &value);
    if (r < 0)
        return r;
    struct reader rd = reader_over(value.data, value.size);
    struct outcome outcome = {.error = 0};
    outcome.index = get_u64(&rd);
    outcome.ino = get_u64(&rd);
    if (!reader_finished(&rd))
        return -EBADMSG;
    *ret_outcome = outcome;
    return 0;
}

int rows_put_result(const struct rows *rows, const struct identity *identity,
                    const struct outcome *outcome)
{
    uint8_t bytes[16];
    struct writer w = writer_over(bytes, sizeof bytes);
    put_u64(&w, outcome->index);
    put_u64(&w, outcome->ino);
    struct key key = result_key(identity);
    return rows_put(rows, DB_RESULTS, &key, (struct span){bytes, writer_used(&w)});
}
