#include "daemon/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/keeper_rounds.h"
#include "daemon/ticker.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define LOOK_NS (250 * NS_PER_MS)
#define PIECE_BYTES (4u << 20)
#define PIECE_NS (800 * NS_PER_MS) /* a stop waits no longer than this */
#define SILENCE_NS (3 * NS_PER_S)  /* without one new block: given up for now */
#define TURN_BYTES (256ULL << 20)  /* then other volumes have their turn */
#define VOLUMES_MAX 4096
#define FILES_MAX (1u << 16) /* of one look; the rest at the next */

struct keeper {
    struct volumes *volumes;
    struct keeper_counters counters;
    struct ticker ticker;
    /* the thread's */
    struct rounds rounds;
    struct volume_position *positions; /* VOLUMES_MAX */
    struct log_limit lines;
};

const struct keeper_counters *keeper_counters(const struct keeper *keeper)
{
    return &keeper->counters;
}

/* ---- one look at one volume ---- */

struct look {
    struct keeper *keeper;
    const char *name;
    struct volume *volume;
    uint64_t *inos; /* FILES_MAX at most */
    size_t n, room;
    bool is_cut; /* there are more */
    uint64_t drawn_bytes;
    struct host_id silent; /* this one did not answer: nothing else is asked of it in this look */
};

static bool collect(void *ctx, const struct inode *inode)
{
    struct look *look = ctx;
    if (look->n == look->room) {
        size_t room = look->room ? 2 * look->room : 64;
        uint64_t *more =
            room > FILES_MAX ? NULL : reallocarray(look->inos, room, sizeof *look->inos);
        look->is_cut = !more;
        if (!more)
            return false;
        look->inos = more;
        look->room = room;
    }
    look->inos[look->n++] = inode->ino;
    return true;
}

static bool goes_on(const struct look *look)
{
    return !ticker_is_stopping(&look->keeper->ticker) &&
           volumes_is_wanted(look->keeper->volumes, look->name);
}

/* Fetches up to a piece from the first missing block on; what came before the deadline stays. */
static int draw_piece(struct content *content, uint64_t block)
{
    uint64_t offset = block * BLOCK_BYTES, size = content_size(content);
    if (offset >= size)
        return 0; /* it was cut shorter meanwhile */
    return content_need(content, offset, MIN(PIECE_BYTES, size - offset), FETCH_STREAM,
                        clock_mono_ns() + PIECE_NS);
}

/* 1: not all, the turn is over. */
static int draw_content(struct look *look, struct content *content)
{
    int64_t moved_ns = clock_mono_ns();
    uint64_t present = content_present_bytes(content);
    for (;;) {
        uint64_t block = content_next_missing(content, 0);
        if (block >= block_count(content_size(content)))
            return 0;
        if (!goes_on(look))
            return -ECANCELED;
        if (look->drawn_bytes >= TURN_BYTES)
            return 1;
        int r = draw_piece(content, block);
        uint64_t now_present = content_present_bytes(content);
        if (now_present > present) {
            look->drawn_bytes += now_present - present;
            atomic_fetch_add(&look->keeper->counters.bytes, now_present - present);
            moved_ns = clock_mono_ns();
        }
        present = now_present;
        if (r < 0 && (r != -ETIMEDOUT || clock_mono_ns() - moved_ns > SILENCE_NS))
            return r;
    }
}

static int say_kept(struct look *look, const struct inode *inode)
{
    struct request request = {
        .kind = REQUEST_KEEP, .ino = inode->ino, .base_version = inode->version};
    struct outcome outcome;
    int r = volume_change(look->volume, &request, &outcome);
    if (r == 0)
        atomic_fetch_add(&look->keeper->counters.files, 1);
    return r;
}

static bool is_silence(int error)
{
    return error == -ETIMEDOUT || error == -EHOSTUNREACH;
}

static int keep_content(struct look *look, struct content *content, const struct inode *inode)
{
    struct host_id upstream = content_upstream(content);
    if (!host_equal(upstream, NO_HOST) && host_equal(upstream, look->silent))
        return -EHOSTUNREACH;
    int r = draw_content(look, content);
    if (is_silence(r))
        look->silent = upstream;
    if (r != 0)
        return r;
    r = content_sync(content);
    return r < 0 ? r : say_kept(look, inode);
}

/* A newer version, another keeper, or the file is gone. The log has moved then, so there will be another look. */
static bool is_overtaken(struct look *look, const struct inode *tried)
{
    struct inode inode;
    int r = tree_get(volume_tree(look->volume), tried->ino, &inode);
    return r == -ENOENT || (r == 0 && inode.version != tried->version);
}

/* The state now, not when the index was read: that may be long ago. */
static int keep_file(struct look *look, uint64_t ino)
{
    struct inode inode;
    int r = tree_get(volume_tree(look->volume), ino, &inode);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (inode.keeper_complete || !host_equal(inode.keeper, volume_self(look->volume)))
        return 0;
    AUTO(content_putp) struct content *content = NULL;
    r = content_get(volume_store(look->volume), volume_self(look->volume), &inode, &content);
    if (r == 0)
        r = keep_content(look, content, &inode);
    return r < 0 && is_overtaken(look, &inode) ? 0 : r;
}

static void report(struct look *look, uint64_t ino, int error)
{
    uint64_t suppressed;
    atomic_fetch_add(&look->keeper->counters.failed, 1);
    if (log_allow(&look->keeper->lines, &suppressed))
        log_warning("keeper",
                    "cannot complete file %" PRIu64
                    " of volume '%s', published here: %s: trying again",
                    ino, look->name, strerror(-error));
}

static enum round_end keep_files(struct look *look)
{
    bool has_failed = false;
    for (size_t i = 0; i < look->n; i++) {
        int r = goes_on(look) ? keep_file(look, look->inos[i]) : -ECANCELED;
        if (r > 0 || r == -ECANCELED)
            return ROUND_MORE;
        if (r == 0)
            continue;
        report(look, look->inos[i], r);
        has_failed = true;
    }
    return has_failed ? ROUND_FAILED : look->is_cut ? ROUND_MORE : ROUND_DONE;
}

static void look_at(struct keeper *keeper, const char *name)
{
    struct look look = {.keeper = keeper, .name = name};
    enum round_end end = ROUND_FAILED;
    uint64_t index = 0;
    look.volume = volumes_find(keeper->volumes, name);
    if (look.volume) {
        index = volume_applied(look.volume);
        struct host_id self = volume_self(look.volume);
        if (tree_each_incomplete(volume_tree(look.volume), self, collect, &look) == 0)
            end = keep_files(&look);
        volumes_put(keeper->volumes, look.volume);
    }
    free(look.inos);
    rounds_looked(&keeper->rounds, name, index, end, clock_mono_ns());
}

/* ---- the thread ---- */

static void note_volumes(struct keeper *keeper)
{
    int n = volumes_positions(keeper->volumes, keeper->positions, VOLUMES_MAX);
    for (int i = 0; i < MIN(n, VOLUMES_MAX); i++)
        if (rounds_note(&keeper->rounds, keeper->positions[i].name, keeper->positions[i].applied))
            return; /* no memory: at the next look */
    rounds_sweep(&keeper->rounds);
}

static void tick(void *ctx)
{
    struct keeper *keeper = ctx;
    char name[VOLUME_NAME_MAX_BYTES + 1];
    note_volumes(keeper);
    while (!ticker_is_stopping(&keeper->ticker) &&
           rounds_next(&keeper->rounds, clock_mono_ns(), name))
        look_at(keeper, name);
}

/* ---- life ---- */

int keeper_new(struct volumes *volumes, struct keeper **ret_keeper)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);
    struct volume_position *positions = calloc(VOLUMES_MAX, sizeof *positions);
    if (!keeper || !positions) {
        free(keeper);
        free(positions);
        return -ENOMEM;
    }
    keeper->volumes = volumes;
    keeper->positions = positions;
    ticker_init(&keeper->ticker, LOOK_NS, tick, keeper);
    *ret_keeper = keeper;
    return 0;
}

int keeper_start(struct keeper *keeper)
{
    return ticker_start(&keeper->ticker, "whiskfs-keeper");
}

void keeper_stop(struct keeper *keeper)
{
    ticker_stop(&keeper->ticker);
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    rounds_done(&keeper->rounds);
    free(keeper->positions);
    ticker_done(&keeper->ticker);
    free(keeper);
}
