/* fs/fuse/ledger.c — the mapped table of open files. */
#include "fs/fuse/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/mutex.h"

#define GROW_SLOTS 1024u

struct ledger {
    int fd;
    struct ledger_header *header; /* mapped, as slots: address space for all there can be */
    struct ledger_slot *slots;
    _Atomic(void *) *objects; /* by slot; this process's */
    struct volume_survivors survivors;

    struct mutex lock; /* leaf */
    uint32_t n_slots;  /* that the file has room for */
    uint32_t *free;    /* a stack of free slots */
    uint32_t n_free, room;
};

#define SLOTS_BYTES ((size_t)LEDGER_SLOTS_MAX * sizeof(struct ledger_slot))
#define OBJECTS_BYTES ((size_t)LEDGER_SLOTS_MAX * sizeof(void *))

struct ledger_header *ledger_header(struct ledger *ledger)
{
    return ledger->header;
}

bool ledger_is_begun(const struct ledger *ledger)
{
    return ledger->header->layout != 0;
}

void ledger_begin(struct ledger *ledger, int64_t born_ns)
{
    ledger->header->born_ns = born_ns;
    ledger->header->layout = LEDGER_LAYOUT;
}

/* ---- slots ---- */

static int push_free_locked(struct ledger *ledger, uint32_t index)
{
    if (ledger->n_free == ledger->room) {
        uint32_t room = ledger->room ? ledger->room * 2 : GROW_SLOTS;
        uint32_t *more = reallocarray(ledger->free, room, sizeof *more);
        if (!more)
            return -ENOMEM;
        ledger->free = more;
        ledger->room = room;
    }
    ledger->free[ledger->n_free++] = index;
    return 0;
}

static int grow_locked(struct ledger *ledger)
{
    uint32_t n = MIN(ledger->n_slots + GROW_SLOTS, LEDGER_SLOTS_MAX);
    if (n == ledger->n_slots)
        return -ENFILE;
    if (ftruncate(ledger->fd, (off_t)(LEDGER_PAGE + n * sizeof(struct ledger_slot))) < 0)
        return -errno;
    for (uint32_t i = n; i > ledger->n_slots; i--) {
        int r = push_free_locked(ledger, i - 1);
        if (r < 0)
            return r;
    }
    ledger->n_slots = n;
    return 0;
}

int ledger_take(struct ledger *ledger, struct ledger_slot **ret_slot)
{
    SCOPED_LOCK(&ledger->lock);

    int r = ledger->n_free == 0 ? grow_locked(ledger) : 0;
    if (r < 0)
        return r;
    struct ledger_slot *slot = &ledger->slots[ledger->free[--ledger->n_free]];
    slot->seq++;
    atomic_store(&slot->flags, 0);
    *ret_slot = slot;
    return 0;
}

void ledger_commit(struct ledger *ledger, struct ledger_slot *slot, enum ledger_kind kind,
                   void *object)
{
    atomic_store(&ledger->objects[ledger_index(ledger, slot)], object);
    atomic_store(&slot->kind, kind);
}

void ledger_remove(struct ledger *ledger, struct ledger_slot *slot)
{
    uint32_t index = ledger_index(ledger, slot);
    SCOPED_LOCK(&ledger->lock);

    atomic_store(&slot->kind, LEDGER_FREE);
    atomic_store(&ledger->objects[index], NULL);
    /* There was room for it when it was taken; a slot that cannot be noted is not used again. */
    (void)!push_free_locked(ledger, index);
}

uint32_t ledger_index(const struct ledger *ledger, const struct ledger_slot *slot)
{
    return (uint32_t)(slot - ledger->slots);
}

struct ledger_slot *ledger_slot(struct ledger *ledger, uint32_t index)
{
    return index < ledger->n_slots ? &ledger->slots[index] : NULL;
}

uint64_t ledger_number(const struct ledger *ledger, const struct ledger_slot *slot)
{
    return (uint64_t)slot->seq << 32 | ledger_index(ledger, slot);
}

void *ledger_object(struct ledger *ledger, uint64_t number)
{
    uint32_t index = (uint32_t)number;

    if (index >= LEDGER_SLOTS_MAX)
        return NULL;
    void *object = atomic_load(&ledger->objects[index]);
    return object && ledger->slots[index].seq == number >> 32 ? object : NULL;
}

static uint32_t n_slots(struct ledger *ledger)
{
    SCOPED_LOCK(&ledger->lock);
    return ledger->n_slots;
}

void *ledger_opened_by(struct ledger *ledger, uint64_t unique)
{
    uint32_t n = n_slots(ledger);

    for (uint32_t i = 0; i < n; i++) {
        struct ledger_slot *slot = &ledger->slots[i];
        if (atomic_load(&slot->kind) == LEDGER_HANDLE && slot->opened_by == unique)
            return atomic_load(&ledger->objects[i]);
    }
    return NULL;
}

int ledger_each(struct ledger *ledger, enum ledger_kind kind, ledger_each_f *each, void *ctx)
{
    uint32_t n = n_slots(ledger);

    for (uint32_t i = 0; i < n; i++) {
        if (atomic_load(&ledger->slots[i].kind) != kind)
            continue;
        int r = each(ctx, &ledger->slots[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

void ledger_reset(struct ledger *ledger)
{
    struct ledger_header *header = ledger->header;

    header->layout = 0;
    header->is_negotiated = 0;
    header->init_bytes = 0;
    header->backing_mark = 0;
    for (uint32_t i = 0; i < n_slots(ledger); i++) {
        if (ledger->slots[i].kind != LEDGER_FREE)
            ledger_remove(ledger, &ledger->slots[i]);
    }
}

/* ---- survivors ---- */

struct looked_for {
    struct ledger *ledger;
    uint64_t ino;
    uint32_t flags, without; /* of handles that count */
};

static int look_at(void *ctx, struct ledger_slot *slot)
{
    const struct looked_for *l = ctx;
    const struct ledger_slot *node = ledger_slot(l->ledger, slot->node);
    uint32_t flags = atomic_load(&slot->flags);

    if (!node || node->last.ino != l->ino)
        return 0;
    return (flags & l->flags) == l->flags && !(flags & l->without) ? -EEXIST : 0;
}

static bool is_open(struct volume_survivors *survivors, uint64_t ino)
{
    struct ledger *ledger = container_of(survivors, struct ledger, survivors);
    struct looked_for l = {.ledger = ledger, .ino = ino};

    return ledger_each(ledger, LEDGER_HANDLE, look_at, &l) < 0;
}

/* What is being closed is left to the recovery: its RELEASE comes again and finds that done. */
static bool is_written(struct volume_survivors *survivors, uint64_t ino)
{
    struct ledger *ledger = container_of(survivors, struct ledger, survivors);
    struct looked_for l = {
        .ledger = ledger, .ino = ino, .flags = LEDGER_WRITE, .without = LEDGER_CLOSING};

    return ledger_each(ledger, LEDGER_HANDLE, look_at, &l) < 0;
}

struct volume_survivors *ledger_survivors(struct ledger *ledger)
{
    if (!ledger_is_begun(ledger))
        return NULL;
    ledger->survivors.session = ledger->header->session;
    ledger->survivors.unique = atomic_fetch_add(&ledger->header->next_unique, 2);
    return &ledger->survivors;
}

/* ---- life ---- */

void ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return;
    if (ledger->header)
        (void)munmap(ledger->header, LEDGER_PAGE + SLOTS_BYTES);
    if (ledger->objects)
        (void)munmap((void *)(uintptr_t)ledger->objects, OBJECTS_BYTES);
    close_fd(&ledger->fd);
    free(ledger->free);
    mutex_done(&ledger->lock);
    free(ledger);
}

static int map(struct ledger *ledger)
{
    void *all = mmap(NULL, LEDGER_PAGE + SLOTS_BYTES, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_NORESERVE, ledger->fd, 0);
    if (all == MAP_FAILED)
        return -errno;
    ledger->header = all;
    ledger->slots = (void *)((char *)all + LEDGER_PAGE);
    void *objects = mmap(NULL, OBJECTS_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (objects == MAP_FAILED)
        return -errno;
    ledger->objects = objects;
    return 0;
}

/* Notes what is free of what is there. */
static int take_stock(struct ledger *ledger, off_t size)
{
    uint64_t n = ((uint64_t)size - LEDGER_PAGE) / sizeof(struct ledger_slot);
    if (ledger->header->layout != 0 && ledger->header->layout != LEDGER_LAYOUT)
        return -EPROTO;
    if (n > LEDGER_SLOTS_MAX)
        return -EBADMSG;
    SCOPED_LOCK(&ledger->lock);
    ledger->n_slots = (uint32_t)n;
    for (uint32_t i = ledger->n_slots; i > 0; i--) {
        int r = ledger->slots[i - 1].kind == LEDGER_FREE ? push_free_locked(ledger, i - 1) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int open_existing(struct ledger *ledger)
{
    struct stat st;
    if (fstat(ledger->fd, &st) < 0)
        return -errno;
    if (st.st_size < LEDGER_PAGE)
        return -EBADMSG;
    int r = map(ledger);
    if (r < 0)
        return r;
    if (ledger->header->magic != LEDGER_MAGIC)
        return -EBADMSG;
    return take_stock(ledger, st.st_size);
}

static int make_new(struct ledger *ledger)
{
    ledger->fd = memfd_create("whiskfs-ledger", MFD_CLOEXEC);
    if (ledger->fd < 0 || ftruncate(ledger->fd, LEDGER_PAGE) < 0)
        return -errno;
    int r = map(ledger);
    if (r == 0)
        ledger->header->magic = LEDGER_MAGIC;
    return r;
}

int ledger_open(int fd, struct ledger **ret_ledger)
{
    AUTO(ledger_freep) struct ledger *ledger = calloc(1, sizeof *ledger);
    if (!ledger) {
        close_fd(&fd);
        return -ENOMEM;
    }
    ledger->fd = fd;
    mutex_init(&ledger->lock, LOCK_leaf);
    ledger->survivors = (struct volume_survivors){.is_open = is_open, .is_written = is_written};
    int r = fd < 0 ? make_new(ledger) : open_existing(ledger);
    if (r < 0)
        return r;
    uint64_t none = 0;
    (void)atomic_compare_exchange_strong(&ledger->header->next_unique, &none, 1);
    *ret_ledger = TAKE(ledger);
    return 0;
}
