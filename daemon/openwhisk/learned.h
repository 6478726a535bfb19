/* daemon/openwhisk/learned.h — what was learned of sequences, kept over a restart: STATE/transitions.json.
 *
 *     {"format": 1, "transitions": [[namespace, context, next, count], …]}     the context used longest ago first
 *
 * Names of actions only; nothing that a message held besides. What cannot be read is no loss: it is learned anew.
 */
#pragma once

#include "daemon/openwhisk/transitions.h"
#include "proto/base/check.h"

/* Replaces path, whole or not at all. -ENOMEM, or what the disk says. */
MUST_USE int learned_save(struct transitions *t, const char *path);
/* Adds what path holds; of a damaged file what comes before the damage. -ENOENT. -EBADMSG: not such a file. */
MUST_USE int learned_load(struct transitions *t, const char *path);
