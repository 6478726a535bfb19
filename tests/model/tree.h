/* tests/model/tree.h — the whole tree as the model has it beside the whole tree as a host shows it. */
#pragma once

#include "tests/model/real.h"

/* False: why names the path and what differs. */
MUST_USE bool tree_agrees(struct model *model, struct real *real, unsigned host,
                          char why[WHY_SIZE]);
