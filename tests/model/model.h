/* tests/model/model.h — a filesystem in memory, as plain as it can be, that says what each operation must answer.
 *
 * It holds no clever thing: names are lists, content is bytes, a directory's check is a loop. The errors and their order
 * are those of Linux's VFS over ext4. Where POSIX leaves room (the end of a hole, how much copy_file_range copies, the
 * order of names) the model looks at the real answer and says whether it is one of those allowed. Times are intervals:
 * a change puts one between the call's begin and end; a stat that shows a time inside pins it there until the next change.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "proto/base/cleanup.h"
#include "tests/model/op.h"

struct model;

/* What a call returned, or (value < 0) its negative errno; and what it brought. */
struct answer {
    int64_t value;
    size_t size; /* of data */
    struct stat st;
    uint8_t data[DATA_MAX];
};

struct rules {
    unsigned
        n_hosts; /* content goes from host to host at close: what is open on another is left alone */
    bool is_fuse;                                 /* see strip_privileges */
    bool protected_hardlinks, protected_symlinks; /* as in /proc/sys/fs */
};

#define WHY_SIZE 512

struct model *model_new(const struct rules *rules);
void model_free(struct model *m);
DEFINE_FREEP(model, struct model)

/* Nothing can be said of it as things are: it is not to be run. */
MUST_USE bool model_skips(struct model *m, const struct op *op);
/* Takes the step. True: real, had between the two times (of the kernel's files, and the real one), is a right answer; else why says what is not. */
MUST_USE bool model_step(struct model *m, const struct op *op, const struct answer *real,
                         int64_t begin_ns, int64_t end_ns, char why[WHY_SIZE]);

/* ---- looking at it, for the generator and for the comparison of whole trees ---- */

struct inode;
struct name {
    struct name *next;
    struct inode *inode;
    uint64_t id;
    char text[];
};

struct attribute {
    struct attribute *next;
    size_t size;
    uint8_t *value;
    char name[];
};

struct inode *model_root(struct model *m);
mode_t inode_mode(const struct inode *inode);
const struct name *inode_names(const struct inode *dir); /* a list; NULL at its end */
const struct attribute *inode_attributes(const struct inode *inode);
const char *inode_target(const struct inode *link);
const uint8_t *inode_data(const struct inode *inode, size_t *ret_size);
/* It is open where its content may not be looked at from host. */
MUST_USE bool inode_is_elsewhere(const struct inode *inode, unsigned host);
/* True: st is what a stat of inode may show. It is then pinned to its times. */
MUST_USE bool model_stat_agrees(struct model *m, struct inode *inode, const struct stat *st,
                                char why[WHY_SIZE]);
/* The slot's file, or NULL if it is not open. */
const struct inode *model_fd(const struct model *m, unsigned fd);
bool model_map_is_used(const struct model *m, unsigned map, int64_t *ret_size);
bool model_stream_is_used(const struct model *m, unsigned stream);
