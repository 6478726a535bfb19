/* daemon/transfer/fetch.h — brings missing blocks of a content here from its upstream.
 *
 * Implements source_ops.fetch. Blocks that are under way already are joined, whoever asked for them; the others are
 * asked for in requests of at most 8 MiB over the data connections of the upstream. What a sequential reader will want
 * next is asked for ahead, in class stream: somebody who waits goes first.
 */
#pragma once

#include "daemon/transfer/transfer.h"

/* Returns 0 when blocks [first, first + n) of content are here. A lost connection, a bad block or a silent peer is
 * tried again until the deadline. -ETIMEDOUT or -EHOSTUNREACH then; -ESTALE: the upstream has that version no more;
 * -EIO, -ENOSPC; -ESHUTDOWN: transfer_stop. */
MUST_USE int transfer_fetch(struct transfer *transfer, const char *volume, struct content *content,
                            uint64_t first, uint64_t n, enum fetch_class class,
                            int64_t deadline_ns);

/* Somebody reads blocks [first, first + n), which are here: keeps the blocks behind them coming, or, of a content that is
 * complete, the small files beside it. Waits for no other host. */
void transfer_reading(struct transfer *transfer, const char *volume, struct content *content,
                      uint64_t first, uint64_t n);
