/* fs/log/entry.h — encoding of one log entry. Private to the log; log_entry_get is in log.h. */
#pragma once

#include "fs/log/log.h"

/* Encodes into buffer (LOG_ENTRY_BYTES_MAX). -EINVAL: the payload is too large. */
MUST_USE int log_entry_put(uint8_t *buffer, uint64_t index, uint64_t epoch, struct span payload,
                           struct log_entry *ret_entry);

/* The header alone, plausible but not checked against its checksum. -EBADMSG. */
MUST_USE int log_header_get(struct span bytes, uint32_t *ret_size, uint64_t *ret_index);
