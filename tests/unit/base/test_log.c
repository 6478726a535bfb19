#include <criterion/criterion.h>
#include <fcntl.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* What the log writes to stderr goes into a pipe that holds more than any line. */
static int log_pipe;

static void catch_stderr(void)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    cr_assert_geq(dup2(ends[1], STDERR_FILENO), 0);
    close(ends[1]);
    log_pipe = ends[0];
}

static const char *logged(void)
{
    static char text[8192];
    ssize_t n = read(log_pipe, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

TestSuite(log, .init = catch_stderr);

/* A line says its syslog priority, level, subsystem and text. */
Test(log, format)
{
    log_warning("peer", "cannot reach '%s': %s host=%d", "h2", "timed out", 7);
    cr_assert_str_eq(logged(), "<4>warning peer: cannot reach 'h2': timed out host=7\n");
    log_error("fs", "lost");
    cr_assert_str_eq(logged(), "<3>error fs: lost\n");
    log_info("fs", "ready");
    cr_assert_str_eq(logged(), "<6>info fs: ready\n");
}

static int n_evaluated;

static int evaluate(void)
{
    return ++n_evaluated;
}

/* What is below the level is neither written nor, for debug, evaluated. */
Test(log, level)
{
    log_debug("fs", "value %d", evaluate());
    cr_assert_str_eq(logged(), "");
    cr_assert_eq(n_evaluated, 0);
    log_set_level(LOG_DEBUG);
    log_debug("fs", "value %d", evaluate());
    cr_assert_str_eq(logged(), "<7>debug fs: value 1\n");
    log_set_level(LOG_ERROR);
    log_warning("fs", "not this");
    cr_assert_str_eq(logged(), "");
    cr_assert(log_enabled(LOG_ERROR) && !log_enabled(LOG_WARNING));
}

/* One call is one line: who sends us a name with a newline in it cannot forge another. */
Test(log, newlines_become_spaces)
{
    log_info("fs", "name '%s'", "a\nb\r<3>error c");
    cr_assert_str_eq(logged(), "<6>info fs: name 'a b <3>error c'\n");
}

/* What is too long is cut, and still ends with a newline. */
Test(log, long_line_is_cut)
{
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_info("fs", "%s", text);
    const char *line = logged();
    size_t size = strlen(line);
    cr_assert(size > 1000 && size <= 2048, "%zu bytes", size);
    cr_assert_eq(line[size - 1], '\n');
    cr_assert_eq(strchr(line, '\n'), line + size - 1);
}

/* Logging leaves errno alone, or no error could be reported after it was logged. */
Test(log, errno_is_preserved)
{
    close(STDERR_FILENO);
    errno = ENOENT;
    log_info("fs", "to nobody");
    cr_assert_eq(errno, ENOENT);
}

/* Level words are those of the configuration; anything else is refused and leaves the result alone. */
Test(log, parse_level)
{
    static const struct {
        const char *word;
        enum log_level level;
    } cases[] = {
        {"error", LOG_ERROR}, {"warning", LOG_WARNING}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}};
    for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
        enum log_level level = LOG_ERROR;
        cr_assert_eq(log_parse_level(cases[i].word, &level), 0);
        cr_assert_eq(level, cases[i].level);
    }
    static const char *const wrong[] = {"", "INFO", "infos", "warn", " info"};
    for (size_t i = 0; i < N_ELEMENTS(wrong); i++) {
        enum log_level level = LOG_DEBUG;
        cr_assert_eq(log_parse_level(wrong[i], &level), -EINVAL, "'%s'", wrong[i]);
        cr_assert_eq(level, LOG_DEBUG);
    }
}

/* One line a minute: the first is allowed, the next are counted, and the count comes with the one after. */
Test(log, limit)
{
    struct log_limit limit = {0};
    uint64_t suppressed = 99;
    cr_assert(log_allow(&limit, &suppressed));
    cr_assert_eq(suppressed, 0);
    suppressed = 99;
    for (int i = 0; i < 10; i++)
        cr_assert_not(log_allow(&limit, &suppressed));
    cr_assert_eq(suppressed, 99);
    atomic_fetch_sub(&limit.last_ns, 61 * NS_PER_S); /* as if a minute had passed */
    cr_assert(log_allow(&limit, &suppressed));
    cr_assert_eq(suppressed, 10);
    cr_assert_not(log_allow(&limit, &suppressed));
}
