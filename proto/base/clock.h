/* proto/base/clock.h — time in nanoseconds. Deadlines are monotonic, file times are real. */
#pragma once

#include <stdint.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

int64_t clock_mono_ns(void);
int64_t clock_real_ns(void);

/* What is left until a monotonic deadline in whole milliseconds, at least 0, rounded up. */
int clock_left_ms(int64_t deadline_ns);
