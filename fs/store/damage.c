/* fs/store/damage.c — blocks of this host's own files that are known to be damaged: nobody gets them. */
#include "fs/store/private.h"

static bool is_listed(struct store *store, uint64_t ino, uint64_t first, uint64_t end)
    REQUIRES(store->lock)
{
    for (size_t i = 0; i < atomic_load(&store->n_damage); i++)
        if (store->damage[i].ino == ino && store->damage[i].block >= first &&
            store->damage[i].block < end)
            return true;
    return false;
}

bool store_note_damage(struct store *store, const struct seal *seal, uint64_t block)
{
    SCOPED_LOCK(&store->lock);
    uint64_t ino = seal->ino;
    size_t n = atomic_load(&store->n_damage);
    if (!seal_stands(seal) || is_listed(store, ino, block, block + 1))
        return false;
    if (n == DAMAGE_MAX)
        return true; /* a disk like that has more to tell than this */
    store->damage[n] = (struct damage){.ino = ino, .block = block};
    atomic_store(&store->n_damage, n + 1);
    return true;
}

bool store_is_damaged(struct store *store, uint64_t ino, uint64_t offset, uint64_t size)
{
    uint64_t end;
    if (atomic_load_explicit(&store->n_damage, memory_order_relaxed) == 0 || size == 0)
        return false;
    if (__builtin_add_overflow(offset, size, &end))
        end = UINT64_MAX;
    SCOPED_LOCK(&store->lock);
    return is_listed(store, ino, offset / BLOCK_BYTES, block_count(end));
}

void store_forget_damage(struct store *store, uint64_t ino)
{
    size_t n = 0, n_before = atomic_load(&store->n_damage);
    for (size_t i = 0; i < n_before; i++)
        if (store->damage[i].ino != ino)
            store->damage[n++] = store->damage[i];
    atomic_store(&store->n_damage, n);
}

size_t store_damage(struct store *store, struct damage *ret_damage, size_t max)
{
    SCOPED_LOCK(&store->lock);
    size_t n = atomic_load(&store->n_damage);
    for (size_t i = 0; i < MIN(n, max); i++)
        ret_damage[i] = store->damage[i];
    return n;
}
