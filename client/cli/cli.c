#include "client/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

int cli_fail(int error, const char *sentence)
{
    (void)fprintf(stderr, "whiskfs: %s\n", sentence);
    switch (error) {
    case -ENOENT:
        return CLI_NOT_FOUND;
    case -EBUSY:
        return CLI_IN_USE;
    case -EINVAL:
        return CLI_USAGE;
    default:
        return CLI_FAILED;
    }
}

/* -ENOENT and -ECONNREFUSED of the socket itself are told from the daemon's by the sentence's begin. */
static bool is_unreachable(const char *sentence)
{
    return strncmp(sentence, "cannot reach ", strlen("cannot reach ")) == 0;
}

int cli_ask(struct cli *cli, json_t *request, link_progress_f *progress, void *ctx,
            json_t **ret_result)
{
    char error[2048];
    int r = link_call(cli->socket_path, request, progress, ctx, ret_result, error, sizeof error);
    json_decref(request);
    if (r == 0)
        return CLI_OK;
    int code = cli_fail(r, error);
    return is_unreachable(error) ? CLI_UNREACHABLE : code;
}

bool cli_print_json(const struct cli *cli, const json_t *document)
{
    if (!cli->is_json)
        return false;
    (void)json_dumpf(document, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    (void)putchar('\n');
    return true;
}

const char *cli_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

json_int_t cli_number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

bool cli_flag(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

const char *cli_bytes(json_int_t bytes, char buffer[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1024.0 && unit + 1 < N_ELEMENTS(units)) {
        n /= 1024.0;
        unit++;
    }
    (void)snprintf(buffer, 32, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
    return buffer;
}

int cli_end_volume(struct cli *cli, int argc, char **argv, const char *done)
{
    static const struct option options[] = {{"force", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    AUTO(cli_json_free) json_t *result = NULL;
    bool is_forced = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'f')
            return CLI_USAGE;
        is_forced = true;
    }
    if (optind + 1 != argc)
        return cli_usage(cli, "name one volume");
    json_t *request = json_pack("{s:s, s:s, s:b}", "command", cli->command->name, "name",
                                argv[optind], "force", is_forced);
    int code = cli_ask(cli, request, NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("%s volume '%s'\n", done, argv[optind]);
    return code;
}
