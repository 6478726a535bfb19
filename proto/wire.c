#include "proto/wire.h"

#include <string.h>

struct reader reader_over(const void *data, size_t size)
{
    const uint8_t *at = data;
    return (struct reader){.at = at, .end = at + size};
}

struct span get_bytes(struct reader *r, size_t size)
{
    if (r->bad || reader_left(r) < size) {
        r->bad = true;
        return (struct span){.data = r->end, .size = 0};
    }
    struct span s = {.data = r->at, .size = size};
    r->at += size;
    return s;
}

static uint64_t get_le(struct reader *r, size_t size)
{
    struct span s = get_bytes(r, size);
    uint64_t v = 0;
    for (size_t i = s.size; i-- > 0;)
        v = v << 8 | s.data[i];
    return v;
}

uint8_t get_u8(struct reader *r)
{
    return (uint8_t)get_le(r, 1);
}

uint16_t get_u16(struct reader *r)
{
    return (uint16_t)get_le(r, 2);
}

uint32_t get_u32(struct reader *r)
{
    return (uint32_t)get_le(r, 4);
}

uint64_t get_u64(struct reader *r)
{
    return get_le(r, 8);
}

int64_t get_i64(struct reader *r)
{
    return (int64_t)get_le(r, 8);
}

struct span get_string(struct reader *r)
{
    return get_bytes(r, get_u16(r));
}

struct span get_blob(struct reader *r)
{
    return get_bytes(r, get_u32(r));
}

bool reader_finished(const struct reader *r)
{
    return !r->bad && r->at == r->end;
}

struct writer writer_over(void *data, size_t size)
{
    uint8_t *start = data;
    return (struct writer){.start = start, .at = start, .end = start + size};
}

void put_bytes(struct writer *w, const void *data, size_t size)
{
    if (w->bad || (size_t)(w->end - w->at) < size) {
        w->bad = true;
        return;
    }
    if (size > 0)
        memcpy(w->at, data, size);
    w->at += size;
}

static void put_le(struct writer *w, uint64_t v, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++, v >>= 8)
        bytes[i] = (uint8_t)v;
    put_bytes(w, bytes, size);
}

void put_u8(struct writer *w, uint8_t v)
{
    put_le(w, v, 1);
}

void put_u16(struct writer *w, uint16_t v)
{
    put_le(w, v, 2);
}

void put_u32(struct writer *w, uint32_t v)
{
    put_le(w, v, 4);
}

void put_u64(struct writer *w, uint64_t v)
{
    put_le(w, v, 8);
}

void put_i64(struct writer *w, int64_t v)
{
    put_le(w, (uint64_t)v, 8);
}

void put_string(struct writer *w, const void *data, size_t size)
{
    if (size > UINT16_MAX)
        w->bad = true;
    put_u16(w, (uint16_t)size);
    put_bytes(w, data, size);
}

void put_blob(struct writer *w, const void *data, size_t size)
{
    if (size > UINT32_MAX)
        w->bad = true;
    put_u32(w, (uint32_t)size);
    put_bytes(w, data, size);
}
