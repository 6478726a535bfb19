#include "daemon/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"
#include "proto/control.h"

#define REQUEST_LINE_MAX (64u << 10)
#define REQUEST_WAIT_NS (5 * NS_PER_S)
#define SEND_TIMEOUT_S 5
#define PLACE_NS NS_PER_S
#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)

struct control_call {
    int fd;
    char error[1024];
};

/* One connection's place. */
struct slot {
    struct control *control;
    pthread_t thread;
    int fd;
    enum {
        SLOT_FREE,
        SLOT_RUNNING,
        SLOT_FINISHED
    } state;
};

struct control {
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    const struct control_command *commands;
    void *ctx;
    int listener;
    pthread_t acceptor;
    struct log_limit full_lines;
    struct mutex lock;
    struct cond changed; /* a place is free, stopping */
    bool is_stopping;
    struct slot slots[CONTROL_CONNECTIONS_MAX];
};

/* ---- lines ---- */

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

/* Takes value over. */
static int send_object(int fd, json_t *object)
{
    AUTO_FREE char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(object);
    if (!text)
        return -ENOMEM;
    int r = send_all(fd, text, strlen(text));
    return r < 0 ? r : send_all(fd, "\n", 1);
}

static int receive_line(int fd, char *line, size_t size)
{
    int64_t deadline = clock_mono_ns() + REQUEST_WAIT_NS;
    size_t used = 0;
    while (used < size) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, clock_left_ms(deadline)) <= 0)
            return -ETIMEDOUT;
        ssize_t n = recv(fd, line + used, size - used, 0);
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        char *end = memchr(line + used, '\n', (size_t)n);
        used += (size_t)n;
        if (end)
            return (int)(end - line);
    }
    return -EMSGSIZE;
}

bool control_progress(struct control_call *call, json_t *progress)
{
    return send_object(call->fd, json_pack("{s:o}", CONTROL_PROGRESS, progress)) == 0;
}

int control_fail(struct control_call *call, int error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(call->error, sizeof call->error, fmt, args);
    va_end(args);
    return error;
}

/* ---- one connection ---- */

static int run_command(struct control *control, const json_t *request, struct control_call *call,
                       json_t **ret_result)
{
    const char *name = json_string_value(json_object_get(request, "command"));
    if (!name)
        return control_fail(call, -EINVAL, "the request names no command");
    for (const struct control_command *command = control->commands; command->name; command++)
        if (strcmp(command->name, name) == 0)
            return command->run(control->ctx, request, call, ret_result);
    return control_fail(call, -ENOSYS,
                        "this whiskfsd does not know the command '%s': is it older than whiskfs?",
                        name);
}

static json_t *answer_of(int error, const struct control_call *call, json_t *result)
{
    if (error == 0)
        return json_pack("{s:o}", CONTROL_RESULT, result ? result : json_object());
    json_decref(result);
    const char *code = strerrorname_np(-error);
    return json_pack("{s:s, s:s}", CONTROL_ERROR, call->error[0] ? call->error : strerror(-error),
                     CONTROL_CODE, code ? code : "EIO");
}

static void serve(struct control *control, int fd)
{
    AUTO_FREE char *line = malloc(REQUEST_LINE_MAX);
    struct control_call call = {.fd = fd};
    json_t *result = NULL;
    int n = line ? receive_line(fd, line, REQUEST_LINE_MAX) : -ENOMEM;
    if (n == -ENODATA)
        return;
    json_t *request = n < 0 ? NULL : json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
    int r = json_is_object(request)
                ? run_command(control, request, &call, &result)
                : control_fail(&call, -EINVAL, "the request is not one line of JSON");
    json_decref(request);
    r = send_object(fd, answer_of(r, &call, result));
    if (r < 0)
        log_debug("control", "a client left before its answer: %s", strerror(-r));
}

static void *serve_main(void *arg)
{
    struct slot *slot = arg;
    serve(slot->control, slot->fd);
    SCOPED_LOCK(&slot->control->lock);
    close_fd(&slot->fd);
    slot->fd = -1;
    slot->state = SLOT_FINISHED;
    cond_broadcast(&slot->control->changed);
    return NULL;
}

/* ---- accepting ---- */

static struct slot *find_slot(struct control *control) REQUIRES(control->lock)
{
    for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
        struct slot *slot = &control->slots[i];
        if (slot->state == SLOT_FINISHED)
            thread_join(
                slot->thread); /* it holds no lock any more but this one, which it gave back */
        if (slot->state == SLOT_RUNNING)
            continue;
        slot->state = SLOT_FREE;
        return slot;
    }
    return NULL;
}

/* Waits a moment for one: a client may be back before the thread that answered it has left its place. */
static struct slot *take_slot(struct control *control)
{
    int64_t until = clock_mono_ns() + PLACE_NS;
    SCOPED_LOCK(&control->lock);
    struct slot *slot;
    while (!(slot = find_slot(control)) && !control->is_stopping)
        if (!cond_wait_until(&control->changed, &control->lock, until))
            return find_slot(control);
    return slot;
}

static void start_serving(struct control *control, int fd)
{
    const struct timeval timeout = {.tv_sec = SEND_TIMEOUT_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    struct slot *slot = take_slot(control);
    if (!slot) {
        log_warning("control", "refused a client: %d are connected", CONTROL_CONNECTIONS_MAX);
        (void)!send_object(fd, json_pack("{s:s, s:s}", CONTROL_ERROR,
                                         "too many clients are connected", CONTROL_CODE, "EBUSY"));
        (void)close(fd);
        return;
    }
    SCOPED_LOCK(&control->lock);
    slot->fd = fd;
    slot->control = control;
    if (thread_start(&slot->thread, "whiskfs-control", serve_main, slot) < 0)
        close_fd(&slot->fd);
    else
        slot->state = SLOT_RUNNING;
}

static bool is_stopping(struct control *control)
{
    SCOPED_LOCK(&control->lock);
    return control->is_stopping;
}

static void wait_for_room(struct control *control)
{
    uint64_t suppressed;
    if (log_allow(&control->full_lines, &suppressed))
        log_warning("control", "cannot accept a client: %s: trying again", strerror(errno));
    SCOPED_LOCK(&control->lock);
    int64_t until = clock_mono_ns() + ACCEPT_AGAIN_NS;
    while (!control->is_stopping && cond_wait_until(&control->changed, &control->lock, until))
        continue;
}

/* Out of descriptors or memory: others will give some back. */
static void *accept_main(void *arg)
{
    struct control *control = arg;
    while (!is_stopping(control)) {
        int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            start_serving(control, fd);
        else if (errno != EINTR && errno != ECONNABORTED && !is_stopping(control))
            wait_for_room(control);
    }
    return NULL;
}

/* ---- life ---- */

static int make_parent(const char *path)
{
    char parent[sizeof((struct control *)NULL)->path];
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (!slash || slash == parent)
        return 0;
    *slash = '\0';
    return mkdir(parent, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* A socket that nobody answers is a dead daemon's. */
static int remove_stale(const struct sockaddr_un *address)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const void *)address, sizeof *address) == 0)
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int listen_at(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int r = make_parent(path);
    if (r == 0)
        r = remove_stale(&address);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    mode_t mask = umask(0117);
    r = bind(fd, (void *)&address, sizeof address) < 0 ? -errno : 0;
    (void)umask(mask);
    if (r == 0 && listen(fd, CONTROL_CONNECTIONS_MAX) < 0)
        r = -errno;
    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}

int control_start(const char *path, const struct control_command *commands, void *ctx,
                  struct control **ret_control)
{
    AUTO_FREE struct control *control = calloc(1, sizeof *control);
    if (!control)
        return -ENOMEM;
    int r = listen_at(path, &control->listener);
    if (r < 0)
        return r;
    (void)snprintf(control->path, sizeof control->path, "%s", path);
    control->commands = commands;
    control->ctx = ctx;
    mutex_init(&control->lock, LOCK_control);
    cond_init(&control->changed);
    r = thread_start(&control->acceptor, "whiskfs-accept", accept_main, control);
    if (r < 0) {
        (void)close(control->listener);
        return r;
    }
    *ret_control = TAKE(control);
    return 0;
}

static void shut_down(struct control *control)
{
    SCOPED_LOCK(&control->lock);
    control->is_stopping = true;
    cond_broadcast(&control->changed);
    (void)shutdown(control->listener, SHUT_RDWR);
    for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        if (control->slots[i].state == SLOT_RUNNING && control->slots[i].fd >= 0)
            (void)shutdown(control->slots[i].fd, SHUT_RDWR);
}

void control_stop(struct control *control)
{
    if (!control)
        return;
    shut_down(control);
    thread_join(control->acceptor);
    for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        if (control->slots[i].state != SLOT_FREE)
            thread_join(control->slots[i].thread);
    (void)close(control->listener);
    (void)unlink(control->path);
    cond_done(&control->changed);
    mutex_done(&control->lock);
    free(control);
}
