/* Who names a volume in an autofs that is not mounted waits until it is attached here, or cannot be. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/private.h"

#include "proto/base/log.h"

#define UNKNOWN_NS NS_PER_S

void first_accesses_init(struct first_accesses *accesses)
{
    mutex_init(&accesses->lock, LOCK_leaf);
    cond_init(&accesses->changed);
}

void first_accesses_done(struct first_accesses *accesses)
{
    cond_done(&accesses->changed);
    mutex_done(&accesses->lock);
}

void volumes_on_accessed(void *ctx, const char *name)
{
    struct first_accesses *accesses = &((struct volumes *)ctx)->first_accesses;
    SCOPED_LOCK(&accesses->lock);
    if (accesses->n == FIRST_ACCESSES_MAX) {
        log_warning("volumes", "whiskfs-mountd tells of more accesses than it may");
        return; /* that one ends with whiskfs-mountd's patience */
    }
    unsigned i = (accesses->first + accesses->n++) % FIRST_ACCESSES_MAX;
    (void)snprintf(accesses->names[i], sizeof accesses->names[i], "%s", name);
    cond_signal(&accesses->changed);
}

/* Waits; false: stopping. */
static bool next_access(struct first_accesses *accesses, char ret_name[MOUNTD_NAME_MAX + 1])
{
    SCOPED_LOCK(&accesses->lock);
    while (accesses->n == 0 && !accesses->is_stopping)
        cond_wait(&accesses->changed, &accesses->lock);
    if (accesses->is_stopping)
        return false;
    (void)snprintf(ret_name, MOUNTD_NAME_MAX + 1, "%s", accesses->names[accesses->first]);
    accesses->first = (accesses->first + 1) % FIRST_ACCESSES_MAX;
    accesses->n--;
    return true;
}

/* The home, or whiskfs-mountd, may be being restarted. Where nobody knows the name, and who might has been silent for long,
 * a moment is enough. */
static bool may_pass(struct volumes *volumes, const char *name, int error, int64_t since_ns)
{
    if (error != -EHOSTUNREACH)
        return error == -EHOSTDOWN;
    return clock_mono_ns() - since_ns < UNKNOWN_NS || volumes_may_pass(volumes, name);
}

static int attach(struct volumes *volumes, const char *name)
{
    int64_t since_ns = clock_mono_ns(), deadline_ns = since_ns + ATTACH_NS;
    int r;
    if (volume_name_check(name) < 0)
        return -ENOENT;
    do
        r = volumes_attach(volumes, name, deadline_ns);
    while (may_pass(volumes, name, r, since_ns) && volumes_wait_for_other(volumes, deadline_ns));
    return r;
}

static void *answer_accesses(void *ctx)
{
    struct volumes *volumes = ctx;
    char name[MOUNTD_NAME_MAX + 1];
    while (next_access(&volumes->first_accesses, name)) {
        int r = attach(volumes, name);
        if (r == -ESHUTDOWN)
            break; /* the next daemon is told of it again */
        if (r < 0 && r != -ENOENT)
            log_warning("volumes", "cannot attach volume '%s', which is waited for: %s", name,
                        strerror(-r));
        mount_link_answer(volumes->mount_link, name, r);
        atomic_fetch_add(
            r < 0 ? &volumes->first_accesses.n_failed : &volumes->first_accesses.n_attached, 1);
    }
    return NULL;
}

int volumes_start_first_accesses(struct volumes *volumes)
{
    struct first_accesses *accesses = &volumes->first_accesses;
    while (volumes->mount_link && accesses->n_threads < FIRST_ACCESS_THREADS) {
        int r = thread_start(&accesses->threads[accesses->n_threads], "whiskfs-access",
                             answer_accesses, volumes);
        if (r < 0)
            return r;
        accesses->n_threads++;
    }
    return 0;
}

void volumes_stop_first_accesses(struct volumes *volumes)
{
    struct first_accesses *accesses = &volumes->first_accesses;
    {
        SCOPED_LOCK(&accesses->lock);
        accesses->is_stopping = true;
        cond_broadcast(&accesses->changed);
    }
    while (accesses->n_threads > 0)
        thread_join(accesses->threads[--accesses->n_threads]);
}
