#include "tests/unit/openwhisk/capture.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct records {
    json_t **lines;
    size_t n, capacity;
};

static void add(struct records *records, json_t *line)
{
    if (records->n == records->capacity) {
        records->capacity = records->capacity * 2 + 64;
        records->lines = realloc(records->lines, records->capacity * sizeof *records->lines);
        cr_assert_not_null(records->lines);
    }
    records->lines[records->n++] = line;
}

static void load(struct records *records, const char *path)
{
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        json_t *record = json_loads(line, 0, NULL);
        cr_assert_not_null(record, "%s", path);
        add(records, record);
    }
    free(line);
    (void)fclose(file);
}

static int64_t time_of(const json_t *line)
{
    return (int64_t)json_integer_value(json_object_get(line, "ts"));
}

/* Topics are not ordered among each other, and no two records of one topic have the same time. */
static int by_time(const void *a, const void *b)
{
    int64_t left = time_of(*(json_t *const *)a), right = time_of(*(json_t *const *)b);
    return left < right ? -1 : left > right;
}

static unsigned visit(struct records *records, captured_fn *fn, void *arg)
{
    cr_assert_gt(records->n, 0);
    for (size_t i = 0; i < records->n; i++) {
        const json_t *payload = json_object_get(records->lines[i], "payload");
        struct captured record = {
            .topic = json_string_value(json_object_get(records->lines[i], "topic")),
            .timestamp_ms = time_of(records->lines[i]),
            .payload = json_string_value(payload),
            .size = json_string_length(payload),
        };
        fn(arg, &record);
        json_decref(records->lines[i]);
    }
    free(records->lines);
    return (unsigned)records->n;
}

unsigned captured_file(const char *file, captured_fn *fn, void *arg)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", CAPTURED, file);
    struct records records = {0};
    load(&records, path);
    return visit(&records, fn, arg);
}

unsigned captured_generation(const char *generation, captured_fn *fn, void *arg)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", CAPTURED, generation);
    DIR *dir = opendir(path);
    cr_assert_not_null(dir);
    struct records records = {0};
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strstr(entry->d_name, ".jsonl") || strstr(entry->d_name, "invocations"))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s/%s", CAPTURED, generation, entry->d_name);
        load(&records, path);
    }
    (void)closedir(dir);
    qsort(records.lines, records.n, sizeof *records.lines, by_time);
    return visit(&records, fn, arg);
}
