/* tests/model/op.c — operations as text. */
#include "tests/model/op.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const struct user users[N_USERS] = {{0, 0}, {1001, 1001}, {1002, 1001}, {1003, 1003}};

static const char *const words[OP_KINDS] = {
#define OP(name, word) [OP_##name] = #word,
    OPS(OP)
#undef OP
};

const char *op_word(enum op_kind kind)
{
    return words[kind];
}

/* ---- fields: each has a name; those that are zero are left out ---- */

struct field {
    const char *name;
    bool octal;
    int64_t (*get)(const struct op *op);
    void (*set)(struct op *op, int64_t value);
};

#define FIELD(member)                                                                              \
    static int64_t get_##member(const struct op *op)                                               \
    {                                                                                              \
        return op->member;                                                                         \
    }                                                                                              \
    static void set_##member(struct op *op, int64_t value)                                         \
    {                                                                                              \
        op->member = (__typeof__(op->member))value;                                                \
    }

FIELD(host)
FIELD(user)
FIELD(fd)
FIELD(other)
FIELD(pattern)
FIELD(flags)
FIELD(mode)
FIELD(uid)
FIELD(gid)
FIELD(offset)
FIELD(offset2)
FIELD(size)

#define ENTRY(member, octal)                                                                       \
    {                                                                                              \
#member, octal, get_##member, set_##member                                                 \
    }

static const struct field fields[] = {
    ENTRY(host, false),   ENTRY(user, false),    ENTRY(fd, false),   ENTRY(other, false),
    ENTRY(flags, true),   ENTRY(mode, true),     ENTRY(uid, false),  ENTRY(gid, false),
    ENTRY(offset, false), ENTRY(offset2, false), ENTRY(size, false), ENTRY(pattern, false),
};

void op_print(FILE *out, const struct op *op)
{
    fprintf(out, "%s", words[op->kind]);
    if (op->path[0])
        fprintf(out, " path=%s", op->path);
    if (op->path2[0])
        fprintf(out, " path2=%s", op->path2);
    for (size_t i = 0; i < N_ELEMENTS(fields); i++) {
        int64_t value = fields[i].get(op);
        if (value != 0 && fields[i].octal)
            fprintf(out, " %s=0%" PRIo64, fields[i].name, (uint64_t)value);
        else if (value != 0)
            fprintf(out, " %s=%" PRId64, fields[i].name, value);
    }
    fputc('\n', out);
}

static bool set_path(char path[OP_PATH_SIZE], const char *value)
{
    return (size_t)snprintf(path, OP_PATH_SIZE, "%s", value) < OP_PATH_SIZE;
}

static bool set_field(struct op *op, const char *name, const char *value)
{
    if (strcmp(name, "path") == 0)
        return set_path(op->path, value);
    if (strcmp(name, "path2") == 0)
        return set_path(op->path2, value);
    for (size_t i = 0; i < N_ELEMENTS(fields); i++) {
        if (strcmp(name, fields[i].name) == 0) {
            fields[i].set(op, strtoll(value, NULL, 0));
            return true;
        }
    }
    return false;
}

static bool is_in_range(const struct op *op)
{
    return op->host < N_HOSTS_MAX && op->user < N_USERS && op->fd < N_FDS &&
           op->other < MAX(N_FDS, N_MAPS) && op->size <= INT32_MAX;
}

static bool parse_kind(const char *word, struct op *op)
{
    for (int kind = 0; kind < OP_KINDS; kind++) {
        if (strcmp(word, words[kind]) == 0) {
            op->kind = (uint8_t)kind;
            return true;
        }
    }
    return false;
}

bool op_parse(const char *line, struct op *ret_op)
{
    struct op op = {0};
    char copy[512], *rest = NULL;

    if ((size_t)snprintf(copy, sizeof copy, "%s", line) >= sizeof copy)
        return false;
    char *word = strtok_r(copy, " \n", &rest);
    if (!word || !parse_kind(word, &op))
        return false;
    while ((word = strtok_r(NULL, " \n", &rest))) {
        char *value = strchr(word, '=');
        if (!value)
            return false;
        *value++ = '\0';
        if (!set_field(&op, word, value))
            return false;
    }
    *ret_op = op;
    return is_in_range(&op);
}

/* ---- what the kernel gets ---- */

static size_t expand_name(const char *name, size_t length, char *to, size_t room)
{
    size_t n = name[0] == '@' ? strtoul(name + 1, NULL, 10) : length;

    n = MIN(n, room);
    if (name[0] == '@')
        memset(to, 'n', n);
    else
        memcpy(to, name, n);
    return n;
}

void op_expand(const char *path, char full[FULL_PATH_SIZE])
{
    size_t used = 0;

    while (*path && used < FULL_PATH_SIZE - 2) {
        size_t length = strcspn(path, "/");
        used += expand_name(path, length, full + used, FULL_PATH_SIZE - 2 - used);
        path += length;
        if (*path == '/') {
            full[used++] = '/';
            path++;
        }
    }
    full[used] = '\0';
}

void op_fill(uint8_t *data, size_t size, uint8_t pattern)
{
    uint32_t x = pattern * 2654435761u + 1;

    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (uint8_t)(x >> 24);
    }
}
