/* daemon/transfer/readahead.h — when to ask for more than somebody waits for. Pure: no locks, no clock.
 *
 * A few sequential readers are remembered. One that goes on where it was gets a window ahead of it that doubles from
 * 512 KiB to 16 MiB; an access anywhere else has none. Several threads of the kernel read one file ahead
 * of one process, so accesses may come a little out of order.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define AHEAD_MIN_BLOCKS 4u
#define AHEAD_MAX_BLOCKS 128u
#define AHEAD_SLACK_BLOCKS 32u
#define AHEAD_STREAMS 64

struct ahead_stream {
    const void *key;   /* of the file; only compared */
    uint64_t next;     /* the furthest end of an access */
    uint64_t frontier; /* up to here all has been asked for */
    uint64_t window;   /* blocks; 0: not known to be sequential yet */
    uint64_t used;     /* when, in accesses */
};

struct readahead {
    bool begins_anywhere; /* fixed: the first access has a window already, wherever it is */
    struct ahead_stream streams[AHEAD_STREAMS];
    uint64_t n_accesses;
};

/* Somebody waits for blocks [first, end) of key. Ask for [*ret_from, *ret_to) too; empty if the two are equal. */
void readahead_note(struct readahead *readahead, const void *key, uint64_t first, uint64_t end,
                    uint64_t *ret_from, uint64_t *ret_to);
