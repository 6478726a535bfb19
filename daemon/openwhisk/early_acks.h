/* daemon/openwhisk/early_acks.h — acknowledgements of steps whose beginning was not seen yet.
 *
 * Topics have no order among them: the end of a short step may come before its beginning. Pure; bounded: of
 * the ids that fall into one slot the latest stays, which is enough for what comes within moments.
 */
#pragma once

#include <stdbool.h>

#include "proto/openwhisk/limits.h"

#define EARLY_ACKS 8192 /* power of two */

struct early_acks {
    char ids[EARLY_ACKS][OW_ID_SIZE];
};

/* id: of OW_ID_SIZE bytes, as decoders give it. */
void early_acks_note(struct early_acks *acks, const char *id);
bool early_acks_has(const struct early_acks *acks, const char *id);
