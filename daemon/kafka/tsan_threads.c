/* Builds under ThreadSanitizer only. librdkafka starts its threads with C11's thrd_create, which that sanitizer does not
 * know: the first allocation on such a thread crashes. These stand before the C library's and are the same otherwise. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

struct start {
    thrd_start_t run;
    void *arg;
};

static void *run(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    return (void *)(intptr_t)start.run(start.arg);
}

__attribute__((visibility("default"))) int thrd_create(thrd_t *thread, thrd_start_t function,
                                                       void *arg)
{
    struct start *start = malloc(sizeof *start);
    if (!start)
        return thrd_nomem;
    *start = (struct start){function, arg};
    if (pthread_create(thread, NULL, run, start) == 0)
        return thrd_success;
    free(start);
    return thrd_error;
}

__attribute__((visibility("default"))) int thrd_join(thrd_t thread, int *result)
{
    void *returned;
    if (pthread_join(thread, &returned) != 0)
        return thrd_error;
    if (result)
        *result = (int)(intptr_t)returned;
    return thrd_success;
}
