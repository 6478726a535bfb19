/* whiskfs volume export, import: through the mounted volume, so that open files are as any reader sees them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/tarball.h"
#include "proto/base/clock.h"

#define DRAW_NS (100 * NS_PER_MS)
#define PARTIAL ".partial" /* what an import is called until it is whole */

struct bar {
    json_int_t total_bytes; /* 0: unknown */
    int64_t drawn_ns;       /* 0: never */
};

static void draw(void *ctx, const struct tarball *t)
{
    struct bar *bar = ctx;
    char done[32], total[32];
    int64_t now = clock_mono_ns();
    if (now - bar->drawn_ns < DRAW_NS)
        return;
    bar->drawn_ns = now;
    (void)fprintf(stderr, "\r%s%s%s, %llu entries   ", cli_bytes((json_int_t)t->bytes, done),
                  bar->total_bytes > 0 ? " of " : "",
                  bar->total_bytes > 0 ? cli_bytes(bar->total_bytes, total) : "",
                  (unsigned long long)t->n_entries);
}

static int open_stop_fd(void)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

typedef int tarball_f(struct tarball *tarball);

/* Between the volume that is mounted there and a stream, with a bar. */
static int run_tarball(struct tarball *t, tarball_f *work, json_int_t total_bytes)
{
    struct bar bar = {.total_bytes = total_bytes};
    AUTO_CLOSE int stop_fd = open_stop_fd();
    t->stop_fd = stop_fd;
    if (isatty(STDERR_FILENO)) {
        t->report = draw;
        t->ctx = &bar;
    }
    int r = work(t);
    if (bar.drawn_ns != 0)
        (void)fputc('\n', stderr);
    if (r < 0 && t->error[0] == '\0')
        (void)snprintf(t->error, sizeof t->error, "%s", strerror(-r));
    return r;
}

static json_t *totals(const char *name, const struct tarball *t)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", name, "bytes", (json_int_t)t->bytes,
                     "entries", (json_int_t)t->n_entries, "sockets", (json_int_t)t->n_sockets,
                     "cut", (json_int_t)t->n_cut);
}

static int show_volume(struct cli *cli, const char *name, json_t **ret_volume)
{
    return cli_ask(cli, json_pack("{s:s, s:s}", "command", "volume show", "name", name), NULL, NULL,
                   ret_volume);
}

static int fail_import(const struct tarball *t, const char *name)
{
    char sentence[sizeof t->error + 256];
    (void)snprintf(sentence, sizeof sentence, "cannot import volume '%s': %s", name, t->error);
    return cli_fail(-EIO, sentence);
}

/* ---- export ---- */

/* The stream may have standard output to itself. */
static void tell_totals(const struct cli *cli, const char *name, const struct tarball *t)
{
    if (!cli->is_json)
        return;
    AUTO(cli_json_free) json_t *result = totals(name, t);
    (void)json_dumpf(result, stderr, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    (void)fputc('\n', stderr);
}

static int end_export(const struct cli *cli, const char *name, const struct tarball *t, int r)
{
    char sentence[sizeof t->error + 256];
    if (r < 0) {
        (void)snprintf(sentence, sizeof sentence, "cannot export all of volume '%s': %s", name,
                       t->error);
        return cli_fail(-EIO, sentence);
    }
    tell_totals(cli, name, t);
    if (t->n_sockets > 0)
        (void)fprintf(stderr,
                      "whiskfs: %llu sockets are left out: a tar stream has no place for them\n",
                      (unsigned long long)t->n_sockets);
    if (t->n_cut == 0)
        return CLI_OK;
    (void)snprintf(
        sentence, sizeof sentence,
        "%llu files of volume '%s' became shorter while they were read: zeros fill them up",
        (unsigned long long)t->n_cut, name);
    return cli_fail(-EIO, sentence);
}

int cmd_volume_export(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *volume = NULL;
    if (argc != 2)
        return cli_usage(cli, "name one volume");
    if (isatty(STDOUT_FILENO))
        return cli_usage(cli,
                         "a tar stream is nothing for a terminal: send it to a file or a pipe");
    int code = show_volume(cli, argv[1], &volume);
    if (code != CLI_OK)
        return code;
    if (!cli_flag(volume, "mounted"))
        return cli_fail(-EIO, "the volume is not mounted here: 'whiskfs attach' it first");
    struct tarball t = {.fd = STDOUT_FILENO, .directory = cli_text(volume, "mountpoint")};
    int r = run_tarball(&t, tarball_write, cli_number(volume, "used_bytes"));
    return end_export(cli, argv[1], &t, r);
}

/* ---- import ---- */

static int set_name(json_t *request, const char *name, char partial[256])
{
    (void)snprintf(partial, 256, "%s" PARTIAL, name);
    return json_object_set_new(request, "name", json_string(partial));
}

/* What is there must not be found out after an hour of copying. */
static bool exists(const struct cli *cli, const char *name)
{
    char error[512];
    AUTO(cli_json_free) json_t *volume = NULL;
    AUTO(cli_json_free)
    json_t *request = json_pack("{s:s, s:s}", "command", "volume show", "name", name);
    return link_call(cli->socket_path, request, NULL, NULL, &volume, error, sizeof error) == 0;
}

static int remove_partial(struct cli *cli, const char *partial)
{
    AUTO(cli_json_free) json_t *result = NULL;
    return cli_ask(
        cli,
        json_pack("{s:s, s:s, s:b}", "command", "volume remove", "name", partial, "force", true),
        NULL, NULL, &result);
}

/* Whole: it gets its name. */
static int name_import(struct cli *cli, const char *partial, const char *name)
{
    AUTO(cli_json_free) json_t *result = NULL;
    int code = cli_ask(
        cli,
        json_pack("{s:s, s:s, s:s}", "command", "volume rename", "name", partial, "new_name", name),
        NULL, NULL, &result);
    if (code != CLI_OK)
        (void)fprintf(stderr, "whiskfs: the volume is whole and called '%s': rename it yourself\n",
                      partial);
    return code;
}

static int import_into(struct cli *cli, const char *partial, const char *name)
{
    AUTO(cli_json_free) json_t *volume = NULL;
    int code = show_volume(cli, partial, &volume);
    if (code != CLI_OK)
        return code;
    struct tarball t = {.fd = STDIN_FILENO, .directory = cli_text(volume, "mountpoint")};
    if (run_tarball(&t, tarball_read, 0) < 0) {
        code = fail_import(&t, name);
        if (remove_partial(cli, partial) != CLI_OK)
            (void)fprintf(stderr, "whiskfs: a part of it stays as volume '%s'\n", partial);
        return code;
    }
    code = name_import(cli, partial, name);
    AUTO(cli_json_free) json_t *result = totals(name, &t);
    if (code == CLI_OK && !cli_print_json(cli, result)) {
        char bytes[32];
        (void)printf("imported %s in %llu entries into volume '%s'\n",
                     cli_bytes((json_int_t)t.bytes, bytes), (unsigned long long)t.n_entries, name);
    }
    return code;
}

int cmd_volume_import(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    char partial[256];
    json_t *request = json_pack("{s:s}", "command", "volume create");
    int code = cli_take_create_options(cli, argc, argv, request);
    AUTO_FREE char *name = strdup(code == CLI_OK ? cli_text(request, "name") : "");
    if (code == CLI_OK && name && exists(cli, name))
        code = cli_fail(-EEXIST, "cannot import: a volume of this name exists already");
    if (code != CLI_OK || !name || set_name(request, name, partial) < 0) {
        json_decref(request);
        return code == CLI_OK ? CLI_FAILED : code;
    }
    code = cli_ask(cli, request, NULL, NULL, &result);
    return code == CLI_OK ? import_into(cli, partial, name) : code;
}
