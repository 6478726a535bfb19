/* client/cli/cmd_runs.c — what the data of the latest activations on this host cost. */
#include "client/cli/cli.h"

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_bytes(const json_t *object)
{
    static const char *const kinds[] = {"ahead", "late", "stream", "demand"};
    const json_t *bytes = json_object_get(object, "bytes");
    char text[32];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        (void)printf(" %10s", cli_bytes(cli_number(bytes, kinds[i]), text));
}

static void print_activation(const json_t *activation)
{
    double lead_s = number_of(activation, "lead_s");
    (void)printf("%-34s %-24s %8.3f %8.3f %8.3f", cli_text(activation, "run"),
                 cli_text(activation, "action"), number_of(activation, "ran_s"),
                 number_of(activation, "waited_s"), number_of(activation, "computing_s"));
    print_bytes(activation);
    if (lead_s < 0)
        (void)printf(" %8s", "-");
    else
        (void)printf(" %8.3f", lead_s);
    (void)puts(cli_flag(activation, "error") ? "  failed" : "");
}

static void print_run(const json_t *run)
{
    char title[32];
    (void)snprintf(title, sizeof title, "all %lld here", (long long)cli_number(run, "activations"));
    (void)printf("%-34s %-24s %8.3f %8.3f %8.3f", cli_text(run, "run"), title,
                 number_of(run, "ran_s"), number_of(run, "waited_s"),
                 number_of(run, "computing_s"));
    print_bytes(run);
    (void)putchar('\n');
}

static void print_hits(const json_t *predictions)
{
    double checked = number_of(predictions, "checked");
    if (checked > 0)
        (void)printf("next steps predicted: %.0f came to a test, action right %.0f %%, "
                     "host right %.0f %%\n",
                     checked, 100.0 * number_of(predictions, "action_right") / checked,
                     100.0 * number_of(predictions, "invoker_right") / checked);
}

int cmd_runs(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    size_t i;
    const json_t *item;
    char wasted[32];
    (void)argv;
    if (argc != 1)
        return cli_usage(cli, "it takes no argument");
    int code = cli_ask(cli, json_pack("{s:s}", "command", "runs"), NULL, NULL, &result);
    if (code != CLI_OK || cli_print_json(cli, result))
        return code;
    (void)printf("%-34s %-24s %8s %8s %8s %10s %10s %10s %10s %8s\n", "RUN", "ACTION", "RAN S",
                 "WAITED", "COMPUTED", "AHEAD", "LATE", "STREAM", "DEMAND", "LEAD S");
    json_array_foreach(json_object_get(result, "activations"), i, item) print_activation(item);
    json_array_foreach(json_object_get(result, "runs"), i, item) print_run(item);
    (void)printf("drawn ahead for steps that did not come: %s\n",
                 cli_bytes(cli_number(result, "wasted_bytes"), wasted));
    print_hits(json_object_get(result, "predictions"));
    return CLI_OK;
}
