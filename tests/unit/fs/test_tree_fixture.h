/* tests/unit/fs/test_tree_fixture.h — a tree in a directory of its own, and requests in one line. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/tree/tree.h"

#define HOST_A ((struct host_id){0xa})
#define HOST_B ((struct host_id){0xb})
#define LIMIT_BYTES (1ULL << 30)
#define SMALL_MAP (64ULL << 20)

struct tree_fixture {
    char path[64];
    int dirfd;
    struct tree *tree;
    int64_t now_ns;
    uint64_t unique;
    struct tree_effect effect; /* of the last change */
    struct outcome outcome;    /* of the last request that led to none */
};

static inline struct span str(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

static inline void fixture_dir(struct tree_fixture *t)
{
    const char *base = getenv("TMPDIR");
    snprintf(t->path, sizeof t->path, "%s/whiskfs-tree-XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(t->path));
    t->dirfd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(t->dirfd, 0);
    t->now_ns = 1000;
}

static inline void fixture_done(struct tree_fixture *t)
{
    tree_free(t->tree);
    (void)unlinkat(t->dirfd, TREE_DIRECTORY "/data.mdb", 0);
    (void)unlinkat(t->dirfd, TREE_DIRECTORY "/lock.mdb", 0);
    (void)unlinkat(t->dirfd, TREE_DIRECTORY, AT_REMOVEDIR);
    (void)unlinkat(t->dirfd, "checkpoint", 0);
    close(t->dirfd);
    cr_expect_eq(rmdir(t->path), 0);
}

static inline void fixture_reopen(struct tree_fixture *t, uint64_t map_bytes)
{
    tree_free(t->tree);
    t->tree = NULL;
    cr_assert_eq(tree_open(t->dirfd, map_bytes, &t->tree), 0);
}

/* Decides and applies as the home does. 0, 1 (known), 2 (nothing to do), or the errno. */
static inline int ask(struct tree_fixture *t, struct request rq)
{
    if (rq.identity.host.n == 0)
        rq.identity.host = HOST_A;
    if (rq.identity.session == 0)
        rq.identity.session = 7;
    if (rq.identity.unique == 0)
        rq.identity.unique = ++t->unique;
    t->now_ns++;
    struct change change;
    int r = tree_decide(t->tree, &rq, t->now_ns, &change, &t->outcome);
    if (r != 0)
        return r;
    change.index = tree_applied(t->tree) + 1;
    cr_assert_eq(tree_apply(t->tree, &change, &t->effect), 0);
    cr_assert_eq(tree_applied(t->tree), change.index);
    cr_assert_eq(t->effect.outcome.index, change.index);
    return 0;
}

#define ASK(t, k, ...) ask(t, (struct request){.kind = REQUEST_##k, __VA_ARGS__})

static inline void fixture_init_map(struct tree_fixture *t, uint64_t map_bytes)
{
    fixture_dir(t);
    fixture_reopen(t, map_bytes);
    cr_assert_eq(ASK(t, CONFIGURE, .limit_bytes = LIMIT_BYTES, .home = HOST_A.n, .mode = 0755), 0);
}

static inline void fixture_init(struct tree_fixture *t)
{
    fixture_init_map(t, SMALL_MAP);
}

#define TREE_FIXTURE(name)                                                                         \
    struct tree_fixture name __attribute__((cleanup(fixture_done))) = {.dirfd = -1};               \
    fixture_init(&name)

static inline int make(struct tree_fixture *t, uint64_t parent, const char *name, mode_t mode)
{
    return ASK(t, MAKE, .parent = parent, .name = str(name), .mode = mode);
}

/* Makes it and returns its number. */
static inline uint64_t made(struct tree_fixture *t, uint64_t parent, const char *name, mode_t mode)
{
    cr_assert_eq(make(t, parent, name, mode), 0, "cannot make %s", name);
    return t->effect.outcome.ino;
}

static inline struct inode stat_of(struct tree_fixture *t, uint64_t ino)
{
    struct inode inode = {0};
    cr_assert_eq(tree_get(t->tree, ino, &inode), 0);
    return inode;
}

static inline int lookup(struct tree_fixture *t, uint64_t parent, const char *name)
{
    struct inode inode;
    return tree_lookup(t->tree, parent, str(name), &inode);
}

static inline uint64_t ino_at(struct tree_fixture *t, uint64_t parent, const char *name)
{
    struct inode inode;
    return tree_lookup(t->tree, parent, str(name), &inode) == 0 ? inode.ino : 0;
}

static inline int move(struct tree_fixture *t, uint64_t parent, const char *name, uint64_t to,
                       const char *new_name, uint32_t flags)
{
    return ASK(t, RENAME, .parent = parent, .name = str(name), .new_parent = to,
               .new_name = str(new_name), .rename_flags = flags);
}
