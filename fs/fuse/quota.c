/* fs/fuse/quota.c — published plus grown here. */
#include "fs/fuse/quota.h"

#include <errno.h>

#include "fs/fuse/node.h"

#define UNIT 4096u
#define HEADROOM_BYTES (1ULL << 30)

static uint64_t rounded(uint64_t size)
{
    return size > UINT64_MAX - UNIT ? UINT64_MAX & ~(uint64_t)(UNIT - 1)
                                    : (size + UNIT - 1) & ~(uint64_t)(UNIT - 1);
}

static uint64_t growth_of(const struct node *node, uint64_t size)
{
    uint64_t now = rounded(size), before = rounded(node->published_size);
    return now > before ? now - before : 0;
}

static void count_locked(struct quota *quota, struct node *node, uint64_t size)
{
    uint64_t growth = growth_of(node, size);
    quota->growth_bytes = quota->growth_bytes - node->counted_bytes + growth;
    node->counted_bytes = growth;
}

/* Passed-through writers grow unseen. */
static void look_at_writers_locked(struct quota *quota, const struct node *except)
{
    list_for_each(node, &quota->writers, struct node, in_writers)
    {
        if (node != except && node->n_passthrough > 0)
            count_locked(quota, node, content_size(node->content));
    }
}

void quota_init(struct quota *quota, struct tree *tree)
{
    quota->tree = tree;
    mutex_init(&quota->lock, LOCK_quota);
    list_init(&quota->writers);
}

void quota_done(struct quota *quota)
{
    CHECK(list_empty(&quota->writers));
    mutex_done(&quota->lock);
}

void quota_join(struct quota *quota, struct node *node, uint64_t published_size)
{
    SCOPED_LOCK(&quota->lock);

    if (list_empty(&node->in_writers))
        list_append(&quota->writers, &node->in_writers);
    node->published_size = published_size;
    count_locked(quota, node, content_size(node->content));
}

void quota_published(struct quota *quota, struct node *node, uint64_t published_size,
                     uint64_t size_now)
{
    SCOPED_LOCK(&quota->lock);

    node->published_size = published_size;
    count_locked(quota, node, size_now);
}

void quota_leave(struct quota *quota, struct node *node)
{
    SCOPED_LOCK(&quota->lock);

    list_remove(&node->in_writers);
    quota->growth_bytes -= node->counted_bytes;
    node->counted_bytes = 0;
}

void quota_settle(struct quota *quota, struct node *node, uint64_t size_now)
{
    SCOPED_LOCK(&quota->lock);
    count_locked(quota, node, size_now);
}

int quota_grow(struct quota *quota, struct node *node, uint64_t size_now, uint64_t new_size,
               uint64_t *ret_size)
{
    struct tree_usage usage;
    SCOPED_LOCK(&quota->lock);

    tree_usage(quota->tree, &usage);
    look_at_writers_locked(quota, node);
    uint64_t others = usage.used_bytes + quota->growth_bytes - node->counted_bytes;
    uint64_t room = others < usage.limit_bytes ? usage.limit_bytes - others : 0;
    uint64_t size = new_size;
    if (usage.limit_bytes > 0 && growth_of(node, size) > room)
        size = MIN(new_size, rounded(node->published_size) + (room & ~(uint64_t)(UNIT - 1)));
    if (size <= size_now && new_size > size_now)
        return -ENOSPC;
    count_locked(quota, node, MAX(size, size_now));
    *ret_size = size;
    return 0;
}

void quota_state(struct quota *quota, struct quota_state *ret_state)
{
    struct tree_usage usage;
    SCOPED_LOCK(&quota->lock);

    tree_usage(quota->tree, &usage);
    look_at_writers_locked(quota, NULL);
    *ret_state = (struct quota_state){.limit_bytes = usage.limit_bytes,
                                      .used_bytes = usage.used_bytes + quota->growth_bytes,
                                      .n_inodes = usage.n_inodes};
}

bool quota_has_headroom(struct quota *quota)
{
    struct quota_state state;

    quota_state(quota, &state);
    if (state.limit_bytes == 0)
        return true;
    uint64_t free_bytes =
        state.limit_bytes > state.used_bytes ? state.limit_bytes - state.used_bytes : 0;
    return free_bytes >= MAX(HEADROOM_BYTES, state.limit_bytes / 4);
}
