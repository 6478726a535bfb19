#include "daemon/mountd/mountinfo.h"

#include <stdio.h>
#include <string.h>

#include "proto/base/cleanup.h"

#define PATH_BYTES 1024

typedef bool match_f(const char *at, const char *line, const char *path, const char *type);

static bool is_at(const char *at, const char *line, const char *path, const char *type)
{
    const char *rest = strstr(line, " - ");
    return strcmp(at, path) == 0 && rest && strncmp(rest + 3, type, strlen(type)) == 0;
}

static bool is_below(const char *at, const char *line, const char *path, const char *type)
{
    size_t size = strlen(path);
    (void)line, (void)type;
    return strncmp(at, path, size) == 0 && at[size] == '/';
}

static bool is_any(match_f *match, const char *path, const char *type)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    bool found = false;
    FILE *list = fopen("/proc/self/mountinfo", "re");
    while (list && !found && getline(&line, &size, list) > 0) {
        char at[PATH_BYTES];
        if (sscanf(line, "%*u %*u %*s %*s %1023s", at) == 1)
            found = match(at, line, path, type);
    }
    if (list)
        (void)fclose(list);
    return found;
}

bool mountinfo_has(const char *path, const char *type_and_source)
{
    return is_any(is_at, path, type_and_source);
}

bool mountinfo_has_below(const char *path)
{
    return is_any(is_below, path, NULL);
}
