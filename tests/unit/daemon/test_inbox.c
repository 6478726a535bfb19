#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>

#include "daemon/replica/inbox.h"

/* Chunks come out as they went in. */
Test(inbox, keeps_order_and_bytes)
{
    struct inbox inbox;
    inbox_init(&inbox);
    cr_assert(eq(int, inbox_put(&inbox, (struct span){(const uint8_t *)"one", 3}), 0));
    cr_assert(eq(int, inbox_put(&inbox, (struct span){(const uint8_t *)"three", 5}), 0));
    cr_assert(eq(sz, inbox.bytes, 8));
    struct inbox_chunk *chunk = inbox_take(&inbox);
    cr_assert(eq(sz, chunk->entries.size, 3));
    cr_assert(memcmp(chunk->entries.data, "one", 3) == 0);
    free(chunk);
    inbox_clear(&inbox);
    cr_assert(eq(sz, inbox.bytes, 0));
    cr_assert(inbox_take(&inbox) == NULL);
}

/* What a home may make us hold is bounded. */
Test(inbox, is_bounded)
{
    struct inbox inbox;
    static uint8_t batch[8 << 20];
    inbox_init(&inbox);
    for (size_t i = 0; i < INBOX_BYTES_MAX / sizeof batch; i++)
        cr_assert(eq(int, inbox_put(&inbox, (struct span){batch, sizeof batch}), 0));
    cr_assert(eq(int, inbox_put(&inbox, (struct span){batch, 1}), -ENOBUFS));
    free(inbox_take(&inbox));
    cr_assert(eq(int, inbox_put(&inbox, (struct span){batch, 1}), 0));
    inbox_clear(&inbox);
}
