#include "tests/unit/openwhisk/fake_membership.h"

#include <errno.h>
#include <stdio.h>

#include "proto/base/check.h"

static int host_by_invoker(struct membership *m, int invoker, struct member_host *ret_host)
{
    const struct fake_membership *fake = container_of(m, struct fake_membership, membership);
    if (invoker < 0 || invoker >= fake->n_hosts)
        return -ENOENT;
    *ret_host = (struct member_host){.invoker = invoker, .alive = invoker != fake->dead};
    (void)snprintf(ret_host->name, sizeof ret_host->name, "h%d", invoker);
    return 0;
}

static const struct membership_ops ops = {.host_by_invoker = host_by_invoker};

void fake_membership_init(struct fake_membership *fake, int n_hosts)
{
    *fake = (struct fake_membership){.membership = {&ops}, .n_hosts = n_hosts, .dead = -1};
}
