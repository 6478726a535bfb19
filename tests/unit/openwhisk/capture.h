/* tests/unit/openwhisk/capture.h — the messages in tests/data/openwhisk, record by record. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct captured {
    const char *topic;
    int64_t timestamp_ms;
    const char *payload;
    size_t size;
};

typedef void captured_fn(void *arg, const struct captured *record);

/* All records of one file, such as "classic/invoker3.jsonl". Fails the test if there are none; returns how many. */
unsigned captured_file(const char *file, captured_fn *fn, void *arg);

/* All records of a generation ("classic", "fpc"), in order of their timestamps, as a consumer would see them. */
unsigned captured_generation(const char *generation, captured_fn *fn, void *arg);
