#include "proto/base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *expr, const char *file, int line)
{
    (void)fprintf(stderr, "<2>bug: CHECK(%s) failed at %s:%d\n", expr, file, line);
    abort();
}
