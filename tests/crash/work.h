/* tests/crash/work.h — a run of one volume, and what it knows: after each step, what must survive and what may be there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/volume/volume.h"

#define SELF ((struct host_id){0xa})
#define OTHER ((struct host_id){0xb})
#define FILES_MAX 64

/* What a file held at some time while this host wrote it. */
struct snap {
    unsigned position; /* of the record, once it was so */
    uint64_t size;
    uint8_t *data;
};

struct work_file {
    uint64_t ino;
    uint64_t era; /* the version of another host that it was taken over at; 0: made here */
    struct snap *snaps;
    unsigned n_snaps;
    unsigned synced_at[256], synced_snap[256],
        n_synced; /* from that position on, that snap is durable */
};

/* A version that the other host published. */
struct drawn_version {
    uint64_t ino, version, size;
};

struct work {
    struct work_file *files; /* one for each inode and era */
    unsigned n_files;
    struct drawn_version versions[256];
    unsigned n_versions;
    uint64_t *dumps; /* of the tree after each entry: dumps[index] */
    uint64_t n_dumps;
    unsigned *durable_at; /* position from which on entry i is durable; 0: never was */
};

/* Makes a volume in `directory` (empty, recorded) and works on it, n_steps steps drawn from seed. */
void work_run(struct work *work, const char *directory, uint64_t seed, unsigned n_steps);
void work_free(struct work *work);

/* A sum over all that the tree says: inodes, names, xattrs. */
uint64_t tree_dump(struct volume *volume);
/* Serves the other host's blocks for any version that work knows. */
extern struct source work_source;
/* The version of another host that inode is of, or began with; 0: its content was made here. */
uint64_t work_era(const struct work *work, const struct inode *inode);
uint64_t work_version_size(const struct work *work, uint64_t ino, uint64_t version);
void work_use(const struct work *work); /* whose versions work_source serves */

/* NULL, or what is wrong with the volume in directory, which is what a power cut left of a run after n_ops. */
const char *check_recovery(const struct work *work, unsigned n_ops, const char *directory);
