#include "daemon/scrubber.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"

#define VOLUMES_MAX 4096
#define LOOK_NS (10 * NS_PER_S)

struct scrubber {
    struct volumes *volumes;
    int64_t every_ns;
    uint64_t rate;
    struct mutex lock; /* leaf */
    struct cond stopped;
    bool is_stopping; /* under lock */
    pthread_t thread;
    bool is_started;
};

/* The volume whose pass is due for the longest time; NULL: none, or one is being scrubbed now. */
static const struct volume_status *choose(const struct scrubber *s, const struct volume_status *all,
                                          int n)
{
    const struct volume_status *due = NULL;
    int64_t before_ns = clock_real_ns() - s->every_ns;
    for (int i = 0; i < n; i++) {
        const struct scrub_status *scrub = &all[i].scrub;
        if (scrub->is_running)
            return NULL;
        if (all[i].born_ns != 0 && scrub->ended_ns <= before_ns &&
            (!due || scrub->ended_ns < due->scrub.ended_ns))
            due = &all[i];
    }
    return due;
}

static void begin(struct scrubber *s, const char *name)
{
    struct volume *volume = volumes_find(s->volumes, name);
    if (!volume)
        return;
    int r = volume_scrub(volume, s->rate);
    volumes_put(s->volumes, volume);
    if (r < 0 && r != -EALREADY)
        log_warning("daemon", "cannot scrub volume '%s': %s", name, strerror(-r));
}

static void look(struct scrubber *s)
{
    AUTO_FREE struct volume_status *all = calloc(VOLUMES_MAX, sizeof *all);
    int n = all ? MIN(volumes_list(s->volumes, all, VOLUMES_MAX), VOLUMES_MAX) : 0;
    const struct volume_status *due = choose(s, all, n);
    if (due)
        begin(s, due->name);
}

static bool wait(struct scrubber *s)
{
    int64_t until = clock_mono_ns() + LOOK_NS;
    SCOPED_LOCK(&s->lock);
    while (!s->is_stopping && cond_wait_until(&s->stopped, &s->lock, until))
        continue;
    return !s->is_stopping;
}

static void *run(void *arg)
{
    struct scrubber *s = arg;
    while (wait(s))
        look(s);
    return NULL;
}

int scrubber_new(struct volumes *volumes, int64_t every_ns, uint64_t rate,
                 struct scrubber **ret_scrubber)
{
    struct scrubber *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->volumes = volumes;
    s->every_ns = every_ns;
    s->rate = rate;
    mutex_init(&s->lock, LOCK_leaf);
    cond_init(&s->stopped);
    *ret_scrubber = s;
    return 0;
}

int scrubber_start(struct scrubber *s)
{
    if (s->every_ns == 0)
        return 0;
    int r = thread_start(&s->thread, "whiskfs-scrub", run, s);
    s->is_started = r == 0;
    return r;
}

void scrubber_stop(struct scrubber *s)
{
    if (!s->is_started)
        return;
    {
        SCOPED_LOCK(&s->lock);
        s->is_stopping = true;
        cond_broadcast(&s->stopped);
    }
    thread_join(s->thread);
    s->is_started = false;
}

void scrubber_free(struct scrubber *s)
{
    if (!s)
        return;
    cond_done(&s->stopped);
    mutex_done(&s->lock);
    free(s);
}
