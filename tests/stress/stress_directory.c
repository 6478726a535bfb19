/* A large directory of a mounted volume is read while others add, remove and rename in it: every name that is there all
 * the time is seen exactly once, by a reader that goes straight through, by one that goes back to places it has noted
 * (telldir, seekdir), and by one that goes on in another stream.
 *
 *     stress_directory [NAMES [SEED]]
 *
 * 100,000 names; a million with WHISKFS_LONG.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/fuse/session.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

#define N_CHANGERS 2
#define N_PASSING 500u     /* names of each changer */
#define NOTE_EACH_MAX 5000 /* names between two notes, at most */
#define N_ROUNDS 4         /* of each reader */

static char base[64] = "/tmp/whiskfs-stress-XXXXXX", mountpoint[128], state[128];
static unsigned n_names = 100000, seed;
static atomic_bool is_over;
static atomic_uint n_failures, n_changes;

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "%s '%s': %s (seed %u)\n", what, name, strerror(errno), seed);
    atomic_fetch_add(&n_failures, 1);
}

/* ---- who changes ---- */

/* Names of its own only, so nothing may fail. */
static void change(unsigned *random, unsigned changer, bool is_there[N_PASSING])
{
    char name[64], other[64];
    unsigned i = (unsigned)rand_r(random) % N_PASSING, j = (unsigned)rand_r(random) % N_PASSING;
    snprintf(name, sizeof name, "passing-%u-%u", changer, i);
    snprintf(other, sizeof other, "passing-%u-%u", changer, j);
    int r;
    if (!is_there[i])
        r = mkfifo(name, 0600);
    else if (rand_r(random) % 2 == 0)
        r = unlink(name);
    else
        r = rename(name, other);
    if (r < 0)
        fail("change", name);
    struct stat st;
    is_there[i] = lstat(name, &st) == 0;
    is_there[j] = lstat(other, &st) == 0;
    atomic_fetch_add(&n_changes, 1);
}

static void *change_names(void *arg)
{
    unsigned changer = (unsigned)(uintptr_t)arg, random = seed + changer;
    bool is_there[N_PASSING] = {false};
    while (!is_over)
        change(&random, changer, is_there);
    return NULL;
}

/* ---- who reads ---- */

struct walk {
    DIR *dir;
    uint8_t *seen; /* n_names */
    unsigned n_seen;
};

static const unsigned no_name = ~0u;

/* The number of a name that stays, or no_name. */
static unsigned number_of(const char *name)
{
    unsigned number;
    return sscanf(name, "stays-%u", &number) == 1 ? number : no_name;
}

/* The next name that stays; no_name: the end. */
static unsigned next_name(DIR *dir)
{
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (number_of(entry->d_name) != no_name)
            return number_of(entry->d_name);
    if (errno != 0)
        fail("readdir", mountpoint);
    return no_name;
}

static void see(struct walk *walk, unsigned number)
{
    char name[32];
    snprintf(name, sizeof name, "stays-%u", number);
    if (number >= n_names || walk->seen[number]) {
        errno = EEXIST;
        fail("seen a second time:", name);
        return;
    }
    walk->seen[number] = 1;
    walk->n_seen++;
}

static DIR *open_directory(void)
{
    DIR *dir = opendir(mountpoint);
    CHECK(dir);
    return dir;
}

static void begin(struct walk *walk)
{
    *walk = (struct walk){.dir = open_directory(), .seen = calloc(n_names, 1)};
    CHECK(walk->seen);
}

static void end(struct walk *walk, const char *who)
{
    if (walk->n_seen != n_names) {
        errno = ENOENT;
        fprintf(stderr, "%s saw %u of %u names\n", who, walk->n_seen, n_names);
        atomic_fetch_add(&n_failures, 1);
    }
    closedir(walk->dir);
    free(walk->seen);
}

typedef void read_f(struct walk *walk);

static void read_straight(struct walk *walk)
{
    for (unsigned number; (number = next_name(walk->dir)) != no_name;)
        see(walk, number);
}

/* What follows a place that was noted is what followed it then. */
static void look_at(DIR *dir, long place, unsigned wanted)
{
    char name[32];
    seekdir(dir, place);
    unsigned found = next_name(dir);
    if (found == wanted)
        return;
    snprintf(name, sizeof name, "stays-%u", wanted);
    errno = ESTALE;
    fail("something else is at the place of", name);
}

static void read_with_notes(struct walk *walk)
{
    unsigned random = seed, noted = no_name, left = 1, number;
    long place = 0;
    for (;;) {
        long here = telldir(walk->dir);
        number = next_name(walk->dir);
        if (number == no_name)
            break;
        see(walk, number);
        if (--left > 0)
            continue;
        long after = telldir(walk->dir);
        if (noted != no_name)
            look_at(walk->dir, place, noted);
        look_at(walk->dir, here, number);
        seekdir(walk->dir, after);
        place = here;
        noted = number;
        left = (unsigned)rand_r(&random) % NOTE_EACH_MAX + 1;
    }
}

/* An offset means the same in every stream, as a server that gives the directory on needs it. */
static void read_in_turns(struct walk *walk)
{
    unsigned random = seed + 1, left = NOTE_EACH_MAX;
    for (unsigned number; (number = next_name(walk->dir)) != no_name;) {
        see(walk, number);
        if (--left > 0)
            continue;
        long here = telldir(walk->dir);
        closedir(walk->dir);
        walk->dir = open_directory();
        seekdir(walk->dir, here);
        left = (unsigned)rand_r(&random) % NOTE_EACH_MAX + 1;
    }
}

struct directory_reader {
    const char *name;
    read_f *read;
};

static void *read_directory(void *arg)
{
    const struct directory_reader *reader = arg;
    for (unsigned round = 0; round < N_ROUNDS; round++) {
        struct walk walk;
        begin(&walk);
        reader->read(&walk);
        end(&walk, reader->name);
    }
    return NULL;
}

/* ---- the volume ---- */

static int open_volume(struct volume **ret_volume)
{
    const struct volume_options options = {.directory = state, .self = host_id_of("stress")};
    const struct volume_genesis genesis = {.limit_bytes = 10ULL << 30, .mode = 0755};
    int r = volume_create(&options, &genesis);
    if (r == 0)
        r = volume_open(&options, ret_volume);
    return r < 0 ? r : volume_resume(*ret_volume);
}

/* Past the kernel, which would take most of the time. */
static void make_names(struct volume *volume)
{
    int64_t began = clock_mono_ns();
    for (unsigned i = 0; i < n_names; i++) {
        char name[32];
        int size = snprintf(name, sizeof name, "stays-%u", i);
        struct request request = {.kind = REQUEST_MAKE,
                                  .parent = ROOT_INO,
                                  .name = {(const uint8_t *)name, (size_t)size},
                                  .mode = S_IFIFO | 0600};
        struct outcome outcome;
        CHECK(volume_change(volume, &request, &outcome) == 0);
    }
    printf("made %u names in %.1f s\n", n_names, (double)(clock_mono_ns() - began) / 1e9);
}

static void run_threads(void)
{
    static struct directory_reader readers[] = {{"straight through", read_straight},
                                                {"with notes", read_with_notes},
                                                {"in turns", read_in_turns}};
    pthread_t changing[N_CHANGERS], reading[N_ELEMENTS(readers)];
    int64_t began = clock_mono_ns();
    for (uintptr_t i = 0; i < N_CHANGERS; i++)
        CHECK(pthread_create(&changing[i], NULL, change_names, (void *)(i + 1)) == 0);
    while (n_changes < N_PASSING) /* a good part of the passing names is there */
        sched_yield();
    for (size_t i = 0; i < N_ELEMENTS(readers); i++)
        CHECK(pthread_create(&reading[i], NULL, read_directory, &readers[i]) == 0);
    for (size_t i = 0; i < N_ELEMENTS(readers); i++)
        pthread_join(reading[i], NULL);
    is_over = true;
    for (size_t i = 0; i < N_CHANGERS; i++)
        pthread_join(changing[i], NULL);
    printf("three readers, %d times each, in %.1f s; %u changes\n", N_ROUNDS,
           (double)(clock_mono_ns() - began) / 1e9, n_changes);
}

int main(int argc, char **argv)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0 ||
        unshare(CLONE_NEWNS | CLONE_FS) < 0)
        return 77;
    n_names = getenv("WHISKFS_LONG") ? 1000000 : n_names;
    n_names = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : n_names;
    seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : (unsigned)getpid();
    printf("seed %u\n", seed);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mkdtemp(base));
    snprintf(mountpoint, sizeof mountpoint, "%s/mount", base);
    snprintf(state, sizeof state, "%s/state", base);
    CHECK(mkdir(mountpoint, 0755) == 0);

    const struct session_options options = {.mountpoint = mountpoint, .name = "stress"};
    struct volume *volume = NULL;
    struct session *session = NULL;
    CHECK(open_volume(&volume) == 0);
    make_names(volume);
    CHECK(session_start(volume, &options, &session) == 0);
    CHECK(chdir(mountpoint) == 0);
    run_threads();
    CHECK(chdir("/") == 0);
    atomic_fetch_add(&n_failures, (unsigned)session_counters(session)->errors);
    session_stop(session);
    volume_free(volume);
    CHECK(directory_remove(AT_FDCWD, base) == 0);
    return n_failures == 0 ? 0 : 1;
}
