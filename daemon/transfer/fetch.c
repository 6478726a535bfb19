#include "daemon/transfer/fetch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/transfer/transfer_private.h"
#include "fs/store/flow.h"
#include "proto/base/clock.h"
#include "proto/messages.pb-c.h"

/* In flight for one call, ahead of the block that it waits for. */
#define WINDOW_BLOCKS 128u
/* Read-ahead goes out in pieces, so that all connections have some. */
#define AHEAD_REQUEST_BLOCKS 16u
#define RETRY_NS (100 * NS_PER_MS)
#define BAD_BLOCKS_MAX 5
#define FAILURES_MAX 3

/* ---- asking ---- */

struct ranges {
    Whiskfs__Range items[FLIGHT_BLOCKS];
    Whiskfs__Range *pointers[FLIGHT_BLOCKS];
    unsigned n;
};

static void add_to_ranges(struct ranges *ranges, struct wanted wanted)
{
    uint64_t ino = content_ino(wanted.content), version = content_version(wanted.content);
    Whiskfs__Range *last = ranges->n > 0 ? &ranges->items[ranges->n - 1] : NULL;
    if (last && last->ino == ino && last->version == version &&
        last->first + last->n == wanted.block) {
        last->n++;
        return;
    }
    Whiskfs__Range *range = &ranges->items[ranges->n];
    *range = (Whiskfs__Range)WHISKFS__RANGE__INIT;
    range->ino = ino;
    range->version = version;
    range->first = wanted.block;
    range->n = 1;
    ranges->pointers[ranges->n++] = range;
}

static int send_on(struct transfer *t, struct conn *conn, const char *volume, struct flight *flight,
                   int64_t deadline_ns)
{
    struct ranges ranges = {.n = 0};
    Whiskfs__Fetch fetch = WHISKFS__FETCH__INIT;
    AUTO_FREE char *name = strdup(volume);
    if (!name)
        return -ENOMEM;
    for (unsigned i = 0; i < flight->n_items; i++)
        add_to_ranges(&ranges, flight->items[i]);
    fetch.volume = name;
    fetch.ranges = ranges.pointers;
    fetch.n_ranges = ranges.n;
    uint64_t id = conn_next_id(conn);
    if (!flights_sent(&t->flights, flight, conn, id))
        return -ESHUTDOWN;
    return conn_send(conn, frame_class_of(flight->class), FRAME_FETCH, id, &fetch.base,
                     (struct span){NULL, 0}, MIN(deadline_ns, clock_mono_ns() + SEND_NS));
}

static int send_request(struct transfer *t, const char *volume, struct flight *flight,
                        int64_t deadline_ns)
{
    struct host_id upstream = content_upstream(flight->items[0].content);
    struct conn *conn = NULL;
    if (host_equal(upstream, NO_HOST))
        return content_is_complete(flight->items[0].content) ? -EAGAIN : -EIO;
    unsigned stream = atomic_fetch_add(&t->next_stream, 1);
    int e = peers_get(t->peers, upstream, CHANNEL_DATA, stream, deadline_ns, &conn);
    if (e < 0)
        return e == -ENOENT ? -EHOSTUNREACH : e; /* a host that membership does not know (yet) */
    atomic_fetch_add(&t->counters.requests, 1);
    e = send_on(t, conn, volume, flight, deadline_ns);
    conn_put(conn);
    return e;
}

int fetch_ask(struct transfer *t, const char *volume, const struct wanted *items, unsigned n,
              enum fetch_class class, int64_t deadline_ns)
{
    unsigned n_joined;
    struct flight *flight = flights_begin(&t->flights, items, n, class, &n_joined);
    atomic_fetch_add(&t->counters.joined_blocks, n_joined);
    if (!flight)
        return 0;
    int e = send_request(t, volume, flight, deadline_ns);
    if (e < 0)
        flights_fail(&t->flights, flight, e);
    flight_put(&t->flights, flight);
    return e;
}

/* What is asked for, for whom, and until when. */
struct asking {
    struct transfer *t;
    const char *volume;
    struct content *content;
    enum fetch_class class;
    int64_t deadline_ns;
};

/* Asks for what is missing in [first, end), in requests of at most `most` blocks. */
static int ask_range(const struct asking *a, uint64_t first, uint64_t end, unsigned most)
{
    struct wanted items[FLIGHT_BLOCKS];
    unsigned n = 0;
    int e = 0;
    end = MIN(end, block_count(content_size(a->content)));
    for (uint64_t b = content_next_missing(a->content, first); b < end && e == 0;
         b = content_next_missing(a->content, b + 1)) {
        items[n++] = (struct wanted){a->content, b};
        if (n < most)
            continue;
        e = fetch_ask(a->t, a->volume, items, n, a->class, a->deadline_ns);
        n = 0;
    }
    if (n > 0 && e == 0)
        e = fetch_ask(a->t, a->volume, items, n, a->class, a->deadline_ns);
    return e;
}

/* ---- ahead of a reader ---- */

static void plan_ahead(struct transfer *t, struct content *content, uint64_t first, uint64_t end,
                       uint64_t *ret_from, uint64_t *ret_to)
{
    SCOPED_LOCK(&t->lock);
    readahead_note(&t->readahead, content, first, end, ret_from, ret_to);
}

/* The reader is at [first, end). What fails is nobody's loss: who comes to need the block asks again. */
static void ask_ahead(struct asking ahead, uint64_t first, uint64_t end)
{
    uint64_t from, to;
    plan_ahead(ahead.t, ahead.content, first, end, &from, &to);
    struct transfer_counters *counters = &ahead.t->counters;
    if (from >= to || atomic_load(&counters->in_flight_blocks) >= ahead.t->in_flight_max)
        return;
    atomic_fetch_add(&counters->ahead_blocks, to - from);
    ahead.class = FETCH_STREAM;
    int e = ask_range(&ahead, from, to, AHEAD_REQUEST_BLOCKS);
    if (e < 0)
        log_debug("transfer", "cannot read ahead of inode %" PRIx64 ": %s",
                  content_ino(ahead.content), strerror(-e));
}

void transfer_reading(struct transfer *t, const char *volume, struct content *content,
                      uint64_t first, uint64_t n)
{
    struct asking ahead = {.t = t, .volume = volume, .content = content};
    if (!transfer_enter(t))
        return;
    if (content_is_complete(content))
        beside_reading(t, volume, content);
    else
        ask_ahead(ahead, first, first + n);
    transfer_leave(t);
}

/* ---- one call of transfer_fetch ---- */

struct fetching {
    struct asking asking;
    uint64_t at, end; /* blocks; at: the first that is missing */
    uint64_t asked;   /* up to here all has been asked for */
    int last_error;
    unsigned n_bad, n_failures;
};

/* Keeps the window full; asks in good portions once it is half empty. */
static int ask(struct fetching *f)
{
    uint64_t to = MIN(f->end, f->at + WINDOW_BLOCKS);
    if (f->asked > f->at && (f->asked >= f->end || f->asked - f->at > WINDOW_BLOCKS / 2))
        return 0;
    uint64_t from = MAX(f->asked, f->at);
    int e = ask_range(&f->asking, from, to, FLIGHT_BLOCKS / 2);
    if (e == 0)
        f->asked = to;
    return e;
}

/* ---- waiting ---- */

static void cancel(struct conn *conn, uint64_t id)
{
    Whiskfs__Cancel message = WHISKFS__CANCEL__INIT;
    message.id = id;
    int e = conn_send(conn, FRAME_CONTROL, FRAME_CANCEL, 0, &message.base, (struct span){NULL, 0},
                      clock_mono_ns() + RETRY_NS);
    if (e < 0)
        log_debug("transfer", "cannot cancel a fetch at %s: %s", conn_name(conn), strerror(-e));
    conn_put(conn);
}

static int wait_for(struct fetching *f, struct waiter *w)
{
    struct conn *stalled;
    uint64_t id;
    int e = flights_wait(&f->asking.t->flights, w, f->asking.deadline_ns, STALL_NS, &stalled, &id);
    if (stalled)
        cancel(stalled, id);
    return e;
}

/* How a failure that is not retried any more is called. */
static int give_up(const struct fetching *f)
{
    switch (f->last_error) {
    case -EBADMSG:
    case -EIO:
        return -EIO;
    case 0:
    case -ETIMEDOUT:
        return -ETIMEDOUT;
    default:
        return -EHOSTUNREACH;
    }
}

static int pause_a_moment(struct fetching *f)
{
    int64_t now_ns = clock_mono_ns();
    if (now_ns >= f->asking.deadline_ns)
        return give_up(f);
    return flights_pause(&f->asking.t->flights, MIN(now_ns + RETRY_NS, f->asking.deadline_ns))
               ? 0
               : -ESHUTDOWN;
}

/* 0: try again. Otherwise what the caller gets. */
static int judge(struct fetching *f, int e)
{
    f->asked = f->at;
    switch (e) {
    case -ESHUTDOWN:
    case -ENOSPC:
    case -EDQUOT:
    case -ENOMEM:
        return e;
    case -ENOENT:
    case -ESTALE:
        return -ESTALE;
    default:
        break;
    }
    if (e != -ETIMEDOUT)
        f->last_error = e;
    atomic_fetch_add(&f->asking.t->counters.retries, 1);
    if (e == -EBADMSG)
        return ++f->n_bad < BAD_BLOCKS_MAX && clock_mono_ns() < f->asking.deadline_ns ? 0 : -EIO;
    if (e == -EIO && ++f->n_failures >= FAILURES_MAX)
        return -EIO;
    return pause_a_moment(f);
}

/* Asks for what lies ahead and waits for the first missing block. */
static int step(struct fetching *f, bool is_first)
{
    struct waiter w;
    struct flow *flow = store_flow(content_store(f->asking.content));
    flights_expect(&f->asking.t->flights, &w, f->asking.content, f->at);
    enum fetch_class class =
        flights_class(&f->asking.t->flights, f->asking.content, f->at, FETCH_DEMAND);
    if (f->asking.class == FETCH_DEMAND)
        flow_begin_wait(flow, class, clock_mono_ns());
    int e = ask(f);
    if (e == 0 && is_first && f->asking.class == FETCH_DEMAND) {
        ask_ahead(f->asking, f->at, f->end);
        beside_reading(f->asking.t, f->asking.volume, f->asking.content);
    }
    if (e == 0)
        e = wait_for(f, &w);
    flights_forget(&f->asking.t->flights, &w);
    if (f->asking.class == FETCH_DEMAND)
        flow_end_wait(flow, class, clock_mono_ns());
    return e;
}

static int fetch_all(struct fetching *f)
{
    uint64_t last = UINT64_MAX;
    while ((f->at = content_next_missing(f->asking.content, f->at)) < f->end) {
        if (f->at == last)
            f->asked = f->at; /* it had gone wrong before anybody waited for it */
        else
            f->n_bad = f->n_failures = 0; /* bounds are for a block: others have come */
        if (clock_mono_ns() >= f->asking.deadline_ns)
            return give_up(f);
        int e = step(f, last == UINT64_MAX);
        if (e < 0)
            e = judge(f, e);
        if (e < 0)
            return e;
        last = f->at;
    }
    return 0;
}

static void log_failure(const struct fetching *f, int e)
{
    static struct log_limit limit;
    uint64_t n_suppressed;
    if (e == -ESHUTDOWN || e == -ESTALE || !log_allow(&limit, &n_suppressed))
        return;
    log_warning("transfer",
                "cannot fetch block %" PRIu64 " of inode %" PRIx64 " of volume '%s': %s "
                "version=%" PRIu64 " suppressed=%" PRIu64,
                f->at, content_ino(f->asking.content), f->asking.volume, strerror(-e),
                content_version(f->asking.content), n_suppressed);
}

int transfer_fetch(struct transfer *t, const char *volume, struct content *content, uint64_t first,
                   uint64_t n, enum fetch_class class, int64_t deadline_ns)
{
    struct fetching f = {
        .asking = {.t = t,
                   .volume = volume,
                   .content = content,
                   .class = class,
                   .deadline_ns = deadline_ns},
        .at = first,
        .asked = first,
    };
    uint64_t n_blocks = block_count(content_size(content));
    f.end = n < n_blocks && first < n_blocks - n ? first + n : n_blocks;
    if (!transfer_enter(t))
        return -ESHUTDOWN;
    int64_t started_ns = clock_mono_ns();
    atomic_fetch_add(&t->n_demands, class == FETCH_DEMAND);
    int e = fetch_all(&f);
    atomic_fetch_sub(&t->n_demands, class == FETCH_DEMAND);
    atomic_fetch_add(&t->counters.wait_ns[class], (uint64_t)(clock_mono_ns() - started_ns));
    if (e < 0)
        log_failure(&f, e);
    transfer_leave(t);
    return e;
}

/* ---- what comes ---- */

static struct log_limit *bad_source_limit(struct transfer *t, struct host_id host)
{
    SCOPED_LOCK(&t->lock);
    unsigned i = 0;
    while (i < t->n_bad_sources && !host_equal(t->bad_sources[i].host, host))
        i++;
    if (i == SOURCES_MAX)
        return &t->bad_sources[SOURCES_MAX - 1].limit;
    if (i == t->n_bad_sources)
        t->bad_sources[t->n_bad_sources++].host = host;
    return &t->bad_sources[i].limit;
}

/* A block that came and is right; data.size 0: zeros. */
struct arrival {
    uint64_t id; /* of the request */
    struct content *content;
    enum fetch_class class;
    uint64_t block, size;
    struct span data;
};

/* What came together on one connection: blocks that follow one another are stored at once. */
struct arrivals {
    struct transfer *t;
    struct conn *conn;
    struct buffer *unpacked; /* of the last one */
    struct arrival items[FRAMES_TOGETHER_MAX];
    unsigned n;
};

static_assert(FRAMES_TOGETHER_MAX <= FILL_BLOCKS_MAX, "a run is filled at once");

static void note_bad_block(const struct arrivals *a, const struct arrival *item)
{
    uint64_t n_suppressed;
    atomic_fetch_add(&a->t->counters.checksum_failures, 1);
    if (!log_allow(bad_source_limit(a->t, conn_host(a->conn)), &n_suppressed))
        return;
    log_error("transfer",
              "host %s sent a damaged block %" PRIu64 " of inode %" PRIx64
              ": it is asked for again version=%" PRIu64 " suppressed=%" PRIu64,
              conn_name(a->conn), item->block, content_ino(item->content),
              content_version(item->content), n_suppressed);
}

/* Stored, or not: whoever waits hears of it. */
static void land(struct arrivals *a, const struct arrival *item, int error)
{
    struct transfer_counters *counters = &a->t->counters;
    if (error == 0) {
        atomic_fetch_add(&counters->fetched_blocks[item->class], 1);
        atomic_fetch_add(&counters->fetched_bytes[item->class], item->size);
        flow_arrived(store_flow(content_store(item->content)), item->class, item->size);
    } else if (error == -EBADMSG) {
        note_bad_block(a, item);
    }
    flights_arrived(&a->t->flights, a->conn, item->id, item->content, item->block, error);
    content_put(item->content);
}

static void store_run(struct arrivals *a)
{
    struct span blocks[FRAMES_TOGETHER_MAX];
    if (a->n == 0)
        return;
    for (unsigned i = 0; i < a->n; i++)
        blocks[i] = a->items[i].data;
    int e = content_fill_run(a->items[0].content, a->items[0].block, blocks, a->n);
    for (unsigned i = 0; i < a->n; i++)
        land(a, &a->items[i], e == -EINVAL ? -EBADMSG : e);
    a->n = 0;
}

static void add_to_run(struct arrivals *a, const struct arrival *item)
{
    const struct arrival *last = a->n > 0 ? &a->items[a->n - 1] : NULL;
    if (last && (last->content != item->content || last->block + 1 != item->block))
        store_run(a);
    a->items[a->n++] = *item;
}

static void receive_block(struct arrivals *a, uint64_t id, const Whiskfs__Block *message,
                          struct span raw)
{
    struct arrival item = {.id = id, .block = message->block, .size = message->size};
    struct block_checksum checksum = {message->checksum_low, message->checksum_high};
    if (!flights_arriving(&a->t->flights, a->conn, id, message->ino, message->version,
                          message->block, &item.content, &item.class))
        return;
    int e =
        block_decode(message->codec, raw, message->size, checksum, a->unpacked->bytes, &item.data);
    if (e < 0) {
        land(a, &item, e);
        return;
    }
    add_to_run(a, &item);
    if (message->codec == BLOCK_LZ4)
        store_run(a); /* the next one is unpacked to the same place */
}

static void receive_frame(struct arrivals *a, const struct frame *frame)
{
    ProtobufCMessage *message;
    if (message_get(frame->body, &whiskfs__block__descriptor, &message) < 0) {
        conn_close(a->conn, "a BLOCK that cannot be read");
        return;
    }
    receive_block(a, frame->id, (const Whiskfs__Block *)message, frame->raw);
    message_free(message);
}

/* Without memory nothing is taken: the requests are over when the connection is. */
void fetch_on_blocks(void *ctx, struct conn *conn, const struct frame *frames, unsigned n)
{
    struct arrivals arrivals = {.t = ctx, .conn = conn};
    if (buffers_take(&arrivals.t->unpacking, INT64_MAX, &arrivals.unpacked) < 0) {
        conn_close(conn, "out of memory");
        return;
    }
    for (unsigned i = 0; i < n; i++)
        receive_frame(&arrivals, &frames[i]);
    store_run(&arrivals);
    buffers_return(&arrivals.t->unpacking, arrivals.unpacked);
}

/* An end without an error, while blocks are owed, is one. */
static void end_request(struct transfer *t, struct conn *conn, uint64_t id, uint32_t code)
{
    flights_end(&t->flights, conn, id, code == 0 ? -EIO : errno_of_wire_code(code));
}

void fetch_on_end(void *ctx, struct conn *conn, const struct frame *frame)
{
    ProtobufCMessage *message;
    if (message_get(frame->body, &whiskfs__fetch_end__descriptor, &message) < 0) {
        conn_close(conn, "a FETCH_END that cannot be read");
        return;
    }
    end_request(ctx, conn, frame->id, ((const Whiskfs__FetchEnd *)message)->code);
    message_free(message);
}

void fetch_on_error(void *ctx, struct conn *conn, const struct frame *frame)
{
    ProtobufCMessage *message;
    if (message_get(frame->body, &whiskfs__error__descriptor, &message) < 0) {
        conn_close(conn, "an ERROR that cannot be read");
        return;
    }
    end_request(ctx, conn, frame->id, ((const Whiskfs__Error *)message)->code);
    message_free(message);
}
