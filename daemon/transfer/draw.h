/* daemon/transfer/draw.h — draws the files of a volume here before anybody reads them. */
#pragma once

#include <stdbool.h>

#include "daemon/transfer/transfer.h"

struct draw_progress {
    uint64_t done_bytes, total_bytes;
    uint64_t done_files, total_files;
};

/* Called between files and at most every 100 ms or so. False: stop. */
typedef bool draw_report_f(void *ctx, const struct draw_progress *progress);

struct draw {
    const char *volume_name;
    struct volume *volume;
    const uint64_t *inos; /* only these, or NULL: every regular file */
    size_t n_inos;
    uint64_t budget_bytes; /* draw no more than this; 0: no limit */
    enum fetch_class class;
    draw_report_f *report; /* or NULL */
    void *ctx;
};

/* Draws what is missing, newest published first. Files that change meanwhile are left out: they have a newer version.
 * 0: all of it, or the budget, is here. -ECANCELED: report said stop. Otherwise the first error; the other files
 * are drawn nevertheless. ret_progress is written in every case. */
MUST_USE int transfer_draw(struct transfer *transfer, const struct draw *draw,
                           struct draw_progress *ret_progress);
