/* proto/base/log.h — lines to stderr: `<N>level subsystem: what happened: reason key=value…`.
 *
 * N is the syslog priority that the journal understands. Only boundaries log (a FUSE reply, an RPC reply, a
 * thread's loop, the command line), once, with what the user was trying to do. Nothing from a Kafka message's
 * `user`, `authkey` or headers may ever reach these functions.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"

enum log_level {
    LOG_ERROR,
    LOG_WARNING,
    LOG_INFO,
    LOG_DEBUG
};

void log_set_level(enum log_level level);

/* -EINVAL for a word that is none of error, warning, info, debug. */
MUST_USE int log_parse_level(const char *word, enum log_level *ret_level);

bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *subsystem, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(subsystem, ...) log_line(LOG_ERROR, subsystem, __VA_ARGS__)
#define log_warning(subsystem, ...) log_line(LOG_WARNING, subsystem, __VA_ARGS__)
#define log_info(subsystem, ...) log_line(LOG_INFO, subsystem, __VA_ARGS__)
#define log_debug(subsystem, ...)                                                                  \
    (log_enabled(LOG_DEBUG) ? log_line(LOG_DEBUG, subsystem, __VA_ARGS__) : (void)0)

/* At most one line a minute and source: true if the caller should log now. *ret_suppressed is how many were
 * left out since the last one. Zero-initialise the limiter; safe from any thread. */
struct log_limit {
    atomic_int_least64_t last_ns;
    atomic_uint_least64_t suppressed;
};
MUST_USE bool log_allow(struct log_limit *limit, uint64_t *ret_suppressed);
