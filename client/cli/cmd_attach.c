#include <getopt.h>
#include <stdlib.h>

#include "client/cli/cli.h"

int cmd_attach(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"create", no_argument, NULL, 'c'},
        {"timeout", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0},
    };
    AUTO(cli_json_free) json_t *result = NULL;
    bool is_created = false;
    long timeout_s = 8;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            is_created = true;
        else if (option == 't' && (timeout_s = strtol(optarg, NULL, 10)) >= 1 && timeout_s <= 60)
            continue;
        else
            return cli_usage(cli, "--timeout takes 1 to 60 seconds");
    }
    if (optind + 1 != argc)
        return cli_usage(cli, "name one volume");
    int code = cli_ask(cli,
                       json_pack("{s:s, s:s, s:b, s:I}", "command", "attach", "name", argv[optind],
                                 "create", is_created, "timeout_s", (json_int_t)timeout_s),
                       NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("volume '%s' is at %s, home '%s'\n", argv[optind],
                     cli_text(result, "mountpoint"), cli_text(result, "home"));
    return code;
}

int cmd_detach(struct cli *cli, int argc, char **argv)
{
    return cli_end_volume(cli, argc, argv, "detached");
}
