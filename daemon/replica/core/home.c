/* The home's side: who follows, what they lack, what may be answered. */
#include <errno.h>
#include <stdio.h>

#include "daemon/replica/core/broken.h"
#include "daemon/replica/core/core.h"

int core_restore_member(struct core *c, const char *name, int64_t until_ns)
{
    struct follower *follower;
    int r = followers_join(&c->followers, host_id_of(name), name, 0, &follower);
    if (r < 0)
        return r;
    bool is_known = followers_promote(&c->followers, follower->host, until_ns);
    CHECK(is_known);
    return 0;
}

/* A home that has stopped serves on: the last entries must reach its successor, and all who have to acknowledge them. */
int core_may_join(const struct core *c, uint64_t epoch)
{
    if (epoch > c->turn.epoch && !BROKEN(no_fence))
        return -ENOTCONN;
    if (core_is_home(c) || core_has_stopped(c))
        return 0;
    return c->is_taking_over || host_equal(c->turn.successor, c->self) ? -ENOTCONN : -EREMOTE;
}

int core_join(struct core *c, struct host_id host, const char *name, void *link,
              uint64_t have_index, bool has_applied)
{
    struct follower *follower;
    int r = followers_join(&c->followers, host, name, have_index, &follower);
    if (r < 0) {
        c->put_link(link);
        return r;
    }
    if (follower->link)
        c->put_link(follower->link);
    follower->link = link;
    if (!has_applied && !BROKEN(checkpoint_counts))
        follower->acked = 0;
    follower->handed = NULL;
    return 0;
}

int core_check_follower(const struct core *c, struct host_id host, const void *link, uint64_t epoch)
{
    const struct follower *follower = followers_find(&c->followers, host);
    if (!core_is_home(c))
        return -EREMOTE;
    if (BROKEN(no_fence))
        return follower ? 0 : -ENOTCONN;
    return follower && follower->link == link && epoch == c->turn.epoch ? 0 : -ENOTCONN;
}

/* Also after the stop: those who wait for what was decided before wait for these. */
void core_ack(struct core *c, struct host_id host, const void *link, uint64_t index)
{
    const struct follower *follower = followers_find(&c->followers, host);
    if (follower && (follower->link == link || BROKEN(no_fence)))
        followers_ack(&c->followers, host, index);
}

int core_renew(struct core *c, struct host_id host, const void *link, uint64_t epoch,
               uint64_t applied, int64_t now_ns, bool *ret_is_member)
{
    int r = core_check_follower(c, host, link, epoch);
    if (r < 0)
        return r;
    const struct follower *follower = followers_find(&c->followers, host);
    if (!followers_renew(&c->followers, host, MIN(applied, follower->sent), now_ns))
        return -ENOTCONN;
    *ret_is_member = follower->is_member;
    return 0;
}

int core_promote(struct core *c, struct host_id host, const void *link, uint64_t epoch,
                 int64_t now_ns, bool *ret_was_alone, uint64_t *ret_index)
{
    int r = core_check_follower(c, host, link, epoch);
    if (r < 0)
        return r;
    *ret_was_alone = followers_members(&c->followers) == 0;
    *ret_index = c->last;
    return followers_promote(&c->followers, host, now_ns + LEASE_NS) ? 0 : -ENOTCONN;
}

/* A successor that has taken an offer does not say this, and one that says it takes none. */
void core_leave(struct core *c, struct host_id host, const void *link)
{
    struct follower *follower = followers_find(&c->followers, host);
    if (!follower || follower->link != link)
        return;
    c->put_link(TAKE(follower->link));
    followers_remove(&c->followers, host);
    if (core_has_stopped(c) && host_equal(host, c->turn.successor))
        c->has_successor_left = true;
}

void core_appended(struct core *c, uint64_t index)
{
    c->last = index;
}

bool core_settled(const struct core *c, uint64_t index, int64_t now_ns, int64_t *ret_until_ns)
{
    *ret_until_ns = INT64_MAX;
    if (BROKEN(answer_before_ack))
        return true;
    if ((c->is_taking_over && !BROKEN(start_not_durable)) || index >= c->fence || c->has_yielded)
        return false;
    return followers_settled(&c->followers, index, now_ns, ret_until_ns);
}

static uint64_t sendable(const struct core *c)
{
    return MIN(c->last, c->fence - 1);
}

static bool wants_push(const struct core *c, const struct follower *follower)
{
    uint64_t taken = MIN(MAX(follower->acked, follower->joined), follower->sent);
    return follower->link && follower->sent < sendable(c) && follower->sent - taken < PUSH_WINDOW;
}

struct follower *core_next_push(struct core *c, size_t *turn, uint64_t *ret_from, uint64_t *ret_to)
{
    for (size_t i = 0; i < c->followers.n; i++) {
        struct follower *follower = &c->followers.all[(*turn + i) % c->followers.n];
        if (!wants_push(c, follower))
            continue;
        *turn += i + 1;
        *ret_from = follower->sent + 1;
        *ret_to = sendable(c);
        return follower;
    }
    return NULL;
}

bool core_sent(struct core *c, struct host_id host, const void *link, uint64_t from, uint64_t to)
{
    struct follower *follower = followers_find(&c->followers, host);
    if (!follower || follower->link != link)
        return false;
    if (to >= from && follower->sent != from - 1)
        return false;
    follower->sent = to;
    return true;
}

bool core_expire_member(struct core *c, int64_t now_ns, char ret_name[HOST_NAME_MAX_BYTES + 1])
{
    struct follower *lost;
    if (!followers_expire(&c->followers, now_ns, &lost))
        return false;
    (void)snprintf(ret_name, HOST_NAME_MAX_BYTES + 1, "%s", lost->name);
    if (!lost->link)
        followers_remove(&c->followers, lost->host);
    return true;
}
