/* daemon/runs.h — the accounts of the activations on this host: for `whiskfs runs`, Prometheus, and a file of JSON lines.
 *
 * A thread of its own writes the lines, so that a full or slow disk holds up nothing else; what it is too late for is counted.
 */
#pragma once

#include <jansson.h>

#include "daemon/openwhisk/accounts.h"
#include "daemon/volumes/volumes.h"

struct runs;

struct runs_options {
    struct volumes *volumes;
    int invoker; /* this host's */
    int64_t step_limit_ms;
    const char *
        path; /* lines are appended there; "": nowhere. Opened anew for each batch: it may be rotated */
};

MUST_USE int runs_new(const struct runs_options *options, struct runs **ret_runs);
MUST_USE int runs_start(struct runs *runs);
void runs_stop(struct runs *runs);
void runs_free(struct runs *runs);

/* Any thread; they look volumes up and wait for nothing else. */
void runs_announce(struct runs *runs, const char *volume);
void runs_begin(struct runs *runs, const struct ow_activation *activation,
                const struct observed_volume *volumes, unsigned n);
void runs_end(struct runs *runs, const struct ow_ack *ack);

struct runs_totals {
    struct accounts_totals accounts;
    uint64_t n_unwritten; /* lines that should be in the file and are not */
};
void runs_read_totals(struct runs *runs, struct runs_totals *ret_totals);

/* {"activations": […], "runs": […]}: the latest, the oldest first; the former are the same objects as in the file, the latter
 * sums over those of a run that ran on this host. NULL: no memory. */
json_t *runs_json(struct runs *runs);
