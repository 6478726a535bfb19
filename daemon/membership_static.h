/* daemon/membership_static.h — membership without Kafka: the hosts of [peers], and the volumes announced here. */
#pragma once

#include "daemon/membership.h"

/* hosts are copied. -EEXIST: a name twice, or two names with one id. */
MUST_USE int membership_static_new(const struct member_host *hosts, int n,
                                   struct membership **ret_membership);
