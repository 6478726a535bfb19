/* daemon/net/conn.h — inside of peers: one connection, its thread, and the table it is in.
 *
 *     peers ──table──► peer (a host, for ever) ──conns──► conn ◄── its thread, callers, jobs (counted)
 *
 * A conn's thread owns socket, TLS and both buffers; everybody else reaches it through the outbox, the pending calls
 * and conn_wake. Locks: peers.lock (table, lists, states), then conn.lock (outbox, calls); never across I/O or a
 * handler. See README.md.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <uthash.h>

#include "daemon/net/address.h"
#include "daemon/net/outbox.h"
#include "daemon/net/peers.h"
#include "daemon/net/workers.h"
#include "proto/base/clock.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"
#include "proto/tls.h"

#define CONNECT_NS (3 * NS_PER_S)
#define HANDSHAKE_NS (5 * NS_PER_S) /* TLS and hello together */
#define PING_NS (5 * NS_PER_S)
#define SILENCE_NS (15 * NS_PER_S)
#define DIAL_DAMPING_NS (NS_PER_S / 2)
#define LINGER_NS (NS_PER_S / 2)

#define CONNS_MAX 4096u   /* in all */
#define STRANGERS_MAX 64u /* of them: accepted, not yet known */
#define CONNS_PER_PEER_MAX 32u
#define PEERS_MAX 4096u
#define CALLS_MAX 4096u /* pending on one connection */
#define CLOSERS_MAX 8u
#define STRANGER_FRAME_MAX 4096u /* before the hello */

#define RECORD_BYTES (16u << 10)
/* Ciphertext moves in pieces of this size, many records each: a call a record would cost more than the encryption,
 * with each one's waking of the receiver and its acknowledgement. (OpenSSL's own read-ahead moves all that it has to the
 * front of its buffer for each record.) What is staged cannot be overtaken any more, so it is not much. */
#define STAGE_BYTES (128u << 10)
#define FRAME_BYTES_MAX (FRAME_HEADER_BYTES + FRAME_BODY_MAX + ENTRIES_RAW_MAX)

#define IN_BYTES (FRAME_BYTES_MAX + RECORD_BYTES)

#define PROTOCOL_VERSION_MIN 1u
#define PROTOCOL_VERSION_MAX 1u

/* A host that was dialled or that called. Lives as long as the table. */
struct peer {
    UT_hash_handle hh; /* by id */
    struct host_id id;
    char name[HOST_NAME_MAX_BYTES + 1];
    /* under peers.lock */
    struct list conns; /* dialling or ready */
    unsigned n_conns;
    struct cond changed; /* one of conns became ready or ended */
    int dial_error;      /* of the last dial, until dial_again_ns */
    int64_t dial_again_ns;
    struct tls_session *session; /* the newest ticket */
    /* counters */
    atomic_uint_least64_t sent_bytes[FRAME_N_CLASSES], received_bytes[FRAME_N_CLASSES];
    atomic_uint_least64_t dials, failures, refused_frames;
    struct log_limit dial_log, frame_log;
};

struct handler {
    frame_handler_f *fn;        /* or NULL */
    frames_handler_f *together; /* or NULL */
    void *ctx;
    bool is_inline;
};

struct peers {
    /* fixed after peers_new */
    char name[HOST_NAME_MAX_BYTES + 1];
    struct host_id id;
    unsigned streams;
    struct membership *membership;
    struct tls_context *tls;
    int listen_fd, wake_fd;
    /* fixed after peers_start */
    struct handler handlers[FRAME_TYPE_MAX];
    struct {
        conn_closed_f *fn;
        void *ctx;
    } closers[CLOSERS_MAX];
    unsigned n_closers;
    bool started;
    pthread_t listener;
    struct workers *workers;
    struct frame_pool pool;

    struct mutex lock;
    /* under lock */
    struct peer *table;
    struct list conns; /* every conn whose thread runs or ran: conn.in_all */
    unsigned n_conns, n_strangers;
    bool stopping;

    struct log_limit stranger_logs[64]; /* by a hash of the address */
    atomic_uint_least64_t n_refused_strangers;
};

enum conn_state {
    CONN_NEW,   /* dialling, or accepted and not yet known */
    CONN_HELLO, /* TLS is up, hello under way */
    CONN_READY,
    CONN_ENDED
};

struct call; /* conn.c */

struct conn {
    atomic_uint n_refs;
    /* fixed */
    struct peers *peers;
    bool is_dialler;
    int wake_fd;
    char address[ADDRESS_MAX_BYTES + 1]; /* dialled, or the caller's */
    /* set by its thread, or before it starts; fixed once ready */
    pthread_t self;
    struct peer *peer;
    enum channel channel;
    /* under peers.lock */
    struct list in_all, in_peer;
    enum conn_state state;
    bool has_thread, is_joinable; /* thread is set; it has nothing left to do */
    pthread_t thread;
    /* under workers' lock */
    struct list stall;
    unsigned n_jobs;

    struct mutex lock;
    /* under lock */
    struct outbox outbox;
    struct cond room; /* there may be room in the outbox, or it is closed */
    unsigned n_waiting_for_room[FRAME_N_CLASSES];
    struct call *calls; /* by id */
    uint64_t last_id;
    bool is_closing; /* nothing more is queued */
    bool is_asleep;  /* the thread is in poll: wake it */
    char why[TLS_WHY_BYTES];

    /* owned by the thread */
    int fd;
    struct tls_link *tls;
    bool send_blocked;   /* the socket took no more */
    bool is_stalled;     /* a frame waits for a worker: nothing is read */
    bool has_last_word;  /* an Error is queued that says why it ends */
    bool is_reported;    /* why it ends is in the log */
    int64_t deadline_ns; /* for the handshake and hello */
    int64_t last_sent_ns, last_received_ns;
    struct {
        uint8_t data[RECORD_BYTES]; /* small frames, gathered into one record */
        size_t size, sent;
        struct out_frame *large; /* after them */
    } out;
    struct {
        uint8_t
            *data; /* STAGE_BYTES of ciphertext. NULL, at first: straight from and to the socket */
        size_t at, size;
    } staged, received;
    struct {
        uint8_t *data;   /* IN_BYTES */
        size_t at, size; /* unread bytes are [at, size); those of gathered frames lie before them */
    } in;
    struct frame
        gathered[FRAMES_TOGETHER_MAX]; /* of one type, not handled yet; only while receiving */
    unsigned n_gathered;
};

/* conn.c */
MUST_USE int conn_new(struct peers *peers, bool is_dialler, struct conn **ret_conn);
static inline void conn_putp(struct conn **p)
{
    if (*p)
        conn_put(*p);
}
void conn_wake(struct conn *conn);
/* Hands an answer to its caller. False: nobody waits for that id. */
bool conn_answer(struct conn *conn, const struct frame *frame);
/* Refuses all who wait, now and from now on. */
void conn_shut(struct conn *conn, const char *why);
bool conn_is_closing(struct conn *conn);
/* Queues a frame from the conn's own thread; never waits. */
MUST_USE int conn_queue(struct conn *conn, enum frame_class class, enum frame_type type,
                        uint64_t id, const ProtobufCMessage *body);
/* Queues an Error although the connection is shut: sent before it is closed. False: out of memory. */
bool conn_last_word(struct conn *conn, uint64_t id, const ProtobufCMessage *body);

/* conn_io.c: 0, -EAGAIN: as far as the socket lets; other errors end the connection. */
MUST_USE int conn_pump_out(struct conn *conn, bool *ret_moved);
MUST_USE int conn_send_staged(struct conn *conn);
MUST_USE int conn_pump_in(struct conn *conn, bool *ret_moved);
struct tls_io conn_tls_io(struct conn *conn);

/* conn_thread.c */
void *conn_thread(void *conn);

/* hello.c. -EPROTO: end the connection; conn_shut says why. */
MUST_USE int hello_begin(struct conn *conn);
MUST_USE int hello_frame(struct conn *conn, const struct frame *frame);

/* dispatch.c. -EAGAIN: no worker free, keep the frame. */
MUST_USE int conn_dispatch(struct conn *conn, const struct frame *frame);
/* Handles the frames that were gathered: their bytes are not needed any more. */
void conn_deliver(struct conn *conn);
/* A warning, at most once a minute and limit. */
void warn_limited(struct log_limit *limit, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Counts and logs what breaks the protocol. Returns -EPROTO. */
int conn_violation(struct conn *conn, const char *what);

/* peers.c */
/* The entry of a host that called or is known by its name; made if need be. -ENOSPC: too many. -EEXIST: another
 * name has the same id. */
MUST_USE int peers_peer_of(struct peers *peers, const char *name, struct peer **ret_peer);
/* An accepted connection is now known as peer's: counts it in. -EMFILE: too many of that peer. */
MUST_USE int peers_admit(struct peers *peers, struct conn *conn, struct peer *peer);
void peers_ready(struct peers *peers, struct conn *conn);
/* The connection's thread ends: takes it out, tells who waited. error: what a dialler is told. */
void peers_ended(struct peers *peers, struct conn *conn, int error);
/* The listener may join it. */
void peers_joinable(struct peers *peers, struct conn *conn);
/* Starts conn's thread and gives it the caller's reference. On failure conn is as it was. */
MUST_USE int peers_start_conn(struct peers *peers, struct conn *conn, const char *thread_name);
/* Takes the ticket kept for this peer, or NULL; put it back. A ticket serves one dial at a time. */
struct tls_session *peers_take_session(struct peers *peers, struct peer *peer);
void peers_keep_session(struct peers *peers, struct peer *peer, struct tls_session *session);

/* listener.c */
void *listener_thread(void *peers);
void listener_wake(struct peers *peers);
/* One log line a minute and address. */
void listener_refused(struct peers *peers, const char *address, const char *why);
