/* fs/fuse/closer.c — the thread that closes what could not be closed. */
#include "fs/fuse/closer.h"

#include <errno.h>
#include <inttypes.h>

#include "fs/fuse/live.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

/* True: nothing is left to do for it. */
static bool close_node(struct session *s, struct node *node)
{
    if (node_claim(node, clock_mono_ns() + REQUEST_TIMEOUT_NS) < 0)
        return false;
    int r = node->n_write == 0 ? live_end_write(s, node) : 0;
    bool done = r == 0 || (!node->writing && !node->unsure);
    if (done)
        live_unuse(node);
    node_unclaim(node);
    if (done)
        log_info("fuse", "closed at last volume=%s inode=%" PRIu64, s->name, node->ino);
    return done;
}

/* Waits for the next node that is due. NULL: stop. */
static struct node *next_node(struct closer *closer)
{
    SCOPED_LOCK(&closer->lock);

    while (!closer->stopping && list_empty(&closer->nodes))
        cond_wait(&closer->changed, &closer->lock);
    int64_t due_ns = clock_mono_ns() + NS_PER_S;
    while (!closer->stopping && clock_mono_ns() < due_ns)
        (void)!cond_wait_until(&closer->changed, &closer->lock, due_ns);
    if (closer->stopping || list_empty(&closer->nodes))
        return NULL;
    struct node *node = list_first(&closer->nodes, struct node, in_closer);
    list_remove(&node->in_closer);
    return node;
}

/* Unless somebody else has added it meanwhile: then theirs is the pin that stays. */
static void put_back(struct closer *closer, struct node *node)
{
    bool is_there;
    {
        SCOPED_LOCK(&closer->lock);
        is_there = !list_empty(&node->in_closer);
        if (!is_there)
            list_append(&closer->nodes, &node->in_closer);
    }
    if (is_there)
        node_put(&closer->session->nodes, node);
}

static void *closer_main(void *arg)
{
    struct closer *closer = arg;
    struct session *s = closer->session;
    struct node *node;

    while ((node = next_node(closer))) {
        if (close_node(s, node))
            node_put(&s->nodes, node);
        else
            put_back(closer, node);
    }
    return NULL;
}

void closer_add(struct closer *closer, struct node *node)
{
    if (closer->session->is_ending)
        return; /* there is no closer any more: the recovery at the next start closes it */
    node_pin(&closer->session->nodes, node);
    {
        SCOPED_LOCK(&closer->lock);
        if (list_empty(&node->in_closer)) {
            list_append(&closer->nodes, &node->in_closer);
            cond_signal(&closer->changed);
            return;
        }
    }
    node_put(&closer->session->nodes, node);
}

int closer_start(struct closer *closer, struct session *session)
{
    mutex_init(&closer->lock, LOCK_leaf);
    cond_init(&closer->changed);
    list_init(&closer->nodes);
    closer->session = session;
    int r = thread_start(&closer->thread, "fuse-closer", closer_main, closer);
    if (r < 0)
        closer->session = NULL;
    return r;
}

void closer_stop(struct closer *closer)
{
    {
        SCOPED_LOCK(&closer->lock);
        closer->stopping = true;
        cond_signal(&closer->changed);
    }
    thread_join(closer->thread);
    while (!list_empty(&closer->nodes)) {
        struct node *node = list_first(&closer->nodes, struct node, in_closer);
        list_remove(&node->in_closer);
        node_put(&closer->session->nodes, node);
    }
    cond_done(&closer->changed);
    mutex_done(&closer->lock);
}
