#include "daemon/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/host.h"
#include "fs/fsck/fsck.h"
#include "fs/volume/snapshot.h"
#include "proto/base/cleanup.h"

#define LOOK_MS 200
#define DAMAGE_SAID 1024u

struct checking {
    struct host *host;
    const char *name;
    struct volume *volume; /* NULL: it is not open */
    bool repairs;
    struct control_call *call;
    json_t *findings;
    json_int_t n_found, n_repaired;
};

static void say(void *ctx, const char *sentence)
{
    struct checking *c = ctx;
    (void)json_array_append_new(c->findings, json_string(sentence));
}

static void say_formatted(struct checking *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say_formatted(struct checking *c, const char *fmt, ...)
{
    char sentence[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    say(c, sentence);
}

/* False: the client is gone, or the volume is to be closed. */
static bool is_wanted(struct checking *c, const char *part, uint64_t bytes, uint64_t files)
{
    if (c->volume && !volumes_is_wanted(c->host->volumes, c->name))
        return false;
    return control_progress(c->call, json_pack("{s:s, s:I, s:I}", "part", part, "bytes",
                                               (json_int_t)bytes, "files", (json_int_t)files));
}

/* ---- the child ---- */

/* Signals as a process has them when nobody has said otherwise: this one blocks what ends it. */
static int spawn_with(posix_spawn_file_actions_t *actions, const char *const arguments[],
                      pid_t *ret_pid)
{
    posix_spawnattr_t attr;
    sigset_t none;
    (void)sigemptyset(&none);
    int r = posix_spawnattr_init(&attr);
    if (r != 0)
        return -r;
    r = posix_spawnattr_setsigmask(&attr, &none);
    if (r == 0)
        r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    if (r == 0)
        r = posix_spawn(ret_pid, "/proc/self/exe", actions, &attr,
                        (char *const *)(uintptr_t)arguments, environ);
    (void)posix_spawnattr_destroy(&attr);
    return -r;
}

static int spawn(const char *const arguments[], int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    int r = -posix_spawn_file_actions_init(&actions);
    if (r < 0)
        return r;
    r = -posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (r == 0)
        r = spawn_with(&actions, arguments, ret_pid);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r;
}

static int start_child(struct checking *c, int *ret_from, pid_t *ret_pid)
{
    const char *arguments[] = {
        "whiskfsd", "--config", c->host->config->file, "--fsck", c->name, "--json", NULL, NULL};
    int ends[2];
    if (c->volume)
        arguments[6] = "--snapshot";
    else if (c->repairs)
        arguments[6] = "--repair";
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int r = spawn(arguments, ends[1], ret_pid);
    (void)close(ends[1]);
    if (r < 0)
        (void)close(ends[0]);
    else
        *ret_from = ends[0];
    return r;
}

/* It says all of it at its end. -ECANCELED. */
static int wait_for_words(struct checking *c, int from)
{
    struct pollfd readable = {.fd = from, .events = POLLIN};
    for (;;) {
        int n = poll(&readable, 1, LOOK_MS);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (!is_wanted(c, "log and state", 0, 0))
            return -ECANCELED;
    }
}

static int take_words(struct checking *c, int from)
{
    json_t *document = json_loadfd(from, 0, NULL);
    if (!document)
        return -ECHILD;
    c->n_found += json_integer_value(json_object_get(document, "found"));
    c->n_repaired += json_integer_value(json_object_get(document, "repaired"));
    (void)json_array_extend(c->findings, json_object_get(document, "findings"));
    json_decref(document);
    return 0;
}

static int run_child(struct checking *c)
{
    AUTO_CLOSE int from = -1;
    pid_t pid;
    int r = start_child(c, &from, &pid);
    if (r < 0)
        return r;
    r = wait_for_words(c, from);
    if (r == 0)
        r = take_words(c, from);
    if (r < 0)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return r;
}

/* ---- a volume that is open ---- */

static int check_snapshot(struct checking *c)
{
    int r = volume_snapshot(c->volume);
    if (r == 0)
        r = run_child(c);
    int removed = volume_snapshot_remove(c->volume);
    return r < 0 ? r : removed;
}

static bool has_finding(const struct checking *c, const char *begin)
{
    size_t i;
    const json_t *sentence;
    json_array_foreach(c->findings, i, sentence)
    {
        if (strncmp(json_string_value(sentence), begin, strlen(begin)) == 0)
            return true;
    }
    return false;
}

/* The state is what log and checkpoint should have made: it is written again as a checkpoint. */
static int mend_checkpoint(struct checking *c)
{
    if (!c->repairs || !has_finding(c, "checkpoint/") || has_finding(c, "state:"))
        return 0;
    int r = volume_checkpoint(c->volume, true);
    if (r < 0)
        return r;
    c->n_repaired++;
    say(c, "wrote a new checkpoint");
    return 0;
}

static int check_store(struct checking *c)
{
    const struct fsck_options options = {
        .self = volume_self(c->volume), .repairs = c->repairs, .say = say, .ctx = c};
    struct fsck_result result;
    int r = fsck_live_store(c->volume, &options, &result);
    if (r < 0)
        return r;
    c->n_found += result.n_found;
    c->n_repaired += result.n_repaired;
    return 0;
}

static void say_damage(struct checking *c, const struct scrub_status *scrub)
{
    AUTO_FREE struct damage *damage = calloc(DAMAGE_SAID, sizeof *damage);
    size_t n = damage ? store_damage(volume_store(c->volume), damage, DAMAGE_SAID) : 0;
    c->n_found += (json_int_t)n;
    for (size_t i = 0; i < MIN(n, (size_t)DAMAGE_SAID); i++) {
        char path[256] = "";
        (void)!tree_path(volume_tree(c->volume), damage[i].ino, path, sizeof path);
        say_formatted(
            c, "inode %" PRIu64 " ('%s'): block %" PRIu64 " is damaged: it is not as it was sealed",
            damage[i].ino, path, damage[i].block);
    }
    c->n_found += (json_int_t)scrub->bad_seals;
    c->n_repaired += (json_int_t)scrub->bad_seals;
    if (scrub->bad_seals > 0)
        say_formatted(c, "%" PRIu64 " seals were damaged: the files are sealed anew",
                      scrub->bad_seals);
}

/* A pass that is under way already will do. */
static int check_blocks(struct checking *c, struct scrub_status *ret_scrub)
{
    int r = volume_scrub(c->volume, c->host->config->scrub_rate);
    if (r < 0 && r != -EALREADY)
        return r;
    for (;;) {
        volume_scrub_status(c->volume, ret_scrub);
        if (!ret_scrub->is_running)
            break;
        if (!is_wanted(c, "blocks", ret_scrub->bytes, ret_scrub->files))
            return -ECANCELED;
        (void)poll(NULL, 0, LOOK_MS);
    }
    say_damage(c, ret_scrub);
    return 0;
}

static int check_open(struct checking *c, struct scrub_status *ret_scrub)
{
    int r = check_snapshot(c);
    if (r == 0)
        r = mend_checkpoint(c);
    if (r == 0)
        r = check_store(c);
    return r < 0 ? r : check_blocks(c, ret_scrub);
}

/* ---- the command ---- */

static json_t *result_json(const struct checking *c, const struct scrub_status *scrub)
{
    json_t *result =
        json_pack("{s:s, s:b, s:I, s:I, s:O}", "name", c->name, "online", c->volume != NULL,
                  "found", c->n_found, "repaired", c->n_repaired, "findings", c->findings);
    if (c->volume)
        (void)json_object_update_new(
            result, json_pack("{s:I, s:I, s:I}", "files", (json_int_t)scrub->files, "bytes",
                              (json_int_t)scrub->bytes, "busy", (json_int_t)scrub->busy));
    return result;
}

static int fail(struct checking *c, int r)
{
    if (r == -ECHILD)
        return control_fail(
            c->call, r, "volume '%s' could not be checked: the log of whiskfsd says why", c->name);
    return control_fail(c->call, r, "cannot check volume '%s': %s", c->name, strerror(-r));
}

static int run(struct host *host, const char *name, bool repairs, struct control_call *call,
               json_t **ret_result)
{
    struct scrub_status scrub = {0};
    struct checking c = {.host = host, .name = name, .repairs = repairs, .call = call};
    c.findings = json_array();
    c.volume = volumes_find(host->volumes, name);
    int r = c.volume ? check_open(&c, &scrub) : run_child(&c);
    if (r == 0)
        *ret_result = result_json(&c, &scrub);
    else
        r = fail(&c, r);
    if (c.volume)
        volumes_put(host->volumes, c.volume);
    json_decref(c.findings);
    return r;
}

int fsck_command(void *ctx, const json_t *arguments, struct control_call *call, json_t **ret_result)
{
    struct host *host = ctx;
    const char *name = json_string_value(json_object_get(arguments, "name"));
    bool repairs = json_is_true(json_object_get(arguments, "repair"));
    if (!name || volume_name_check(name) < 0)
        return control_fail(call, -EINVAL, "no volume was named");
    if (atomic_flag_test_and_set(&host->is_checking))
        return control_fail(call, -EALREADY, "a volume is being checked already");
    int r = run(host, name, repairs, call, ret_result);
    atomic_flag_clear(&host->is_checking);
    return r;
}
