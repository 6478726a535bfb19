/* The encoding, little-endian (proto/wire.h):
 *
 *     u8 format 2 | u8 kind | u64 host | u64 session | u64 unique | u32 flags | u8 n, n x u64 retired | fields
 *
 * Only the fields that the kind uses follow, always all of them and in the order of the enum below, so a request has
 * one encoding. A change is  u64 index | u64 ino | i64 time | request.
 */
#include "fs/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define FORMAT 2

/* Groups of fields. */
enum {
    F_INO = 1u << 0,
    F_PARENT = 1u << 1,
    F_NAME = 1u << 2,       /* a name in a directory */
    F_XATTR_NAME = 1u << 3, /* an xattr's */
    F_NEW = 1u << 4,        /* new_parent, new_name, rename_flags */
    F_VALUE = 1u << 5,
    F_XATTR_FLAGS = 1u << 6,
    F_OWNER = 1u << 7, /* mode, uid, gid */
    F_RDEV = 1u << 8,
    F_SET = 1u << 9, /* set, atime_ns */
    F_MTIME = 1u << 10,
    F_SIZE = 1u << 11, /* size, occupied */
    F_BASE = 1u << 12,
    F_LIMIT = 1u << 13, /* limit_bytes, limit_inodes, copies */
    F_UMASK = 1u << 14,
    F_HOME = 1u << 15,
    F_EPOCH = 1u << 16,
};

static const struct {
    const char *name;
    uint32_t fields;
    uint32_t flags; /* allowed beside REQUEST_DURABLE */
} kinds[REQUEST_KIND_END] = {
    [REQUEST_MAKE] = {"make", F_PARENT | F_NAME | F_VALUE | F_OWNER | F_RDEV | F_UMASK,
                      REQUEST_FOR_WRITE | REQUEST_NAMELESS},
    [REQUEST_LINK] = {"link", F_INO | F_PARENT | F_NAME, 0},
    [REQUEST_UNLINK] = {"unlink", F_PARENT | F_NAME, REQUEST_HOLD},
    [REQUEST_RMDIR] = {"rmdir", F_PARENT | F_NAME, REQUEST_HOLD},
    [REQUEST_RENAME] = {"rename", F_PARENT | F_NAME | F_NEW, REQUEST_HOLD},
    [REQUEST_SETATTR] = {"setattr", F_INO | F_OWNER | F_SET | F_MTIME, 0},
    [REQUEST_SETXATTR] = {"setxattr", F_INO | F_XATTR_NAME | F_VALUE | F_XATTR_FLAGS,
                          REQUEST_CLEAR_SETGID},
    [REQUEST_REMOVEXATTR] = {"removexattr", F_INO | F_XATTR_NAME, 0},
    [REQUEST_OPEN_WRITE] = {"open_write", F_INO, 0},
    [REQUEST_PUBLISH] = {"publish", F_INO | F_MTIME | F_SIZE | F_BASE,
                         REQUEST_INCOMPLETE | REQUEST_LAST_CLOSE},
    [REQUEST_CLOSE_WRITE] = {"close_write", F_INO, 0},
    [REQUEST_KEEP] = {"keep", F_INO | F_BASE, 0},
    [REQUEST_DROP] = {"drop", F_INO, 0},
    [REQUEST_SESSION] = {"session", 0, REQUEST_GOES_ON},
    [REQUEST_CONFIGURE] = {"configure", F_OWNER | F_LIMIT | F_HOME,
                           REQUEST_SUID | REQUEST_NO_SUID | REQUEST_DEV | REQUEST_NO_DEV},
    [REQUEST_STOP] = {"stop", F_HOME | F_EPOCH, 0},
    [REQUEST_START] = {"start", F_HOME | F_EPOCH, 0},
};

static bool is_kind(unsigned kind)
{
    return kind > 0 && kind < REQUEST_KIND_END;
}

const char *request_kind_name(enum request_kind kind)
{
    return is_kind((unsigned)kind) ? kinds[kind].name : "unknown";
}

/* ---- writing ---- */

static void put_head(struct writer *w, const struct request *q)
{
    put_u8(w, FORMAT);
    put_u8(w, (uint8_t)q->kind);
    put_u64(w, q->identity.host.n);
    put_u64(w, q->identity.session);
    put_u64(w, q->identity.unique);
    put_u32(w, q->flags);
    if (q->n_retire > REQUEST_RETIRE_MAX) {
        w->bad = true;
        return;
    }
    put_u8(w, (uint8_t)q->n_retire);
    for (uint32_t i = 0; i < q->n_retire; i++)
        put_u64(w, q->retire[i]);
}

static void put_names(struct writer *w, const struct request *q, uint32_t fields)
{
    if (fields & F_INO)
        put_u64(w, q->ino);
    if (fields & F_PARENT)
        put_u64(w, q->parent);
    if (fields & (F_NAME | F_XATTR_NAME))
        put_string(w, q->name.data, q->name.size);
    if (fields & F_NEW) {
        put_u64(w, q->new_parent);
        put_string(w, q->new_name.data, q->new_name.size);
        put_u32(w, q->rename_flags);
    }
    if (fields & F_VALUE)
        put_blob(w, q->value.data, q->value.size);
    if (fields & F_XATTR_FLAGS)
        put_u32(w, q->xattr_flags);
}

static void put_numbers(struct writer *w, const struct request *q, uint32_t fields)
{
    if (fields & F_OWNER) {
        put_u32(w, q->mode);
        put_u32(w, q->uid);
        put_u32(w, q->gid);
    }
    if (fields & F_RDEV)
        put_u32(w, q->rdev);
    if (fields & F_UMASK)
        put_u32(w, q->umask);
    if (fields & F_SET) {
        put_u32(w, q->set);
        put_i64(w, q->atime_ns);
    }
    if (fields & F_MTIME)
        put_i64(w, q->mtime_ns);
    if (fields & F_SIZE) {
        put_u64(w, q->size);
        put_u64(w, q->occupied);
    }
    if (fields & F_BASE)
        put_u64(w, q->base_version);
    if (fields & F_LIMIT) {
        put_u64(w, q->limit_bytes);
        put_u64(w, q->limit_inodes);
        put_u32(w, q->copies);
    }
    if (fields & F_HOME)
        put_u64(w, q->home);
    if (fields & F_EPOCH)
        put_u64(w, q->epoch);
}

void put_request(struct writer *w, const struct request *request)
{
    if (!is_kind((unsigned)request->kind)) {
        w->bad = true;
        return;
    }
    uint32_t fields = kinds[request->kind].fields;
    put_head(w, request);
    put_names(w, request, fields);
    put_numbers(w, request, fields);
}

/* ---- reading ---- */

static void get_head(struct reader *r, struct request *q)
{
    uint8_t format = get_u8(r);
    uint8_t kind = get_u8(r);
    q->identity.host.n = get_u64(r);
    q->identity.session = get_u64(r);
    q->identity.unique = get_u64(r);
    q->flags = get_u32(r);
    q->n_retire = get_u8(r);
    if (r->bad || format != FORMAT || !is_kind(kind) || q->n_retire > REQUEST_RETIRE_MAX) {
        r->bad = true;
        return;
    }
    q->kind = (enum request_kind)kind;
    for (uint32_t i = 0; i < q->n_retire; i++)
        q->retire[i] = get_u64(r);
}

static void get_names(struct reader *r, struct request *q, uint32_t fields)
{
    if (fields & F_INO)
        q->ino = get_u64(r);
    if (fields & F_PARENT)
        q->parent = get_u64(r);
    if (fields & (F_NAME | F_XATTR_NAME))
        q->name = get_string(r);
    if (fields & F_NEW) {
        q->new_parent = get_u64(r);
        q->new_name = get_string(r);
        q->rename_flags = get_u32(r);
    }
    if (fields & F_VALUE)
        q->value = get_blob(r);
    if (fields & F_XATTR_FLAGS)
        q->xattr_flags = get_u32(r);
}

static void get_numbers(struct reader *r, struct request *q, uint32_t fields)
{
    if (fields & F_OWNER) {
        q->mode = get_u32(r);
        q->uid = get_u32(r);
        q->gid = get_u32(r);
    }
    if (fields & F_RDEV)
        q->rdev = get_u32(r);
    if (fields & F_UMASK)
        q->umask = get_u32(r);
    if (fields & F_SET) {
        q->set = get_u32(r);
        q->atime_ns = get_i64(r);
    }
    if (fields & F_MTIME)
        q->mtime_ns = get_i64(r);
    if (fields & F_SIZE) {
        q->size = get_u64(r);
        q->occupied = get_u64(r);
    }
    if (fields & F_BASE)
        q->base_version = get_u64(r);
    if (fields & F_LIMIT) {
        q->limit_bytes = get_u64(r);
        q->limit_inodes = get_u64(r);
        q->copies = get_u32(r);
    }
    if (fields & F_HOME)
        q->home = get_u64(r);
    if (fields & F_EPOCH)
        q->epoch = get_u64(r);
}

/* ---- what is valid ---- */

static bool is_ino(uint64_t ino)
{
    return ino > 0 && ino < 1ULL << INO_BITS;
}

static bool holds(struct span s, int byte)
{
    return s.size > 0 && memchr(s.data, byte, s.size) != NULL;
}

static bool is_name(struct span s)
{
    bool dots = (s.size == 1 || s.size == 2) && s.data[0] == '.' && s.data[s.size - 1] == '.';
    return s.size > 0 && s.size <= NAME_BYTES_MAX && !dots && !holds(s, '/') && !holds(s, 0);
}

/* xattr names may hold slashes and dots. */
static bool is_xattr_name(struct span s)
{
    return s.size > 0 && s.size <= XATTR_NAME_BYTES_MAX && !holds(s, 0);
}

static bool is_file_type(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return true;
    default:
        return false;
    }
}

static bool is_target(struct span s)
{
    return s.size > 0 && s.size <= SYMLINK_BYTES_MAX && !holds(s, 0);
}

static bool make_is_valid(const struct request *q)
{
    if (!is_file_type(q->mode) || (q->umask & ~0777u))
        return false;
    if (q->flags & REQUEST_NAMELESS ? q->name.size != 0 || !S_ISREG(q->mode) : !is_name(q->name))
        return false;
    if ((q->flags & REQUEST_FOR_WRITE) && !S_ISREG(q->mode))
        return false;
    return S_ISLNK(q->mode) ? is_target(q->value) : q->value.size == 0;
}

static bool fields_are_valid(const struct request *q, uint32_t fields)
{
    if ((fields & F_INO) && !is_ino(q->ino))
        return false;
    if ((fields & F_PARENT) && !is_ino(q->parent))
        return false;
    if ((fields & F_NAME) && q->kind != REQUEST_MAKE && !is_name(q->name))
        return false;
    if ((fields & F_XATTR_NAME) && !is_xattr_name(q->name))
        return false;
    if ((fields & F_VALUE) && q->value.size > XATTR_VALUE_BYTES_MAX)
        return false;
    if ((fields & F_OWNER) && (q->mode & ~(uint32_t)(S_IFMT | 07777)))
        return false;
    if ((fields & F_SET) && (q->set & ~SET_ALL))
        return false;
    if ((fields & F_XATTR_FLAGS) && (q->xattr_flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
        return false;
    return !((fields & F_SIZE) && (q->size > INT64_MAX || q->occupied > INT64_MAX));
}

static bool rename_is_valid(const struct request *q)
{
    uint32_t both = RENAME_NOREPLACE | RENAME_EXCHANGE;
    return is_ino(q->new_parent) && is_name(q->new_name) && !(q->rename_flags & ~both) &&
           (q->rename_flags & both) != both;
}

static bool request_is_valid(const struct request *q)
{
    if (q->flags & ~(kinds[q->kind].flags | REQUEST_DURABLE))
        return false;
    if (!fields_are_valid(q, kinds[q->kind].fields))
        return false;
    if (q->kind == REQUEST_MAKE)
        return make_is_valid(q);
    if (q->kind == REQUEST_RENAME)
        return rename_is_valid(q);
    return true;
}

int get_request(struct reader *r, struct request *ret_request)
{
    struct request q = {};
    get_head(r, &q);
    if (r->bad)
        return -EBADMSG;
    get_names(r, &q, kinds[q.kind].fields);
    get_numbers(r, &q, kinds[q.kind].fields);
    if (!reader_finished(r) || !request_is_valid(&q))
        return -EBADMSG;
    *ret_request = q;
    return 0;
}

void put_change(struct writer *w, const struct change *change)
{
    put_u64(w, change->index);
    put_u64(w, change->ino);
    put_i64(w, change->time_ns);
    put_request(w, &change->request);
}

int get_change(struct reader *r, struct change *ret_change)
{
    struct change change = {};
    change.index = get_u64(r);
    change.ino = get_u64(r);
    change.time_ns = get_i64(r);
    int error = get_request(r, &change.request);
    if (error < 0)
        return error;
    if (change.index == 0 || change.ino >= 1ULL << INO_BITS)
        return -EBADMSG;
    *ret_change = change;
    return 0;
}
