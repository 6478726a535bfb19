/* The node table: counts, generations, and what an unlinked or replaced inode leaves behind. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/stat.h>

#include "fs/fuse/node.h"
#include "proto/base/clock.h"

static const struct host_id SELF = {1}, OTHER = {2};
static struct node_table table;

static void set_up(void)
{
    cr_assert_eq(node_table_init(&table, SELF), 0);
}

static void tear_down(void)
{
    node_table_done(&table);
}

TestSuite(node, .init = set_up, .fini = tear_down, .timeout = 20);

static struct inode file(uint64_t ino, uint64_t version, struct host_id keeper)
{
    return (struct inode){
        .ino = ino, .version = version, .keeper = keeper, .mode = S_IFREG | 0644, .nlink = 1};
}

static uint64_t enter(struct inode inode)
{
    uint64_t id = 0;
    cr_assert_eq(node_enter(&table, &inode, &id), 0);
    return id;
}

/* The root is there from the start, under id 1, and no forget removes it. */
Test(node, root_stays)
{
    node_forget(&table, ROOT_INO, 100);
    struct node *root = node_get(&table, ROOT_INO);
    cr_assert_not_null(root);
    node_put(&table, root);
}

/* Lookups of one version share a node; it goes with the last of them. */
Test(node, counts_lookups)
{
    uint64_t id = enter(file(7, 10, OTHER));
    cr_assert_eq(enter(file(7, 10, OTHER)), id);
    node_forget(&table, id, 1);
    struct node *node = node_get(&table, id);
    cr_assert_not_null(node);
    node_forget(&table, id, 1);
    cr_assert_eq(node->ino, 7, "a pin keeps it");
    node_put(&table, node);
    cr_assert_null(node_get(&table, id));
}

/* A version from elsewhere is another node with the same inode number; the old one stays while it is known. */
Test(node, new_version_is_new_generation)
{
    uint64_t old = enter(file(7, 10, OTHER));
    uint64_t new = enter(file(7, 11, OTHER));
    cr_assert_neq(old, new);
    cr_assert_eq(id_ino(old), id_ino(new));
    cr_assert_eq(enter(file(7, 11, OTHER)), new);
    node_forget(&table, old, 1);
    cr_assert_null(node_get(&table, old));
    cr_assert_eq(enter(file(7, 11, OTHER)), new);
}

/* A lookup that was read before the newest publish does not bring the old generation back. */
Test(node, late_old_lookup_joins_newest)
{
    uint64_t new = enter(file(7, 11, OTHER));
    cr_assert_eq(enter(file(7, 10, OTHER)), new);
}

/* Published by another host: stale at once, before any lookup has seen the version. */
Test(node, publish_elsewhere_makes_stale)
{
    uint64_t old = enter(file(7, 10, OTHER));
    node_published(&table, 7, 11, true);
    cr_assert_neq(enter(file(7, 11, OTHER)), old);
}

/* This host's own versions stay in their node, also while the number is in the tree but not in the node yet. */
Test(node, own_publish_keeps_generation)
{
    uint64_t id = enter(file(7, 10, SELF));
    struct node *node = node_get(&table, id);
    node->writing = true;
    cr_assert_eq(enter(file(7, 11, SELF)), id);
    node_published(&table, 7, 11, false);
    node->writing = false;
    cr_assert_eq(enter(file(7, 11, SELF)), id);
    cr_assert_eq(node->version, 11);
    node_put(&table, node);
}

/* Directories have no content: one node, whatever else changes. */
Test(node, directories_have_one_generation)
{
    struct inode dir = {.ino = 9, .mode = S_IFDIR | 0755, .nlink = 2};
    uint64_t id = enter(dir);
    dir.version = 5;
    cr_assert_eq(enter(dir), id);
}

/* An id that an old descriptor still uses is never handed out again, not even after the newest was forgotten. */
Test(node, generation_in_use_is_skipped)
{
    uint64_t old = enter(file(7, 10, OTHER));
    uint64_t new = enter(file(7, 11, OTHER));
    node_forget(&table, new, 1);
    uint64_t third = enter(file(7, 12, OTHER));
    cr_assert_neq(third, old);
}

/* Unlinked while open: the node remembers, and the last close asks for the DROP. */
Test(node, unlinked_while_open)
{
    uint64_t id = enter(file(7, 10, SELF));
    struct node *node = node_get(&table, id);
    node_opening(&table, node);
    cr_assert(node_is_open(&table, 7));
    cr_assert_not(node_unlinked(&table, &(struct inode){.ino = 7}, true));
    {
        SCOPED_LOCK(node->lock);
        struct inode last = node_remembered_locked(node);
        cr_assert(last.nlink == 0 && last.ino == 7 && last.mode == (S_IFREG | 0644));
    }
    cr_assert(node->gone);
    node_forget(&table, id, 1);
    cr_assert(node_closed(&table, node), "the last close drops it");
    node_put(&table, node);
    cr_assert_null(node_get(&table, id));
}

/* Closed between the question whether it is open and the unlink: then the unlinker drops it. */
Test(node, unlinked_after_close)
{
    (void)enter(file(7, 10, SELF));
    cr_assert(node_unlinked(&table, &(struct inode){.ino = 7}, true));
    cr_assert(node_unlinked(&table, &(struct inode){.ino = 8}, true),
              "nobody knows it: dropped at once");
    cr_assert_not(node_unlinked(&table, &(struct inode){.ino = 8}, false));
}

/* Opens of any generation keep the inode held. */
Test(node, held_by_an_old_generation)
{
    uint64_t old = enter(file(7, 10, OTHER));
    struct node *node = node_get(&table, old);
    node_opening(&table, node);
    (void)enter(file(7, 11, OTHER));
    cr_assert(node_is_open(&table, 7));
    cr_assert_not(node_unlinked(&table, &(struct inode){.ino = 7}, true));
    cr_assert(node_closed(&table, node));
    node_put(&table, node);
}

/* The claim is exclusive, and waiting for it is bounded. */
Test(node, claim_is_bounded)
{
    struct node *node = node_get(&table, enter(file(7, 10, SELF)));
    cr_assert_eq(node_claim(node, clock_mono_ns()), 0);
    cr_assert_eq(node_claim(node, clock_mono_ns() + 10 * NS_PER_MS), -ETIMEDOUT);
    node_unclaim(node);
    cr_assert_eq(node_claim(node, clock_mono_ns()), 0);
    node_unclaim(node);
    node_put(&table, node);
}

/* All generations of an inode are told to the kernel. */
Test(node, ids_of_all_generations)
{
    uint64_t ids[4], first = enter(file(7, 10, OTHER)), second = enter(file(7, 11, OTHER));
    unsigned n = 0;
    cr_assert(node_ids(&table, 7, ids, 4, &n));
    cr_assert_eq(n, 2);
    cr_assert(ids[0] == first && ids[1] == second);
    cr_assert_not(node_ids(&table, 8, ids, 4, &n));
}
