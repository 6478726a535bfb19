#include "client/cli/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "proto/base/cleanup.h"
#include "proto/control.h"

#define SILENCE_S 60

static int fail(char *error, size_t size, int r, const char *socket_path, const char *what)
{
    (void)snprintf(error, size, "%s whiskfsd at '%s': %s%s", what, socket_path, strerror(-r),
                   r == -ENOENT || r == -ECONNREFUSED
                       ? ": is it running? try 'systemctl status whiskfsd'"
                       : "");
    return r;
}

static int open_link(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const struct timeval silence = {.tv_sec = SILENCE_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    if (connect(fd, (void *)&address, sizeof address) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Without a signal when the daemon has closed: it may have said why. */
static int send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int send_line(int fd, const json_t *request)
{
    AUTO_FREE char *text = json_dumps(request, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text)
        return -ENOMEM;
    int r = send_all(fd, text, strlen(text));
    return r < 0 ? r : send_all(fd, "\n", 1);
}

/* errno by its name, as the daemon sends it. */
static int errno_of(const char *code)
{
    for (int e = 1; code && e < 134; e++) {
        const char *name = strerrorname_np(e);
        if (name && strcmp(name, code) == 0)
            return -e;
    }
    return -EIO;
}

/* 1: a progress line, go on. 0, negative: the end. */
static int take_answer(json_t *answer, link_progress_f *progress, void *ctx, json_t **ret_result,
                       char *ret_error, size_t error_size)
{
    const json_t *step = json_object_get(answer, CONTROL_PROGRESS);
    json_t *result = json_object_get(answer, CONTROL_RESULT);
    const char *error = json_string_value(json_object_get(answer, CONTROL_ERROR));
    if (step) {
        if (progress)
            progress(ctx, step);
        return 1;
    }
    if (result) {
        *ret_result = json_incref(result);
        return 0;
    }
    (void)snprintf(ret_error, error_size, "%s",
                   error ? error : "whiskfsd answered with something else than an answer");
    return error ? errno_of(json_string_value(json_object_get(answer, CONTROL_CODE))) : -EBADMSG;
}

static void close_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

static int read_answers(FILE *in, link_progress_f *progress, void *ctx, json_t **ret_result,
                        char *ret_error, size_t error_size)
{
    AUTO_FREE char *line = NULL;
    size_t capacity = 0;
    int r = 1;
    while (r == 1) {
        ssize_t n = getline(&line, &capacity, in);
        if (n <= 0)
            return ferror(in) && errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
        json_t *answer = json_loadb(line, (size_t)n, 0, NULL);
        r = take_answer(answer, progress, ctx, ret_result, ret_error, error_size);
        json_decref(answer);
    }
    return r;
}

int link_call(const char *socket_path, const json_t *request, link_progress_f *progress, void *ctx,
              json_t **ret_result, char *ret_error, size_t error_size)
{
    AUTO_CLOSE int fd = -1;
    int r = open_link(socket_path, &fd);
    if (r < 0)
        return fail(ret_error, error_size, r, socket_path, "cannot reach");
    r = send_line(fd, request);
    if (r < 0)
        return fail(ret_error, error_size, r, socket_path, "cannot ask");
    AUTO(close_file) FILE *in = fdopen(fd, "r");
    if (!in)
        return fail(ret_error, error_size, -errno, socket_path, "cannot read from");
    (void)TAKE_FD(fd);
    ret_error[0] = '\0';
    r = read_answers(in, progress, ctx, ret_result, ret_error, error_size);
    return r < 0 && ret_error[0] == '\0'
               ? fail(ret_error, error_size, r, socket_path, "no answer from")
               : r;
}
