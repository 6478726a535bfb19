/* daemon/volumes/silence.h — since when hosts do not answer.
 *
 * One that has just fallen silent may be restarting: who needs it waits. One that has been silent for as long as somebody
 * would wait is waited for no more, only tried. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/identity.h"
#include "proto/base/check.h"
#include "proto/base/clock.h"

#define SILENCES_MAX 256u
#define SILENCE_LONG_NS (6 * NS_PER_S)
/* What was noted before and not since says nothing of now. */
#define SILENCE_FORGOTTEN_NS (30 * NS_PER_S)

struct silence {
    struct host_id host;
    int64_t since_ns, noted_ns;
};

struct silences {
    struct silence all[SILENCES_MAX];
    unsigned n;
};

/* host was asked, and did or did not answer. Beyond SILENCES_MAX the one noted longest ago goes. */
void silence_note(struct silences *silences, struct host_id host, bool is_silent, int64_t now_ns);
bool silence_is_long(const struct silences *silences, struct host_id host, int64_t now_ns);
/* Some host fell silent so shortly ago that it is worth waiting for. */
bool silence_is_any_new(const struct silences *silences, int64_t now_ns);
