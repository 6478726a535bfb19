/* daemon/volumes/directory.h — STATE/volumes: one directory a volume, and the file `home` in each. */
#pragma once

#include "daemon/membership.h"
#include "fs/volume/volume.h"

struct volume_directories {
    char *path;  /* STATE/volumes */
    char *saved; /* STATE/saved: see saved.h */
    struct host_id self;
};

MUST_USE int volume_directories_open(struct volume_directories *dirs, const char *state,
                                     struct host_id self);
void volume_directories_close(struct volume_directories *dirs);

/* STATE/volumes/NAME. -ENAMETOOLONG. */
#define VOLUME_PATH_MAX 1024
MUST_USE int volume_directory_path(const struct volume_directories *dirs, const char *name,
                                   char ret_path[VOLUME_PATH_MAX]);
/* -ENOENT: no such volume on this disk. */
MUST_USE int volume_directory_home(const struct volume_directories *dirs, const char *name,
                                   char ret_home[HOST_NAME_MAX_BYTES + 1]);
/* Makes the directory where there is none and notes the home, durably. */
MUST_USE int volume_directory_set_home(const struct volume_directories *dirs, const char *name,
                                       const char *home);
/* A new volume; half-made ones are removed again. -EEXIST. */
MUST_USE int volume_directory_create(const struct volume_directories *dirs, const char *name,
                                     const char *home, const struct volume_genesis *genesis);
/* Durable when it returns. -EEXIST. */
MUST_USE int volume_directory_rename(const struct volume_directories *dirs, const char *name,
                                     const char *new_name);
MUST_USE int volume_directory_delete(const struct volume_directories *dirs, const char *name);

typedef void volume_directory_f(void *ctx, const char *name, const char *home);
MUST_USE int volume_directories_each(const struct volume_directories *dirs,
                                     volume_directory_f *each, void *ctx);
