/* tests/model/generate.h — the next operation: random, but mostly one that means something as things are.
 *
 * Names are few, so operations meet; what exists is chosen more often than what does not; sizes and offsets lie near the
 * ends of files, pages and blocks.
 */
#pragma once

#include "tests/model/model.h"

struct generator {
    uint64_t random; /* not 0 */
    unsigned n_hosts;
    unsigned per_tree;    /* operations between two looks at the whole tree, about */
    unsigned per_restart; /* between two ends of the volume; 0: it stays */
    bool same_user;       /* root does it all */
};

void generate(struct generator *g, struct model *model, struct op *ret_op);
