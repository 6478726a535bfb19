/* tests/model/shrink.c — leaving out what is not needed. */
#include "tests/model/shrink.h"

#include <stdlib.h>
#include <string.h>

struct list {
    struct op *ops;
    size_t n_ops;
};

/* Without what lies in [from, to). */
static struct list without(const struct list *list, size_t from, size_t to)
{
    struct list shorter = {calloc(MAX(list->n_ops, 1), sizeof(struct op)),
                           list->n_ops - (to - from)};

    CHECK(shorter.ops);
    memcpy(shorter.ops, list->ops, from * sizeof(struct op));
    memcpy(shorter.ops + from, list->ops + to, (list->n_ops - to) * sizeof(struct op));
    return shorter;
}

/* What came after the failure is not needed either. */
static bool fails(const struct run_options *options, struct record *record, struct list *list)
{
    record_set(record, list->ops, list->n_ops);
    if (run_recorded(options, record))
        return false;
    list->n_ops = MIN(list->n_ops, record->n_done + 1);
    return true;
}

/* True: shorter. */
static bool leave_out(const struct run_options *options, struct record *record, struct list *list,
                      size_t from, size_t to)
{
    struct list shorter = without(list, from, to);

    if (!fails(options, record, &shorter)) {
        free(shorter.ops);
        return false;
    }
    free(list->ops);
    *list = shorter;
    return true;
}

/* From the end, where removal costs least. True: something could be left out. */
static bool leave_out_each(const struct run_options *options, struct record *record,
                           struct list *list, size_t chunk)
{
    bool is_shorter = false;

    for (size_t to = list->n_ops; to > 0; to = MIN(to - MIN(to, chunk), list->n_ops))
        is_shorter |= leave_out(options, record, list, to - MIN(to, chunk), to);
    return is_shorter;
}

bool shrink(const struct run_options *options, struct record *record)
{
    size_t n_ops = MIN(record->n_done + 1, record->n_ops);
    struct list list = {calloc(n_ops + 1, sizeof(struct op)), n_ops};

    CHECK(list.ops);
    memcpy(list.ops, record->ops, n_ops * sizeof(struct op));
    bool is_repeatable = fails(options, record, &list);
    for (size_t chunk = list.n_ops / 2; is_repeatable && chunk > 0; chunk /= 2)
        while (leave_out_each(options, record, &list, chunk) && chunk == 1)
            ;
    record_set(record, list.ops, list.n_ops);
    if (is_repeatable)
        is_repeatable = !run_recorded(options, record);
    free(list.ops);
    return is_repeatable;
}
