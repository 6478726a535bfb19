/* daemon/net/conn_io.c — a connection's bytes, both ways. Only its own thread comes here. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/net/conn.h"

/* So that neither direction, nor a wake-up, waits long for the other. */
#define PUMP_BYTES (1u << 20)
/* Frames up to this size are copied together into a record; larger ones are sent from where they are. */
#define SMALL_FRAME_BYTES 4096u

static ssize_t send_now(struct conn *conn, const void *data, size_t size)
{
    ssize_t n = send(conn->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
        return n;
    if (errno == EINTR || errno == EAGAIN) {
        conn->send_blocked = errno == EAGAIN;
        return -EAGAIN;
    }
    return -errno;
}

int conn_send_staged(struct conn *conn)
{
    while (conn->staged.at < conn->staged.size) {
        ssize_t n = send_now(conn, conn->staged.data + conn->staged.at,
                             conn->staged.size - conn->staged.at);
        if (n < 0)
            return (int)n;
        conn->staged.at += (size_t)n;
    }
    conn->staged.at = conn->staged.size = 0;
    return 0;
}

static ssize_t io_send(void *ctx, const void *data, size_t size)
{
    struct conn *conn = ctx;
    if (!conn->staged.data)
        return send_now(conn, data, size);
    if (conn->staged.size == STAGE_BYTES) {
        int r = conn_send_staged(conn);
        if (r < 0)
            return r;
    }
    size_t n = MIN(size, STAGE_BYTES - conn->staged.size);
    memcpy(conn->staged.data + conn->staged.size, data, n);
    conn->staged.size += n;
    return (ssize_t)n;
}

static ssize_t receive_now(struct conn *conn, void *data, size_t size)
{
    ssize_t n = recv(conn->fd, data, size, MSG_DONTWAIT);
    if (n >= 0)
        return n;
    return errno == EINTR ? -EAGAIN : -errno;
}

static ssize_t io_receive(void *ctx, void *data, size_t size)
{
    struct conn *conn = ctx;
    if (!conn->received.data)
        return receive_now(conn, data, size);
    if (conn->received.at == conn->received.size) {
        ssize_t n = receive_now(conn, conn->received.data, STAGE_BYTES);
        if (n <= 0)
            return n;
        conn->received.at = 0;
        conn->received.size = (size_t)n;
    }
    size_t n = MIN(size, conn->received.size - conn->received.at);
    memcpy(data, conn->received.data + conn->received.at, n);
    conn->received.at += n;
    return (ssize_t)n;
}

struct tls_io conn_tls_io(struct conn *conn)
{
    return (struct tls_io){.send = io_send, .receive = io_receive, .ctx = conn};
}

/* ---- out ---- */

static void count_sent(struct conn *conn, const struct out_frame *frame)
{
    if (conn->peer)
        atomic_fetch_add_explicit(&conn->peer->sent_bytes[frame->class], frame->size,
                                  memory_order_relaxed);
}

static bool is_room_wanted(const struct conn *conn)
{
    for (unsigned c = 0; c < FRAME_N_CLASSES; c++)
        if (conn->n_waiting_for_room[c] > 0 &&
            outbox_is_half_empty(&conn->outbox, (enum frame_class)c))
            return true;
    return false;
}

/* Takes from the outbox: small frames as long as they fit a record, or one large one. */
static void take_frames(struct conn *conn, struct list *ret_small, struct out_frame **ret_large)
{
    SCOPED_LOCK(&conn->lock);
    size_t left = RECORD_BYTES;
    struct out_frame *frame;
    while ((frame = outbox_pop(&conn->outbox, MIN(left, SMALL_FRAME_BYTES))) != NULL) {
        list_append(ret_small, &frame->link);
        left -= frame->size;
    }
    /* The next one is large, or does not fit this record: large ones follow the record at once. */
    *ret_large = left == RECORD_BYTES ? outbox_pop(&conn->outbox, SIZE_MAX) : NULL;
    if (is_room_wanted(conn))
        cond_broadcast(&conn->room);
}

/* False: there is nothing to send. */
static bool refill(struct conn *conn)
{
    struct list small;
    list_init(&small);
    conn->out.size = conn->out.sent = 0;
    take_frames(conn, &small, &conn->out.large);
    list_for_each(frame, &small, struct out_frame, link)
    {
        memcpy(conn->out.data + conn->out.size, frame->bytes, frame->size);
        conn->out.size += frame->size;
        count_sent(conn, frame);
        list_remove(&frame->link);
        frame_pool_put(&conn->peers->pool, frame);
    }
    if (conn->out.large)
        count_sent(conn, conn->out.large);
    return conn->out.size > 0 || conn->out.large;
}

/* Sends some of [data + *sent, data + size). */
static int write_some(struct conn *conn, const uint8_t *data, size_t size, size_t *sent)
{
    ssize_t n = tls_write(conn->tls, data + *sent, size - *sent);
    if (n < 0)
        return (int)n;
    *sent += (size_t)n;
    return 0;
}

static int write_next(struct conn *conn)
{
    if (conn->out.sent < conn->out.size)
        return write_some(conn, conn->out.data, conn->out.size, &conn->out.sent);
    struct out_frame *large = conn->out.large;
    int r = write_some(conn, large->bytes, large->size, &large->sent);
    if (r == 0 && large->sent == large->size) {
        frame_pool_put(&conn->peers->pool, large);
        conn->out.large = NULL;
    }
    return r;
}

static int stage(struct conn *conn, bool *ret_moved)
{
    for (size_t records = 0; records < PUMP_BYTES / RECORD_BYTES; records++) {
        if (conn->out.sent == conn->out.size && !conn->out.large && !refill(conn))
            return 0;
        int r = write_next(conn);
        if (r < 0)
            return r;
        *ret_moved = true;
    }
    return 0;
}

int conn_pump_out(struct conn *conn, bool *ret_moved)
{
    conn->send_blocked = false;
    int r = stage(conn, ret_moved);
    int sent = r == 0 ? conn_send_staged(conn) : 0;
    return r < 0 ? r : sent;
}

/* ---- in ---- */

static size_t frame_limit(const struct conn *conn)
{
    return conn->state == CONN_READY ? FRAME_BYTES_MAX : STRANGER_FRAME_MAX;
}

/* Room for size bytes from in.at on. */
static void make_room(struct conn *conn, size_t size)
{
    if (conn->in.at + size <= IN_BYTES)
        return;
    conn_deliver(conn);
    conn->in.size -= conn->in.at;
    memmove(conn->in.data, conn->in.data + conn->in.at, conn->in.size);
    conn->in.at = 0;
}

/* Handles the whole frames that are there. *ret_want: how many bytes to read next; a frame that has begun is read to
 * its very end, and has room to its end when more than its first record is read, so little is ever moved. */
static int parse(struct conn *conn, size_t *ret_want)
{
    for (;;) {
        struct span bytes = {.data = conn->in.data + conn->in.at,
                             .size = conn->in.size - conn->in.at};
        if (bytes.size == 0 && conn->n_gathered == 0)
            conn->in.at = conn->in.size = 0;
        size_t size = FRAME_HEADER_BYTES;
        int r = frame_peek(bytes, &size);
        if (r == -EBADMSG || (r == 0 && size > frame_limit(conn)))
            return conn_violation(conn, "a malformed frame");
        if (r == -EAGAIN || size > bytes.size) {
            *ret_want = bytes.size == 0 ? RECORD_BYTES : size - bytes.size;
            make_room(conn, MAX(size, (size_t)RECORD_BYTES));
            return 0;
        }
        struct frame frame;
        bytes.size = size;
        if (frame_get(bytes, &frame) < 0)
            return conn_violation(conn, "a malformed frame");
        r = conn_dispatch(conn, &frame);
        if (r < 0)
            return r;
        conn->in.at += size;
    }
}

static int receive_frames(struct conn *conn, bool *ret_moved)
{
    size_t moved = 0;
    while (moved < PUMP_BYTES) {
        size_t want = 0;
        int r = parse(conn, &want);
        conn->is_stalled = r == -EAGAIN;
        if (r < 0)
            return r;
        ssize_t n = tls_read(conn->tls, conn->in.data + conn->in.size, want);
        if (n <= 0)
            return n == 0 ? -EPIPE : (int)n;
        conn->in.size += (size_t)n;
        moved += (size_t)n;
        *ret_moved = true;
    }
    return 0;
}

int conn_pump_in(struct conn *conn, bool *ret_moved)
{
    int r = receive_frames(conn, ret_moved);
    conn_deliver(conn);
    return r;
}
