#include "client/cli/propagation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"

#define MOUNTPOINT_FIELD 5
#define OPTIONS_FIELD 6

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* In place: the kernel writes blanks and backslashes as \ooo. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && is_octal(from[1]) && is_octal(from[2]) && is_octal(from[3])) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

static bool is_below(const char *path, const char *mountpoint)
{
    size_t n = strlen(mountpoint);
    return strncmp(path, mountpoint, n) == 0 && (n == 1 || path[n] == '/' || path[n] == '\0');
}

static void read_optional(const char *field, struct propagation *p)
{
    if (strncmp(field, "shared:", 7) == 0)
        p->shared = (unsigned)strtoul(field + 7, NULL, 10);
    else if (strncmp(field, "master:", 7) == 0)
        p->master = (unsigned)strtoul(field + 7, NULL, 10);
}

/* Takes the line apart. False: it is not one of mountinfo. */
static bool read_line(char *line, struct propagation *ret)
{
    char *rest = NULL;
    int n = 0;
    *ret = (struct propagation){0};
    for (char *field = strtok_r(line, " \n", &rest); field; field = strtok_r(NULL, " \n", &rest)) {
        n++;
        if (strcmp(field, "-") == 0)
            return n > OPTIONS_FIELD;
        if (n == MOUNTPOINT_FIELD) {
            unescape(field);
            (void)snprintf(ret->at, sizeof ret->at, "%s", field);
        } else if (n > OPTIONS_FIELD) {
            read_optional(field, ret);
        }
    }
    return false;
}

int propagation_read(FILE *mountinfo, const char *path, struct propagation *ret)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    bool is_found = false;
    struct propagation best = {0}, here;
    while (getline(&line, &size, mountinfo) >= 0) {
        /* of two on one mountpoint the later one covers the other */
        if (!read_line(line, &here) || !is_below(path, here.at) ||
            strlen(here.at) < strlen(best.at))
            continue;
        best = here;
        is_found = true;
    }
    if (!is_found)
        return -ENOENT;
    *ret = best;
    return 0;
}

bool propagation_reaches(const struct propagation *from, const struct propagation *to)
{
    return from->shared != 0 && (to->shared == from->shared || to->master == from->shared);
}
