/* daemon/net/conn.c — what other threads do with a connection: send, call, close. */
#include "daemon/net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/messages.pb-c.h"

struct call {
    UT_hash_handle hh; /* by id */
    uint64_t id;
    struct cond done;
    struct frame *reply; /* or NULL */
    int error;           /* the connection ended */
};

int conn_new(struct peers *peers, bool is_dialler, struct conn **ret_conn)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return -ENOMEM;
    conn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (conn->wake_fd < 0) {
        int r = -errno;
        free(conn);
        return r;
    }
    conn->fd = -1;
    conn->peers = peers;
    conn->is_dialler = is_dialler;
    conn->state = CONN_NEW;
    atomic_init(&conn->n_refs, 1);
    list_init(&conn->in_all);
    list_init(&conn->in_peer);
    list_init(&conn->stall);
    mutex_init(&conn->lock, LOCK_conn);
    cond_init(&conn->room);
    outbox_init(&conn->outbox);
    *ret_conn = conn;
    return 0;
}

struct conn *conn_ref(struct conn *conn)
{
    atomic_fetch_add_explicit(&conn->n_refs, 1, memory_order_relaxed);
    return conn;
}

void conn_put(struct conn *conn)
{
    if (atomic_fetch_sub_explicit(&conn->n_refs, 1, memory_order_acq_rel) != 1)
        return;
    CHECK(!conn->calls && outbox_is_empty(&conn->outbox));
    (void)close(conn->wake_fd);
    cond_done(&conn->room);
    mutex_done(&conn->lock);
    free(conn);
}

struct host_id conn_host(const struct conn *conn)
{
    return conn->peer ? conn->peer->id : NO_HOST;
}

const char *conn_name(const struct conn *conn)
{
    return conn->peer ? conn->peer->name : "";
}

bool conn_is_closing(struct conn *conn)
{
    SCOPED_LOCK(&conn->lock);
    return conn->is_closing;
}

bool conn_is_open(struct conn *conn)
{
    return !conn_is_closing(conn);
}

void conn_wake(struct conn *conn)
{
    uint64_t one = 1;
    (void)!write(conn->wake_fd, &one, sizeof one);
}

/* Every caller learns of the end at once, whatever the socket does. */
static void shut_locked(struct conn *conn, const char *why) REQUIRES(conn->lock)
{
    if (conn->is_closing)
        return;
    conn->is_closing = true;
    (void)snprintf(conn->why, sizeof conn->why, "%s", why);
    struct call *call, *next;
    HASH_ITER(hh, conn->calls, call, next)
    {
        call->error = -EPIPE;
        cond_signal(&call->done);
    }
    cond_broadcast(&conn->room);
}

void conn_shut(struct conn *conn, const char *why)
{
    SCOPED_LOCK(&conn->lock);
    shut_locked(conn, why);
}

void conn_close(struct conn *conn, const char *why)
{
    conn_shut(conn, why);
    conn_wake(conn);
}

/* ---- sending ---- */

/* Room for raw_max bytes at the frame's end, behind head_bytes for all else. NULL: out of memory. */
static struct out_frame *frame_for(struct conn *conn, size_t head_bytes, size_t raw_max,
                                   uint8_t **ret_raw)
{
    struct out_frame *frame = frame_pool_get(&conn->peers->pool, head_bytes + raw_max);
    if (frame)
        *ret_raw = frame->bytes = frame->data + head_bytes;
    return frame;
}

/* Puts header and body before the raw bytes that are there. */
static int head_frame(struct out_frame *frame, enum frame_class class, enum frame_type type,
                      uint64_t id, const ProtobufCMessage *body, size_t raw_size)
{
    size_t head_bytes = FRAME_HEADER_BYTES;
    head_bytes += body ? protobuf_c_message_get_packed_size(body) : 0;
    if (head_bytes > (size_t)(frame->bytes - frame->data))
        return -EMSGSIZE;
    struct writer w = writer_over(frame->bytes - head_bytes, head_bytes);
    int r = frame_put_header(&w, type, class, id, body, raw_size);
    if (r < 0)
        return r;
    frame->bytes -= head_bytes;
    frame->size = head_bytes + raw_size;
    frame->class = class;
    return 0;
}

static int make_frame(struct conn *conn, enum frame_class class, enum frame_type type, uint64_t id,
                      const ProtobufCMessage *body, struct span raw, struct out_frame **ret_frame)
{
    uint8_t *place;
    size_t head_bytes = FRAME_HEADER_BYTES;
    head_bytes += body ? protobuf_c_message_get_packed_size(body) : 0;
    if (head_bytes + raw.size > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    struct out_frame *frame = frame_for(conn, head_bytes, raw.size, &place);
    if (!frame)
        return -ENOMEM;
    if (raw.size > 0)
        memcpy(place, raw.data, raw.size);
    int r = head_frame(frame, class, type, id, body, raw.size);
    if (r < 0) {
        frame_pool_put(&conn->peers->pool, frame);
        return r;
    }
    *ret_frame = frame;
    return 0;
}

/* The conn's own thread must not wait for itself: it may go past the bound, but only so far. */
#define OWN_FRAMES_MAX (64u << 10)

static int wait_for_room(struct conn *conn, const struct out_frame *frame, int64_t deadline_ns)
    REQUIRES(conn->lock)
{
    bool own = pthread_equal(pthread_self(), conn->self);
    while (!conn->is_closing && !outbox_has_room(&conn->outbox, frame->class, frame->size)) {
        if (own)
            return frame->size <= OWN_FRAMES_MAX && conn->outbox.bytes[frame->class] < (8u << 20)
                       ? 0
                       : -ETIMEDOUT;
        conn->n_waiting_for_room[frame->class]++;
        bool in_time = cond_wait_until(&conn->room, &conn->lock, deadline_ns);
        conn->n_waiting_for_room[frame->class]--;
        if (!in_time && clock_mono_ns() >= deadline_ns)
            return -ETIMEDOUT;
    }
    return conn->is_closing ? -EPIPE : 0;
}

/* True: the thread sleeps and must be woken. */
static bool push_locked(struct conn *conn, struct out_frame *frame) REQUIRES(conn->lock)
{
    outbox_push(&conn->outbox, frame);
    bool asleep = conn->is_asleep;
    conn->is_asleep = false;
    return asleep;
}

static int enqueue(struct conn *conn, struct out_frame *frame, int64_t deadline_ns, bool *ret_wake)
{
    SCOPED_LOCK(&conn->lock);
    int r = wait_for_room(conn, frame, deadline_ns);
    if (r == 0)
        *ret_wake = push_locked(conn, frame);
    return r;
}

/* Takes the frame. */
static int send_made(struct conn *conn, struct out_frame *frame, int64_t deadline_ns)
{
    bool wake = false;
    int r = enqueue(conn, frame, deadline_ns, &wake);
    if (r < 0)
        frame_pool_put(&conn->peers->pool, frame);
    if (wake)
        conn_wake(conn);
    return r;
}

int conn_send(struct conn *conn, enum frame_class class, enum frame_type type, uint64_t id,
              const ProtobufCMessage *body, struct span raw, int64_t deadline_ns)
{
    struct out_frame *frame = NULL;
    int r = make_frame(conn, class, type, id, body, raw, &frame);
    return r < 0 ? r : send_made(conn, frame, deadline_ns);
}

struct out_frame *conn_frame_new(struct conn *conn, size_t raw_max, uint8_t **ret_raw)
{
    return frame_for(conn, FRAME_HEADER_BYTES + SHORT_BODY_BYTES, raw_max, ret_raw);
}

void conn_frame_free(struct conn *conn, struct out_frame *frame)
{
    frame_pool_put(&conn->peers->pool, frame);
}

int conn_send_frame(struct conn *conn, struct out_frame *frame, enum frame_class class,
                    enum frame_type type, uint64_t id, const ProtobufCMessage *body,
                    size_t raw_size, int64_t deadline_ns)
{
    int r = head_frame(frame, class, type, id, body, raw_size);
    if (r == 0)
        return send_made(conn, frame, deadline_ns);
    conn_frame_free(conn, frame);
    return r;
}

int conn_queue(struct conn *conn, enum frame_class class, enum frame_type type, uint64_t id,
               const ProtobufCMessage *body)
{
    return conn_send(conn, class, type, id, body, (struct span){NULL, 0}, 0);
}

bool conn_last_word(struct conn *conn, uint64_t id, const ProtobufCMessage *body)
{
    struct out_frame *frame = NULL;
    if (make_frame(conn, FRAME_CONTROL, FRAME_ERROR, id, body, (struct span){NULL, 0}, &frame) < 0)
        return false;
    SCOPED_LOCK(&conn->lock);
    outbox_push(&conn->outbox, frame);
    return true;
}

void conn_refuse(struct conn *conn, uint64_t id, int error, const char *text)
{
    if (id == 0)
        return;
    Whiskfs__Error body = WHISKFS__ERROR__INIT;
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", text ? text : "");
    body.code = wire_code_of_errno(error);
    body.text = copy;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_ERROR, id, &body.base, (struct span){NULL, 0},
                      clock_mono_ns() + NS_PER_S);
    if (r < 0)
        log_debug("peers", "cannot refuse a request of '%s': %s", conn_name(conn),
                  strerrordesc_np(-r));
}

/* ---- calling ---- */

static uint64_t next_id_locked(struct conn *conn) REQUIRES(conn->lock)
{
    return ++conn->last_id;
}

uint64_t conn_next_id(struct conn *conn)
{
    SCOPED_LOCK(&conn->lock);
    return next_id_locked(conn);
}

static int begin_call(struct conn *conn, struct call *call)
{
    SCOPED_LOCK(&conn->lock);
    if (conn->is_closing)
        return -EPIPE;
    if (HASH_COUNT(conn->calls) >= CALLS_MAX)
        return -EBUSY;
    call->id = next_id_locked(conn);
    HASH_ADD(hh, conn->calls, id, sizeof call->id, call);
    return 0;
}

static void wait_call(struct conn *conn, struct call *call, int64_t deadline_ns)
{
    SCOPED_LOCK(&conn->lock);
    while (!call->reply && call->error == 0)
        if (!cond_wait_until(&call->done, &conn->lock, deadline_ns) &&
            clock_mono_ns() >= deadline_ns)
            break;
}

/* From here on no answer can reach the call. */
static void end_call(struct conn *conn, struct call *call)
{
    SCOPED_LOCK(&conn->lock);
    HASH_DEL(conn->calls, call);
}

static int result_of(struct conn *conn, struct frame *reply, struct frame **ret_reply)
{
    if (reply->type != FRAME_ERROR) {
        *ret_reply = reply;
        return 0;
    }
    ProtobufCMessage *m = NULL;
    int r = message_get(reply->body, &whiskfs__error__descriptor, &m);
    if (r == 0) {
        const Whiskfs__Error *e = (const Whiskfs__Error *)(const void *)m;
        r = errno_of_wire_code(e->code);
        log_debug("peers", "'%s' refused a request: %s: %s", conn_name(conn), strerrordesc_np(-r),
                  e->text);
        message_free(m);
    }
    frame_free(reply);
    return r < 0 ? r : -EIO;
}

/* 0 with call->reply, or why there is none. */
static int make_call(struct conn *conn, struct call *call, enum frame_class class,
                     enum frame_type type, const ProtobufCMessage *body, struct span raw,
                     int64_t deadline_ns)
{
    int r = begin_call(conn, call);
    if (r < 0)
        return r;
    r = conn_send(conn, class, type, call->id, body, raw, deadline_ns);
    if (r == 0)
        wait_call(conn, call, deadline_ns);
    end_call(conn, call);
    if (r == 0 && !call->reply)
        r = call->error != 0 ? call->error : -ETIMEDOUT;
    return r;
}

int conn_call(struct conn *conn, enum frame_class class, enum frame_type type,
              const ProtobufCMessage *body, struct span raw, int64_t deadline_ns,
              struct frame **ret_reply)
{
    CHECK(!pthread_equal(pthread_self(), conn->self));
    struct call call = {0};
    cond_init(&call.done);
    int r = make_call(conn, &call, class, type, body, raw, deadline_ns);
    cond_done(&call.done);
    if (call.reply)
        return result_of(conn, call.reply, ret_reply);
    return r;
}

int conn_ask(struct conn *conn, enum frame_type type, const ProtobufCMessage *body,
             enum frame_type answer, const ProtobufCMessageDescriptor *expected,
             int64_t deadline_ns, ProtobufCMessage **ret_answer)
{
    struct frame *frame = NULL;
    int r = conn_call(conn, FRAME_CONTROL, type, body, (struct span){0}, deadline_ns, &frame);
    if (r < 0)
        return r;
    r = frame->type == answer ? message_get(frame->body, expected, ret_answer) : -EBADMSG;
    frame_free(frame);
    return r;
}

static bool is_waited_for(struct conn *conn, uint64_t id)
{
    SCOPED_LOCK(&conn->lock);
    struct call *call = NULL;
    HASH_FIND(hh, conn->calls, &id, sizeof id, call);
    return call != NULL;
}

/* False: the caller has given up meanwhile, or has an answer. */
static bool hand_over(struct conn *conn, struct frame *reply)
{
    SCOPED_LOCK(&conn->lock);
    struct call *call = NULL;
    HASH_FIND(hh, conn->calls, &reply->id, sizeof reply->id, call);
    if (!call || call->reply)
        return false;
    call->reply = reply;
    cond_signal(&call->done);
    return true;
}

bool conn_answer(struct conn *conn, const struct frame *frame)
{
    if (!is_waited_for(conn, frame->id))
        return false;
    struct frame *copy = NULL;
    if (frame_copy(frame, &copy) < 0)
        return true; /* the caller's deadline answers it */
    if (!hand_over(conn, copy))
        frame_free(copy);
    return true;
}
