#include "daemon/replica/core/work.h"

#include "proto/base/check.h"

void work_done(struct work *work, struct host_id host, int64_t now_ns)
{
    if (!host_equal(work->worker, host)) {
        work->worker = host;
        work->run = 0;
        work->since_ns = now_ns;
    }
    work->run++;
}

struct host_id work_earned(const struct work *work, struct host_id self, int64_t now_ns)
{
    int64_t alone = MAX(work->alone_ns, WORK_ALONE_NS);
    if (host_equal(work->worker, self) || work->run < WORK_RUN || now_ns - work->since_ns < alone)
        return NO_HOST;
    return work->worker;
}

void work_given(struct work *work, int64_t now_ns)
{
    work->given_ns = now_ns;
}

void work_taken(struct work *work, int64_t now_ns)
{
    bool is_soon = work->given_ns != 0 && now_ns - work->given_ns < WORK_SOON_NS;
    int64_t alone = is_soon ? 2 * MAX(work->alone_ns, WORK_ALONE_NS) : WORK_ALONE_NS;
    *work = (struct work){.alone_ns = MIN(alone, WORK_ALONE_MAX_NS), .given_ns = work->given_ns};
}
