/* fs/tree/rows.h — private to the tree: its sub-databases, and typed access to their rows.
 *
 *     meta     "state" -> format, applied, next_ino, used_bytes, n_inodes, limit_bytes, limit_inodes,
 *             copies, home, whether set-id programs (1) and device files (2) have an effect, epoch, successor
 *     inodes   ino -> record; a symlink's target is the record's tail
 *     names    parent, name -> ino, type, cookie
 *     cookies  parent, cookie -> ino, type, name
 *     xattrs   ino, name -> value
 *     results  host, session, unique -> index, ino
 *     writers  host, ino -> nothing        the inodes whose writer is host
 *     held     host, ino -> nothing        unlinked, but open on host
 *     incomplete  host, ino -> nothing     the inodes whose keeper is host and has not every block yet
 *
 * Integers in keys are big-endian, so that LMDB's order is theirs; values go through wire.h.
 * Spans that a get or a scan hands out point into the map: they live until the transaction ends or writes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <lmdb.h>

#include "fs/acl.h"
#include "fs/inode.h"
#include "fs/request.h"
#include "proto/base/cleanup.h"
#include "proto/wire.h"

enum tree_db {
    DB_META,
    DB_INODES,
    DB_NAMES,
    DB_COOKIES,
    DB_XATTRS,
    DB_RESULTS,
    DB_WRITERS,
    DB_HELD,
    DB_INCOMPLETE,
    DB_N
};

/* One transaction's view of the sub-databases. */
struct rows {
    MDB_txn *txn;
    const MDB_dbi *dbi;
};

struct tree_meta {
    uint64_t applied;  /* index of the last entry applied */
    uint64_t next_ino; /* 0: not configured yet */
    uint64_t used_bytes, n_inodes, limit_bytes;
    uint64_t limit_inodes; /* 0: none */
    uint32_t copies;       /* hosts that keep each file */
    struct host_id home;
    bool is_suid, is_dev; /* set-id programs and device files have an effect */
    uint64_t epoch;
    struct host_id successor; /* to whom home, which has stopped, offers epoch + 1; or NO_HOST */
};

struct name_row {
    uint64_t ino, cookie;
    mode_t type; /* S_IFMT bits */
};

struct key {
    uint8_t bytes[24 + NAME_BYTES_MAX];
    size_t size;
};

struct key key_1(uint64_t a);
struct key key_2(uint64_t a, uint64_t b);
struct key key_3(uint64_t a, uint64_t b, uint64_t c);
struct key key_named(uint64_t a, struct span name); /* name: at most NAME_BYTES_MAX */
uint64_t key_u64(struct span key, unsigned n);      /* the n-th integer of a key */

/* An LMDB return code as a negative errno. */
int rows_error(int rc);
const char *rows_db_name(enum tree_db db);

/* -ENOENT where there is no such row; -EBADMSG for a row that does not decode. */
MUST_USE int rows_get(const struct rows *rows, enum tree_db db, const struct key *key,
                      struct span *ret_value);
MUST_USE int rows_put(const struct rows *rows, enum tree_db db, const struct key *key,
                      struct span value);
MUST_USE int rows_delete(const struct rows *rows, enum tree_db db, const struct key *key);
/* The first row at or after from whose key starts with from's first prefix_size bytes. -ENOENT. */
MUST_USE int rows_first(const struct rows *rows, enum tree_db db, const struct key *from,
                        size_t prefix_size, struct span *ret_key);
MUST_USE int rows_delete_prefix(const struct rows *rows, enum tree_db db, const struct key *prefix);

/* Calls row for all rows that rows_first would name, in order. 1 from row ends the scan well, an error ends it. */
typedef int row_f(void *ctx, struct span key, struct span value);
MUST_USE int rows_scan(const struct rows *rows, enum tree_db db, const struct key *from,
                       size_t prefix_size, row_f *row, void *ctx);

MUST_USE int rows_get_meta(const struct rows *rows, struct tree_meta *ret_meta);
MUST_USE int rows_put_meta(const struct rows *rows, const struct tree_meta *meta);

MUST_USE int rows_get_inode(const struct rows *rows, uint64_t ino, struct inode *ret_inode);
MUST_USE int rows_get_target(const struct rows *rows, uint64_t ino, struct span *ret_target);
MUST_USE int rows_make_inode(const struct rows *rows, const struct inode *inode,
                             struct span target);
MUST_USE int rows_update_inode(const struct rows *rows,
                               const struct inode *inode); /* keeps the target */
MUST_USE int inode_decode(uint64_t ino, struct span value, struct inode *ret_inode);

/* An ACL of the inode, name being ACL_ACCESS or ACL_DEFAULT. */
MUST_USE int rows_get_acl(const struct rows *rows, uint64_t ino, const char *name,
                          struct acl *ret_acl);

/* A name is one row in names and one in cookies; both are written and removed together. */
MUST_USE int rows_get_name(const struct rows *rows, uint64_t parent, struct span name,
                           struct name_row *ret_row);
MUST_USE int rows_put_name(const struct rows *rows, uint64_t parent, struct span name,
                           const struct name_row *row);
MUST_USE int rows_delete_name(const struct rows *rows, uint64_t parent, struct span name,
                              uint64_t cookie);
MUST_USE int cookie_decode(struct span key, struct span value, struct name_row *ret_row,
                           struct span *ret_name);
MUST_USE int rows_is_empty_dir(const struct rows *rows, uint64_t dir); /* 1, 0 or an error */

MUST_USE int rows_get_result(const struct rows *rows, const struct identity *identity,
                             struct outcome *ret_outcome);
MUST_USE int rows_put_result(const struct rows *rows, const struct identity *identity,
                             const struct outcome *outcome);
