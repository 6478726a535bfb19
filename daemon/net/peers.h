/* daemon/net/peers.h — connections to other hosts: who is called what, over TLS, with frames of proto/frame.h.
 *
 * One control connection and `streams` data connections per peer, dialled by whoever needs one; both ends may send
 * on any of them. Each connection has one thread that owns its socket and TLS state: it sends what is queued
 * (classes in order: control, demand, stream, prefetch; bounded) and receives. A frame that came is handed to the
 * handler of its type: `inline` handlers run on the connection's thread and must not block; others run on a bounded
 * pool of workers. Idle connections are kept alive by PING each 5 s and closed after 15 s of silence.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "daemon/membership.h"
#include "fs/identity.h"
#include "proto/frame.h"

struct peers;
struct conn;
struct out_frame;

enum channel {
    CHANNEL_CONTROL,
    CHANNEL_DATA
};

struct peers_options {
    const char *name;   /* this host; must be the name in its certificate */
    const char *listen; /* host:port */
    const char *ca_file, *cert_file, *key_file;
    unsigned streams;   /* data connections per peer */
    unsigned n_workers; /* threads for handlers that block; 0: 32 */
    struct membership *membership;
};

/* Loads certificates (a clear sentence is logged; -EINVAL), listens (-EADDRINUSE …), starts. */
MUST_USE int peers_new(const struct peers_options *options, struct peers **ret_peers);
void peers_stop(struct peers *peers); /* closes everything, joins */
void peers_free(struct peers *peers);

/* frame: body and raw live until the handler returns. conn: take conn_ref to keep it. */
typedef void frame_handler_f(void *ctx, struct conn *conn, const struct frame *frame);
/* Before peers_start(). One handler a type; frames of a type without one are answered with Error ENOSYS. Answers that
 * nobody waits for in conn_call go to the handler of their type too (an Error to a request of conn_next_id: register
 * FRAME_ERROR); without one they are dropped. */
void peers_handle(struct peers *peers, enum frame_type type, bool is_inline,
                  frame_handler_f *handler, void *ctx);
/* Inline, for frames that come in numbers: the handler gets at most FRAMES_TOGETHER_MAX that followed one another on the connection
 * and were all there. Never waits for more. */
#define FRAMES_TOGETHER_MAX 8u
typedef void frames_handler_f(void *ctx, struct conn *conn, const struct frame *frames, unsigned n);
void peers_handle_together(struct peers *peers, enum frame_type type, frames_handler_f *handler,
                           void *ctx);
typedef void conn_closed_f(void *ctx, struct conn *conn);
void peers_on_close(struct peers *peers, conn_closed_f *closed,
                    void *ctx);                 /* several may be registered */
MUST_USE int peers_start(struct peers *peers);  /* begins to accept */
uint16_t peers_port(const struct peers *peers); /* that it listens on: for a `listen` with port 0 */

/* A live connection to host; dials where there is none (one dial at a time per peer and stream; failures are
 * remembered for half a second so that a dead peer costs little). -EHOSTUNREACH, -ETIMEDOUT, -EACCES (certificate),
 * -ENOENT (membership does not know it). Pair with conn_put. stream: taken modulo options.streams. */
MUST_USE int peers_get(struct peers *peers, struct host_id host, enum channel channel,
                       unsigned stream, int64_t deadline_ns, struct conn **ret_conn);

struct conn *conn_ref(struct conn *conn);
void conn_put(struct conn *conn);
struct host_id conn_host(const struct conn *conn);
const char *conn_name(const struct conn *conn); /* the peer's host name */
bool conn_is_open(struct conn *conn);
void conn_close(struct conn *conn, const char *why); /* returns at once */

/* Queues a frame: body (or NULL for an empty one), raw bytes copied. Waits for room until the deadline, but never in
 * an inline handler of this same connection. id 0: one-way. -EPIPE: closed. -ETIMEDOUT: the peer reads too slowly.
 * -EMSGSIZE. */
MUST_USE int conn_send(struct conn *conn, enum frame_class class, enum frame_type type, uint64_t id,
                       const ProtobufCMessage *body, struct span raw, int64_t deadline_ns);
/* A frame whose raw bytes, at most raw_max, its maker writes to *ret_raw: they are sent from there. NULL: out of memory.
 * Ends with conn_send_frame or conn_frame_free. */
struct out_frame *conn_frame_new(struct conn *conn, size_t raw_max, uint8_t **ret_raw);
void conn_frame_free(struct conn *conn, struct out_frame *frame);
/* As conn_send; body: at most SHORT_BODY_BYTES. The frame is gone whatever is returned. */
#define SHORT_BODY_BYTES 128u
MUST_USE int conn_send_frame(struct conn *conn, struct out_frame *frame, enum frame_class class,
                             enum frame_type type, uint64_t id, const ProtobufCMessage *body,
                             size_t raw_size, int64_t deadline_ns);
/* As conn_send, and ret_reply is the frame that answers (owned; frame_free). An Error frame comes back as its negative
 * errno, logged at debug. Many calls may be under way on one connection, answered in any order (at most 4096: -EBUSY).
 * Never from an inline handler. */
MUST_USE int conn_call(struct conn *conn, enum frame_class class, enum frame_type type,
                       const ProtobufCMessage *body, struct span raw, int64_t deadline_ns,
                       struct frame **ret_reply);
/* As conn_call, of class control and without raw bytes, and *ret_answer is the message of the frame that answers (owned;
 * message_free). -EBADMSG: it is not the frame, or not the message, that was expected. */
MUST_USE int conn_ask(struct conn *conn, enum frame_type type, const ProtobufCMessage *body,
                      enum frame_type answer, const ProtobufCMessageDescriptor *expected,
                      int64_t deadline_ns, ProtobufCMessage **ret_answer);
/* Draws an id for a request whose answers (any number of frames) go to the handlers of their types. */
uint64_t conn_next_id(struct conn *conn);
/* Answers a request with an Error frame. */
void conn_refuse(struct conn *conn, uint64_t id, int error, const char *text);

struct peer_counters {
    char name[HOST_NAME_MAX_BYTES + 1];
    unsigned n_connections;
    uint64_t sent_bytes[FRAME_N_CLASSES], received_bytes[FRAME_N_CLASSES];
    uint64_t dials, failures, refused_frames;
};
/* Copies at most max; returns how many peers have been seen. */
int peers_counters(struct peers *peers, struct peer_counters *ret_counters, int max);
