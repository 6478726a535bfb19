/* fs/fsck/impl.h — private to fsck: what its parts share. */
#pragma once

#include <stdint.h>

#include "fs/fsck/fsck.h"

struct inode;
struct tree;

struct fsck {
    const struct fsck_options *options;
    struct fsck_result result;
    int dirfd, lostfd; /* lostfd: lost+found, -1 until something goes there */
    int imagefd; /* while content in an image is looked at: its root, and its lost+found takes what goes; or -1 */
    bool is_log_sound, is_checkpoint_sound, is_state_sound;
    uint64_t first, last; /* entries of the log */
    uint64_t checkpoint;  /* index of the newest; 0: none */
};

/* What is wrong with something in the store. */
enum fsck_verdict {
    FSCK_WELL,
    FSCK_NO_COPY,
    FSCK_ORPHAN,
    FSCK_BAD_MAP,
    FSCK_NO_MAP,
    FSCK_LOST,
    FSCK_SIZE
};

void fsck_found(struct fsck *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Something was mended; says so. */
void fsck_repaired(struct fsck *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Moves dir/name to lost+found/DIR.NAME, where repairs are wanted, and says so. */
void fsck_put_aside(struct fsck *f, int dirfd, const char *dir, const char *name);

/* Each looks at its part and says what is wrong there. An error: it could not look. */
MUST_USE int fsck_log(struct fsck *f);
MUST_USE int fsck_checkpoints(struct fsck *f);
MUST_USE int fsck_state(struct fsck *f); /* in a child: a bad page can end the process */
MUST_USE int fsck_store(struct fsck *f, struct tree *tree);

/* Of a file of own or drawn. */
MUST_USE int fsck_judge_copy(struct tree *tree, int dirfd, const char *name, bool is_own,
                             enum fsck_verdict *ret_verdict);
void fsck_say_copy(struct fsck *f, const char *name, bool is_own, enum fsck_verdict verdict);
/* A file that this host keeps has its content in own. */
bool fsck_is_kept(const struct inode *inode, struct host_id self);
MUST_USE int fsck_judge_kept(int own_dirfd, const struct inode *inode,
                             enum fsck_verdict *ret_verdict, uint64_t *ret_size);
void fsck_say_kept(struct fsck *f, const struct inode *inode, enum fsck_verdict verdict,
                   uint64_t size);
