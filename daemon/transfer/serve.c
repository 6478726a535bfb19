/* daemon/transfer/serve.c — answers other hosts' FETCH: checks what is asked for, reads, encodes and sends block by
 * block, so that another class pre-empts between blocks and CANCEL is honoured. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/transfer/transfer_private.h"
#include "fs/volume/volume.h"
#include "proto/base/clock.h"
#include "proto/messages.pb-c.h"

/* A block that the keeper itself lacks comes from its own upstream within this. */
#define UPSTREAM_NS (8 * NS_PER_S)

/* What a block costs beside its bytes, about. */
#define BLOCK_HEADER_BYTES 64u

struct answer {
    struct transfer *t;
    struct conn *conn;
    uint64_t id;
    enum frame_class class;
    struct serving *serving;
    struct volume *volume;
    struct buffer *packing;
    struct out_frame *frame; /* for the next block, or NULL */
    uint8_t *block;          /* its raw bytes */
    struct seal seal;        /* of the file being served, or, with ino 0, none */
};

/* ---- being told to stop ---- */

void serve_cancel(struct transfer *t, struct conn *conn)
{
    SCOPED_LOCK(&t->lock);
    list_for_each(serving, &t->servings, struct serving, link)
    {
        if (!conn || serving->conn == conn)
            atomic_store(&serving->is_cancelled, true);
    }
    cond_broadcast(&t->turn);
    for (unsigned i = 0; i < EARLY_CANCELS_MAX; i++) {
        if (t->early_cancels[i].conn == conn)
            t->early_cancels[i].conn = NULL;
    }
}

/* A CANCEL is of a class that overtakes the FETCH it is about: then it is kept for it. */
static void cancel_one(struct transfer *t, struct conn *conn, uint64_t id)
{
    SCOPED_LOCK(&t->lock);
    list_for_each(serving, &t->servings, struct serving, link)
    {
        if (serving->conn != conn || serving->id != id)
            continue;
        atomic_store(&serving->is_cancelled, true);
        cond_broadcast(&t->turn);
        return;
    }
    t->early_cancels[t->next_early_cancel] = (struct early_cancel){conn, id};
    t->next_early_cancel = (t->next_early_cancel + 1) % EARLY_CANCELS_MAX;
}

void serve_on_cancel(void *ctx, struct conn *conn, const struct frame *frame)
{
    ProtobufCMessage *message;
    if (message_get(frame->body, &whiskfs__cancel__descriptor, &message) < 0) {
        conn_close(conn, "a CANCEL that cannot be read");
        return;
    }
    cancel_one(ctx, conn, ((const Whiskfs__Cancel *)message)->id);
    message_free(message);
}

static void list_serving(struct transfer *t, struct serving *serving)
{
    SCOPED_LOCK(&t->lock);
    list_append(&t->servings, &serving->link);
    for (unsigned i = 0; i < EARLY_CANCELS_MAX; i++) {
        if (t->early_cancels[i].conn == serving->conn && t->early_cancels[i].id == serving->id)
            atomic_store(&serving->is_cancelled, true);
    }
}

static void unlist_serving(struct transfer *t, struct serving *serving)
{
    SCOPED_LOCK(&t->lock);
    list_remove(&serving->link);
    cond_broadcast(&t->turn);
}

/* ---- one after the other ---- */

static bool is_behind(struct transfer *t, const struct serving *serving) REQUIRES(t->lock)
{
    list_for_each(earlier, &t->servings, struct serving, link)
    {
        if (earlier == serving)
            return false;
        if (earlier->conn == serving->conn && earlier->class == serving->class &&
            !earlier->is_stuck)
            return true;
    }
    return false;
}

/* Requests of one class on one connection are answered in their order: a reader wants the first one's blocks first, and
 * if all went out side by side the last of each would come at the same time. */
static void await_turn(struct transfer *t, struct serving *serving)
{
    SCOPED_LOCK(&t->lock);
    while (!atomic_load(&serving->is_cancelled) && is_behind(t, serving))
        cond_wait(&t->turn, &t->lock);
}

static void set_stuck(struct transfer *t, struct serving *serving, bool is_stuck)
{
    SCOPED_LOCK(&t->lock);
    serving->is_stuck = is_stuck;
    cond_broadcast(&t->turn);
}

/* ---- one block ---- */

static int read_block(int fd, uint64_t block, uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, data + done, size - done, (off_t)(block * BLOCK_BYTES + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EAGAIN; /* being written, and shorter now: its new version will say so */
        done += (size_t)n;
    }
    return 0;
}

static bool take_fault(struct transfer *t)
{
    unsigned n = atomic_load(&t->corrupt);
    while (n > 0) {
        if (atomic_compare_exchange_weak(&t->corrupt, &n, n - 1))
            return true;
    }
    return false;
}

/* What the disk has made of it is nobody's to have. */
static bool is_damaged(struct answer *a, uint64_t block, struct block_checksum sum)
{
    if (a->seal.ino == 0 || !seal_is_broken(&a->seal, block, sum))
        return false;
    log_error("transfer",
              "block %" PRIu64 " of inode %" PRIu64
              " is damaged on this disk and not served to %s: see fsck",
              block, a->seal.ino, conn_name(a->conn));
    (void)store_note_damage(volume_store(a->volume), &a->seal, block);
    atomic_fetch_add(&a->t->counters.damaged_blocks, 1);
    return true;
}

/* Raw bytes go from where they were read to. What is packed or little is copied, and the frame serves the next block: a
 * queue of little frames in large ones would hold more memory than its bound says. */
static int send_encoded(struct answer *a, const ProtobufCMessage *message, struct span bytes)
{
    int64_t deadline_ns = clock_mono_ns() + SEND_NS;
    if (bytes.data != a->block || bytes.size < BLOCK_SIZE_MAX / 4)
        return conn_send(a->conn, a->class, FRAME_BLOCK, a->id, message, bytes, deadline_ns);
    return conn_send_frame(a->conn, TAKE(a->frame), a->class, FRAME_BLOCK, a->id, message,
                           bytes.size, deadline_ns);
}

static int send_block(struct answer *a, const Whiskfs__Range *range, uint64_t block, size_t size)
{
    struct encoded_block encoded;
    block_encode(a->block, size, a->packing->bytes, &encoded);
    if (is_damaged(a, block, encoded.checksum))
        return -EIO;
    Whiskfs__Block message = WHISKFS__BLOCK__INIT;
    message.ino = range->ino;
    message.version = range->version;
    message.block = block;
    message.codec = (uint32_t)encoded.codec;
    message.size = encoded.size;
    message.checksum_low = encoded.checksum.low ^ (take_fault(a->t) ? 1 : 0);
    message.checksum_high = encoded.checksum.high;
    int e = pacer_take(&a->t->serving, fetch_class_of(a->class),
                       encoded.bytes.size + BLOCK_HEADER_BYTES, &a->serving->is_cancelled,
                       clock_mono_ns() + SEND_NS);
    if (e == 0)
        e = send_encoded(a, &message.base, encoded.bytes);
    if (e < 0)
        return e;
    struct transfer_counters *counters = &a->t->counters;
    atomic_fetch_add(&counters->served_blocks[fetch_class_of(a->class)], 1);
    atomic_fetch_add(&counters->served_bytes[fetch_class_of(a->class)], size);
    atomic_fetch_add(&counters->served_wire_bytes, encoded.bytes.size);
    return 0;
}

/* Others need not wait for what this host must fetch itself. */
static int bring(struct answer *a, struct content *content, uint64_t start, size_t size)
{
    if (content_is_complete(content) || content_has(content, start / BLOCK_BYTES, 1))
        return 0;
    set_stuck(a->t, a->serving, true);
    int e =
        content_need(content, start, size, fetch_class_of(a->class), clock_mono_ns() + UPSTREAM_NS);
    set_stuck(a->t, a->serving, false);
    return e;
}

static int serve_block(struct answer *a, struct content *content, const Whiskfs__Range *range,
                       uint64_t block, uint64_t file_bytes)
{
    uint64_t start = block * BLOCK_BYTES;
    size_t size = (size_t)MIN((uint64_t)BLOCK_BYTES, file_bytes - start);
    int e = bring(a, content, start, size);
    if (e == 0 && !a->frame)
        a->frame = conn_frame_new(a->conn, BLOCK_SIZE_MAX, &a->block);
    if (e == 0 && !a->frame)
        e = -ENOMEM;
    if (e == 0)
        e = read_block(content_fd(content), block, a->block, size);
    return e < 0 ? e : send_block(a, range, block, size);
}

/* ---- one range ---- */

/* The copy that holds the version, and how long that version is. */
static int find_content(struct answer *a, const Whiskfs__Range *range, struct content **ret_content,
                        uint64_t *ret_bytes)
{
    struct inode inode;
    int e = tree_get(volume_tree(a->volume), range->ino, &inode);
    if (e == 0)
        e = content_find(volume_store(a->volume), volume_self(a->volume), &inode, range->version,
                         ret_content);
    if (e < 0)
        return e == -ENOENT ? -ESTALE : e;
    *ret_bytes = inode.version == range->version ? inode.size : content_size(*ret_content);
    return 0;
}

static int serve_blocks(struct answer *a, struct content *content, const Whiskfs__Range *range,
                        uint64_t file_bytes)
{
    uint64_t end;
    int e = 0;
    if (__builtin_add_overflow(range->first, (uint64_t)range->n, &end) ||
        end > block_count(file_bytes))
        return -EINVAL;
    for (uint64_t block = range->first; e == 0 && block < end; block++)
        e = atomic_load(&a->serving->is_cancelled)
                ? -ECANCELED
                : serve_block(a, content, range, block, file_bytes);
    return e;
}

static int serve_range(struct answer *a, const Whiskfs__Range *range)
{
    AUTO(content_putp) struct content *content = NULL;
    uint64_t file_bytes;
    int e = find_content(a, range, &content, &file_bytes);
    if (e < 0)
        return e;
    if (store_find_seal(volume_store(a->volume), range->ino, range->version, &a->seal) < 0)
        a->seal = (struct seal){.fd = -1};
    e = serve_blocks(a, content, range, file_bytes);
    seal_close(&a->seal);
    return e;
}

static int serve_ranges(struct answer *a, const Whiskfs__Fetch *fetch)
{
    uint64_t n_blocks = 0;
    int e = 0;
    for (size_t i = 0; i < fetch->n_ranges; i++)
        n_blocks += fetch->ranges[i]->n;
    if (n_blocks > FLIGHT_BLOCKS)
        return -EMSGSIZE;
    for (size_t i = 0; i < fetch->n_ranges && e == 0; i++)
        e = serve_range(a, fetch->ranges[i]);
    return e;
}

/* ---- one request ---- */

static int serve(struct answer *a, const Whiskfs__Fetch *fetch)
{
    struct transfer *t = a->t;
    a->volume = t->find(t->ctx, fetch->volume);
    if (!a->volume)
        return -EAGAIN; /* not open (yet, or any more): the other host knows how long it can wait */
    int e = buffers_take(&t->packing, clock_mono_ns() + SEND_NS, &a->packing);
    if (e == 0) {
        e = serve_ranges(a, fetch);
        conn_frame_free(a->conn, TAKE(a->frame));
        buffers_return(&t->packing, a->packing);
    }
    t->put(t->ctx, a->volume);
    return e;
}

static void send_end(struct answer *a, int error)
{
    Whiskfs__FetchEnd end = WHISKFS__FETCH_END__INIT;
    end.code = error < 0 ? wire_code_of_errno(error) : 0;
    int e = conn_send(a->conn, a->class, FRAME_FETCH_END, a->id, &end.base, (struct span){NULL, 0},
                      clock_mono_ns() + SEND_NS);
    if (e < 0)
        log_debug("transfer", "cannot end a fetch of %s: %s", conn_name(a->conn), strerror(-e));
}

static void serve_listed(struct transfer *t, struct conn *conn, const struct frame *frame,
                         const Whiskfs__Fetch *fetch)
{
    struct serving serving = {.conn = conn, .id = frame->id, .class = frame->class};
    struct answer answer = {
        .t = t, .conn = conn, .id = frame->id, .class = frame->class, .serving = &serving};
    list_serving(t, &serving);
    await_turn(t, &serving);
    int e = serve(&answer, fetch);
    unlist_serving(t, &serving);
    if (e < 0)
        log_debug("transfer", "a fetch of %s from volume '%s' ended: %s", conn_name(conn),
                  fetch->volume, strerror(-e));
    if (e == -ESHUTDOWN) /* this host stops, not the one that asked */
        e = -EAGAIN;
    if (e != -EPIPE)
        send_end(&answer, e);
}

void serve_on_fetch(void *ctx, struct conn *conn, const struct frame *frame)
{
    struct transfer *t = ctx;
    ProtobufCMessage *message;
    if (frame->id == 0 || message_get(frame->body, &whiskfs__fetch__descriptor, &message) < 0) {
        conn_close(conn, "a FETCH that cannot be read");
        return;
    }
    if (transfer_enter(t)) {
        serve_listed(t, conn, frame, (const Whiskfs__Fetch *)message);
        transfer_leave(t);
    } else {
        conn_refuse(conn, frame->id, -EAGAIN, "this host is stopping");
    }
    message_free(message);
}
