/* daemon/replica/inbox.h — log entries that came and are not applied yet: a bounded queue of copies. No lock of its own. */
#pragma once

#include <stddef.h>

#include "proto/base/list.h"
#include "proto/wire.h"

#define INBOX_BYTES_MAX (64u << 20) /* the home's push window fits in by far */

struct inbox_chunk {
    struct list link;
    struct span entries; /* in the same allocation */
    uint8_t bytes[];
};

struct inbox {
    struct list chunks;
    size_t bytes;
};

void inbox_init(struct inbox *inbox);
void inbox_clear(struct inbox *inbox);
/* -ENOBUFS, -ENOMEM */
MUST_USE int inbox_put(struct inbox *inbox, struct span entries);
/* The oldest chunk, or NULL. Free it. */
struct inbox_chunk *inbox_take(struct inbox *inbox);
