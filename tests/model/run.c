/* tests/model/run.c — doing a list of operations. */
#include "tests/model/run.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "tests/model/tree.h"

/* No operation may take longer: a filesystem that hangs has failed. */
#define PROGRESS_TIMEOUT_MS 40000

/* ---- the record ---- */

static size_t record_size(size_t n_ops_max)
{
    return sizeof(struct record) + n_ops_max * sizeof(struct op);
}

struct record *record_new(size_t n_ops_max)
{
    struct record *record = mmap(NULL, record_size(n_ops_max), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (record == MAP_FAILED)
        return NULL;
    record->n_ops_max = n_ops_max;
    return record;
}

void record_free(struct record *record)
{
    (void)munmap(record, record_size(record->n_ops_max));
}

void record_set(struct record *record, const struct op *ops, size_t n_ops)
{
    CHECK(n_ops <= record->n_ops_max);
    memmove(record->ops, ops, n_ops * sizeof *ops);
    record->n_ops = n_ops;
}

/* ---- the process that does it ---- */

struct run {
    const struct run_options *options;
    struct place *place;
    struct record *record;
    struct model *model;
    struct real real;
    struct generator generator;
};

static bool fail(struct run *run, const char *why)
{
    (void)snprintf(run->record->why, WHY_SIZE, "%s", why);
    run->record->has_failed = true;
    return false;
}

static bool enter(struct run *run)
{
    int r = place_start(run->place);

    for (unsigned i = 0; r == 0 && i < run->place->n_roots; i++)
        r = real_enter(&run->real, i, run->place->roots[i]);
    return r == 0 || fail(run, "the tree could not be entered");
}

static bool restart(struct run *run, const struct op *op)
{
    real_unmap(&run->real);
    if (op->kind == OP_KILL)
        place_kill(run->place);
    real_leave(&run->real);
    if (op->kind == OP_REMOUNT && !place_stop(run->place))
        return fail(run, "the volume did not end well");
    return enter(run);
}

/* What a filesystem of the kernel's would write now. It lags behind the real time by a tick, and by more where a busy host
 * withholds the ticks. */
static int64_t kernel_time_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static bool do_op(struct run *run, const struct op *op)
{
    static struct answer answer;
    char why[WHY_SIZE];

    int64_t begin_ns = kernel_time_ns();
    answer.size = 0;
    answer.value = 0;
    if (op->kind == OP_TREE && !tree_agrees(run->model, &run->real, op->host, why))
        return fail(run, why);
    if ((op->kind == OP_REMOUNT || op->kind == OP_KILL) && !restart(run, op))
        return false;
    real_do(&run->real, op, &answer);
    return model_step(run->model, op, &answer, begin_ns, clock_real_ns(), why) || fail(run, why);
}

static bool next_op(struct run *run, struct op *op)
{
    if (run->options->is_verbose)
        op_print(stderr, op);
    if (model_skips(run->model, op))
        run->record->n_skipped++;
    else if (!do_op(run, op))
        return false;
    run->record->n_done++;
    return true;
}

static void do_recorded(struct run *run)
{
    for (size_t i = 0; i < run->record->n_ops; i++)
        if (!next_op(run, &run->record->ops[i]))
            return;
}

static void do_generated(struct run *run, size_t n_ops)
{
    struct record *record = run->record;

    for (size_t i = 0; i < n_ops; i++) {
        if (i + 1 < n_ops)
            generate(&run->generator, run->model, &record->ops[i]);
        else
            record->ops[i] = (struct op){.kind = OP_TREE};
        record->n_ops = i + 1;
        if (!next_op(run, &record->ops[i]))
            return;
    }
}

static bool is_set(const char *path)
{
    FILE *file = fopen(path, "r");
    int c = file ? fgetc(file) : '0';

    if (file)
        (void)fclose(file);
    return c != '0';
}

static bool is_fuse(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC;
}

static struct model *new_model(const struct run *run)
{
    const struct rules rules = {.n_hosts = run->place->n_roots,
                                .is_fuse = is_fuse(run->place->roots[0]),
                                .protected_hardlinks = is_set("/proc/sys/fs/protected_hardlinks"),
                                .protected_symlinks = is_set("/proc/sys/fs/protected_symlinks")};
    return model_new(&rules);
}

/* The exit code. */
static int run_process(struct run *run, size_t n_generated)
{
    if (place_own_mounts() < 0 || real_begin(&run->real, run->place->n_roots) < 0)
        return 1;
    if (enter(run)) {
        run->model = new_model(run);
        if (n_generated > 0)
            do_generated(run, n_generated);
        else
            do_recorded(run);
    }
    real_end(&run->real);
    if (!place_stop(run->place) && !run->record->has_failed)
        fail(run, "the volume did not end well");
    model_free(run->model);
    return run->record->has_failed;
}

/* ---- the process that waits for it ---- */

static volatile sig_atomic_t is_stopping;

static bool has_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    return poll(&p, 1, is_stopping ? 0 : PROGRESS_TIMEOUT_MS) == 1;
}

static void stop(int signal)
{
    is_stopping = signal;
}

/* A run that is asked to end cleans up like any other. */
static void watch_signals(void (*handler)(int))
{
    const struct sigaction action = {.sa_handler = handler};

    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
}

static void wait_for(pid_t pid, struct record *record)
{
    AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    size_t n_done;
    int status = 0;

    do
        n_done = record->n_done;
    while (!has_ended(pidfd) && record->n_done != n_done && !is_stopping);
    bool hangs = !has_ended(pidfd) && !is_stopping;
    (void)kill(-pid, SIGKILL); /* its server, if it died */
    (void)waitpid(pid, &status, 0);
    if (hangs)
        (void)snprintf(record->why, WHY_SIZE, "hangs");
    else if (WIFSIGNALED(status))
        (void)snprintf(record->why, WHY_SIZE, "died: %s", strsignal(WTERMSIG(status)));
    record->has_failed = record->has_failed || hangs || status != 0;
}

static bool run(const struct run_options *options, size_t n_generated, struct record *record)
{
    struct place place;
    int r = place_make(&options->place, &place);

    record->n_done = record->n_skipped = 0;
    record->has_failed = r < 0;
    (void)snprintf(record->why, WHY_SIZE, "%s", r < 0 ? "cannot make a place" : "");
    if (r < 0)
        return false;
    struct run run = {
        .options = options, .place = &place, .record = record, .generator = options->generator};
    watch_signals(stop);
    pid_t pid = fork();
    if (pid == 0) {
        watch_signals(SIG_DFL);
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(run_process(&run, n_generated));
    }
    wait_for(pid, record);
    place_remove(&place);
    if (is_stopping)
        exit(128 + is_stopping);
    return !record->has_failed;
}

bool run_generated(const struct run_options *options, size_t n_ops, struct record *record)
{
    return run(options, n_ops, record);
}

bool run_recorded(const struct run_options *options, struct record *record)
{
    return run(options, 0, record);
}
