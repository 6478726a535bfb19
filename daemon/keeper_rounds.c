#include "daemon/keeper_rounds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <uthash.h>

struct round {
    UT_hash_handle hh;
    char volume[VOLUME_NAME_MAX_BYTES + 1];
    uint64_t applied, looked;
    uint64_t turn;    /* the look that was its last; 0: none yet */
    uint64_t sweep;   /* the sweep before which it was noted last */
    bool is_owed;     /* its last look was not the end */
    int64_t again_ns; /* not before */
    int64_t pause_ns; /* the last one; 0: nothing failed */
};

static struct round *find(const struct rounds *rounds, const char *volume)
{
    struct round *round;
    HASH_FIND_STR(rounds->all, volume, round);
    return round;
}

void rounds_done(struct rounds *rounds)
{
    struct round *round, *next;
    HASH_ITER(hh, rounds->all, round, next)
    {
        HASH_DEL(rounds->all, round);
        free(round);
    }
}

int rounds_note(struct rounds *rounds, const char *volume, uint64_t applied)
{
    struct round *round = find(rounds, volume);
    if (!round) {
        round = calloc(1, sizeof *round);
        if (!round)
            return -ENOMEM;
        (void)snprintf(round->volume, sizeof round->volume, "%s", volume);
        HASH_ADD_STR(rounds->all, volume, round);
    }
    if (applied < round->looked) /* another volume of that name */
        round->looked = 0;
    round->applied = applied;
    round->sweep = rounds->n_sweeps;
    return 0;
}

void rounds_sweep(struct rounds *rounds)
{
    struct round *round, *next;
    HASH_ITER(hh, rounds->all, round, next)
    {
        if (round->sweep == rounds->n_sweeps)
            continue;
        HASH_DEL(rounds->all, round);
        free(round);
    }
    rounds->n_sweeps++;
}

static bool is_due(const struct round *round, int64_t now_ns)
{
    return now_ns >= round->again_ns && (round->is_owed || round->applied > round->looked);
}

bool rounds_next(const struct rounds *rounds, int64_t now_ns,
                 char ret_volume[VOLUME_NAME_MAX_BYTES + 1])
{
    const struct round *best = NULL;
    for (const struct round *round = rounds->all; round; round = round->hh.next)
        if (is_due(round, now_ns) && (!best || round->turn < best->turn))
            best = round;
    if (best)
        (void)snprintf(ret_volume, VOLUME_NAME_MAX_BYTES + 1, "%s", best->volume);
    return best != NULL;
}

void rounds_looked(struct rounds *rounds, const char *volume, uint64_t looked, enum round_end end,
                   int64_t now_ns)
{
    struct round *round = find(rounds, volume);
    if (!round)
        return;
    round->turn = ++rounds->n_looks;
    round->looked = looked;
    round->is_owed = end != ROUND_DONE;
    int64_t pause = MIN(MAX(2 * round->pause_ns, ROUND_PAUSE_MIN_NS), ROUND_PAUSE_MAX_NS);
    round->pause_ns = end == ROUND_FAILED ? pause : 0;
    round->again_ns = now_ns + round->pause_ns;
}
