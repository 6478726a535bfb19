/* What a host answers to a FETCH, whatever is in it; the other side here speaks frames itself. */
#include <criterion/criterion.h>
#include <sched.h>

#include "proto/base/mutex.h"
#include "proto/block.h"
#include "proto/messages.pb-c.h"
#include "tests/lib/hosts.h"

#define SIZE (3ULL * BLOCK_BYTES + 99)

/* A peer of its own making: it counts what comes. */
static struct {
    struct peers *peers;
    struct conn *conn;
    struct mutex lock;
    struct cond changed;
    unsigned n_blocks, n_ends;
    uint64_t last_id;    /* of the request that the newest block answers */
    unsigned n_switches; /* a block came that answers another one */
    bool is_sound;       /* every block so far was the file's */
    int end_error;
} raw;

static void on_block(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx, (void)conn;
    ProtobufCMessage *message;
    uint8_t *out = malloc(BLOCK_SIZE_MAX), *want = malloc(BLOCK_SIZE_MAX);
    struct span data;
    REQUIRE(message_get(frame->body, &whiskfs__block__descriptor, &message) == 0);
    const Whiskfs__Block *block = (const Whiskfs__Block *)message;
    struct block_checksum checksum = {block->checksum_low, block->checksum_high};
    bool is_good = block_decode(block->codec, frame->raw, block->size, checksum, out, &data) == 0;
    file_bytes(1, 0, block->block * BLOCK_BYTES, want, block->size);
    SCOPED_LOCK(&raw.lock);
    raw.is_sound = raw.is_sound && is_good && memcmp(want, data.data, block->size) == 0;
    raw.n_blocks++;
    raw.n_switches += frame->id != raw.last_id;
    raw.last_id = frame->id;
    cond_broadcast(&raw.changed);
    message_free(message);
    free(out);
    free(want);
}

static void on_end(void *ctx, struct conn *conn, const struct frame *frame)
{
    (void)ctx, (void)conn;
    ProtobufCMessage *message;
    REQUIRE(message_get(frame->body, &whiskfs__fetch_end__descriptor, &message) == 0);
    SCOPED_LOCK(&raw.lock);
    raw.n_ends++;
    raw.end_error = errno_of_wire_code(((const Whiskfs__FetchEnd *)message)->code);
    cond_broadcast(&raw.changed);
    message_free(message);
}

static void setup(void)
{
    char ca[256], cert[256], key[256];
    hosts_start(2);
    host_stop_peers(&hosts[1]);
    (void)snprintf(ca, sizeof ca, "%s/pki/ca.pem", hosts_dir);
    (void)snprintf(cert, sizeof cert, "%s/pki/beta.pem", hosts_dir);
    (void)snprintf(key, sizeof key, "%s/pki/beta.key", hosts_dir);
    struct peers_options options = {
        .name = "beta",
        .listen = "127.0.0.1:0",
        .ca_file = ca,
        .cert_file = cert,
        .key_file = key,
        .streams = 1,
        .membership = &hosts[1].membership,
    };
    mutex_init(&raw.lock, LOCK_leaf);
    cond_init(&raw.changed);
    raw.is_sound = true;
    REQUIRE(peers_new(&options, &raw.peers) == 0);
    peers_handle(raw.peers, FRAME_BLOCK, true, on_block, NULL);
    peers_handle(raw.peers, FRAME_FETCH_END, true, on_end, NULL);
    REQUIRE(peers_start(raw.peers) == 0);
    REQUIRE(peers_get(raw.peers, hosts[0].id, CHANNEL_DATA, 0, hosts_soon(), &raw.conn) == 0);
}

static void teardown(void)
{
    conn_put(raw.conn);
    peers_stop(raw.peers);
    peers_free(raw.peers);
    hosts_stop();
}

TestSuite(serve, .init = setup, .fini = teardown, .timeout = 60);

static uint64_t ask(const char *volume, uint64_t ino, uint64_t version, uint64_t first, uint32_t n)
{
    Whiskfs__Range range = WHISKFS__RANGE__INIT, *ranges[] = {&range};
    Whiskfs__Fetch fetch = WHISKFS__FETCH__INIT;
    char name[64];
    (void)snprintf(name, sizeof name, "%s", volume);
    range.ino = ino;
    range.version = version;
    range.first = first;
    range.n = n;
    fetch.volume = name;
    fetch.ranges = ranges;
    fetch.n_ranges = 1;
    uint64_t id = conn_next_id(raw.conn);
    cr_assert_eq(conn_send(raw.conn, FRAME_DEMAND, FRAME_FETCH, id, &fetch.base,
                           (struct span){NULL, 0}, hosts_soon()),
                 0);
    return id;
}

/* How the next fetch ended. */
static int end_of(unsigned n_before)
{
    SCOPED_LOCK(&raw.lock);
    while (raw.n_ends == n_before)
        cr_assert(cond_wait_until(&raw.changed, &raw.lock, hosts_soon()));
    return raw.end_error;
}

static int ask_and_wait(const char *volume, uint64_t ino, uint64_t version, uint64_t first,
                        uint32_t n)
{
    unsigned n_before = raw.n_ends;
    (void)ask(volume, ino, version, first, n);
    return end_of(n_before);
}

Test(serve, sends_blocks_and_an_end)
{
    uint64_t ino = home_make_file("a", 1, 0, SIZE), version = host_inode(&hosts[0], ino).version;
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 0, 4), 0);
    cr_assert_eq(raw.n_blocks, 4);
    cr_assert(raw.is_sound);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 3, 1), 0);
    cr_assert_eq(raw.n_blocks, 5);
    cr_assert(raw.is_sound);
}

Test(serve, refuses_what_makes_no_sense)
{
    uint64_t ino = home_make_file("a", 1, 0, SIZE), version = host_inode(&hosts[0], ino).version;
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 0, 65), -EMSGSIZE);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 0, UINT32_MAX), -EMSGSIZE);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 4, 1), -EINVAL);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, UINT64_MAX, 2), -EINVAL);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version + 1, 0, 1), -ESTALE);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino + 1, version, 0, 1), -ESTALE);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ROOT_INO, version, 0, 1), -ESTALE);
    cr_assert_eq(ask_and_wait("another", ino, version, 0, 1), -EAGAIN);
    cr_assert_eq(ask_and_wait("", ino, version, 0, 1), -EAGAIN);
    cr_assert_eq(raw.n_blocks, 0);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 0, 4), 0, "and goes on serving");
    cr_assert_eq(raw.n_blocks, 4);
}

/* Requests of one class are answered one after the other, whoever of the workers takes them. */
Test(serve, answers_in_order)
{
    uint64_t ino = home_make_file("a", 1, 0, 64ULL * BLOCK_BYTES);
    uint64_t version = host_inode(&hosts[0], ino).version;
    for (uint32_t i = 0; i < 4; i++)
        (void)ask(VOLUME_NAME, ino, version, i * 16, 16);
    while (raw.n_ends < 4)
        cr_assert_eq(end_of(raw.n_ends), 0);
    cr_assert_eq(raw.n_blocks, 64);
    cr_assert(raw.is_sound);
    cr_assert_eq(raw.n_switches, 4);
}

/* A cancelled fetch ends, with fewer blocks if it was early enough. */
Test(serve, honours_cancel)
{
    uint64_t ino = home_make_file("a", 1, 0, 64ULL * BLOCK_BYTES);
    uint64_t version = host_inode(&hosts[0], ino).version;
    for (unsigned i = 0; i < 20; i++) {
        unsigned n_before = raw.n_ends;
        Whiskfs__Cancel cancel = WHISKFS__CANCEL__INIT;
        cancel.id = ask(VOLUME_NAME, ino, version, 0, 64);
        cr_assert_eq(conn_send(raw.conn, FRAME_CONTROL, FRAME_CANCEL, 0, &cancel.base,
                               (struct span){NULL, 0}, hosts_soon()),
                     0);
        int e = end_of(n_before);
        cr_assert(e == -ECANCELED || e == 0);
    }
    cr_assert_lt(raw.n_blocks, 20 * 64);
    cr_assert(raw.is_sound);
}

/* A request without an id cannot be answered: that closes the connection, and nothing else. */
Test(serve, closes_on_nonsense)
{
    uint64_t ino = home_make_file("a", 1, 0, SIZE), version = host_inode(&hosts[0], ino).version;
    Whiskfs__Fetch fetch = WHISKFS__FETCH__INIT;
    char name[] = VOLUME_NAME;
    fetch.volume = name;
    cr_assert_eq(conn_send(raw.conn, FRAME_DEMAND, FRAME_FETCH, 0, &fetch.base,
                           (struct span){NULL, 0}, hosts_soon()),
                 0);
    int64_t deadline_ns = hosts_soon();
    while (conn_is_open(raw.conn) && clock_mono_ns() < deadline_ns)
        sched_yield();
    cr_assert_not(conn_is_open(raw.conn));
    conn_put(raw.conn);
    REQUIRE(peers_get(raw.peers, hosts[0].id, CHANNEL_DATA, 0, hosts_soon(), &raw.conn) == 0);
    cr_assert_eq(ask_and_wait(VOLUME_NAME, ino, version, 0, 4), 0);
}
