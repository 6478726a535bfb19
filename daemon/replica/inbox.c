#include "daemon/replica/inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void inbox_init(struct inbox *inbox)
{
    *inbox = (struct inbox){0};
    list_init(&inbox->chunks);
}

void inbox_clear(struct inbox *inbox)
{
    struct inbox_chunk *chunk;
    while ((chunk = inbox_take(inbox)))
        free(chunk);
}

int inbox_put(struct inbox *inbox, struct span entries)
{
    if (entries.size > INBOX_BYTES_MAX - inbox->bytes)
        return -ENOBUFS;
    struct inbox_chunk *chunk = malloc(sizeof *chunk + entries.size);
    if (!chunk)
        return -ENOMEM;
    memcpy(chunk->bytes, entries.data, entries.size);
    chunk->entries = (struct span){chunk->bytes, entries.size};
    list_append(&inbox->chunks, &chunk->link);
    inbox->bytes += entries.size;
    return 0;
}

struct inbox_chunk *inbox_take(struct inbox *inbox)
{
    if (list_empty(&inbox->chunks))
        return NULL;
    struct inbox_chunk *chunk = list_first(&inbox->chunks, struct inbox_chunk, link);
    list_remove(&chunk->link);
    inbox->bytes -= chunk->entries.size;
    return chunk;
}
