#include "daemon/replica/offer.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/cleanup.h"
#include "proto/frame.h"
#include "proto/wire.h"

#define ENTRY_CHECKSUM_OFFSET 24 /* fs/log/log.h */

int offer_make(struct volume *have, Whiskfs__Join *join)
{
    struct log *log = volume_log(have);
    AUTO_FREE uint8_t *buffer = malloc(ENTRIES_RAW_MAX);
    size_t used;
    if (!buffer)
        return -ENOMEM;
    join->born_ns = volume_born_ns(have);
    int r = log_read(log, log_last(log), buffer, ENTRIES_RAW_MAX, &used);
    if (r == -ENOENT || r == -ENODATA)
        return 0; /* an empty log: join with nothing */
    if (r < 0)
        return r;
    struct reader reader =
        reader_over(buffer + ENTRY_CHECKSUM_OFFSET, used - ENTRY_CHECKSUM_OFFSET);
    join->have_index = log_last(log);
    join->have_checksum = get_u64(&reader);
    return 0;
}

int offer_refused(const struct replica_env *env, const char *name, const struct frame *answer)
{
    ProtobufCMessage *info = NULL;
    if (answer->type != FRAME_VOLUME_INFO)
        return -EBADMSG;
    int r = message_get(answer->body, &whiskfs__volume_info__descriptor, &info);
    if (r < 0)
        return r;
    env->renamed(env->ctx, name, ((const Whiskfs__VolumeInfo *)(const void *)info)->volume);
    message_free(info);
    return -EREMCHG;
}
