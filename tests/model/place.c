/* tests/model/place.c — directories, and a volume with a process that serves it. */
#include "tests/model/place.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/fuse/session.h"
#include "proto/base/cleanup.h"

/* ---- making ---- */

int place_make(const struct place_options *options, struct place *ret_place)
{
    struct place place = {.options = options, .stop_fd = -1};
    const char *below = options->n_paths > 0 ? options->paths[0] : "/tmp";

    (void)snprintf(place.base, sizeof place.base, "%s/whiskfs-model-XXXXXX", below);
    if (!mkdtemp(place.base) || chmod(place.base, 0777) < 0)
        return -errno;
    const char *name = strrchr(place.base, '/');
    place.n_roots = MAX(options->n_paths, 1);
    for (unsigned i = 0; i < options->n_paths; i++)
        (void)snprintf(place.roots[i], sizeof place.roots[i], "%s%s", options->paths[i], name);
    if (options->n_paths == 0) {
        (void)snprintf(place.roots[0], sizeof place.roots[0], "%s/mount", place.base);
        if (mkdir(place.roots[0], 0755) < 0)
            return -errno;
    }
    *ret_place = place;
    return 0;
}

void place_remove(struct place *place)
{
    int r = directory_remove(AT_FDCWD, place->base);

    if (r < 0)
        fprintf(stderr, "cannot remove %s: %s\n", place->base, strerror(-r));
}

/* ---- the server ---- */

static int open_volume(const char *directory, struct volume **ret_volume)
{
    const struct volume_options options = {.directory = directory, .self = host_id_of("localhost")};
    const struct volume_genesis genesis = {.limit_bytes = 10ULL << 30, .mode = 0777};

    int r = volume_create(&options, &genesis);
    if (r < 0 && r != -EEXIST)
        return r;
    r = volume_open(&options, ret_volume);
    return r < 0 ? r : volume_resume(*ret_volume);
}

static bool has_passthrough(const struct place *place)
{
    return place->options->passthrough == PASSTHROUGH_ON ||
           (place->options->passthrough == PASSTHROUGH_ALTERNATES && place->n_starts % 2 == 0);
}

static int serve(const struct place *place, int ready_fd, int stop_fd)
{
    AUTO(volume_freep) struct volume *volume = NULL;
    struct session *session = NULL;
    char directory[PLACE_PATH_SIZE + 16], byte = 0;

    (void)snprintf(directory, sizeof directory, "%s/volume", place->base);
    int r = open_volume(directory, &volume);
    const struct session_options options = {
        .mountpoint = place->roots[0], .name = "model", .passthrough = has_passthrough(place)};
    if (r == 0)
        r = session_start(volume, &options, &session);
    if (r < 0) {
        fprintf(stderr, "cannot mount %s: %s\n", directory, strerror(-r));
        return 1;
    }
    if (write(ready_fd, &byte, 1) != 1)
        return 1;
    (void)!read(stop_fd, &byte, 1);
    session_stop(session);
    return 0;
}

static int start_server(struct place *place)
{
    int ready[2], stop[2];
    char byte;

    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(stop, O_CLOEXEC) < 0)
        return -errno;
    place->server = fork();
    if (place->server == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(ready[0]);
        (void)close(stop[1]);
        exit(serve(place, ready[1], stop[0]));
    }
    (void)close(ready[1]);
    (void)close(stop[0]);
    place->stop_fd = stop[1];
    place->n_starts++;
    ssize_t n = read(ready[0], &byte, 1);
    (void)close(ready[0]);
    return n == 1 ? 0 : -EIO;
}

/* ---- starting and ending ---- */

int place_own_mounts(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    return 0;
}

int place_start(struct place *place)
{
    return place->options->n_paths > 0 ? 0 : start_server(place);
}

static int end_server(struct place *place)
{
    int status = 0;

    close_fd(&place->stop_fd);
    place->stop_fd = -1;
    (void)waitpid(place->server, &status, 0);
    return status;
}

bool place_stop(struct place *place)
{
    return place->options->n_paths > 0 || end_server(place) == 0;
}

void place_kill(struct place *place)
{
    if (place->options->n_paths > 0)
        return;
    (void)kill(place->server, SIGKILL);
    (void)end_server(place);
}
