#include "daemon/mountd/accesses.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int accesses_add(struct accesses *accesses, const struct autofs_packet *packet, int64_t now_ns)
{
    if (accesses->n == ACCESSES_MAX)
        return -ENOSPC;
    struct access *access = &accesses->all[accesses->n++];
    *access = (struct access){.token = packet->token, .since_ns = now_ns};
    (void)snprintf(access->name, sizeof access->name, "%s", packet->name);
    return 0;
}

struct access *accesses_untold(struct accesses *accesses)
{
    struct access *next = NULL;
    unsigned n_told = 0;
    for (unsigned i = 0; i < accesses->n; i++) {
        struct access *access = &accesses->all[i];
        n_told += access->is_told;
        if (!access->is_told && !next)
            next = access;
    }
    return n_told < ACCESSES_TOLD_MAX ? next : NULL;
}

void accesses_untell(struct accesses *accesses)
{
    for (unsigned i = 0; i < accesses->n; i++)
        accesses->all[i].is_told = false;
}

static struct access take(struct accesses *accesses, unsigned i)
{
    struct access taken = accesses->all[i];
    accesses->n--;
    memmove(&accesses->all[i], &accesses->all[i + 1], (accesses->n - i) * sizeof accesses->all[0]);
    return taken;
}

bool accesses_take(struct accesses *accesses, const char *name, struct access *ret_access)
{
    for (unsigned i = 0; i < accesses->n; i++) {
        if (strcmp(accesses->all[i].name, name) != 0)
            continue;
        *ret_access = take(accesses, i);
        return true;
    }
    return false;
}

bool accesses_take_older(struct accesses *accesses, int64_t then_ns, struct access *ret_access)
{
    if (accesses->n == 0 || accesses->all[0].since_ns > then_ns)
        return false;
    *ret_access = take(accesses, 0);
    return true;
}
