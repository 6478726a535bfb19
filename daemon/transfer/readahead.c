#include "daemon/transfer/readahead.h"

#include "proto/base/check.h"

/* Only what is known to be sequential may come out of order: else a random reader of a file that is not large would find some
 * earlier access near each of its places. */
static bool goes_on(const struct ahead_stream *s, const void *key, uint64_t first)
{
    if (s->key != key)
        return false;
    if (s->window == 0)
        return first == s->next;
    return first <= MAX(s->next, s->frontier) && first + AHEAD_SLACK_BLOCKS >= s->next;
}

static struct ahead_stream *find(struct readahead *r, const void *key, uint64_t first)
{
    for (int i = 0; i < AHEAD_STREAMS; i++) {
        if (goes_on(&r->streams[i], key, first))
            return &r->streams[i];
    }
    return NULL;
}

static struct ahead_stream *oldest(struct readahead *r)
{
    struct ahead_stream *s = &r->streams[0];
    for (int i = 1; i < AHEAD_STREAMS; i++) {
        if (r->streams[i].used < s->used)
            s = &r->streams[i];
    }
    return s;
}

/* The start of a file is where sequential readers begin; elsewhere the second access decides, unless told otherwise. */
static struct ahead_stream *begin(struct readahead *r, const void *key, uint64_t first,
                                  uint64_t end)
{
    struct ahead_stream *s = oldest(r);
    *s = (struct ahead_stream){.key = key, .next = end, .frontier = end, .used = r->n_accesses};
    return first == 0 || r->begins_anywhere ? s : NULL;
}

void readahead_note(struct readahead *r, const void *key, uint64_t first, uint64_t end,
                    uint64_t *ret_from, uint64_t *ret_to)
{
    r->n_accesses++;
    *ret_from = *ret_to = end;
    struct ahead_stream *s = find(r, key, first);
    if (!s)
        s = begin(r, key, first, end);
    if (!s)
        return;
    s->used = r->n_accesses;
    s->next = MAX(s->next, end);
    s->frontier = MAX(s->frontier, s->next);
    if (s->frontier - s->next > s->window / 2)
        return; /* enough is on its way */
    s->window = s->window == 0 ? AHEAD_MIN_BLOCKS : MIN(s->window * 2, (uint64_t)AHEAD_MAX_BLOCKS);
    *ret_from = s->frontier;
    *ret_to = s->next + s->window;
    s->frontier = *ret_to;
}
