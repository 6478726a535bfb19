#include "daemon/mountd/places.h"

#include <stdio.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/mountinfo.h"

/* What is looked for. type NULL: anything below path; else a mount at path. */
struct sought {
    const char *path, *type, *source;
};

static bool is_sought(const struct mountinfo *mount, const struct sought *s)
{
    size_t size = strlen(s->path);
    if (!s->type)
        return strncmp(mount->at, s->path, size) == 0 && mount->at[size] == '/';
    return strcmp(mount->at, s->path) == 0 && strcmp(mount->type, s->type) == 0 &&
           (!s->source || strcmp(mount->source, s->source) == 0);
}

static bool is_any(const struct sought *sought)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    bool found = false;
    struct mountinfo mount;
    FILE *list = fopen("/proc/self/mountinfo", "re");
    while (list && !found && mountinfo_next(list, &line, &size, &mount))
        found = is_sought(&mount, sought);
    if (list)
        (void)fclose(list);
    return found;
}

bool places_has(const char *path, const char *type, const char *source)
{
    return is_any(&(struct sought){path, type, source});
}

bool places_has_below(const char *path)
{
    return is_any(&(struct sought){.path = path});
}
