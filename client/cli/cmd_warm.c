#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "proto/base/clock.h"

#define BAR_COLUMNS 30
#define RATE_S 0.1 /* progress of less time may have come at once */

struct bar {
    bool is_drawn;
    int64_t start_ns;
    json_int_t start_bytes; /* what was here when the first progress came */
};

/* Bytes a second since the first progress; 0: that is not known yet. */
static double rate_of(struct bar *bar, json_int_t bytes)
{
    int64_t now_ns = clock_mono_ns();
    if (!bar->is_drawn) {
        bar->start_ns = now_ns;
        bar->start_bytes = bytes;
    }
    double seconds = (double)(now_ns - bar->start_ns) / (double)NS_PER_S;
    return seconds > RATE_S ? (double)(bytes - bar->start_bytes) / seconds : 0;
}

static void print_rate(double rate, json_int_t left_bytes)
{
    char text[32];
    if (rate >= 1)
        (void)fprintf(stderr, ", %s/s, %.0f s left", cli_bytes((json_int_t)rate, text),
                      (double)left_bytes / rate);
    (void)fputs("\033[K", stderr); /* the line before may have been longer */
}

/* One line on a terminal, drawn over itself. */
static void draw_bar(void *ctx, const json_t *progress)
{
    struct bar *bar = ctx;
    char done[32], total[32], cells[BAR_COLUMNS + 1];
    json_int_t bytes = cli_number(progress, "bytes"),
               total_bytes = cli_number(progress, "total_bytes");
    size_t filled = total_bytes > 0 ? (size_t)(bytes * BAR_COLUMNS / total_bytes) : BAR_COLUMNS;
    memset(cells, ' ', BAR_COLUMNS);
    memset(cells, '#', MIN(filled, (size_t)BAR_COLUMNS));
    cells[BAR_COLUMNS] = '\0';
    (void)fprintf(stderr, "\r[%s] %s of %s, %lld of %lld files", cells, cli_bytes(bytes, done),
                  cli_bytes(total_bytes, total), (long long)cli_number(progress, "files"),
                  (long long)cli_number(progress, "total_files"));
    print_rate(rate_of(bar, bytes), MAX(total_bytes - bytes, 0));
    bar->is_drawn = true;
}

int cmd_warm(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    struct bar bar = {.is_drawn = false};
    char bytes[32];
    if (argc < 2)
        return cli_usage(cli, "name a volume, and paths in it or nothing for all of it");
    json_t *paths = json_array();
    for (int i = 2; i < argc; i++)
        (void)json_array_append_new(paths, json_string(argv[i]));
    int64_t start_ns = clock_mono_ns();
    int code = cli_ask(
        cli, json_pack("{s:s, s:s, s:o}", "command", "prefetch", "name", argv[1], "paths", paths),
        isatty(STDERR_FILENO) ? draw_bar : NULL, &bar, &result);
    if (bar.is_drawn)
        (void)fputc('\n', stderr);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("%s in %lld files are here, after %.1f s\n",
                     cli_bytes(cli_number(result, "bytes"), bytes),
                     (long long)cli_number(result, "files"),
                     (double)(clock_mono_ns() - start_ns) / (double)NS_PER_S);
    return code;
}

/* Its older name. */
int cmd_prefetch(struct cli *cli, int argc, char **argv)
{
    return cmd_warm(cli, argc, argv);
}
