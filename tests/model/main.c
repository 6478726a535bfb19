/* tests/model/main.c — random operations on a filesystem and on the reference model; what differs is shrunk.
 *
 *     model [--seed N] [--ops N] [--path DIR]… [--no-passthrough | --alternate] [--restart N]
 *           [--one-user] [--verbose] [--replay FILE]
 *
 * With --path below that directory, of any filesystem; with several, each shows the same tree on another host. Without,
 * in a volume that is made, mounted and served for it; then --restart N ends it, or kills its server, each N
 * operations or so. With WHISKFS_LONG set it does 50 times as much. A failure ends as a list of operations that --replay takes. Exit: 0, 1 (differs), 2 (usage), 77.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "tests/model/shrink.h"

#define N_LONG 50
#define N_REPLAY_MAX 100000
#define N_LAST 40 /* operations that are shown of a failure that does not repeat */

struct arguments {
    struct run_options run;
    uint64_t seed;
    size_t n_ops;
    const char *replay;
};

static int usage(void)
{
    fprintf(stderr,
            "usage: model [--seed N] [--ops N] [--path DIR]… [--no-passthrough | --alternate]\n"
            "             [--restart N] [--one-user] [--verbose] [--replay FILE]\n");
    return 2;
}

static bool add_path(struct place_options *place, const char *path)
{
    if (place->n_paths == N_HOSTS_MAX)
        return false;
    place->paths[place->n_paths++] = path;
    return true;
}

static bool set_option(struct arguments *a, int option)
{
    switch (option) {
    case 's':
        a->seed = strtoull(optarg, NULL, 0);
        return true;
    case 'o':
        a->n_ops = strtoul(optarg, NULL, 0);
        return a->n_ops > 0;
    case 'p':
        return add_path(&a->run.place, optarg);
    case 'n':
        a->run.place.passthrough = PASSTHROUGH_OFF;
        return true;
    case 'a':
        a->run.place.passthrough = PASSTHROUGH_ALTERNATES;
        return true;
    case 'k':
        a->run.generator.per_restart = (unsigned)strtoul(optarg, NULL, 0);
        return true;
    case 'u':
        a->run.generator.same_user = true;
        return true;
    case 'v':
        a->run.is_verbose = true;
        return true;
    case 'r':
        a->replay = optarg;
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct arguments *a)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},   {"ops", required_argument, NULL, 'o'},
        {"path", required_argument, NULL, 'p'},   {"no-passthrough", no_argument, NULL, 'n'},
        {"alternate", no_argument, NULL, 'a'},    {"restart", required_argument, NULL, 'k'},
        {"one-user", no_argument, NULL, 'u'},     {"verbose", no_argument, NULL, 'v'},
        {"replay", required_argument, NULL, 'r'}, {0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (!set_option(a, option))
            return false;
    a->run.generator.n_hosts = MAX(a->run.place.n_paths, 1);
    if (a->run.place.n_paths > 0)
        a->run.generator.per_restart = 0;
    return optind == argc;
}

/* ---- replaying ---- */

static bool read_ops(FILE *file, struct record *record)
{
    char line[512];

    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (record->n_ops == record->n_ops_max || !op_parse(line, &record->ops[record->n_ops])) {
            fprintf(stderr, "model: not an operation: %s", line);
            return false;
        }
        record->n_ops++;
    }
    return true;
}

static int replay(struct arguments *a)
{
    struct record *record = record_new(N_REPLAY_MAX);
    FILE *file = fopen(a->replay, "r");

    if (!file || !record) {
        fprintf(stderr, "model: cannot read %s\n", a->replay);
        return 2;
    }
    bool is_list = read_ops(file, record);
    (void)fclose(file);
    if (!is_list)
        return 2;
    if (run_recorded(&a->run, record)) {
        printf("%zu operations agree\n", record->n_ops);
        return 0;
    }
    printf("differs at operation %zu: %s\n", record->n_done, record->why);
    return 1;
}

/* ---- generating ---- */

static void show(const struct record *record, size_t first)
{
    for (size_t i = first; i < record->n_ops; i++)
        op_print(stdout, &record->ops[i]);
    fflush(stdout);
}

static int report(struct arguments *a, struct record *record)
{
    printf("# seed %" PRIu64 ": differs at operation %zu: %s\n# ", a->seed, record->n_done,
           record->why);
    op_print(stdout, &record->ops[record->n_done]);
    fflush(stdout);
    if (shrink(&a->run, record)) {
        printf("# the shortest list that differs (--replay): %s\n", record->why);
        show(record, 0);
    } else {
        printf("# it does not differ again; the last operations were\n");
        show(record, record->n_ops - MIN(record->n_ops, N_LAST));
    }
    return 1;
}

static int generated(struct arguments *a)
{
    struct record *record = record_new(a->n_ops);
    int64_t begin_ns = clock_mono_ns();

    if (!record)
        return 2;
    printf("# seed %" PRIu64 "\n", a->seed);
    fflush(stdout);
    if (!run_generated(&a->run, a->n_ops, record))
        return report(a, record);
    double seconds = (double)(clock_mono_ns() - begin_ns) / NS_PER_S;
    printf("%zu operations agree, %zu left out; %.0f in a second\n", a->n_ops, record->n_skipped,
           (double)a->n_ops / seconds);
    record_free(record);
    return 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {.run = {.generator = {.per_tree = 150}},
                          .seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20,
                          .n_ops = 10000};

    if (!parse(argc, argv, &a))
        return usage();
    if (getenv("WHISKFS_LONG"))
        a.n_ops *= N_LONG;
    a.run.generator.random = a.seed * 0x9e3779b97f4a7c15ULL | 1;
    if (geteuid() != 0 || (a.run.place.n_paths == 0 && access("/dev/fuse", R_OK | W_OK) < 0)) {
        fprintf(stderr, "model: skipped: needs root and /dev/fuse\n");
        return 77;
    }
    return a.replay ? replay(&a) : generated(&a);
}
