/* tests/stress/stress_mutex.c — mutexes and conditions under contention.
 *
 * Producers and consumers pass a fixed number of values through a bounded queue, nested locks guard a second counter,
 * and timed waits run beside them. At the end every value has arrived exactly once. Then each misuse that must abort
 * does so, in a child process.
 *
 *     stress_mutex [--seed N]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mutex.h"

#define N_PRODUCERS 4
#define N_CONSUMERS 4
#define VALUES_EACH 20000
#define QUEUE_MAX 7

static struct {
    struct mutex lock;
    struct cond not_empty, not_full;
    unsigned values[QUEUE_MAX];
    unsigned n_values, first;
    unsigned n_producing; /* producers that have not finished */
} queue;

static struct {
    struct mutex lock; /* taken while queue.lock is held */
    unsigned n_passed;
} totals;

static unsigned arrived[N_PRODUCERS * VALUES_EACH]; /* under totals.lock */
static unsigned seed;

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245 + 12345;
    return *state >> 16;
}

static void note_passed(unsigned value)
{
    SCOPED_LOCK(&totals.lock);
    totals.n_passed++;
    arrived[value]++;
}

static void put_value(unsigned value, bool with_deadline)
{
    SCOPED_LOCK(&queue.lock);
    while (queue.n_values == QUEUE_MAX) {
        if (with_deadline)
            (void)!cond_wait_until(&queue.not_full, &queue.lock, clock_mono_ns() + NS_PER_MS / 10);
        else
            cond_wait(&queue.not_full, &queue.lock);
    }
    queue.values[(queue.first + queue.n_values++) % QUEUE_MAX] = value;
    cond_signal(&queue.not_empty);
}

/* False: no more values will come. */
static bool take_value(void)
{
    SCOPED_LOCK(&queue.lock);
    while (queue.n_values == 0) {
        if (queue.n_producing == 0)
            return false;
        cond_wait(&queue.not_empty, &queue.lock);
    }
    unsigned value = queue.values[queue.first];
    queue.first = (queue.first + 1) % QUEUE_MAX;
    queue.n_values--;
    note_passed(value);
    cond_signal(&queue.not_full);
    return true;
}

static void *produce(void *arg)
{
    unsigned producer = (unsigned)(uintptr_t)arg;
    unsigned random = seed + producer;
    for (unsigned i = 0; i < VALUES_EACH; i++)
        put_value(producer * VALUES_EACH + i, next_random(&random) % 4 == 0);
    SCOPED_LOCK(&queue.lock);
    if (--queue.n_producing == 0)
        cond_broadcast(&queue.not_empty);
    return NULL;
}

static void *consume(void *arg)
{
    while (take_value())
        ;
    return arg;
}

static void pass_values(void)
{
    pthread_t threads[N_PRODUCERS + N_CONSUMERS];
    queue.n_producing = N_PRODUCERS;
    for (unsigned i = 0; i < N_CONSUMERS; i++)
        CHECK(thread_start(&threads[i], "consumer", consume, NULL) == 0);
    for (uintptr_t i = 0; i < N_PRODUCERS; i++)
        CHECK(thread_start(&threads[N_CONSUMERS + i], "producer", produce, (void *)i) == 0);
    for (unsigned i = 0; i < N_ELEMENTS(threads); i++)
        thread_join(threads[i]);
    CHECK(queue.n_values == 0);
    CHECK(totals.n_passed == N_PRODUCERS * VALUES_EACH);
    for (unsigned i = 0; i < N_ELEMENTS(arrived); i++)
        CHECK(arrived[i] == 1);
}

static void lock_against_rank(void)
{
    mutex_lock(&totals.lock);
    mutex_lock(&queue.lock);
}

static void unlock_what_is_free(void)
{
    mutex_unlock(&queue.lock);
}

static void *unlock_in_another_thread(void *arg)
{
    mutex_unlock(&queue.lock);
    return arg;
}

static void unlock_of_another_thread(void)
{
    pthread_t thread;
    mutex_lock(&queue.lock);
    if (thread_start(&thread, "thief", unlock_in_another_thread, NULL) == 0)
        thread_join(thread);
}

/* Runs misuse in a child: it must end by SIGABRT. Its last words are expected, so they are not shown. */
static void expect_abort(const char *what, void (*misuse)(void))
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        CHECK(freopen("/dev/null", "w", stderr) != NULL);
        misuse();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        (void)fprintf(stderr, "%s did not abort: status %#x\n", what, (unsigned)status);
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    seed = argc == 3 && strcmp(argv[1], "--seed") == 0 ? (unsigned)strtoul(argv[2], NULL, 0)
                                                       : (unsigned)clock_real_ns();
    (void)printf("seed %u\n", seed);
    mutex_init(&queue.lock, LOCK_volume);
    mutex_init(&totals.lock, LOCK_leaf);
    cond_init(&queue.not_empty);
    cond_init(&queue.not_full);
    pass_values();
    expect_abort("a lower rank under a higher one", lock_against_rank);
    expect_abort("unlocking a free lock", unlock_what_is_free);
    expect_abort("unlocking another thread's lock", unlock_of_another_thread);
    cond_done(&queue.not_empty);
    cond_done(&queue.not_full);
    mutex_done(&queue.lock);
    mutex_done(&totals.lock);
    return EXIT_SUCCESS;
}
