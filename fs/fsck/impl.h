/* fs/fsck/impl.h — private to fsck: what its parts share. */
#pragma once

#include <stdint.h>

#include "fs/fsck/fsck.h"

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

void fsck_found(struct fsck *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Moves dir/name to lost+found/DIR.NAME, where repairs are wanted, and says so. */
void fsck_put_aside(struct fsck *f, int dirfd, const char *dir, const char *name);

/* Each looks at its part and says what is wrong there. An error: it could not look. */
MUST_USE int fsck_log(struct fsck *f);
MUST_USE int fsck_checkpoints(struct fsck *f);
MUST_USE int fsck_state(struct fsck *f); /* in a child: a bad page can end the process */
MUST_USE int fsck_store(struct fsck *f, struct tree *tree);
