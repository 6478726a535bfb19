/* tests/sim/host.h — between the files that are one host: its life and log (life.c), its part in the protocol (host.c). */
#pragma once

#include "tests/sim/sim.h"

/* A link as the core has it. */
static inline void *handle(int link)
{
    return (void *)(uintptr_t)link;
}

static inline int number(const void *handle)
{
    return (int)(uintptr_t)handle;
}

void host_log(int host, const struct entry *entry); /* to the end of its log */
void host_start_anew(int host); /* from what is on its disk, in the same moment */
void host_renew_timer(int host, uint64_t argument);
