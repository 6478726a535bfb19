/* tests/lib/mount_volume.c — a volume without a daemon: made if need be, mounted in the foreground until a signal.
 *
 *     mount_volume [--limit BYTES] [--no-passthrough] [--threads N] [--image] STATE_DIR MOUNTPOINT
 *
 * Prints "ready" on stdout once the mount answers, and the session's counters at the end.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "fs/fuse/session.h"

struct arguments {
    uint64_t limit_bytes;
    bool passthrough, image;
    unsigned threads;
    const char *state_dir, *mountpoint;
};

static int usage(void)
{
    fprintf(stderr, "usage: mount_volume [--limit BYTES] [--no-passthrough] [--threads N] "
                    "STATE_DIR MOUNTPOINT\n");
    return 2;
}

static bool parse(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {{"limit", required_argument, NULL, 'l'},
                                            {"no-passthrough", no_argument, NULL, 'n'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"image", no_argument, NULL, 'i'},
                                            {0}};
    struct arguments a = {.limit_bytes = 10ULL << 30, .passthrough = true};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'l')
            a.limit_bytes = strtoull(optarg, NULL, 10);
        else if (option == 'n')
            a.passthrough = false;
        else if (option == 'i')
            a.image = true;
        else if (option == 't')
            a.threads = (unsigned)strtoul(optarg, NULL, 10);
        else
            return false;
    }
    if (argc - optind != 2)
        return false;
    a.state_dir = argv[optind];
    a.mountpoint = argv[optind + 1];
    *ret = a;
    return true;
}

static int open_volume(const struct arguments *a, struct volume **ret_volume)
{
    const struct volume_options options = {
        .directory = a->state_dir, .self = host_id_of("localhost"), .image = a->image};
    const struct volume_genesis genesis = {.limit_bytes = a->limit_bytes, .mode = 0755};

    int r = volume_create(&options, &genesis);
    if (r < 0 && r != -EEXIST)
        return r;
    r = volume_open(&options, ret_volume);
    return r < 0 ? r : volume_resume(*ret_volume);
}

static void wait_for_signal(void)
{
    sigset_t set;
    int signal;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    (void)sigwait(&set, &signal);
}

static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void print_counters(const struct session_counters *c)
{
    fprintf(stderr,
            "opens_passthrough=%" PRIu64 " opens_cached=%" PRIu64 " read_bytes=%" PRIu64
            " write_bytes=%" PRIu64 " requests=%" PRIu64 " errors=%" PRIu64 "\n",
            c->opens_passthrough, c->opens_cached, c->read_bytes, c->write_bytes, c->requests,
            c->errors);
}

int main(int argc, char **argv)
{
    struct arguments a;
    struct volume *volume = NULL;
    struct session *session = NULL;

    if (!parse(argc, argv, &a))
        return usage();
    block_signals();
    int r = open_volume(&a, &volume);
    const struct session_options options = {.mountpoint = a.mountpoint,
                                            .name = "test",
                                            .passthrough = a.passthrough,
                                            .max_threads = a.threads};
    if (r == 0)
        r = session_start(volume, &options, &session);
    if (r < 0) {
        fprintf(stderr, "mount_volume: cannot mount %s on %s: %s\n", a.state_dir, a.mountpoint,
                strerror(-r));
        volume_free(volume);
        return 1;
    }
    printf("ready%s\n", session_has_passthrough(session) ? " passthrough" : "");
    fflush(stdout);
    wait_for_signal();
    print_counters(session_counters(session));
    session_stop(session);
    volume_free(volume);
    return 0;
}
