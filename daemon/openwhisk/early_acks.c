#include "daemon/openwhisk/early_acks.h"

#include <string.h>
#include <xxhash.h>

static unsigned slot_of(const char *id)
{
    return (unsigned)(XXH3_64bits(id, strlen(id)) & (EARLY_ACKS - 1));
}

void early_acks_note(struct early_acks *acks, const char *id)
{
    memcpy(acks->ids[slot_of(id)], id, OW_ID_SIZE);
}

bool early_acks_has(const struct early_acks *acks, const char *id)
{
    return strcmp(acks->ids[slot_of(id)], id) == 0;
}
