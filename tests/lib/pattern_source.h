/* tests/lib/pattern_source.h — a source whose blocks are known: every byte follows from inode, version and place. */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fs/source.h"

struct pattern_source {
    struct source source;
    atomic_int error;     /* what fetch returns instead of filling, if not 0 */
    atomic_bool is_lying; /* fetch says 0 and fills nothing */
    atomic_uint n_fetches;
    atomic_uint n_readings; /* reads of what was here */
    uint64_t size;          /* of every file */
};

/* Never zero, so that holes show. */
static inline uint8_t pattern_byte(uint64_t ino, uint64_t version, uint64_t offset)
{
    uint64_t v = (ino * 31 + version * 7919) ^ (offset / 8 * 0x9e3779b97f4a7c15ULL);
    return (uint8_t)((v >> (offset % 8 * 8)) | 1);
}

static inline size_t pattern_block(uint64_t ino, uint64_t version, uint64_t size, uint64_t block,
                                   uint8_t *data)
{
    uint64_t start = block * BLOCK_BYTES;
    size_t n = MIN((uint64_t)BLOCK_BYTES, size - start);
    for (size_t i = 0; i < n; i++)
        data[i] = pattern_byte(ino, version, start + i);
    return n;
}

static inline int pattern_fill(struct content *content, uint64_t size, uint64_t block)
{
    uint8_t *data = malloc(BLOCK_BYTES);
    size_t n = pattern_block(content_ino(content), content_version(content), size, block, data);
    int e = content_fill(content, block, data, n);
    free(data);
    return e;
}

static inline int pattern_fetch(struct source *base, struct content *content, uint64_t first,
                                uint64_t n, enum fetch_class class, int64_t deadline_ns)
{
    struct pattern_source *source = container_of(base, struct pattern_source, source);
    (void)class, (void)deadline_ns;
    atomic_fetch_add(&source->n_fetches, 1);
    if (atomic_load(&source->error) != 0)
        return atomic_load(&source->error);
    for (uint64_t b = first; b < first + n && !atomic_load(&source->is_lying); b++) {
        int e = content_has(content, b, 1) ? 0 : pattern_fill(content, source->size, b);
        if (e < 0)
            return e;
    }
    return 0;
}

static inline void pattern_reading(struct source *base, struct content *content, uint64_t first,
                                   uint64_t n)
{
    struct pattern_source *source = container_of(base, struct pattern_source, source);
    CHECK(n > 0 && content_has(content, first, n));
    atomic_fetch_add(&source->n_readings, 1);
}

static const struct source_ops pattern_ops = {.fetch = pattern_fetch, .reading = pattern_reading};

static inline void pattern_source_init(struct pattern_source *source, uint64_t size)
{
    *source = (struct pattern_source){.source.ops = &pattern_ops, .size = size};
}
