/* daemon/net/dispatch.c — who gets a frame that came. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/net/conn.h"

void warn_limited(struct log_limit *limit, const char *fmt, ...)
{
    uint64_t suppressed = 0;
    if (!log_allow(limit, &suppressed))
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (suppressed > 0)
        log_warning("peers", "%s (and %llu more like it)", text, (unsigned long long)suppressed);
    else
        log_warning("peers", "%s", text);
}

int conn_violation(struct conn *conn, const char *what)
{
    if (!conn->peer) {
        listener_refused(conn->peers, conn->address, what);
    } else {
        atomic_fetch_add(&conn->peer->refused_frames, 1);
        warn_limited(&conn->peer->frame_log, "'%s' broke the protocol: %s: connection closed",
                     conn->peer->name, what);
    }
    conn->is_reported = true;
    conn_shut(conn, what);
    return -EPROTO;
}

static void count_received(struct conn *conn, const struct frame *frame)
{
    if (conn->peer)
        atomic_fetch_add_explicit(&conn->peer->received_bytes[frame->class],
                                  FRAME_HEADER_BYTES + frame->body.size + frame->raw.size,
                                  memory_order_relaxed);
}

static void refuse_unknown(struct conn *conn, const struct frame *frame)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s is not served here", frame_type_name(frame->type));
    if (!frame_is_reply(frame->type))
        conn_refuse(conn, frame->id, ENOSYS, text);
}

void conn_deliver(struct conn *conn)
{
    unsigned n = conn->n_gathered;
    if (n == 0)
        return;
    const struct handler *handler = &conn->peers->handlers[conn->gathered[0].type];
    conn->n_gathered = 0;
    handler->together(handler->ctx, conn, conn->gathered, n);
}

static bool is_gathered(const struct conn *conn, const struct frame *frame)
{
    return conn->state == CONN_READY && conn->peers->handlers[frame->type].together;
}

static void gather(struct conn *conn, const struct frame *frame)
{
    conn->gathered[conn->n_gathered++] = *frame;
    if (conn->n_gathered == FRAMES_TOGETHER_MAX)
        conn_deliver(conn);
}

/* A frame that is nobody's answer. */
static int handle(struct conn *conn, const struct frame *frame)
{
    const struct handler *handler = &conn->peers->handlers[frame->type];
    if (handler->together) {
        gather(conn, frame);
        return 0;
    }
    if (!handler->fn) {
        refuse_unknown(conn, frame);
        return 0;
    }
    if (handler->is_inline) {
        handler->fn(handler->ctx, conn, frame);
        return 0;
    }
    int r = workers_submit(conn->peers->workers, conn, frame, handler->fn, handler->ctx);
    if (r == -ENOMEM) {
        conn_refuse(conn, frame->id, ENOMEM, "out of memory");
        return 0;
    }
    return r;
}

static int dispatch(struct conn *conn, const struct frame *frame)
{
    if (conn->state != CONN_READY)
        return hello_frame(conn, frame);
    switch (frame->type) {
    case FRAME_HELLO:
    case FRAME_HELLO_REPLY:
        return conn_violation(conn, "a second hello");
    case FRAME_PING:
        return 0;
    default:
        break;
    }
    if (frame_is_reply(frame->type) && conn_answer(conn, frame))
        return 0;
    return handle(conn, frame);
}

int conn_dispatch(struct conn *conn, const struct frame *frame)
{
    if (!is_gathered(conn, frame) || conn->gathered[0].type != frame->type)
        conn_deliver(conn); /* what came before goes before */
    int r = dispatch(conn, frame);
    if (r == 0)
        count_received(conn, frame);
    return r;
}
