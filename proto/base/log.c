#include "proto/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"

#define LOG_LINE_MAX 2048
#define LOG_INTERVAL_NS (60 * NS_PER_S)

static const struct {
    const char *word;
    int priority; /* syslog(3) */
} levels[] = {
    [LOG_ERROR] = {"error", 3},
    [LOG_WARNING] = {"warning", 4},
    [LOG_INFO] = {"info", 6},
    [LOG_DEBUG] = {"debug", 7},
};

static atomic_int current_level = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&current_level, (int)level);
}

int log_parse_level(const char *word, enum log_level *ret_level)
{
    for (unsigned i = 0; i < N_ELEMENTS(levels); i++) {
        if (strcmp(word, levels[i].word) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_line(enum log_level level, const char *subsystem, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    char line[LOG_LINE_MAX];
    int head = snprintf(line, sizeof line, "<%d>%s %s: ", levels[level].priority,
                        levels[level].word, subsystem);
    size_t used = (size_t)head;
    va_list args;
    va_start(args, fmt);
    int body = vsnprintf(line + used, sizeof line - used - 1, fmt, args);
    va_end(args);
    if (body > 0)
        used = MIN(used + (size_t)body, sizeof line - 2);
    for (size_t i = 0; i < used; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[used++] = '\n';
    (void)!write(STDERR_FILENO, line, used);
    errno = saved;
}

bool log_allow(struct log_limit *limit, uint64_t *ret_suppressed)
{
    int64_t now = clock_mono_ns();
    int64_t last = atomic_load(&limit->last_ns);
    if ((last != 0 && now - last < LOG_INTERVAL_NS) ||
        !atomic_compare_exchange_strong(&limit->last_ns, &last, now)) {
        atomic_fetch_add(&limit->suppressed, 1);
        return false;
    }
    *ret_suppressed = atomic_exchange(&limit->suppressed, 0);
    return true;
}
