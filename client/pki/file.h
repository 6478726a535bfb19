/* client/pki/file.h — writes DIR/NAME.SUFFIX files that appear whole, all of them or none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/base/check.h"

struct pki_file {
    const char *suffix;
    mode_t mode;
    char *text;
    size_t size;
};

/* Each is synced under a name of its own, then renamed. -EEXIST: one is there and force is not set. On failure
 * ret_path is the file concerned. */
MUST_USE int pki_save(const char *dir, const char *name, const struct pki_file *files, unsigned n,
                      bool force, char *ret_path, size_t path_size);
