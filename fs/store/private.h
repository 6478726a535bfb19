/* fs/store/private.h — what store.c, content.c and store_tidy.c share. Nobody else includes it.
 *
 *     store ── files (by ino) ── copies (own, drawn…) ──open── content (fd, map)
 *
 * A copy is a file on disk that the store knows: every drawn one, and own ones while they are open. A content is an
 * open copy; when its file is removed the content is detached (copy NULL) and lives until its last reference goes.
 *
 * The store's lock covers names: the index, and making, opening, renaming and removing files, which are short
 * metadata calls (removing hands the freeing of blocks to the tidy thread). The content's lock covers the map; no
 * data is read or written under it.
 */
#pragma once

#include <stdatomic.h>
#include <uthash.h>

#include "fs/store/block_map.h"
#include "fs/store/flow.h"
#include "fs/store/image.h"
#include "fs/store/seal.h"
#include "fs/store/store.h"
#include "proto/base/list.h"
#include "proto/base/mutex.h"

#define COPY_NAME_MAX 64
#define MAP_SUFFIX ".map"
#define MAP_FILE_BYTES_MAX                                                                         \
    (int64_t)(MAP_HEADER_BYTES + 2ULL * MAP_LEAF_BYTES * (MAP_BLOCKS_MAX / MAP_LEAF_BLOCKS + 1))

/* Of data files. Drawn ones are unsettled until complete and synced: without its map such a file is worth nothing. */
#define MODE_SETTLED 0600
#define MODE_UNSETTLED 0700
#define TIDY_MAX 1024

/* The files of a copy. */
enum copy_part {
    COPY_DATA,
    COPY_MAP,
    COPY_SEAL
};

struct copy {
    struct list link; /* of its file's copies */
    struct file *file;
    bool is_own;
    uint64_t version;     /* drawn copies: the version it is of; own: 0 */
    int64_t used_ns;      /* when it was opened or closed last; since the epoch */
    struct content *open; /* or NULL */
};

struct file {
    uint64_t ino;
    struct list copies;
    UT_hash_handle hh;
};

struct tidy_item {
    struct content *content; /* complete: sync its bytes, then remove its map; or NULL: */
    int fd;                  /* of a removed file: close it, which frees its blocks */
    struct image *image;     /* of the removed file, or NULL */
    uint64_t pending_bytes;  /* that image_pending counts for it */
};

/* Work that nobody waits for, on a thread of its own. */
struct tidy {
    struct mutex lock;
    struct cond changed;
    struct tidy_item items[TIDY_MAX]; /* ring */
    size_t first, n;
    uint64_t n_queued, n_done; /* ever */
    bool is_stopping;
    pthread_t thread;
    bool is_started;
};

struct store {
    int dirfd; /* of "content" */
    int own_dirfd, drawn_dirfd;
    int seals_fd;
    struct source *source;
    struct image *image; /* or NULL */
    struct flow flow;
    struct mutex lock;
    struct file *files;               /* under lock */
    size_t n_open;                    /* under lock: contents that are not freed yet */
    struct cond closed;               /* n_open went to 0 */
    uint64_t sealing_ino;             /* under lock: the file being sealed, or 0 */
    bool sealing_is_void;             /* under lock: it was opened for writing meanwhile */
    struct damage damage[DAMAGE_MAX]; /* under lock */
    atomic_size_t n_damage;           /* written under lock */
    bool seals_changed;               /* under lock: since the store was opened */
    struct tidy tidy;
};

struct content {
    /* fixed */
    struct store *store;
    uint64_t ino;
    int fd;

    atomic_uint refs; /* goes to 0 only under the store's lock */
    atomic_bool is_complete;
    atomic_bool is_name_synced; /* its directory entry is on stable storage */
    atomic_uint_least64_t base_version, upstream;
    atomic_uint_least64_t base_occupied; /* what the published version occupies */

    struct copy *copy; /* under the store's lock; NULL: detached */

    /* Held over the write of a fill, for the kernel has one writer a file at a time and makes the others spin. */
    struct mutex filling;

    struct mutex lock;
    struct cond changed;  /* a block became present or free to claim, or a leaf was written */
    struct block_map map; /* under lock, as all below; n_blocks and base_size are fixed */
    int map_fd;           /* -1: there is no map file */
    bool is_map_written;  /* somebody is writing (or syncing) the map file; never two at a time */
    size_t written_leaf;  /* the leaf under way; SIZE_MAX: none */
    int map_error;        /* the first failure to write the map: it is behind from then on */
};

/* content.c */
MUST_USE int content_new(struct store *store, uint64_t ino, int fd, int map_fd,
                         struct block_map *map,
                         struct content **ret_content); /* takes fds and map on success */
void content_free(struct content *content);
/* Closes the map file of a complete copy; nobody writes it again. -1 if there is none. */
int content_take_map(struct content *content);
bool content_has_map(struct content *content);

/* store_files.c. version: of a drawn copy. All but copy_parse_name and map_* need the store's lock. */
/* False: not a name of ours. */
bool copy_parse_name(const char *name, bool is_own, uint64_t *ret_ino, uint64_t *ret_version,
                     enum copy_part *ret_part);
bool copy_exists(struct store *store, uint64_t ino, bool is_own, uint64_t version);
MUST_USE int copy_unlink(struct store *store, uint64_t ino, bool is_own, uint64_t version);
MUST_USE int copy_unlink_pending(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                                 uint64_t pending_bytes); /* of image_pending */
MUST_USE int copy_occupied(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                           uint64_t *ret_bytes);
void copy_unlink_map(struct store *store, uint64_t ino, bool is_own, uint64_t version);
/* Between own and drawn; replaces what is there. */
MUST_USE int copy_rename(struct store *store, uint64_t ino, bool to_own, uint64_t drawn_version);
/* Ends one from drawn to own that was cut short: the map may have its new name already. */
MUST_USE int copy_end_rename(struct store *store, uint64_t ino, uint64_t drawn_version);
MUST_USE int copy_make_own(struct store *store, uint64_t ino);
/* Makes the drawn copy of inode->version anew, empty. */
MUST_USE int copy_remake(struct store *store, const struct inode *inode);
/* Opens the copy's files into a content. -ENOENT; -EBADMSG: damaged. size: what a drawn copy must have, or NULL. */
MUST_USE int copy_open(struct store *store, const struct copy *copy, const uint64_t *size,
                       struct content **ret_content);
/* The version that a file was drawn of before it was written here. False: it was not, or nobody knows. */
bool copy_base(struct store *store, uint64_t ino, bool is_own, uint64_t version,
               uint64_t *ret_base);
/* So that a log replayed from long ago cannot take the file for an older version of itself (store_demote). */
void copy_note_base(struct content *content, uint64_t version);
/* -ENOENT: there is none. -EBADMSG: damaged. */
MUST_USE int map_read(struct store *store, uint64_t ino, bool is_own, uint64_t version,
                      bool synced_only, struct block_map *ret_map, int *ret_fd);
MUST_USE int copy_cut_last_page(struct store *store, uint64_t ino, const struct block_map *map);
MUST_USE int map_write(int fd, const struct block_map *map);

/* store.c */
int store_disk_fd(const struct store *store); /* of the disk that all lies on */
struct file *store_find_file(struct store *store, uint64_t ino) REQUIRES(store->lock); /* or NULL */
struct copy *store_add_copy(struct store *store, uint64_t ino, bool is_own, uint64_t version)
    REQUIRES(store->lock); /* NULL: no memory */
/* Detaches its content, if it is open. */
void store_forget_copy(struct store *store, struct copy *copy) REQUIRES(store->lock);
bool store_is_own(struct store *store, struct content *content); /* and not drawn */
void store_forget_all(struct store *store);
/* This host's own file, if it is open. */
struct copy *store_find_own(struct store *store, uint64_t ino) REQUIRES(store->lock); /* or NULL */
/* Marks this complete copy, whose bytes are synced, as settled, and removes its map file. */
MUST_USE int store_settle(struct store *store, struct content *content);
MUST_USE int store_sync_name(struct store *store, struct content *content);

/* damage.c */
/* The file is to be written anew, or goes. Needs the store's lock. */
void store_forget_damage(struct store *store, uint64_t ino);

/* sealing.c */
MUST_USE int store_open_seals(struct store *store);

/* store_tidy.c */
MUST_USE int tidy_start(struct tidy *tidy);
void tidy_stop(
    struct tidy
        *tidy); /* what is queued is dropped; maps then stay until the copy is opened again */
void tidy_completed(struct tidy *tidy, struct content *content);
/* image: of the file, or NULL. pending_bytes: given to image_pending for it, or 0. */
void tidy_close(struct tidy *tidy, struct image *image, int fd, uint64_t pending_bytes);
void tidy_free(struct image *image, int fd, uint64_t pending_bytes); /* the same, now */
/* Returns when all that is queued is done. False: deadline. */
MUST_USE bool tidy_wait(struct tidy *tidy, int64_t deadline_ns);
