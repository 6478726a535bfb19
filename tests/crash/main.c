/* The crash simulator: records a run of a volume, and looks at what a power cut after each of its operations leaves.
 *
 *     crash [--seed N] [--steps N] [--samples N] [--runs N] [--print N] [--mistakes]
 *
 * For every prefix of the run: nothing that was not durable is there; all of it is; and `samples` times some of it.
 * --mistakes: shows that it finds what it is for. A finding is printed with what makes it again. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/directory.h"
#include "proto/base/log.h"
#include "tests/crash/record.h"
#include "tests/crash/work.h"

static char base[64];
static unsigned print_end; /* --print N: the first N operations */

static void new_boot(int dirfd)
{
    AUTO_CLOSE int fd = openat(dirfd, "boot", O_WRONLY | O_CLOEXEC);
    static const char other[] = "11111111-1111-1111-1111-111111111111";
    if (fd >= 0)
        CHECK(pwrite(fd, other, sizeof other - 1, 0) == sizeof other - 1);
}

/* NULL: what this power cut leaves is fine. */
static const char *try_one(const struct work *work, const struct record *record, unsigned n_ops,
                           const struct chance *chance)
{
    char directory[128];
    (void)snprintf(directory, sizeof directory, "%s/after", base);
    CHECK(mkdir(directory, 0700) == 0);
    AUTO_CLOSE int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    image_make(record, n_ops, chance, dirfd);
    new_boot(dirfd);
    const char *wrong = check_recovery(work, n_ops, directory);
    CHECK(directory_remove(AT_FDCWD, directory) == 0);
    return wrong;
}

static struct chance sample(uint64_t seed)
{
    static const uint8_t chances[] = {0, 4, 8, 16};
    return (struct chance){
        .bytes = chances[seed & 3],
        .sizes = chances[seed >> 2 & 3],
        .attributes = chances[seed >> 4 & 3],
        .names = chances[seed >> 6 & 3],
        .torn = chances[seed >> 8 & 1],
        .seed = seed,
    };
}

static bool try_and_say(const struct work *work, const struct record *record, unsigned n_ops,
                        struct chance chance, const char *what)
{
    const char *wrong = try_one(work, record, n_ops, &chance);
    if (wrong)
        printf("after %u operations, %s (sample %llu): %s\n", n_ops, what,
               (unsigned long long)chance.seed, wrong);
    return !wrong;
}

/* Every prefix. Returns how many power cuts did harm, at most `enough`. */
static unsigned try_all(const struct work *work, const struct record *record, uint64_t seed,
                        unsigned n_samples, unsigned enough, unsigned *ret_tried)
{
    unsigned n_wrong = 0;
    for (unsigned n = 0; n <= record->n_ops && n_wrong < enough; n++) {
        n_wrong += !try_and_say(work, record, n, CHANCE_NOTHING, "all lost");
        n_wrong += !try_and_say(work, record, n, CHANCE_ALL, "nothing lost");
        for (unsigned i = 0; i < n_samples && n_wrong < enough; i++) {
            uint64_t s = (seed * 1000003 + n) * 0x9e3779b97f4a7c15ULL + i * 0x2545f4914f6cdd1dULL;
            n_wrong += !try_and_say(work, record, n, sample(s >> 20), "some lost");
        }
        *ret_tried += 2 + n_samples;
    }
    return n_wrong;
}

static void record_run(struct work *work, uint64_t seed, unsigned n_steps)
{
    char directory[128];
    (void)snprintf(directory, sizeof directory, "%s/run", base);
    work_run(work, directory, seed, n_steps);
    CHECK(directory_remove(AT_FDCWD, directory) == 0);
}

/* Says nothing. */
static bool is_harmed(const struct work *work, const struct record *record, uint64_t seed)
{
    for (unsigned n = 20; n <= record->n_ops; n++) {
        struct chance chances[] = {CHANCE_NOTHING, sample(seed * 77773 + n * 131)};
        for (size_t i = 0; i < N_ELEMENTS(chances); i++)
            if (try_one(work, record, n, &chances[i]))
                return true;
    }
    return false;
}

static bool run(uint64_t seed, unsigned n_steps, unsigned n_samples)
{
    struct work work;
    unsigned n_tried = 0;
    record_run(&work, seed, n_steps);
    unsigned n_wrong = try_all(&work, record_get(), seed, n_samples, 5, &n_tried);
    printf("seed %llu: %u operations, %llu entries, %u files, %u power cuts, %u did harm\n",
           (unsigned long long)seed, record_get()->n_ops, (unsigned long long)work.n_dumps,
           work.n_files, n_tried, n_wrong);
    if (print_end > 0)
        record_print(0, print_end);
    record_free();
    work_free(&work);
    return n_wrong == 0;
}

/* One mistake after the other, each until it is found. Returns how many were not. */
static unsigned try_mistakes(uint64_t seed, unsigned n_steps)
{
    unsigned n_missed = 0;
    const char *name = NULL;
    for (unsigned which = 0;; which++) {
        bool is_found = false, is_one = true;
        for (uint64_t s = seed; s < seed + 30 && is_one && !is_found; s++) {
            struct work work;
            record_run(&work, s, n_steps);
            is_one = record_mutate(which, &name);
            is_found = is_one && is_harmed(&work, record_get(), s);
            record_free();
            work_free(&work);
        }
        if (!is_one)
            return n_missed;
        printf("%s: %s\n", name, is_found ? "found" : "MISSED");
        n_missed += !is_found;
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"steps", required_argument, NULL, 'n'},
        {"samples", required_argument, NULL, 'm'},
        {"runs", required_argument, NULL, 'r'},
        {"print", required_argument, NULL, 'p'},
        {"mistakes", no_argument, NULL, 'k'},
        {NULL, 0, NULL, 0},
    };
    bool is_mistaken = false;
    bool is_long = getenv("WHISKFS_LONG") != NULL;
    uint64_t seed = 1;
    unsigned n_steps = 70, n_samples = is_long ? 20 : 2, n_runs = is_long ? 20 : 3;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;
        if (option == 's')
            seed = value;
        else if (option == 'n')
            n_steps = (unsigned)value;
        else if (option == 'm')
            n_samples = (unsigned)value;
        else if (option == 'r')
            n_runs = (unsigned)value;
        else if (option == 'k')
            is_mistaken = true;
        else if (option == 'p')
            print_end = (unsigned)value;
        else
            return 2;
    }
    log_set_level(LOG_ERROR);
    log_set_segment_bytes(8u << 10);
    (void)snprintf(base, sizeof base, "/dev/shm/whiskfs-crash-XXXXXX");
    CHECK(mkdtemp(base));
    bool is_fine = !is_mistaken || try_mistakes(seed, n_steps) == 0;
    for (unsigned i = 0; !is_mistaken && i < n_runs; i++)
        is_fine &= run(seed + i, n_steps, n_samples);
    CHECK(directory_remove(AT_FDCWD, base) == 0);
    return is_fine ? 0 : 1;
}
