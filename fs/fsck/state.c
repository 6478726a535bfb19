/* The state: it must be what the checkpoint and the log make, and agree with itself. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/fsck/impl.h"
#include "fs/log/log.h"
#include "fs/request.h"
#include "fs/tree/check.h"
#include "fs/tree/tree.h"
#include "fs/volume/impl.h"
#include "proto/base/cleanup.h"

#define SCRATCH "fsck.new"
#define READ_BYTES (2u * LOG_ENTRY_BYTES_MAX)

/* ---- the state made again ---- */

static int copy_checkpoint(struct fsck *f, int scratchfd)
{
    char name[CHECKPOINT_NAME_BYTES];
    if (f->checkpoint == 0)
        return 0;
    checkpoint_name(f->checkpoint, name);
    AUTO_CLOSE int dirfd = directory_open(f->dirfd, "checkpoint");
    AUTO_CLOSE int fd = dirfd < 0 ? dirfd : disk_open(dirfd, name, O_RDONLY);
    AUTO_CLOSE int statefd = fd < 0 ? fd : directory_make(scratchfd, TREE_DIRECTORY);
    return statefd < 0 ? statefd : directory_copy_file(scratchfd, TREE_FILE, fd);
}

static int apply_bytes(struct tree *tree, struct span bytes, uint64_t until)
{
    struct reader r = reader_over(bytes.data, bytes.size);
    while (reader_left(&r) > 0 && tree_applied(tree) < until) {
        struct log_entry entry;
        struct change change;
        struct tree_effect effect;
        if (log_entry_get(&r, &entry) < 0)
            return -EBADMSG;
        struct reader payload = reader_over(entry.payload.data, entry.payload.size);
        if (get_change(&payload, &change) < 0)
            return -EBADMSG;
        int error = tree_apply(tree, &change, &effect);
        if (error < 0)
            return error;
    }
    return 0;
}

static int replay(struct tree *tree, struct log *log, uint64_t until)
{
    AUTO_FREE uint8_t *buffer = malloc(READ_BYTES);
    if (!buffer)
        return -ENOMEM;
    while (tree_applied(tree) < until) {
        size_t used;
        int error = log_read(log, tree_applied(tree) + 1, buffer, READ_BYTES, &used);
        if (error == 0)
            error = apply_bytes(tree, (struct span){buffer, used}, until);
        if (error < 0)
            return error;
    }
    return 0;
}

/* A tree in the scratch directory, up to entry `until`. The log is read in place: it is sound. */
static int make_again(struct fsck *f, int scratchfd, uint64_t until, struct tree **ret_tree)
{
    AUTO(tree_freep) struct tree *tree = NULL;
    AUTO(log_freep) struct log *log = NULL;
    int error = copy_checkpoint(f, scratchfd);
    if (error == 0)
        error = tree_open(scratchfd, 0, &tree);
    if (error == 0)
        error = log_open(f->dirfd, 0, &log);
    if (error == 0)
        error = replay(tree, log, until);
    if (error < 0)
        return error;
    *ret_tree = TAKE(tree);
    return 0;
}

/* ---- comparing ---- */

static void say(void *ctx, const char *sentence)
{
    fsck_found(ctx, "state: %s", sentence);
}

static int compare(struct fsck *f, struct tree *state)
{
    AUTO(tree_freep) struct tree *again = NULL;
    uint64_t applied = tree_applied(state);
    if (!f->is_log_sound || !f->is_checkpoint_sound)
        return 0; /* said already */
    if (applied > f->last || applied < f->checkpoint) {
        fsck_found(f, "state: is at entry %" PRIu64 ", the log has %" PRIu64 " to %" PRIu64,
                   applied, f->first, f->last);
        return 0;
    }
    int error = directory_remove(f->dirfd, SCRATCH);
    AUTO_CLOSE int scratchfd = error < 0 ? error : directory_make(f->dirfd, SCRATCH);
    error = scratchfd < 0 ? scratchfd : make_again(f, scratchfd, applied, &again);
    if (error == 0)
        error = tree_compare(state, again, say, f);
    tree_free(TAKE(again));
    int removed = directory_remove(f->dirfd, SCRATCH);
    return error < 0 ? error : removed;
}

static int look(struct fsck *f)
{
    AUTO(tree_freep) struct tree *state = NULL;
    f->is_state_sound = !disk_exists(f->dirfd, TREE_FILE); /* then it is made at the next start */
    if (f->is_state_sound)
        return 0;
    int error = tree_open(f->dirfd, 0, &state);
    if (error < 0) {
        fsck_found(f, "state: cannot be opened: %s", strerror(-error));
        return 0;
    }
    error = tree_check(state, say, f);
    if (error == 0)
        error = compare(f, state);
    f->is_state_sound = error == 0 && f->result.n_found == 0;
    return error < 0 ? error : fsck_store(f, state);
}

/* ---- in a child ---- */

/* The child's findings, one a line; a byte before each says whether it is one. */
static void pass_on(void *ctx, const char *sentence)
{
    FILE *to = ctx;
    (void)fprintf(to, "%s\n", sentence);
    (void)fflush(to);
}

static int run_child(struct fsck *f, int out)
{
    FILE *to = fdopen(out, "w");
    struct fsck_options options = *f->options;
    if (!to)
        return 1;
    options.say = pass_on;
    options.ctx = to;
    f->options = &options;
    f->result = (struct fsck_result){0};
    int error = look(f);
    if (error < 0)
        (void)fprintf(to, "state: cannot be checked: %s\n", strerror(-error));
    (void)fprintf(to, "\t%u %u %d\n", f->result.n_found + (error < 0), f->result.n_repaired,
                  f->is_state_sound);
    (void)fclose(to);
    return 0;
}

/* True: the child came to its end and said so. */
static bool read_child(struct fsck *f, FILE *from)
{
    char line[600];
    unsigned n_found, n_repaired;
    int is_sound;
    while (fgets(line, sizeof line, from)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\t') {
            f->options->say(f->options->ctx, line);
            continue;
        }
        if (sscanf(line, "\t%u %u %d", &n_found, &n_repaired, &is_sound) != 3)
            return false;
        f->result.n_found += n_found;
        f->result.n_repaired += n_repaired;
        f->is_state_sound = is_sound;
        return true;
    }
    return false;
}

int fsck_state(struct fsck *f)
{
    int ends[2], status = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid_t child = fork();
    if (child == 0)
        _exit(run_child(f, ends[1]));
    (void)close(ends[1]);
    FILE *from = child < 0 ? NULL : fdopen(ends[0], "r");
    bool is_done = from && read_child(f, from);
    if (from)
        (void)fclose(from);
    else
        (void)close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return -errno;
    if (!is_done)
        fsck_found(f, "state: is damaged: looking at it ended with signal %d", WTERMSIG(status));
    if (!f->is_state_sound && f->is_log_sound && f->is_checkpoint_sound &&
        disk_exists(f->dirfd, TREE_FILE))
        fsck_put_aside(f, f->dirfd, "volume", TREE_DIRECTORY);
    return 0;
}
