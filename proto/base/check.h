/* proto/base/check.h — attributes, and the assertion that stays on in release.
 *
 * CHECK is for our own bugs only. What comes from a wire, a disk or a user is validated and answered
 * with an error; what the environment refuses is returned and unwound.
 */
#pragma once

#include <stddef.h>

#define MUST_USE __attribute__((warn_unused_result))
#define UNUSED __attribute__((unused))
#define FALLTHROUGH __attribute__((fallthrough))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Prints where and what, then aborts. */
__attribute__((noreturn, cold)) void check_failed(const char *expr, const char *file, int line);

#define CHECK(expr) ((expr) ? (void)0 : check_failed(#expr, __FILE__, __LINE__))
