/* whiskfs — the command. Its words are looked up in commands.def. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

#define DEFAULT_SOCKET "/run/whiskfs/control.sock"

/* Ends with a NULL name. */
static const struct cli_command cli_commands[] = {
#define COMMAND(words, function, usage, summary) {words, usage, summary, cmd_##function},
#include "client/cli/commands.def"
#undef COMMAND
    {NULL, NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    (void)fputs("usage: whiskfs [--socket PATH] [--json] COMMAND ...\n\n", out);
    for (const struct cli_command *command = cli_commands; command->name; command++)
        (void)fprintf(out, "  %-14s %s\n                   %s\n", command->name, command->usage,
                      command->summary);
    (void)fputs("\nThe socket may also be given as WHISKFS_SOCKET. See whiskfs(1).\n", out);
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    va_list args;
    (void)fputs("whiskfs: ", stderr);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    if (cli->command)
        (void)fprintf(stderr, "\nusage: whiskfs %s %s\n", cli->command->name, cli->command->usage);
    else
        (void)fputs(": see 'whiskfs --help'\n", stderr);
    return CLI_USAGE;
}

/* How many of argv's first words are this command's name; 0: another command. */
static int match(const struct cli_command *command, int argc, char **argv)
{
    const char *second = strchr(command->name, ' ');
    size_t first_size = second ? (size_t)(second - command->name) : strlen(command->name);
    if (argc < 1 || strlen(argv[0]) != first_size ||
        memcmp(argv[0], command->name, first_size) != 0)
        return 0;
    if (!second)
        return 1;
    return argc >= 2 && strcmp(argv[1], second + 1) == 0 ? 2 : 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
    for (const struct cli_command *command = cli_commands; command->name; command++) {
        int words = match(command, argc, argv);
        if (words == 0)
            continue;
        cli->command = command;
        optind = 0; /* getopt starts anew, at the command's own options */
        return command->run(cli, argc - words + 1, argv + words - 1);
    }
    return cli_usage(cli, argc == 0 ? "no command" : "'%s' is no command",
                     argc == 0 ? "" : argv[0]);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    const char *from_environment = getenv("WHISKFS_SOCKET");
    struct cli cli = {.socket_path = from_environment ? from_environment : DEFAULT_SOCKET};
    int option;
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case 's':
            cli.socket_path = optarg;
            break;
        case 'j':
            cli.is_json = true;
            break;
        case 'h':
            print_help(stdout);
            return CLI_OK;
        case 'v':
            (void)puts("whiskfs " WHISKFS_VERSION);
            return CLI_OK;
        default:
            return CLI_USAGE;
        }
    }
    /* --json is also taken behind the command, where people type it. */
    int n = 0;
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            cli.is_json = true;
        else
            argv[optind + n++] = argv[i];
    }
    argv[optind + n] = NULL;
    return run(&cli, n, argv + optind);
}
