/* Many threads change one volume while its log is read and followed, synced, checkpointed and trimmed: nothing is
 * lost, the order is one, and the follower ends with the same state. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/volume/volume.h"
#include "proto/base/clock.h"
#include "proto/base/mutex.h"

#define N_CHANGERS 4
#define N_CHANGES 300
#define GENESIS_ENTRIES 2
#define ALL (GENESIS_ENTRIES + N_CHANGERS * N_CHANGES)

static struct volume *home, *replica;
static atomic_uint n_told;
static atomic_bool is_done;
static atomic_uint_least64_t appended; /* by the source, in order */

static void appended_one(struct source *source, const struct log_entry *entry)
{
    (void)source;
    CHECK(atomic_exchange(&appended, entry->index) < entry->index);
}

/* Settled once the replica has it, as with a member. */
static int settle(struct source *source, uint64_t index, int64_t deadline_ns)
{
    (void)source;
    return volume_wait_applied(replica, index, deadline_ns) ? 0 : -EIO;
}

static const struct source_ops ops = {.appended = appended_one, .settle = settle};
static struct source source = {.ops = &ops};

static void changed(struct volume_watcher *watcher, const struct change *change,
                    const struct tree_effect *effect)
{
    (void)watcher;
    CHECK(effect->outcome.index == change->index);
    atomic_fetch_add(&n_told, 1);
}

static void *change_many(void *arg)
{
    unsigned id = *(unsigned *)arg;
    uint64_t last = 0;
    for (unsigned i = 0; i < N_CHANGES; i++) {
        char name[32];
        int n = snprintf(name, sizeof name, "%u-%u", id, i);
        struct request request = {
            .kind = REQUEST_MAKE,
            .flags = i % 50 == 0 ? REQUEST_DURABLE : 0,
            .parent = ROOT_INO,
            .name = {(const uint8_t *)name, (size_t)n},
            .mode = S_IFDIR | 0700,
        };
        struct outcome outcome;
        CHECK(volume_change(home, &request, &outcome) == 0);
        CHECK(outcome.index > last);
        last = outcome.index;
        CHECK(!(request.flags & REQUEST_DURABLE) || log_durable(volume_log(home)) >= last);
        struct inode inode;
        CHECK(tree_lookup(volume_tree(replica), ROOT_INO, request.name, &inode) == 0);
    }
    return NULL;
}

static void *follow(void *arg)
{
    (void)arg;
    static uint8_t buffer[LOG_ENTRY_BYTES_MAX];
    uint64_t applied = 0;
    while (applied < ALL) {
        size_t used;
        int error = log_read(volume_log(home), applied + 1, buffer, sizeof buffer, &used);
        if (error == -ENODATA) {
            (void)!volume_wait_applied(home, applied + 1, clock_mono_ns() + 100 * NS_PER_MS);
            continue;
        }
        CHECK(error == 0);
        CHECK(volume_follow(replica, (struct span){buffer, used}, &applied) == 0);
    }
    return NULL;
}

static void *keep(void *arg)
{
    (void)arg;
    while (!atomic_load(&is_done)) {
        AUTO_CLOSE int fd = -1;
        uint64_t index;
        CHECK(volume_checkpoint(home, true) == 0);
        CHECK(volume_checkpoint_open(home, &fd, &index) == 0);
        CHECK(index + 1 >= log_first(volume_log(home)));
    }
    return NULL;
}

static void *watch(void *arg)
{
    (void)arg;
    while (!atomic_load(&is_done)) {
        struct volume_watcher watcher = {.changed = changed, .session = 1};
        volume_watch(replica, &watcher);
        (void)!volume_wait_applied(replica, volume_applied(replica) + 1,
                                   clock_mono_ns() + NS_PER_MS);
        volume_watch(replica, NULL); /* the watcher ends with its scope */
    }
    return NULL;
}

static void open_both(const char *base)
{
    char home_path[128], replica_path[128];
    (void)snprintf(home_path, sizeof home_path, "%s/home", base);
    (void)snprintf(replica_path, sizeof replica_path, "%s/replica", base);
    struct volume_options at_home = {
        .directory = home_path, .self = {1}, .source = &source, .map_bytes = 64 << 20};
    struct volume_options at_replica = {
        .directory = replica_path, .self = {2}, .map_bytes = 64 << 20};
    struct volume_genesis genesis = {.limit_bytes = 1 << 30, .mode = 0777};
    CHECK(volume_create(&at_home, &genesis) == 0);
    CHECK(volume_open(&at_home, &home) == 0);
    CHECK(volume_install(&at_replica, -1) == 0);
    CHECK(volume_open(&at_replica, &replica) == 0);
}

static void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    CHECK(thread_start(thread, "stress", fn, arg) == 0);
}

int main(void)
{
    char base[] = "/tmp/whiskfs-stress-XXXXXX";
    CHECK(mkdtemp(base) != NULL);
    open_both(base);
    pthread_t follower, keeper, watcher, changers[N_CHANGERS];
    unsigned ids[N_CHANGERS];
    start(&follower, follow, NULL);
    start(&keeper, keep, NULL);
    start(&watcher, watch, NULL);
    for (unsigned i = 0; i < N_CHANGERS; i++) {
        ids[i] = i;
        start(&changers[i], change_many, &ids[i]);
    }
    for (unsigned i = 0; i < N_CHANGERS; i++)
        thread_join(changers[i]);
    thread_join(follower);
    atomic_store(&is_done, true);
    thread_join(keeper);
    thread_join(watcher);
    CHECK(volume_applied(home) == ALL && volume_applied(replica) == ALL &&
          atomic_load(&appended) == ALL);
    CHECK(atomic_load(&n_told) > 0);
    volume_free(replica);
    volume_free(home);
    CHECK(directory_remove(AT_FDCWD, base) == 0);
    (void)printf("%d changes, %u told\n", ALL, atomic_load(&n_told));
    return EXIT_SUCCESS;
}
