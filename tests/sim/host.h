/* tests/sim/host.h — between the files that are one host: its life and log (life.c), its part in the protocol (host.c), and what
 * it does when the home is lost (claims.c). */
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
void host_herald(int host,
                 uint64_t argument);       /* a home asks one of the others whether it still is */
void host_start(int host, uint64_t epoch); /* as home; that it may is on its disk */
void host_yield(int host);                 /* if it must */
void host_on_news(int host, int link, const struct message *message);
