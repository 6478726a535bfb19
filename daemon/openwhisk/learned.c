#include "daemon/openwhisk/learned.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

#define FORMAT 1

struct saving {
    json_t *rows;
    bool is_failed;
};

static void add_row(void *arg, const char *namespace_name, const char *context, const char *next,
                    uint32_t count)
{
    struct saving *saving = arg;
    json_t *row = json_pack("[s,s,s,I]", namespace_name, context, next, (json_int_t)count);
    if (!row || json_array_append_new(saving->rows, row) < 0)
        saving->is_failed = true;
}

/* A text that a crash leaves half written is never at path; nor need it be durable. */
static int replace(const json_t *document, const char *path)
{
    AUTO_FREE char *fresh = NULL;
    if (asprintf(&fresh, "%s.new", path) < 0)
        return -ENOMEM;
    errno = EIO;
    if (json_dump_file(document, fresh, JSON_COMPACT) < 0 || rename(fresh, path) < 0) {
        int r = -errno;
        (void)unlink(fresh);
        return r;
    }
    return 0;
}

int learned_save(struct transitions *t, const char *path)
{
    struct saving saving = {.rows = json_array()};
    if (!saving.rows)
        return -ENOMEM;
    transitions_visit(t, add_row, &saving);
    json_t *document = json_pack("{s:i,s:o}", "format", FORMAT, "transitions", saving.rows);
    int r = saving.is_failed || !document ? -ENOMEM : replace(document, path);
    json_decref(document);
    return r;
}

static int load_row(struct transitions *t, const json_t *row)
{
    const char *namespace_name, *context, *next;
    json_int_t count;
    if (json_unpack((json_t *)(uintptr_t)row, "[s,s,s,I!]", &namespace_name, &context, &next,
                    &count) < 0 ||
        count <= 0 || strlen(namespace_name) >= OW_NAME_SIZE || strchr(namespace_name, '\n') ||
        strlen(context) >= OW_ACTION_SIZE || strlen(next) >= OW_ACTION_SIZE)
        return -EBADMSG;
    return transitions_learn(t, namespace_name, context, next, (uint32_t)MIN(count, 1000));
}

static int load_rows(struct transitions *t, const json_t *document)
{
    const json_t *rows = json_object_get(document, "transitions");
    if (json_integer_value(json_object_get(document, "format")) != FORMAT || !json_is_array(rows))
        return -EBADMSG;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int r = load_row(t, json_array_get(rows, i));
        if (r < 0)
            return r;
    }
    return 0;
}

int learned_load(struct transitions *t, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    json_t *document = json_loadf(file, JSON_REJECT_DUPLICATES, NULL);
    (void)fclose(file);
    int r = document ? load_rows(t, document) : -EBADMSG;
    json_decref(document);
    return r;
}
