/* fs/volume/turn.c — who orders the changes, and how that passes from host to host. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fs/directory.h"
#include "fs/volume/impl.h"
#include "proto/base/log.h"

#define LEADS "leads"

int leads_write(int dirfd, uint64_t epoch)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRIu64 "\n", epoch);
    return directory_write_file(dirfd, LEADS, text, (size_t)n);
}

/* A volume that was made here has no such file until its home has moved; one that was installed has. */
int leads_read(int dirfd, uint64_t *ret_epoch)
{
    char text[24];
    *ret_epoch = FIRST_EPOCH;
    int error = volume_read_small(dirfd, LEADS, text, sizeof text);
    if (error < 0)
        return error == -ENOENT ? 0 : error;
    return sscanf(text, "%" SCNu64, ret_epoch) == 1 ? 0 : -EBADMSG;
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

uint64_t volume_leads(struct volume *volume)
{
    return atomic_load(&volume->leads);
}

bool volume_orders(struct volume *volume)
{
    struct turn turn = tree_turn(volume->tree);
    return host_equal(turn.home, volume->self) && turn.epoch == atomic_load(&volume->leads);
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

int volume_start(struct volume *volume, uint64_t epoch, uint64_t *ret_index)
{
    struct request start = {.kind = REQUEST_START, .home = volume->self.n, .epoch = epoch};
    int error = leads_write(volume->dirfd, epoch);
    if (error < 0)
        return error;
    atomic_store(&volume->leads, epoch);
    return log_turn(volume, &start, ret_index);
}
