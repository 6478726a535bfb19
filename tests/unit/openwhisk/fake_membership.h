/* tests/unit/openwhisk/fake_membership.h — hosts h0, h1, … for invokers 0, 1, …, all alive but those that are not. */
#pragma once

#include "daemon/membership.h"

struct fake_membership {
    struct membership membership;
    int n_hosts;
    int dead; /* the invoker whose host is dead; -1: none */
};

void fake_membership_init(struct fake_membership *fake, int n_hosts);
