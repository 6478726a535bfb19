/* fs/tree/check.h — what must be true of a state, whatever the log says, and whether two are the same. For fsck. */
#pragma once

#include "proto/base/check.h"

struct tree;

typedef void tree_say_f(void *ctx, const char *sentence);

/* Names and inodes agree: link counts, parents, types, sums. Says one sentence for each thing that does not. */
MUST_USE int tree_check(struct tree *tree, tree_say_f *say, void *ctx);
/* Says in which rows a differs from b, which is right. */
MUST_USE int tree_compare(struct tree *a, struct tree *b, tree_say_f *say, void *ctx);
