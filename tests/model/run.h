/* tests/model/run.h — a list of operations, done by a process of its own on the real filesystem and on the model.
 *
 * The list is in memory that both processes see. So a run that hangs or dies is a run that failed at a known operation.
 */
#pragma once

#include <stdatomic.h>

#include "tests/model/generate.h"
#include "tests/model/place.h"

struct record {
    atomic_size_t n_done; /* operations looked at; the one that failed is ops[n_done] */
    atomic_size_t n_ops;
    size_t n_skipped;
    bool has_failed;
    char why[WHY_SIZE];
    size_t n_ops_max;
    struct op ops[];
};

struct run_options {
    struct place_options place;
    struct generator generator;
    bool is_verbose;
};

struct record *record_new(size_t n_ops_max); /* NULL: no memory */
void record_free(struct record *record);
void record_set(struct record *record, const struct op *ops, size_t n_ops);

/* Makes n_ops operations up as it goes, and looks at the tree at the end. False: it failed, and record says where. */
MUST_USE bool run_generated(const struct run_options *options, size_t n_ops, struct record *record);
/* Does what is recorded. */
MUST_USE bool run_recorded(const struct run_options *options, struct record *record);
