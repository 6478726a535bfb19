#include "fs/tree/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <uthash.h>

#include "fs/tree/apply.h"

#define SENTENCES_MAX 20 /* of one kind of rows; then their number */
#define SENTENCE_BYTES 256

struct saying {
    tree_say_f *say;
    void *ctx;
    unsigned n;
};

static void say(struct saying *saying, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct saying *saying, const char *fmt, ...)
{
    char sentence[SENTENCE_BYTES];
    va_list ap;
    if (++saying->n > SENTENCES_MAX)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(sentence, sizeof sentence, fmt, ap);
    va_end(ap);
    saying->say(saying->ctx, sentence);
}

static void say_rest(struct saying *saying)
{
    char sentence[SENTENCE_BYTES];
    if (saying->n <= SENTENCES_MAX)
        return;
    (void)snprintf(sentence, sizeof sentence, "and %u more like these", saying->n - SENTENCES_MAX);
    saying->say(saying->ctx, sentence);
}

static int scan_all(const struct rows *rows, enum tree_db db, row_f *row, void *ctx)
{
    struct key from = key_1(0);
    return rows_scan(rows, db, &from, 0, row, ctx);
}

/* ---- links ---- */

struct links {
    uint64_t ino;
    uint32_t n_names, n_subdirs;
    UT_hash_handle hh;
};

struct checking {
    struct rows rows;
    struct saying saying;
    struct links *links;
    uint64_t used_bytes, n_inodes, n_names, n_cookies;
};

static void checking_done(struct checking *c)
{
    struct links *links, *next;
    HASH_ITER(hh, c->links, links, next)
    {
        HASH_DEL(c->links, links);
        free(links);
    }
}

static struct links *links_of(struct checking *c, uint64_t ino)
{
    struct links *links;
    HASH_FIND(hh, c->links, &ino, sizeof ino, links);
    if (links)
        return links;
    links = calloc(1, sizeof *links);
    if (!links)
        return NULL;
    links->ino = ino;
    HASH_ADD(hh, c->links, ino, sizeof links->ino, links);
    return links;
}

static void check_target(struct checking *c, uint64_t parent, const struct name_row *row)
{
    struct inode inode;
    if (rows_get_inode(&c->rows, row->ino, &inode) < 0)
        say(&c->saying,
            "a name in directory %" PRIu64 " is of inode %" PRIu64 ", which is not there", parent,
            row->ino);
    else if ((inode.mode & S_IFMT) != (row->type & S_IFMT))
        say(&c->saying, "a name in directory %" PRIu64 " says another type than inode %" PRIu64,
            parent, row->ino);
    else if (S_ISDIR(inode.mode) && inode.parent != parent)
        say(&c->saying, "directory %" PRIu64 " is in %" PRIu64 " and says it is in %" PRIu64,
            row->ino, parent, inode.parent);
}

static int see_cookie(void *ctx, struct span key, struct span value)
{
    struct checking *c = ctx;
    struct name_row row, again;
    struct span name;
    uint64_t parent = key_u64(key, 0);
    c->n_cookies++;
    if (cookie_decode(key, value, &row, &name) < 0) {
        say(&c->saying, "a cookie of directory %" PRIu64 " does not decode", parent);
        return 0;
    }
    if (rows_get_name(&c->rows, parent, name, &again) < 0 || again.ino != row.ino ||
        again.cookie != row.cookie)
        say(&c->saying, "a cookie of directory %" PRIu64 " and its name do not agree", parent);
    check_target(c, parent, &row);
    struct links *links = links_of(c, row.ino), *up = links_of(c, parent);
    if (!links || !up)
        return -ENOMEM;
    links->n_names++;
    up->n_subdirs += S_ISDIR(row.type);
    return 0;
}

static int count_name(void *ctx, struct span key UNUSED, struct span value UNUSED)
{
    struct checking *c = ctx;
    c->n_names++;
    return 0;
}

static int see_inode(void *ctx, struct span key, struct span value)
{
    struct checking *c = ctx;
    struct inode inode;
    uint64_t ino = key_u64(key, 0);
    if (inode_decode(ino, value, &inode) < 0) {
        say(&c->saying, "inode %" PRIu64 " does not decode", ino);
        return 0;
    }
    struct links *links = links_of(c, ino);
    if (!links)
        return -ENOMEM;
    uint32_t wanted = S_ISDIR(inode.mode) ? 2 + links->n_subdirs : links->n_names;
    c->n_inodes++;
    c->used_bytes += inode.occupied;
    if (inode.nlink != wanted)
        say(&c->saying, "inode %" PRIu64 " has %" PRIu32 " links and says %" PRIu32, ino, wanted,
            inode.nlink);
    if (S_ISDIR(inode.mode) && ino != ROOT_INO && links->n_names != 1)
        say(&c->saying, "directory %" PRIu64 " has %" PRIu32 " names", ino, links->n_names);
    return 0;
}

static void check_sums(struct checking *c, const struct tree_meta *meta)
{
    if (c->n_names != c->n_cookies)
        say(&c->saying, "there are %" PRIu64 " names and %" PRIu64 " cookies", c->n_names,
            c->n_cookies);
    if (c->n_inodes != meta->n_inodes)
        say(&c->saying, "there are %" PRIu64 " inodes, and %" PRIu64 " are counted", c->n_inodes,
            meta->n_inodes);
    if (c->used_bytes != meta->used_bytes)
        say(&c->saying, "files take %" PRIu64 " bytes, and %" PRIu64 " are counted", c->used_bytes,
            meta->used_bytes);
}

int tree_check(struct tree *tree, tree_say_f *say_one, void *ctx)
{
    TREE_READ(read);
    struct tree_meta meta;
    int r = tree_read_start(tree, &read);
    if (r < 0)
        return r;
    AUTO(checking_done) struct checking c = {.rows = read.rows, .saying = {say_one, ctx, 0}};
    r = rows_get_meta(&c.rows, &meta);
    if (r == 0)
        r = scan_all(&c.rows, DB_COOKIES, see_cookie, &c);
    if (r == 0)
        r = scan_all(&c.rows, DB_NAMES, count_name, &c);
    if (r == 0)
        r = scan_all(&c.rows, DB_INODES, see_inode, &c);
    if (r == 0)
        check_sums(&c, &meta);
    say_rest(&c.saying);
    return r;
}

/* ---- comparing ---- */

struct comparing {
    const struct rows *other;
    enum tree_db db;
    struct saying saying;
    uint64_t n;
};

static int compare_row(void *ctx, struct span key, struct span value)
{
    struct comparing *c = ctx;
    struct key k = {.size = MIN(key.size, sizeof k.bytes)};
    struct span other;
    memcpy(k.bytes, key.data, k.size);
    c->n++;
    int r = rows_get(c->other, c->db, &k, &other);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT)
        say(&c->saying, "a row of %s (%" PRIx64 "…) should not be there", rows_db_name(c->db),
            key_u64(key, 0));
    else if (other.size != value.size || memcmp(other.data, value.data, value.size) != 0)
        say(&c->saying, "a row of %s (%" PRIx64 "…) is not what the log says", rows_db_name(c->db),
            key_u64(key, 0));
    return 0;
}

static int count_row(void *ctx, struct span key UNUSED, struct span value UNUSED)
{
    (*(uint64_t *)ctx)++;
    return 0;
}

static int compare_db(const struct rows *a, const struct rows *b, enum tree_db db,
                      tree_say_f *say_one, void *ctx)
{
    struct comparing c = {.other = b, .db = db, .saying = {say_one, ctx, 0}};
    uint64_t n = 0;
    int r = scan_all(a, db, compare_row, &c);
    if (r == 0)
        r = scan_all(b, db, count_row, &n);
    if (r == 0 && n != c.n)
        say(&c.saying, "%s has %" PRIu64 " rows, and the log makes %" PRIu64, rows_db_name(db), c.n,
            n);
    say_rest(&c.saying);
    return r;
}

int tree_compare(struct tree *a, struct tree *b, tree_say_f *say_one, void *ctx)
{
    TREE_READ(read_a);
    TREE_READ(read_b);
    int r = tree_read_start(a, &read_a);
    if (r == 0)
        r = tree_read_start(b, &read_b);
    for (enum tree_db db = 0; r == 0 && db < DB_N; db++)
        r = compare_db(&read_a.rows, &read_b.rows, db, say_one, ctx);
    return r;
}
