/* fs/volume/turn.c — who orders the changes, and how that passes from host to host. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fs/directory.h"
#include "fs/volume/impl.h"
#include "proto/base/log.h"

#define LEADS "leads"

#define LEADS_BYTES 72 /* three numbers of up to 20 digits */

int leads_write(int dirfd, const struct leads *leads)
{
    char text[LEADS_BYTES];
    int n = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", leads->started,
                     leads->resumed, leads->claimed);
    return directory_write_file(dirfd, LEADS, text, (size_t)n);
}

/* A volume that was made here has no such file until its home has moved; one that was installed has. Older ones do not say
 * what was claimed. */
static int read_leads(int dirfd, struct leads *ret_leads)
{
    char text[LEADS_BYTES];
    *ret_leads = (struct leads){.started = FIRST_EPOCH};
    int error = volume_read_small(dirfd, LEADS, text, sizeof text);
    if (error < 0)
        return error == -ENOENT ? 0 : error;
    int n = sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &ret_leads->started,
                   &ret_leads->resumed, &ret_leads->claimed);
    return n >= 2 ? 0 : -EBADMSG;
}

static void set_leads(struct volume *volume, const struct leads *leads)
{
    atomic_store(&volume->started, leads->started);
    atomic_store(&volume->resumed, leads->resumed);
    atomic_store(&volume->claimed, leads->claimed);
}

int leads_load(struct volume *volume)
{
    struct leads leads;
    int error = read_leads(volume->dirfd, &leads);
    if (error == 0)
        set_leads(volume, &leads);
    return error;
}

static int record_leads(struct volume *volume, const struct leads *leads)
{
    int error = leads_write(volume->dirfd, leads);
    if (error == 0)
        set_leads(volume, leads);
    return error;
}

struct turn volume_turn(struct volume *volume)
{
    return tree_turn(volume->tree);
}

int64_t volume_born_ns(struct volume *volume)
{
    struct inode root;
    return tree_get(volume->tree, ROOT_INO, &root) == 0 ? root.btime_ns : 0;
}

struct leads volume_leads(struct volume *volume)
{
    return (struct leads){
        .started = atomic_load(&volume->started),
        .resumed = atomic_load(&volume->resumed),
        .claimed = atomic_load(&volume->claimed),
    };
}

bool volume_orders(struct volume *volume)
{
    struct turn turn = tree_turn(volume->tree);
    struct leads leads = volume_leads(volume);
    return turn_is_led_by(&turn, volume->self, &leads);
}

bool volume_is_home(struct volume *volume)
{
    return volume_orders(volume) && host_equal(tree_turn(volume->tree).successor, NO_HOST);
}

static int log_turn(struct volume *volume, struct request *request, uint64_t *ret_index)
{
    struct outcome outcome;
    bool is_new, is_own = volume_identify(volume, request);
    int error = volume_decide_and_tell(volume, request, &is_new, &outcome);
    if (error < 0)
        return error;
    if (is_own)
        volume_answered(volume, request->identity.session, request->identity.unique);
    *ret_index = outcome.index;
    return 0;
}

int volume_stop(struct volume *volume, struct host_id successor, uint64_t *ret_index)
{
    struct request stop = {
        .kind = REQUEST_STOP,
        .home = successor.n,
        .epoch = volume_turn(volume).epoch + 1,
    };
    return log_turn(volume, &stop, ret_index);
}

/* Until the log has the start this host stays what it was, whatever it has recorded. */
static struct leads leads_to_start(struct volume *volume, uint64_t epoch)
{
    struct turn turn = volume_turn(volume);
    struct leads leads = volume_leads(volume);
    if (term_of(epoch) != term_of(turn.epoch)) {
        leads.claimed = epoch;
        return leads;
    }
    leads.started = epoch;
    if (!host_equal(turn.successor, volume->self))
        leads.resumed = epoch;
    return leads;
}

int volume_start(struct volume *volume, uint64_t epoch, uint64_t *ret_index)
{
    struct request start = {.kind = REQUEST_START, .home = volume->self.n, .epoch = epoch};
    struct leads leads = leads_to_start(volume, epoch);
    int error = record_leads(volume, &leads);
    return error < 0 ? error : log_turn(volume, &start, ret_index);
}

/* What was being decided is in the log before this ends, and nothing comes after it. */
int volume_yield(struct volume *volume)
{
    const struct leads none = {0};
    int error = leads_write(volume->dirfd, &none);
    if (error < 0)
        return error;
    SCOPED_LOCK(&volume->lock);
    set_leads(volume, &none);
    return 0;
}
