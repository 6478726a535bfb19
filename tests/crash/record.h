/* tests/crash/record.h — what a run did to its disk, call by call, and the disks that a power cut can leave of it.
 *
 * The model, which is no filesystem's but allows what ext4, XFS and btrfs do:
 *   - A file's bytes, size and attributes are durable up to its last fsync; bytes and size also up to its last fdatasync.
 *   - Of what came later, each 4 KiB page of each write, each change of the size, and each change of an attribute is there
 *     or not, by itself; a page may be torn between sectors of 512 bytes. What was never written reads as zeros.
 *   - A name is durable after the fsync of its directory. Of what came later, each operation is there or not, by itself.
 *     A rename is there whole, and is durable after the fsync of either directory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/disk/disk.h"

#define PAGE_BYTES 4096u
#define SECTOR_BYTES 512u

struct op {
    enum disk_op op;
    unsigned inode;        /* the file, or the directory that the name is in */
    unsigned to_dir, what; /* names: where a rename goes; the inode that the name is of */
    char name[48], to_name[48];
    uint64_t offset,
        size; /* DISK_TRUNCATE: the new size; DISK_OPEN, which made the file, DISK_SET_MODE: the mode */
    uint8_t *data; /* DISK_WRITE, DISK_SET_XATTR */
};

struct record {
    struct op *ops;
    unsigned n_ops, n_inodes;
    bool *is_dir; /* of each inode */
};

/* Records what happens below the directory root (an absolute path) until record_stop. */
void record_start(const char *root);
void record_stop(void);
/* How many operations there are now: what happened before a position of this number has happened. */
unsigned record_position(void);
const struct record *record_get(void);
struct record *record_change(void);
/* Changes the record as a mistake in the program would: see mutate.c. The number of operations stays. */
bool record_mutate(unsigned which, const char **ret_name); /* false: there is no such mistake */
void record_print(unsigned first, unsigned end);
void record_free(void);

/* What of that is not durable a power cut leaves: for each kind a probability, in 16ths. */
struct chance {
    unsigned bytes, sizes, attributes, names, torn;
    uint64_t seed;
};
#define CHANCE_NOTHING ((struct chance){0})
#define CHANCE_ALL ((struct chance){16, 16, 16, 16, 0, 0})

/* Makes, in the empty directory dirfd, the disk after the first n_ops operations of record and a power cut. `state` and
 * what else LMDB writes by itself is left out. */
void image_make(const struct record *record, unsigned n_ops, const struct chance *chance,
                int dirfd);
