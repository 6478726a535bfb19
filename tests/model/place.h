/* tests/model/place.h — where a run takes place: a new directory below one or more given paths (one for each host that
 * shows the same tree), or a volume that is made and mounted for it, served by a process that can be killed.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "tests/model/op.h"

#define PLACE_PATH_SIZE 256

enum passthrough {
    PASSTHROUGH_ON,
    PASSTHROUGH_OFF,
    PASSTHROUGH_ALTERNATES /* with each start */
};

struct place_options {
    unsigned n_paths; /* 0: a volume is mounted */
    const char *paths[N_HOSTS_MAX];
    enum passthrough passthrough;
};

struct place {
    const struct place_options *options;
    char base[PLACE_PATH_SIZE]; /* what the run made for itself */
    char roots[N_HOSTS_MAX][PLACE_PATH_SIZE + 16];
    unsigned n_roots;
    unsigned n_starts;
    pid_t server;
    int stop_fd; /* closed: the server ends */
};

MUST_USE int place_make(const struct place_options *options, struct place *ret_place);
void place_remove(struct place *place);

/* What this process mounts from here on is its own, and goes with it. */
MUST_USE int place_own_mounts(void);
/* From here on the tree is there. */
MUST_USE int place_start(struct place *place);
/* False: the server did not end well. */
MUST_USE bool place_stop(struct place *place);
void place_kill(struct place *place);
