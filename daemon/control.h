/* daemon/control.h — the daemon's side of the control socket (proto/control.h): a thread per connection, at most
 * CONTROL_CONNECTIONS_MAX at a time.
 */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "proto/base/check.h"

#define CONTROL_CONNECTIONS_MAX 32

struct control;
struct control_call;

/* Runs one command. 0: *ret_result (owned by the caller of this) is the answer. Negative errno: the sentence of
 * control_fail, or strerror, is. */
typedef int control_command_f(void *ctx, const json_t *arguments, struct control_call *call,
                              json_t **ret_result);

struct control_command {
    const char *name;
    control_command_f *run;
};

/* Listens at path (mode 0660; its directory is made, a socket left by a dead daemon replaced). commands ends with a
 * NULL name and outlives the control. -EADDRINUSE: another daemon answers there. */
MUST_USE int control_start(const char *path, const struct control_command *commands, void *ctx,
                           struct control **ret_control);
/* Ends connections, joins, removes the socket. */
void control_stop(struct control *control);

/* Sends a progress object (taken over). False: the client is gone, stop. */
MUST_USE bool control_progress(struct control_call *call, json_t *progress);
/* Notes the sentence of a failure and returns error. */
int control_fail(struct control_call *call, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);
