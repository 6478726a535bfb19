/* daemon/net/workers.h — threads that run the handlers that may block, with a bounded queue.
 *
 * When the queue is full, or one connection has its share of it, the connection's thread keeps the frame, stops
 * reading, and is woken when there is room: a peer that asks faster than we answer is slowed by TCP.
 */
#pragma once

#include <stddef.h>

#include "daemon/net/peers.h"
#include "proto/base/cleanup.h"

#define WORKERS_JOBS_MAX 1024u
#define WORKERS_JOBS_PER_CONN 256u
#define WORKERS_BYTES_MAX (32u << 20)

struct workers;

MUST_USE int workers_new(unsigned n_threads, struct workers **ret_workers);
/* Lets running handlers end, drops what is queued, joins. */
void workers_stop(struct workers *workers);
void workers_free(struct workers *workers);
DEFINE_FREEP(workers, struct workers)

/* Copies the frame and queues it. -EAGAIN: no room; conn_wake(conn) will be called when there may be. -ENOMEM. */
MUST_USE int workers_submit(struct workers *workers, struct conn *conn, const struct frame *frame,
                            frame_handler_f *handler, void *ctx);
