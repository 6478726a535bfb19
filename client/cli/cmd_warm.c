#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"

#define BAR_COLUMNS 40

/* One line on a terminal, drawn over itself. */
static void draw_bar(void *ctx, const json_t *progress)
{
    bool *is_drawn = ctx;
    char done[32], total[32], bar[BAR_COLUMNS + 1];
    json_int_t bytes = cli_number(progress, "bytes"),
               total_bytes = cli_number(progress, "total_bytes");
    size_t filled = total_bytes > 0 ? (size_t)(bytes * BAR_COLUMNS / total_bytes) : BAR_COLUMNS;
    memset(bar, ' ', BAR_COLUMNS);
    memset(bar, '#', MIN(filled, (size_t)BAR_COLUMNS));
    bar[BAR_COLUMNS] = '\0';
    (void)fprintf(stderr, "\r[%s] %s of %s, %lld of %lld files ", bar, cli_bytes(bytes, done),
                  cli_bytes(total_bytes, total), (long long)cli_number(progress, "files"),
                  (long long)cli_number(progress, "total_files"));
    *is_drawn = true;
}

int cmd_prefetch(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    bool is_drawn = false;
    char bytes[32];
    if (argc < 2)
        return cli_usage(cli, "name a volume, and paths in it or nothing for all of it");
    json_t *paths = json_array();
    for (int i = 2; i < argc; i++)
        (void)json_array_append_new(paths, json_string(argv[i]));
    int code = cli_ask(
        cli, json_pack("{s:s, s:s, s:o}", "command", "prefetch", "name", argv[1], "paths", paths),
        isatty(STDERR_FILENO) ? draw_bar : NULL, &is_drawn, &result);
    if (is_drawn)
        (void)fputc('\n', stderr);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("drew %s in %lld files\n", cli_bytes(cli_number(result, "bytes"), bytes),
                     (long long)cli_number(result, "files"));
    return code;
}
