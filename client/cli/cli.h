/* client/cli/cli.h — what the subcommands of `whiskfs` share. One cmd_*.c each, listed in commands.def. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "client/cli/link.h"
#include "proto/base/cleanup.h"

/* Exit codes, as whiskfs(1) documents them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1, /* the daemon, or the machine, said no */
    CLI_USAGE = 2,
    CLI_UNREACHABLE = 3, /* no daemon answers at the socket */
    CLI_NOT_FOUND = 4,
    CLI_IN_USE = 5,
};

struct cli {
    const char *socket_path;
    bool is_json; /* --json: one JSON document on stdout */
    const struct cli_command *command;
};

/* argv[0] is the command's last word; options are the command's own. Returns an exit code. */
typedef int cli_run_f(struct cli *cli, int argc, char **argv);

struct cli_command {
    const char *name;  /* one or two words */
    const char *usage; /* what follows them */
    const char *summary;
    cli_run_f *run;
};

#define COMMAND(words, function, usage, summary) cli_run_f cmd_##function;
#include "client/cli/commands.def"
#undef COMMAND

/* Prints usage to stderr; returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "whiskfs: SENTENCE" to stderr; the exit code for a negative errno. */
int cli_fail(int error, const char *sentence);

/* Asks the daemon; on failure says so and returns the exit code, on success 0 and *ret_result. Takes request over. */
MUST_USE int cli_ask(struct cli *cli, json_t *request, link_progress_f *progress, void *ctx,
                     json_t **ret_result);
/* NAME [--force]: asks the daemon for cli->command, whose success is told as "DONE volume 'NAME'". */
int cli_end_volume(struct cli *cli, int argc, char **argv, const char *done);
/* NAME and the options of `volume create`, into a request. An exit code. */
int cli_take_create_options(struct cli *cli, int argc, char **argv, json_t *request);
/* Prints the JSON document and returns true under --json. */
bool cli_print_json(const struct cli *cli, const json_t *document);
static inline void cli_json_free(json_t **object)
{
    json_decref(*object);
}

/* Fields of an object; missing ones are "", 0, false. */
const char *cli_text(const json_t *object, const char *key);
json_int_t cli_number(const json_t *object, const char *key);
bool cli_flag(const json_t *object, const char *key);
/* Of a volume: one line for each block that is known to be damaged. */
void cli_print_damage(const json_t *volume);
/* "1.5 GiB" into a buffer of the caller. */
const char *cli_bytes(json_int_t bytes, char buffer[32]);
