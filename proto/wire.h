/* proto/wire.h — bounded cursors over bytes: the only way that whiskfs reads or writes a binary format.
 *
 * All integers are little-endian. A cursor carries a sticky `bad` flag: read or write all fields in order, check
 * once. A bad reader yields zeros and empty spans, a bad writer writes nothing more; neither ever leaves its buffer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/check.h"

struct span {
    const uint8_t *data;
    size_t size;
};

/* Of a literal, without its NUL. */
#define SPAN(literal) ((struct span){(const uint8_t *)(literal), sizeof(literal) - 1})

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

struct writer {
    uint8_t *start, *at, *end;
    bool bad;
};

struct reader reader_over(const void *data, size_t size);
uint8_t get_u8(struct reader *r);
uint16_t get_u16(struct reader *r);
uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
int64_t get_i64(struct reader *r);
/* size bytes inside the reader's buffer; lives as long as that. */
struct span get_bytes(struct reader *r, size_t size);
/* u16 length, then the bytes. */
struct span get_string(struct reader *r);
/* u32 length, then the bytes. */
struct span get_blob(struct reader *r);
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}
/* True if nothing went wrong and nothing is left. */
bool reader_finished(const struct reader *r);

struct writer writer_over(void *data, size_t size);
void put_u8(struct writer *w, uint8_t v);
void put_u16(struct writer *w, uint16_t v);
void put_u32(struct writer *w, uint32_t v);
void put_u64(struct writer *w, uint64_t v);
void put_i64(struct writer *w, int64_t v);
void put_bytes(struct writer *w, const void *data, size_t size);
void put_string(struct writer *w, const void *data, size_t size); /* bad if over 65535 bytes */
void put_blob(struct writer *w, const void *data, size_t size);
static inline size_t writer_used(const struct writer *w)
{
    return (size_t)(w->at - w->start);
}
