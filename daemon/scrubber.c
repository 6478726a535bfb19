#include "daemon/scrubber.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ticker.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define LOOK_NS (10 * NS_PER_S)

struct scrubber {
    struct volumes *volumes;
    int64_t every_ns;
    uint64_t rate;
    struct ticker ticker;
};

/* False: it is not open any more. */
static bool read_status(struct scrubber *s, const char *name, struct scrub_status *ret_status)
{
    struct volume *volume = volumes_find(s->volumes, name);
    if (!volume)
        return false;
    volume_scrub_status(volume, ret_status);
    volumes_put(s->volumes, volume);
    return true;
}

/* The volume whose pass is due for the longest time; NULL: none, or one is being scrubbed now. */
static const char *choose(struct scrubber *s, const struct volume_position *all, int n)
{
    const char *due = NULL;
    int64_t ended_ns = clock_real_ns() - s->every_ns;
    for (int i = 0; i < n; i++) {
        struct scrub_status scrub;
        if (!read_status(s, all[i].name, &scrub))
            continue;
        if (scrub.is_running)
            return NULL;
        if (scrub.ended_ns > ended_ns)
            continue;
        due = all[i].name;
        ended_ns = scrub.ended_ns;
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

static void look(void *ctx)
{
    struct scrubber *s = ctx;
    int n;
    AUTO_FREE struct volume_position *all = volumes_all_positions(s->volumes, &n);
    const char *due = choose(s, all, n);
    if (due)
        begin(s, due);
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
    ticker_init(&s->ticker, LOOK_NS, look, s);
    *ret_scrubber = s;
    return 0;
}

int scrubber_start(struct scrubber *s)
{
    return s->every_ns == 0 ? 0 : ticker_start(&s->ticker, "whiskfs-scrub");
}

void scrubber_stop(struct scrubber *s)
{
    ticker_stop(&s->ticker);
}

void scrubber_free(struct scrubber *s)
{
    if (!s)
        return;
    ticker_done(&s->ticker);
    free(s);
}
