#include "daemon/volumes/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/volumes/volumes.h"
#include "fs/directory.h"
#include "proto/base/cleanup.h"

static size_t index_of(const struct volume_names *names, const char *name)
{
    size_t i = 0;
    while (i < names->n && strcmp(names->all[i], name) != 0)
        i++;
    return i;
}

bool volume_names_has(const struct volume_names *names, const char *name)
{
    return index_of(names, name) < names->n;
}

void volume_names_add(struct volume_names *names, const char *name)
{
    size_t at = index_of(names, name);
    if (at == VOLUME_NAMES_MAX)
        at = 0;
    if (at < names->n) {
        names->n--;
        memmove(names->all[at], names->all[at + 1], (names->n - at) * sizeof names->all[0]);
    }
    (void)snprintf(names->all[names->n++], sizeof names->all[0], "%s", name);
}

static void close_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

int volume_names_load(const char *directory, struct volume_names *ret_names)
{
    char path[4096], line[VOLUME_NAME_MAX_BYTES + 2];
    ret_names->n = 0;
    (void)snprintf(path, sizeof path, "%s/names", directory);
    AUTO(close_file) FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : -errno;
    while (fgets(line, sizeof line, f)) {
        size_t length = strcspn(line, "\n");
        bool is_whole = line[length] == '\n';
        line[length] = '\0';
        if (!is_whole || volume_name_check(line) < 0)
            return -EBADMSG;
        volume_names_add(ret_names, line);
    }
    return ferror(f) ? -EIO : 0;
}

int volume_names_save(const char *directory, const struct volume_names *names)
{
    char text[VOLUME_NAMES_MAX * (VOLUME_NAME_MAX_BYTES + 1) + 1];
    size_t size = 0;
    AUTO_CLOSE int dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return -errno;
    for (size_t i = 0; i < names->n; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%s\n", names->all[i]);
    return directory_write_file(dirfd, "names", text, size);
}
