#include "daemon/replica/core/followers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/replica/core/broken.h"
#include "proto/base/check.h"

void followers_done(struct followers *f)
{
    free(f->all);
    *f = (struct followers){0};
}

struct follower *followers_find(const struct followers *f, struct host_id host)
{
    for (size_t i = 0; i < f->n; i++)
        if (host_equal(f->all[i].host, host))
            return &f->all[i];
    return NULL;
}

static int grow(struct followers *f)
{
    if (f->n < f->capacity)
        return 0;
    if (f->capacity >= FOLLOWERS_MAX)
        return -ENOSPC;
    size_t capacity = f->capacity == 0 ? 8 : f->capacity * 2;
    struct follower *all = reallocarray(f->all, capacity, sizeof *all);
    if (!all)
        return -ENOMEM;
    f->all = all;
    f->capacity = capacity;
    return 0;
}

int followers_join(struct followers *f, struct host_id host, const char *name, uint64_t have_index,
                   struct follower **ret_follower)
{
    struct follower *known = followers_find(f, host);
    if (!known) {
        int r = grow(f);
        if (r < 0)
            return r;
        known = &f->all[f->n++];
        *known = (struct follower){.host = host};
        (void)snprintf(known->name, sizeof known->name, "%s", name);
    }
    known->joined = known->sent = have_index;
    known->acked = have_index;
    *ret_follower = known;
    return 0;
}

void followers_remove(struct followers *f, struct host_id host)
{
    struct follower *known = followers_find(f, host);
    if (known)
        *known = f->all[--f->n];
}

bool followers_promote(struct followers *f, struct host_id host, int64_t until_ns)
{
    struct follower *known = followers_find(f, host);
    if (!known)
        return false;
    known->is_member = true;
    known->lease_until_ns = MAX(known->lease_until_ns, until_ns);
    return true;
}

bool followers_renew(struct followers *f, struct host_id host, uint64_t applied, int64_t now_ns)
{
    struct follower *known = followers_find(f, host);
    if (!known)
        return false;
    known->acked = MAX(known->acked, applied);
    known->lease_until_ns = now_ns + LEASE_NS;
    return true;
}

void followers_ack(struct followers *f, struct host_id host, uint64_t index)
{
    struct follower *known = followers_find(f, host);
    if (known)
        known->acked = MAX(known->acked, MIN(index, known->sent));
}

static bool is_waited_for(const struct follower *follower, int64_t now_ns)
{
    int64_t margin_ns = BROKEN(no_margin) ? -LEASE_MARGIN_NS : LEASE_MARGIN_NS;
    return follower->is_member && now_ns < follower->lease_until_ns + margin_ns;
}

bool followers_settled(const struct followers *f, uint64_t index, int64_t now_ns,
                       int64_t *ret_until_ns)
{
    int64_t until = INT64_MAX;
    bool settled = true;
    for (size_t i = 0; i < f->n; i++) {
        const struct follower *follower = &f->all[i];
        if (follower->acked >= index || !is_waited_for(follower, now_ns))
            continue;
        settled = false;
        until = MIN(until, follower->lease_until_ns + LEASE_MARGIN_NS);
    }
    if (!settled)
        *ret_until_ns = until;
    return settled;
}

bool followers_expire(struct followers *f, int64_t now_ns, struct follower **ret_lost)
{
    for (size_t i = 0; i < f->n; i++) {
        struct follower *follower = &f->all[i];
        if (follower->is_member && !is_waited_for(follower, now_ns)) {
            follower->is_member = false;
            *ret_lost = follower;
            return true;
        }
    }
    return false;
}

size_t followers_members(const struct followers *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->all[i].is_member;
    return n;
}
