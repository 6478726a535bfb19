#include <getopt.h>
#include <time.h>

#include "client/cli/cli.h"

static void print_result(const char *name, const json_t *volume)
{
    const json_t *scrub = json_object_get(volume, "scrub");
    char bytes[32];
    (void)printf(
        "volume '%s': read %s in %lld files, sealed %lld, in use %lld, bad seals %lld, damaged "
        "blocks %lld\n",
        name, cli_bytes(cli_number(scrub, "bytes"), bytes), (long long)cli_number(scrub, "files"),
        (long long)cli_number(scrub, "sealed"), (long long)cli_number(scrub, "busy"),
        (long long)cli_number(scrub, "bad_seals"), (long long)cli_number(volume, "damaged"));
    cli_print_damage(volume);
}

/* Asks until the pass has ended. */
static int wait_for_end(struct cli *cli, const char *name, json_t **ret_volume)
{
    static const struct timespec pause = {.tv_nsec = 200000000};
    for (;;) {
        AUTO(cli_json_free) json_t *volume = NULL;
        int code = cli_ask(cli, json_pack("{s:s, s:s}", "command", "volume show", "name", name),
                           NULL, NULL, &volume);
        if (code != CLI_OK)
            return code;
        if (!cli_flag(json_object_get(volume, "scrub"), "running")) {
            *ret_volume = TAKE(volume);
            return CLI_OK;
        }
        (void)nanosleep(&pause, NULL);
    }
}

int cmd_scrub(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"wait", no_argument, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    AUTO(cli_json_free) json_t *started = NULL;
    AUTO(cli_json_free) json_t *volume = NULL;
    bool waits = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'w')
            return cli_usage(cli, "there is no such option");
        waits = true;
    }
    if (optind + 1 != argc)
        return cli_usage(cli, "name one volume");
    const char *name = argv[optind];
    int code = cli_ask(cli, json_pack("{s:s, s:s}", "command", "scrub", "name", name), NULL, NULL,
                       &started);
    if (code == CLI_OK && waits)
        code = wait_for_end(cli, name, &volume);
    if (code != CLI_OK)
        return code;
    if (!cli_print_json(cli, waits ? volume : started)) {
        if (waits)
            print_result(name, volume);
        else
            (void)printf("scrubbing volume '%s': see 'whiskfs status'\n", name);
    }
    return waits && cli_number(volume, "damaged") > 0 ? CLI_FAILED : CLI_OK;
}
