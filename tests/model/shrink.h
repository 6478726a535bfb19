/* tests/model/shrink.h — from a long list of operations that fails to a short one (delta debugging). */
#pragma once

#include "tests/model/run.h"

/* record: of a run that failed. In the end it holds a list that still fails, none of whose operations can be left out;
 * why is the last failure's. False: it did not fail a second time. */
MUST_USE bool shrink(const struct run_options *options, struct record *record);
