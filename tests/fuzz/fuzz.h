/* tests/fuzz/fuzz.h — what every fuzz target defines: libFuzzer calls it, or replay.c over the corpus.
 *
 * It must accept any bytes, never read outside them, and free all it takes. Returns 0.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
