#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

struct order {
    const char *name, *config_file; /* config_file: NULL: whiskfsd's own preset */
    bool repairs;
};

static void show_progress(void *ctx, const json_t *progress)
{
    bool *is_drawn = ctx;
    char bytes[32];
    (void)fprintf(stderr, "\r%s: %s in %lld files ", cli_text(progress, "part"),
                  cli_bytes(cli_number(progress, "bytes"), bytes),
                  (long long)cli_number(progress, "files"));
    *is_drawn = true;
}

static void print_result(const json_t *result)
{
    size_t i;
    const json_t *sentence;
    json_array_foreach(json_object_get(result, "findings"), i, sentence)
    {
        (void)puts(json_string_value(sentence));
    }
    (void)printf("%s: found %lld, mended %lld", cli_text(result, "name"),
                 (long long)cli_number(result, "found"), (long long)cli_number(result, "repaired"));
    if (cli_flag(result, "online"))
        (void)printf("; %lld files read, %lld in use", (long long)cli_number(result, "files"),
                     (long long)cli_number(result, "busy"));
    (void)putchar('\n');
}

/* No daemon runs: whiskfsd itself looks at what lies on the disk. Returns only if it cannot be started. */
static int check_offline(const struct cli *cli, const struct order *order)
{
    const char *arguments[8] = {"whiskfsd", "--fsck", order->name};
    size_t n = 3;
    if (order->config_file) {
        arguments[n++] = "--config";
        arguments[n++] = order->config_file;
    }
    if (order->repairs)
        arguments[n++] = "--repair";
    if (cli->is_json)
        arguments[n++] = "--json";
    (void)fputs("whiskfs: checking what lies on the disk\n", stderr);
    (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    (void)fprintf(stderr, "whiskfs: cannot start whiskfsd: %s\n", strerror(errno));
    return CLI_UNREACHABLE;
}

static int check(struct cli *cli, const struct order *order)
{
    AUTO(cli_json_free) json_t *result = NULL;
    bool is_drawn = false;
    json_t *request = json_pack("{s:s, s:s, s:b}", "command", "fsck", "name", order->name, "repair",
                                order->repairs);
    int code =
        cli_ask(cli, request, isatty(STDERR_FILENO) ? show_progress : NULL, &is_drawn, &result);
    if (is_drawn)
        (void)fputc('\n', stderr);
    if (code == CLI_UNREACHABLE)
        return check_offline(cli, order);
    if (code != CLI_OK)
        return code;
    if (!cli_print_json(cli, result))
        print_result(result);
    return cli_number(result, "found") > 0 ? CLI_FAILED : CLI_OK;
}

int cmd_fsck(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"repair", no_argument, NULL, 'r'},
        {"config", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    struct order order = {0};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'r')
            order.repairs = true;
        else if (option == 'c')
            order.config_file = optarg;
        else
            return cli_usage(cli, "there is no such option");
    }
    if (optind + 1 != argc)
        return cli_usage(cli, "name one volume");
    order.name = argv[optind];
    return check(cli, &order);
}
