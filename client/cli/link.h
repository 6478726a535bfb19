/* client/cli/link.h — one command to the daemon over its control socket (proto/control.h). */
#pragma once

#include <jansson.h>

#include "proto/base/check.h"

/* Called for each progress object while the command runs. */
typedef void link_progress_f(void *ctx, const json_t *progress);

/* Sends request and waits for the answer. 0: *ret_result is owned. Negative errno: *ret_error is the daemon's sentence,
 * or why it could not be reached. A silent daemon: -ETIMEDOUT after a minute without a line. */
MUST_USE int link_call(const char *socket_path, const json_t *request, link_progress_f *progress,
                       void *ctx, json_t **ret_result, char *ret_error, size_t error_size);
