/* fs/store/store.h — content on this host: sparse backing files and maps of the blocks present.
 *
 *     content/own/INO               this host wrote it last (or is writing): the keeper's copy
 *     content/drawn/INO.VERSION     a copy of a version that another host keeps; kept while it may still be needed
 *     … .map                        beside a file that is not complete: which blocks are present
 *
 * A drawn file is made with mode 0700, and gets 0600 when it is complete and synced: then it needs no map. So a power cut
 * that keeps its name and loses its map's does not make it look complete.
 * INO and VERSION in hexadecimal. A block's bit becomes durable only after its bytes: maps are trusted after a clean
 * boot (page cache survives the daemon); after an unclean boot drawn copies whose map is not marked synced go: they
 * are cache. A complete copy loses its map only after its bytes are synced.
 *
 * struct content is one copy, counted; it outlives the removal or renaming of its file, so an open descriptor keeps
 * the content it was opened with. Missing blocks come from `upstream`, through the volume's source (source.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/inode.h"
#include "fs/store/seal.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"
#include "proto/wire.h"

#define BLOCK_BYTES (128u << 10)
#define FILL_RESERVE_BYTES                                                                         \
    (64ULL << 20) /* or a 16th of a small disk: left free by what comes from elsewhere */

struct store;
struct content;
struct source;

static inline uint64_t block_count(uint64_t size)
{
    return size / BLOCK_BYTES + (size % BLOCK_BYTES != 0);
}

enum fetch_class {
    FETCH_DEMAND,
    FETCH_STREAM,
    FETCH_PREFETCH,
    FETCH_N_CLASSES
};

/* Opens or makes dirfd/"content". clean_boot: this machine has not crashed since the store was last open.
 * source may be NULL (nothing ever missing); it must outlive the store. */
MUST_USE int store_open(int dirfd, bool clean_boot, struct source *source,
                        struct store **ret_store);
void store_free(struct store *store);
/* dirfd was this image's, or (NULL) the volume's own. Before anything else; the image outlives the store. */
struct image;
void store_use_image(struct store *store, struct image *image);
struct image *store_image(struct store *store);
/* What came from other hosts: whoever brings it counts it there. */
struct flow;
struct flow *store_flow(struct store *store);
/* Returns when the last content is put, as store_free wants it. False: deadline. */
MUST_USE bool store_wait_closed(struct store *store, int64_t deadline_ns);
/* Returns when the blocks of what was removed are free. False: deadline. */
MUST_USE bool store_wait_freed(struct store *store, int64_t deadline_ns);
DEFINE_FREEP(store, struct store)

/* ---- one copy ---- */

/* The copy of this inode's current content as this host sees it: its own file where it is keeper or writer, else
 * the drawn copy of inode->version (made empty and partial when there is none). -ENOENT: this host should have it
 * and has not: damage, or the inode was read before an entry that moved or removed the copy.
 * -EUCLEAN: its own copy's map is damaged, so nobody knows which blocks are right. -EFBIG: over 16 TiB.
 * Pair with content_put. */
MUST_USE int content_get(struct store *store, struct host_id self, const struct inode *inode,
                         struct content **ret_content);
struct content *content_ref(struct content *content);
void content_put(struct content *content);
static inline void content_putp(struct content **p)
{
    if (*p)
        content_put(*p);
}

/* A new, empty, complete own file for an inode just made here. */
MUST_USE int content_make(struct store *store, uint64_t ino, struct content **ret_content);

int content_fd(const struct content *content); /* O_RDWR, valid while the reference is held */
bool content_is_complete(struct content *content);
struct store *content_store(const struct content *content);
uint64_t content_ino(const struct content *content);
uint64_t
content_version(const struct content *content); /* of the missing blocks and of a drawn copy */
uint64_t content_size(struct content *content); /* what fstat says: of an own file the truth */
/* Bytes that it occupies, or would if it had the blocks that lack. */
uint64_t content_occupied(struct content *content);
/* Has the byte at offset a place on the disk? *ret_run: how many of the next max bytes are alike. */
bool content_is_allocated(struct content *content, uint64_t offset, uint64_t max,
                          uint64_t *ret_run);
struct host_id content_upstream(
    const struct content *content); /* who has the missing blocks; NO_HOST if complete */

/* First missing block at or after `block`, below the end; block_count(size) if none. */
uint64_t content_next_missing(struct content *content, uint64_t block);
bool content_has(struct content *content, uint64_t first, uint64_t n);
uint64_t content_present_bytes(struct content *content);

/* Stores one checked block (size: BLOCK_BYTES, or what is left at the end; 0: a block of zeros) and wakes waiters.
 * A block that is present already stays as it is: local writes win. -ENOSPC: also when less than the reserve is free;
 * -EIO. */
MUST_USE int content_fill(struct content *content, uint64_t block, const void *data, size_t size);
/* The same of n blocks (at most FILL_BLOCKS_MAX) from `first` on, written together where that can be. -EINVAL: one has the wrong
 * size, and none is stored. Of other errors some may be stored. */
#define FILL_BLOCKS_MAX 8u
MUST_USE int content_fill_run(struct content *content, uint64_t first, const struct span *blocks,
                              unsigned n);

/* Returns when bytes [offset, offset + size) can be read from content_fd(): fetches what is missing through the
 * source and waits, at most until the monotonic deadline. -ETIMEDOUT, -EIO, -EHOSTUNREACH, -ESTALE from the source. */
MUST_USE int content_need(struct content *content, uint64_t offset, uint64_t size,
                          enum fetch_class class, int64_t deadline_ns);
/* It has been opened for reading: if it was drawn here, the source may bring what lies beside it. Waits for no other host. */
void content_opened(struct content *content);
/* Waits until block is present without asking for it (a transfer calls content_fill). False: deadline. */
MUST_USE bool content_wait(struct content *content, uint64_t first, uint64_t n,
                           int64_t deadline_ns);

/* ---- writing (own copies only; the caller holds the write ownership) ---- */

/* Makes the drawn copy the own file of this host (OPEN_WRITE was granted). Existing references see it too. */
MUST_USE int content_own(struct content *content);
/* Before a write through the daemon: brings in the blocks that the write covers only in part and keeps fills away
 * from those that it covers whole. Every success is ended by one content_wrote. */
MUST_USE int content_prepare_write(struct content *content, uint64_t offset, uint64_t size,
                                   int64_t deadline_ns);
/* Ends what content_prepare_write(offset, size) began. written: what the write through content_fd() returned, or a
 * negative errno. What was written is present now. Returns what to answer the caller: written, or less where a write cut
 * short ended inside a block that was missing (that block stays missing), or a negative errno. */
MUST_USE int64_t content_wrote(struct content *content, uint64_t offset, uint64_t size,
                               int64_t written);
/* ftruncate that keeps the map right: a missing tail block is brought in first. */
MUST_USE int content_truncate(struct content *content, uint64_t size, int64_t deadline_ns);
/* fdatasync of the bytes, then of the map. */
MUST_USE int content_sync(struct content *content);

/* ---- what applied log entries mean for the store; idempotent, called before the entry counts as applied ---- */

/* Another host published a newer version: our own copy of ino becomes the drawn copy of old_version. Open contents
 * keep it. It is removed later, by store_superseded. */
MUST_USE int store_demote(struct store *store, uint64_t ino, uint64_t old_version);
/* The keeper of a version after `version` is complete: drawn copies of ino up to `version` go (open ones at their close).
 * This and store_remove only once the entry that says so is durable. */
MUST_USE int store_superseded(struct store *store, uint64_t ino, uint64_t version);
/* Are there any? */
bool store_has_drawn(struct store *store, uint64_t ino, uint64_t version);
/* The inode is gone: every copy of it goes (open ones at their close). */
MUST_USE int store_remove(struct store *store, uint64_t ino);
/* After an unclean boot: entries that were lost may have moved a file's copies, and a copy without a sync may have no
 * name. Brings them where `inode` wants them. 0; 1: what this host kept of it is lost, it is empty. */
MUST_USE int store_restore(struct store *store, struct host_id self, const struct inode *inode,
                           bool is_home);
/* The size of this host's own file, open or not. -ENOENT. */
MUST_USE int store_own_size(struct store *store, uint64_t ino, uint64_t *ret_size);
MUST_USE int store_set_own_size(struct store *store, uint64_t ino, uint64_t size);
/* What entries did to the names of copies so far is durable then. */
MUST_USE int store_sync_names(struct store *store);
/* The inode goes, its content later: what its own file occupies is not free yet (image_pending). Given to
 * store_remove_pending, or taken back. */
uint64_t store_pending(struct store *store, uint64_t ino);
void store_not_pending(struct store *store, uint64_t bytes);
MUST_USE int store_remove_pending(struct store *store, uint64_t ino, uint64_t pending_bytes);
/* At start: removes copies of inodes for which `wanted` is false. */
typedef bool store_wanted_f(void *ctx, uint64_t ino);
MUST_USE int store_sweep(struct store *store, store_wanted_f *wanted, void *ctx);

/* ---- seals (fs/store/seal.h) ---- */

struct sealing {
    int fd; /* of the file */
    struct seal seal;
};
/* Begins to seal this host's own file. Under the volume's lock, inode being as the tree has it: nobody writes it, and whoever
 * is about to calls store_unseal. -EALREADY: it is sealed; -EBUSY: somebody has it open, or another is being sealed;
 * -EBADMSG: it, or the seal that it has, is damaged. A success is ended by store_seal. */
MUST_USE int store_seal_begin(struct store *store, const struct inode *inode,
                              struct sealing *ret_sealing);
/* Reads the file and seals it. -EAGAIN: it was opened for writing meanwhile; what pace returned. */
MUST_USE int store_seal(struct store *store, struct sealing *sealing, seal_pace_f *pace, void *ctx);
/* Before somebody may write the file. */
MUST_USE int store_unseal(struct store *store, uint64_t ino);
/* After a power cut. */
MUST_USE int store_distrust_seals(struct store *store);
/* What is sealed, and the seals, are durable then, if any came or went since store_open. */
MUST_USE int store_sync_seals(struct store *store);
/* The seal of this host's own file of this version. -ENOENT, -EBADMSG: damaged. Pair with seal_close. */
MUST_USE int store_find_seal(struct store *store, uint64_t ino, uint64_t version,
                             struct seal *ret_seal);

/* This host's own file, as it lies on the disk: see seal_open_data. */
MUST_USE int store_open_own(struct store *store, uint64_t ino);

/* Blocks of this host's own files that are not as they were sealed. At most DAMAGE_MAX are remembered, until the file is
 * written anew or the store is closed. */
#define DAMAGE_MAX 1024u
struct damage {
    uint64_t ino, block;
};
/* False: it is known, or the file may have been written since. */
bool store_note_damage(struct store *store, const struct seal *seal, uint64_t block);
bool store_is_damaged(struct store *store, uint64_t ino, uint64_t offset, uint64_t size);
/* Copies at most max; returns how many there are. */
size_t store_damage(struct store *store, struct damage *ret_damage, size_t max);

/* For peers: the copy of ino that holds `version` (own or drawn), without making one. -ENOENT. */
MUST_USE int content_find(struct store *store, struct host_id self, const struct inode *inode,
                          uint64_t version, struct content **ret_content);

/* False: another file of content would find no room, in the disk's table of files or at all. */
bool store_has_room(struct store *store);

/* ---- what is only cache ---- */

/* Drawn copies that nobody has open: what they occupy, and when they were used last (since the epoch). */
struct store_cached {
    uint64_t ino, version, bytes;
    int64_t used_ns;
};
typedef void store_cached_f(void *ctx, const struct store_cached *cached);
void store_each_cached(struct store *store, store_cached_f *each, void *ctx);
/* Removes one. The caller knows that another host has all of this version or of a newer one. -EBUSY: it is open;
 * -ENOENT. */
MUST_USE int store_evict(struct store *store, uint64_t ino, uint64_t version);
/* All that content occupies on this host. In a plain directory every file is looked at. */
MUST_USE int store_occupied(struct store *store, uint64_t *ret_bytes);

struct store_usage {
    uint64_t disk_free_bytes; /* of the backing filesystem */
};
MUST_USE int store_usage(struct store *store, struct store_usage *ret_usage);
