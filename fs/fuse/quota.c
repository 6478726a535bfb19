/* fs/fuse/quota.c — published plus grown here, counted by what files occupy. */
#include "fs/fuse/quota.h"

#include <errno.h>

#include "fs/fuse/node.h"

#define UNIT 4096u

static uint64_t rounded_down(uint64_t bytes)
{
    return bytes & ~(uint64_t)(UNIT - 1);
}

/* The bytes of whole units that [offset, offset + size) touches. */
static uint64_t touched(uint64_t offset, uint64_t size)
{
    return rounded_down(offset + size + UNIT - 1) - rounded_down(offset);
}

/* What shrank counts as free only when nobody else, the tree, may count it as free too. */
static void count_locked(struct quota *quota, struct node *node) REQUIRES(quota->lock)
{
    int64_t growth = (int64_t)(content_occupied(node->content) - node->published_bytes);
    if (node->is_publishing)
        growth = MAX(growth, 0);
    quota->growth_bytes += growth - node->counted_bytes;
    node->counted_bytes = growth;
}

/* Passed-through writers and maps grow unseen. */
static void look_at_writers_locked(struct quota *quota) REQUIRES(quota->lock)
{
    list_for_each(node, &quota->writers, struct node, in_writers) count_locked(quota, node);
}

static void state_locked(struct quota *quota, struct quota_state *ret_state) REQUIRES(quota->lock)
{
    struct tree_usage usage;

    tree_usage(quota->tree, &usage);
    int64_t used = (int64_t)usage.used_bytes + quota->growth_bytes;
    *ret_state = (struct quota_state){.limit_bytes = usage.limit_bytes,
                                      .used_bytes = used > 0 ? (uint64_t)used : 0,
                                      .limit_inodes = usage.limit_inodes,
                                      .n_inodes = usage.n_inodes};
}

static uint64_t room_locked(struct quota *quota) REQUIRES(quota->lock)
{
    struct quota_state state;

    state_locked(quota, &state);
    uint64_t used = state.used_bytes + quota->reserved_bytes;
    if (state.limit_bytes == 0)
        return UINT64_MAX;
    return state.limit_bytes > used ? state.limit_bytes - used : 0;
}

void quota_init(struct quota *quota, struct tree *tree, bool is_kernels)
{
    quota->tree = tree;
    quota->is_kernels = is_kernels;
    mutex_init(&quota->lock, LOCK_quota);
    list_init(&quota->writers);
}

void quota_done(struct quota *quota)
{
    CHECK(list_empty(&quota->writers));
    mutex_done(&quota->lock);
}

void quota_join(struct quota *quota, struct node *node, uint64_t published_bytes)
{
    SCOPED_LOCK(&quota->lock);

    if (list_empty(&node->in_writers))
        list_append(&quota->writers, &node->in_writers);
    node->published_bytes = published_bytes;
    count_locked(quota, node);
}

void quota_leave(struct quota *quota, struct node *node)
{
    SCOPED_LOCK(&quota->lock);

    list_remove(&node->in_writers);
    quota->growth_bytes -= node->counted_bytes;
    node->counted_bytes = 0;
    node->is_publishing = false;
}

void quota_publishing(struct quota *quota, struct node *node)
{
    SCOPED_LOCK(&quota->lock);

    node->is_publishing = true;
    count_locked(quota, node);
}

void quota_published(struct quota *quota, struct node *node, uint64_t published_bytes)
{
    SCOPED_LOCK(&quota->lock);

    node->is_publishing = false;
    node->published_bytes = published_bytes;
    count_locked(quota, node);
}

/* How much of [offset, offset + size) fits into room, given what of it is there already, and what that takes. */
static uint64_t fitting(struct node *node, uint64_t offset, uint64_t size, uint64_t room,
                        uint64_t *ret_taken)
{
    uint64_t end = offset + size, at = rounded_down(offset), taken = 0;

    while (at < end) {
        uint64_t run;
        bool is_there = content_is_allocated(node->content, at, end - at, &run);
        run = touched(at, run);
        if (!is_there && run > room - taken) {
            at += rounded_down(room - taken);
            taken = rounded_down(room);
            break;
        }
        taken += is_there ? 0 : run;
        at += run;
    }
    *ret_taken = taken;
    return at > offset ? MIN(size, at - offset) : 0;
}

int64_t quota_reserve(struct quota *quota, struct node *node, uint64_t offset, uint64_t size,
                      uint64_t *ret_reserved)
{
    uint64_t taken = 0;

    if (!quota->is_kernels && size > 0) {
        SCOPED_LOCK(&quota->lock);
        uint64_t room = room_locked(quota);
        taken = touched(offset, size);
        if (taken > room)
            size = fitting(node, offset, size, room, &taken);
        if (size == 0)
            return -ENOSPC;
        quota->reserved_bytes += taken;
    }
    *ret_reserved = taken;
    return (int64_t)size;
}

/* Where the kernel keeps the limit nothing was reserved, and whoever wants to know what is used looks at the writers. */
void quota_settle(struct quota *quota, struct node *node, uint64_t reserved_bytes)
{
    if (quota->is_kernels)
        return;
    SCOPED_LOCK(&quota->lock);

    quota->reserved_bytes -= reserved_bytes;
    count_locked(quota, node);
}

void quota_state(struct quota *quota, struct quota_state *ret_state)
{
    SCOPED_LOCK(&quota->lock);

    look_at_writers_locked(quota);
    state_locked(quota, ret_state);
}

bool quota_has_writers(struct quota *quota)
{
    SCOPED_LOCK(&quota->lock);
    return !list_empty(&quota->writers);
}

uint64_t quota_room(struct quota *quota)
{
    SCOPED_LOCK(&quota->lock);

    look_at_writers_locked(quota);
    return room_locked(quota);
}
