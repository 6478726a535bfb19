/* One entry: header, checksum, payload. The layout is in log.h. */
#include "fs/log/entry.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL /* a state on the stack, of the very version that works on it */
#include <xxhash.h>

#define CHECKSUM_AT 24

/* XXH3-64 over the entry with the checksum field zero. */
static uint64_t checksum_of(struct span bytes)
{
    static const uint8_t zero[8];
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, bytes.data, CHECKSUM_AT);
    XXH3_64bits_update(&state, zero, sizeof zero);
    XXH3_64bits_update(&state, bytes.data + LOG_HEADER_BYTES, bytes.size - LOG_HEADER_BYTES);
    return XXH3_64bits_digest(&state);
}

int log_entry_put(uint8_t *buffer, uint64_t index, uint64_t epoch, struct span payload,
                  struct log_entry *ret_entry)
{
    if (payload.size > LOG_ENTRY_BYTES_MAX - LOG_HEADER_BYTES)
        return -EINVAL;
    size_t size = LOG_HEADER_BYTES + payload.size;
    struct writer w = writer_over(buffer, size);
    put_u32(&w, (uint32_t)size);
    put_u32(&w, 0);
    put_u64(&w, index);
    put_u64(&w, epoch);
    put_u64(&w, 0);
    put_bytes(&w, payload.data, payload.size);
    struct span bytes = {.data = buffer, .size = size};
    uint64_t checksum = checksum_of(bytes);
    struct writer sum = writer_over(buffer + CHECKSUM_AT, 8);
    put_u64(&sum, checksum);
    *ret_entry = (struct log_entry){
        .index = index,
        .epoch = epoch,
        .checksum = checksum,
        .payload = {.data = buffer + LOG_HEADER_BYTES, .size = payload.size},
        .bytes = bytes,
    };
    return 0;
}

int log_header_get(struct span bytes, uint32_t *ret_size, uint64_t *ret_index)
{
    struct reader r = reader_over(bytes.data, bytes.size);
    uint32_t size = get_u32(&r);
    uint32_t reserved = get_u32(&r);
    uint64_t index = get_u64(&r);
    if (r.bad || size < LOG_HEADER_BYTES || size > LOG_ENTRY_BYTES_MAX || reserved != 0 ||
        index == 0)
        return -EBADMSG;
    *ret_size = size;
    *ret_index = index;
    return 0;
}

int log_entry_get(struct reader *r, struct log_entry *ret_entry)
{
    if (r->bad)
        return -EBADMSG;
    if (reader_left(r) == 0)
        return -ENODATA;
    uint32_t size;
    uint64_t index;
    int error = log_header_get((struct span){r->at, reader_left(r)}, &size, &index);
    if (error < 0)
        return error;
    struct reader at = *r;
    struct span bytes = get_bytes(&at, size);
    if (at.bad)
        return -EBADMSG;
    struct reader fields = reader_over(bytes.data + 16, 16);
    uint64_t epoch = get_u64(&fields), checksum = get_u64(&fields);
    if (checksum != checksum_of(bytes))
        return -EBADMSG;
    *ret_entry = (struct log_entry){
        .index = index,
        .epoch = epoch,
        .checksum = checksum,
        .payload = {.data = bytes.data + LOG_HEADER_BYTES, .size = size - LOG_HEADER_BYTES},
        .bytes = bytes,
    };
    *r = at;
    return 0;
}
