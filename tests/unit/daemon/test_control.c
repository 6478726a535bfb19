#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/cli/link.h"
#include "daemon/control.h"

static char directory[] = "/tmp/whiskfs-control-XXXXXX";
static char path[64];
static struct control *control;

static int run_echo(void *ctx, const json_t *arguments, struct control_call *call,
                    json_t **ret_result)
{
    (void)ctx;
    for (int i = 0; i < 3; i++)
        if (!control_progress(call, json_pack("{s:i}", "step", i)))
            return -EPIPE;
    *ret_result = json_pack("{s:O}", "echo", json_object_get(arguments, "text"));
    return 0;
}

static int run_refuse(void *ctx, const json_t *arguments, struct control_call *call,
                      json_t **ret_result)
{
    (void)ctx, (void)arguments, (void)ret_result;
    return control_fail(call, -EBUSY, "volume '%s' is in use", "v");
}

static const struct control_command commands[] = {
    {"echo", run_echo}, {"refuse", run_refuse}, {NULL, NULL}};

static void set_up(void)
{
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/run/control.sock", directory);
    cr_assert(eq(int, control_start(path, commands, NULL, &control), 0));
}

static void tear_down(void)
{
    control_stop(control);
    cr_assert(access(path, F_OK) < 0, "the socket is removed");
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(directory);
}

TestSuite(control, .init = set_up, .fini = tear_down, .timeout = 30);

static int ask(json_t *request, link_progress_f *progress, void *ctx, json_t **ret_result,
               char *error)
{
    int r = link_call(path, request, progress, ctx, ret_result, error, 256);
    json_decref(request);
    return r;
}

static void count_steps(void *ctx, const json_t *progress)
{
    int *n = ctx;
    cr_expect(eq(int, (int)json_integer_value(json_object_get(progress, "step")), *n));
    (*n)++;
}

/* A command's progress comes first, then its result. */
Test(control, answers)
{
    int n = 0;
    char error[256];
    json_t *result = NULL;
    cr_assert(eq(int,
                 ask(json_pack("{s:s, s:s}", "command", "echo", "text", "hi\n"), count_steps, &n,
                     &result, error),
                 0));
    cr_assert(eq(int, n, 3));
    cr_assert(eq(str, (char *)json_string_value(json_object_get(result, "echo")), "hi\n"));
    json_decref(result);
}

/* A refusal keeps its errno and its sentence. */
Test(control, refuses)
{
    char error[256];
    json_t *result = NULL;
    cr_assert(
        eq(int, ask(json_pack("{s:s}", "command", "refuse"), NULL, NULL, &result, error), -EBUSY));
    cr_assert(eq(str, error, "volume 'v' is in use"));
    cr_assert(
        eq(int, ask(json_pack("{s:s}", "command", "dance"), NULL, NULL, &result, error), -ENOSYS));
    cr_assert(eq(int, ask(json_pack("{s:i}", "command", 1), NULL, NULL, &result, error), -EINVAL));
}

/* Bytes that are no line of JSON are answered, not obeyed; the daemon goes on. */
Test(control, survives_garbage)
{
    static const char *const garbage[] = {"\n", "{\n", "[1]\n", "\xff\xfe\n",
                                          "{\"command\": \"echo\", \"command\": \"echo\"}\n"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char answer[512] = "";
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        memcpy(address.sun_path, path, strlen(path) + 1);
        cr_assert(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
        cr_assert(send(fd, garbage[i], strlen(garbage[i]), MSG_NOSIGNAL) > 0);
        cr_assert(recv(fd, answer, sizeof answer - 1, MSG_WAITALL) > 0);
        cr_expect(strstr(answer, "not one line of JSON") != NULL, "%zu: %s", i, answer);
        close(fd);
    }
}

static void *ask_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        char error[256];
        json_t *result = NULL;
        int r =
            ask(json_pack("{s:s, s:i}", "command", "echo", "text", i), NULL, NULL, &result, error);
        cr_expect(r == 0, "%s", error);
        json_decref(result);
    }
    return NULL;
}

/* Many clients at a time. */
Test(control, serves_many)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, ask_often, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

/* A second daemon at the same socket is told so; without a daemon the client is. */
Test(control, one_daemon_a_socket)
{
    struct control *second;
    cr_assert(eq(int, control_start(path, commands, NULL, &second), -EADDRINUSE));
    char error[256];
    json_t *result = NULL;
    json_t *request = json_pack("{s:s}", "command", "echo");
    cr_assert(eq(int,
                 link_call("/nonexistent.sock", request, NULL, NULL, &result, error, sizeof error),
                 -ENOENT));
    cr_assert(strstr(error, "is it running?") != NULL);
    json_decref(request);
}
