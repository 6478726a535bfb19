/* fs/tree/decide.h — private to the tree: what the deciders of all kinds of requests share. */
#pragma once

#include "fs/tree/impl.h"

#define NOTHING_TO_DO 2
#define PERMISSIONS 07777u

struct decision {
    struct tree *tree;
    struct rows rows;
    const struct request *request;
    struct change
        *change; /* begins as a copy of the request; a decider makes it absolute and sets ino */
};

typedef int decide_f(struct decision *d); /* 0, NOTHING_TO_DO or a negative errno */

decide_f decide_make, decide_link, decide_unlink, decide_rmdir, decide_rename;
