#include "fs/identity.h"

#include <string.h>

#include <xxhash.h>

struct host_id host_id_of(const char *name)
{
    return (struct host_id){XXH3_64bits(name, strlen(name))};
}
