#include "proto/base/mountinfo.h"

#include <stdlib.h>
#include <string.h>

#define DEVICE_FIELD 3
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

static void read_optional(const char *field, struct mountinfo *m)
{
    if (strncmp(field, "shared:", 7) == 0)
        m->shared = (unsigned)strtoul(field + 7, NULL, 10);
    else if (strncmp(field, "master:", 7) == 0)
        m->master = (unsigned)strtoul(field + 7, NULL, 10);
}

static void read_field(int n, char *field, struct mountinfo *m)
{
    if (n == DEVICE_FIELD) {
        (void)!sscanf(field, "%u:%u", &m->major, &m->minor);
    } else if (n == MOUNTPOINT_FIELD) {
        unescape(field);
        m->at = field;
    } else if (n > OPTIONS_FIELD) {
        read_optional(field, m);
    }
}

/* Takes the line apart: fields, any number of optional ones, a dash, type and source. False: it is not one of mountinfo. */
static bool read_line(char *line, struct mountinfo *ret_mount)
{
    char *rest = NULL;
    int n = 0;
    *ret_mount = (struct mountinfo){0};
    char *field = strtok_r(line, " \n", &rest);
    for (; field && strcmp(field, "-") != 0; field = strtok_r(NULL, " \n", &rest))
        read_field(++n, field, ret_mount);
    if (!field || n < OPTIONS_FIELD)
        return false;
    ret_mount->type = strtok_r(NULL, " \n", &rest);
    ret_mount->source = strtok_r(NULL, " \n", &rest);
    return ret_mount->type && ret_mount->source;
}

bool mountinfo_next(FILE *list, char **line, size_t *size, struct mountinfo *ret_mount)
{
    while (getline(line, size, list) >= 0) {
        if (read_line(*line, ret_mount))
            return true;
    }
    return false;
}
