/* The table of open files: what is in it is there for the next process, whatever became of the one before. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/fuse/ledger.h"
#include "proto/base/clock.h"

static int memory;
static struct ledger *ledger;

static struct ledger *open_again(void)
{
    struct ledger *again;
    cr_assert_eq(ledger_open(fcntl(memory, F_DUPFD_CLOEXEC, 3), &again), 0);
    return again;
}

/* As who keeps a mount makes it. */
static void set_up(void)
{
    memory = memfd_create("ledger", MFD_CLOEXEC);
    const uint64_t magic = LEDGER_MAGIC;
    cr_assert(memory >= 0 && ftruncate(memory, LEDGER_PAGE) == 0);
    cr_assert_eq(pwrite(memory, &magic, sizeof magic, 0), (ssize_t)sizeof magic);
    ledger = open_again();
}

static void tear_down(void)
{
    ledger_free(ledger);
    close(memory);
}

TestSuite(ledger, .init = set_up, .fini = tear_down, .timeout = 60);

static struct ledger_slot *add_node(struct ledger *l, uint64_t ino, void *object)
{
    struct ledger_slot *slot;
    cr_assert_eq(ledger_take(l, &slot), 0);
    slot->id = ino;
    slot->last = (struct inode){.ino = ino};
    ledger_commit(l, slot, LEDGER_NODE, object);
    return slot;
}

static struct ledger_slot *add_handle(struct ledger *l, const struct ledger_slot *node,
                                      uint64_t unique, uint32_t flags, void *object)
{
    struct ledger_slot *slot;
    cr_assert_eq(ledger_take(l, &slot), 0);
    slot->node = ledger_index(l, node);
    slot->opened_by = unique;
    atomic_store(&slot->flags, flags);
    ledger_commit(l, slot, LEDGER_HANDLE, object);
    return slot;
}

static int count_one(void *ctx, struct ledger_slot *slot)
{
    (void)slot;
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned count(struct ledger *l, enum ledger_kind kind)
{
    unsigned n = 0;
    cr_assert_eq(ledger_each(l, kind, count_one, &n), 0);
    return n;
}

/* A number means one open file and never another, though its slot is used again. */
Test(ledger, numbers_are_used_once)
{
    int first, second;
    struct ledger_slot *node = add_node(ledger, 7, NULL);
    struct ledger_slot *slot = add_handle(ledger, node, 2, 0, &first);
    uint64_t number = ledger_number(ledger, slot);
    cr_assert_eq(ledger_object(ledger, number), &first);
    cr_assert_eq(ledger_opened_by(ledger, 2), &first);
    ledger_remove(ledger, slot);
    cr_assert_null(ledger_object(ledger, number));
    cr_assert_null(ledger_opened_by(ledger, 2));
    struct ledger_slot *again = add_handle(ledger, node, 4, 0, &second);
    cr_assert_eq(again, slot, "the test wants the slot used again");
    cr_assert_null(ledger_object(ledger, number));
    cr_assert_eq(ledger_object(ledger, ledger_number(ledger, again)), &second);
    cr_assert_null(ledger_object(ledger, UINT64_MAX));
}

/* The next process finds entries, counts on, and knows which inodes go on. */
Test(ledger, outlives_its_process)
{
    cr_assert_null(ledger_survivors(ledger), "nothing has begun");
    ledger_header(ledger)->session = 99;
    ledger_begin(ledger, 1234);
    struct ledger_slot *read = add_node(ledger, 7, NULL), *written = add_node(ledger, 8, NULL);
    struct ledger_slot *closing = add_node(ledger, 9, NULL);
    uint64_t number = ledger_number(ledger, add_handle(ledger, read, 2, 0, NULL));
    (void)add_handle(ledger, written, 4, LEDGER_WRITE, NULL);
    (void)add_handle(ledger, closing, 6, LEDGER_WRITE | LEDGER_CLOSING, NULL);
    ledger_free(ledger);

    ledger = open_again();
    cr_assert(ledger_is_begun(ledger));
    cr_assert_eq(ledger_header(ledger)->born_ns, 1234);
    cr_assert_eq(count(ledger, LEDGER_NODE), 3);
    cr_assert_eq(count(ledger, LEDGER_HANDLE), 3);
    cr_assert_null(ledger_object(ledger, number), "its object was the other process's");
    struct volume_survivors *survivors = ledger_survivors(ledger);
    cr_assert_eq(survivors->session, 99);
    uint64_t unique = survivors->unique;
    cr_assert(survivors->is_open(survivors, 7) && !survivors->is_written(survivors, 7));
    cr_assert(survivors->is_open(survivors, 8) && survivors->is_written(survivors, 8));
    cr_assert(survivors->is_open(survivors, 9) && !survivors->is_written(survivors, 9));
    cr_assert(!survivors->is_open(survivors, 10));
    ledger_free(ledger);

    ledger = open_again();
    cr_assert_gt(ledger_survivors(ledger)->unique, unique, "an identity is drawn once");
    ledger_reset(ledger);
    cr_assert(!ledger_is_begun(ledger) && count(ledger, LEDGER_HANDLE) == 0);
}

/* What is no ledger, or one of another layout, is refused. */
Test(ledger, refuses_what_it_does_not_know)
{
    struct ledger *other;
    int fd = memfd_create("other", MFD_CLOEXEC);
    cr_assert_eq(ledger_open(fcntl(fd, F_DUPFD_CLOEXEC, 3), &other), -EBADMSG);
    cr_assert_eq(ftruncate(fd, LEDGER_PAGE), 0);
    cr_assert_eq(ledger_open(fd, &other), -EBADMSG);
    ledger_header(ledger)->layout = LEDGER_LAYOUT + 1;
    cr_assert_eq(ledger_open(fcntl(memory, F_DUPFD_CLOEXEC, 3), &other), -EPROTO);
    ledger_header(ledger)->layout = 0;
}

/* Opens and closes without end: node, handle, handle away, node away. */
static void open_and_close(struct ledger *l)
{
    for (uint64_t i = 2;; i += 2) {
        struct ledger_slot *node = add_node(l, i, NULL);
        struct ledger_slot *handle = add_handle(l, node, i, LEDGER_WRITE, NULL);
        ledger_remove(l, handle);
        ledger_remove(l, node);
    }
}

static int check_handle(void *ctx, struct ledger_slot *slot)
{
    const struct ledger_slot *node = ledger_slot(ctx, slot->node);
    cr_assert(node && node->kind == LEDGER_NODE, "a handle has its node");
    cr_assert_eq(node->id, slot->opened_by, "and is whole");
    cr_assert_eq(atomic_load(&slot->flags), LEDGER_WRITE);
    return 0;
}

/* Killed at any instruction, no entry is half there. */
Test(ledger, is_whole_after_a_kill)
{
    for (unsigned i = 0; i < 200; i++) {
        struct ledger *l = open_again();
        pid_t pid = fork();
        if (pid == 0) {
            open_and_close(l);
            _exit(0);
        }
        int64_t until = clock_mono_ns() + 300000 + i * 7919;
        while (clock_mono_ns() < until)
            continue;
        cr_assert_eq(kill(pid, SIGKILL), 0);
        cr_assert_eq(waitpid(pid, NULL, 0), pid);
        ledger_free(l);
        l = open_again();
        cr_assert_eq(ledger_each(l, LEDGER_HANDLE, check_handle, l), 0);
        cr_assert_leq(count(l, LEDGER_HANDLE), 1);
        ledger_reset(l);
        ledger_free(l);
    }
}
