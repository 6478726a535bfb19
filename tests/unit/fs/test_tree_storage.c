/* What the environment must stand: ends without a close, a full map, copies, batches, many readers, large directories. */
#include "tests/unit/fs/test_tree_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "fs/tree/impl.h"
#include "proto/base/clock.h"

/* ---- listing ---- */

struct listing {
    int n, limit;
    uint64_t cookie;
    char names[64][16];
};

static bool list_name(void *ctx, struct span name, uint64_t cookie, const struct inode *inode)
{
    struct listing *l = ctx;
    cr_assert_neq(inode->ino, 0);
    cr_assert_gt(cookie, l->cookie);
    l->cookie = cookie;
    if (l->n < 64)
        snprintf(l->names[l->n], sizeof l->names[0], "%.*s", (int)name.size,
                 (const char *)name.data);
    l->n++;
    return l->n < l->limit;
}

static int n_seen(const struct listing *l, const char *name)
{
    int n = 0;
    for (int i = 0; i < l->n && i < 64; i++)
        n += strcmp(l->names[i], name) == 0;
    return n;
}

static void list_more(struct tree_fixture *t, uint64_t dir, struct listing *l, int n)
{
    l->limit = l->n + n;
    cr_assert_eq(tree_readdir(t->tree, dir, l->cookie, list_name, l), 0);
}

/* Names that were there all along are met exactly once while others come, go, are renamed and replaced. */
Test(tree_storage, readdir_is_stable)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR), e = made(&t, ROOT_INO, "e", S_IFDIR);
    char name[16];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "n%02d", i);
        made(&t, d, name, S_IFREG);
    }
    made(&t, e, "other", S_IFREG);
    made(&t, e, "third", S_IFREG);
    struct listing l = {0};
    list_more(&t, d, &l, 10);
    cr_assert_eq(l.n, 10);
    cr_expect_eq(ASK(&t, UNLINK, .parent = d, .name = str("n02")), 0); /* met */
    cr_expect_eq(ASK(&t, UNLINK, .parent = d, .name = str("n12")), 0); /* to come */
    cr_expect_eq(ASK(&t, UNLINK, .parent = d, .name = str("n09")), 0); /* where the cookie stands */
    cr_expect_eq(move(&t, d, "n03", d, "m03", 0), 0);
    cr_expect_eq(move(&t, d, "n13", d, "m13", 0), 0);
    cr_expect_eq(move(&t, e, "other", d, "n04", 0), 0);
    cr_expect_eq(move(&t, e, "third", d, "n14", RENAME_EXCHANGE), 0);
    made(&t, d, "new", S_IFREG);
    list_more(&t, d, &l, 100);
    cr_expect_eq(l.n, 10 + 10 - 1 + 1);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "n%02d", i);
        cr_expect_eq(n_seen(&l, name), i != 12 && i != 13, "%s", name);
    }
    cr_expect_eq(n_seen(&l, "m03"), 0);
    cr_expect_eq(n_seen(&l, "m13"), 1);
    cr_expect_eq(n_seen(&l, "new"), 1);
    cr_expect_eq(tree_readdir(t.tree, 999, 0, list_name, &l), -ENOENT);
    cr_expect_eq(tree_readdir(t.tree, d, UINT64_MAX, list_name, &l), 0);
}

/* Renaming everything that is listed comes to an end. */
Test(tree_storage, readdir_while_renaming)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR);
    char name[16], to[24];
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "%02d", i);
        made(&t, d, name, S_IFREG);
    }
    struct listing l = {0};
    int n = 0;
    for (list_more(&t, d, &l, 1); l.n > n && n < 64; list_more(&t, d, &l, 1)) {
        snprintf(to, sizeof to, "%s.bak", l.names[n++]);
        cr_assert_eq(move(&t, d, l.names[n - 1], d, to, 0), 0);
    }
    cr_expect_eq(n, 30);
}

/* Fills a directory. */
static void fill(struct tree_fixture *t, uint64_t dir, int n)
{
    uint64_t index = tree_applied(t->tree);
    char name[16];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "f%08d", i);
        struct request rq = {.kind = REQUEST_MAKE,
                             .parent = dir,
                             .name = str(name),
                             .mode = S_IFREG | 0644,
                             .identity = {HOST_A, 9, 1 + (uint64_t)i}};
        struct change change;
        cr_assert_eq(tree_decide(t->tree, &rq, 1, &change, &t->outcome), 0);
        change.index = ++index;
        cr_assert_eq(tree_apply(t->tree, &change, &t->effect), 0);
    }
    cr_assert_eq(tree_applied(t->tree), index);
}

/* A directory of 100 000 is read in pages of a hundred at a cost that does not grow with it. */
Test(tree_storage, large_directory, .timeout = 60)
{
    struct tree_fixture t __attribute__((cleanup(fixture_done))) = {.dirfd = -1};
    fixture_init_map(&t, 1ULL << 30);
    fill(&t, ROOT_INO, 100000);
    struct listing l = {0};
    int64_t start = clock_mono_ns();
    int before;
    do {
        before = l.n;
        list_more(&t, ROOT_INO, &l, 100);
    } while (l.n > before);
    int64_t took = clock_mono_ns() - start;
    cr_expect_eq(l.n, 100000);
    cr_expect_lt(took, 5 * NS_PER_S, "100 000 entries took %lld ms", (long long)(took / NS_PER_MS));
    struct inode inode;
    cr_expect_eq(tree_lookup(t.tree, ROOT_INO, str("f00099999"), &inode), 0);
}

/* ---- ends and copies ---- */

/* What was committed by a process that ended without closing is there for the next one, and no part of what was not. */
Test(tree_storage, survives_the_process)
{
    struct tree_fixture t __attribute__((cleanup(fixture_done))) = {.dirfd = -1};
    fixture_dir(&t);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        if (tree_open(t.dirfd, SMALL_MAP, &t.tree) != 0)
            _exit(2);
        int r = ASK(&t, CONFIGURE, .limit_bytes = LIMIT_BYTES, .home = 1, .mode = 0755);
        char name[16];
        for (int i = 0; i < 1000 && r == 0; i++) {
            snprintf(name, sizeof name, "f%d", i);
            r = make(&t, ROOT_INO, name, S_IFREG);
        }
        MDB_txn *reader; /* a slot that nobody gives back */
        if (tree_read_begin(t.tree, &reader) != 0)
            _exit(3);
        struct change half = {
            .request = {.kind = REQUEST_UNLINK,
                        .parent = ROOT_INO,
                        .name = str("f0"),
                        .identity = {HOST_A, 1, 1}},
            .index = 1002,
            .ino = 2,
        };
        if (tree_apply(t.tree, &half, &t.effect) != 0)
            _exit(4);
        _exit(r == 0 ? 0 : 5); /* before a commit */
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);

    fixture_reopen(&t, SMALL_MAP);
    cr_expect_eq(tree_applied(t.tree), 1001);
    cr_expect_eq(ino_at(&t, ROOT_INO, "f0"), 2);
    cr_expect_eq(ino_at(&t, ROOT_INO, "f999"), 1001);
    struct tree_usage usage;
    tree_usage(t.tree, &usage);
    cr_expect_eq(usage.n_inodes, 1001);
    cr_expect_eq(ask(&t, (struct request){.kind = REQUEST_MAKE,
                                          .parent = ROOT_INO,
                                          .name = str("f5"),
                                          .mode = S_IFREG,
                                          .identity = {HOST_A, 7, 7}}),
                 1);
    t.unique = 5000;
    cr_expect_eq(make(&t, ROOT_INO, "more", S_IFREG), 0);
}

/* A checkpoint says the index it stands at and, put in the place of the state, is the state. */
Test(tree_storage, checkpoint)
{
    TREE_FIXTURE(t);
    fill(&t, ROOT_INO, 500);
    uint64_t index = 0;
    cr_assert_eq(tree_checkpoint(t.tree, t.dirfd, "checkpoint", &index), 0);
    cr_expect_eq(index, 501);
    cr_expect_eq(tree_checkpoint(t.tree, t.dirfd, "checkpoint", &index), -EEXIST);
    made(&t, ROOT_INO, "after", S_IFREG);
    tree_free(TAKE(t.tree));
    cr_assert_eq(renameat(t.dirfd, "checkpoint", t.dirfd, TREE_FILE), 0);
    cr_assert_eq(unlinkat(t.dirfd, TREE_DIRECTORY "/lock.mdb", 0), 0);
    fixture_reopen(&t, SMALL_MAP);
    cr_expect_eq(tree_applied(t.tree), 501);
    cr_expect_eq(lookup(&t, ROOT_INO, "f00000499"), 0);
    cr_expect_eq(lookup(&t, ROOT_INO, "after"), -ENOENT);
    t.unique = 5000;
    made(&t, ROOT_INO, "after", S_IFREG);
    cr_expect_eq(tree_sync(t.tree), 0);
}

/* An empty tree has a checkpoint too: what a replica that has seen nothing starts from. */
Test(tree_storage, checkpoint_of_nothing)
{
    struct tree_fixture t __attribute__((cleanup(fixture_done))) = {.dirfd = -1};
    fixture_dir(&t);
    fixture_reopen(&t, SMALL_MAP);
    uint64_t index = 9;
    cr_expect_eq(tree_checkpoint(t.tree, t.dirfd, "checkpoint", &index), 0);
    cr_expect_eq(index, 0);
    struct inode root;
    cr_expect_eq(tree_get(t.tree, ROOT_INO, &root), -ENOENT);
    cr_expect_eq(ASK(&t, SESSION), -EINVAL);
}

/* A file that is no state of ours is refused, not opened. */
Test(tree_storage, garbage)
{
    struct tree_fixture t __attribute__((cleanup(fixture_done))) = {.dirfd = -1};
    fixture_dir(&t);
    cr_assert_eq(mkdirat(t.dirfd, TREE_DIRECTORY, 0700), 0);
    int fd = openat(t.dirfd, TREE_FILE, O_WRONLY | O_CREAT, 0600);
    static char junk[8192];
    memset(junk, 'j', sizeof junk);
    cr_assert_eq(write(fd, junk, sizeof junk), (ssize_t)sizeof junk);
    close(fd);
    cr_expect_eq(tree_open(t.dirfd, SMALL_MAP, &t.tree), -EBADMSG);
    cr_expect_null(t.tree);
}

/* ---- what is pending ---- */

static struct change made_as(uint64_t index, const char *name)
{
    return (struct change){
        .request = {.kind = REQUEST_MAKE,
                    .parent = ROOT_INO,
                    .name = str(name),
                    .mode = S_IFREG,
                    .identity = {HOST_A, 1, index}},
        .index = index,
        .ino = index,
    };
}

/* The index that somebody who has nothing but the file would find. */
static uint64_t index_in_file(struct tree_fixture *t)
{
    SCOPED_LOCK(&t->tree->lock);
    return t->tree->committed;
}

/* What is applied is read at once, by name and in listings, and is in the file after a few more, or when asked for. */
Test(tree_storage, pending)
{
    TREE_FIXTURE(t);
    cr_assert_eq(tree_commit(t.tree), 0);
    cr_assert_eq(index_in_file(&t), 1);
    struct change change = made_as(2, "f");
    cr_assert_eq(tree_apply(t.tree, &change, &t.effect), 0);
    cr_expect_eq(lookup(&t, ROOT_INO, "f"), 0);
    cr_expect_eq(tree_applied(t.tree), 2);
    cr_expect_eq(index_in_file(&t), 1);
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect),
                 0); /* known before it is committed as well */
    cr_assert_eq(tree_commit(t.tree), 0);
    cr_expect_eq(index_in_file(&t), 2);

    change = made_as(3, "g");
    cr_assert_eq(tree_apply(t.tree, &change, &t.effect), 0);
    struct listing l = {0};
    list_more(&t, ROOT_INO, &l, 10);
    cr_expect_eq(l.n, 2);

    char name[16];
    for (uint64_t i = 4; i < 100; i++) {
        snprintf(name, sizeof name, "f%d", (int)i);
        change = made_as(i, name);
        cr_assert_eq(tree_apply(t.tree, &change, &t.effect), 0);
        cr_assert_lt(tree_applied(t.tree) - index_in_file(&t), PENDING_MAX);
    }
}

/* After a change that does not fit everything is refused; the next opening finds what was committed. */
Test(tree_storage, misfit)
{
    TREE_FIXTURE(t);
    struct change change = made_as(2, "f"), bad = made_as(3, "f");
    cr_assert_eq(tree_apply(t.tree, &change, &t.effect), 0);
    cr_assert_eq(tree_commit(t.tree), 0);
    cr_expect_eq(tree_apply(t.tree, &bad, &t.effect), -EBADMSG);
    change = made_as(3, "g");
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect), -EIO);
    struct inode inode;
    cr_expect_eq(tree_get(t.tree, ROOT_INO, &inode), -EIO);
    cr_expect_lt(tree_commit(t.tree), 0);
    fixture_reopen(&t, SMALL_MAP);
    cr_expect_eq(tree_applied(t.tree), 2);
    cr_expect_eq(lookup(&t, ROOT_INO, "f"), 0);
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect), 0);
    cr_expect_eq(lookup(&t, ROOT_INO, "g"), 0);
}

/* ---- a full map ---- */

static int fill_until_full(struct tree_fixture *t, const char *prefix, size_t xattr_bytes,
                           int *ret_n)
{
    static uint8_t value[XATTR_VALUE_BYTES_MAX];
    char name[32];
    for (*ret_n = 0;; ++*ret_n) {
        snprintf(name, sizeof name, "%s%d", prefix, *ret_n);
        int r = make(t, ROOT_INO, name, S_IFREG);
        if (r == 0 && xattr_bytes)
            r = ASK(t, SETXATTR, .ino = t->effect.outcome.ino, .name = str("user.v"),
                    .value = {value, xattr_bytes});
        if (r < 0)
            return r;
    }
}

/* When the map is full new names are refused, nothing that was decided fails, and removing makes room again. */
Test(tree_storage, full_map, .timeout = 60)
{
    struct tree_fixture t __attribute__((cleanup(fixture_done))) = {.dirfd = -1};
    fixture_init_map(&t, 2u << 20);
    int first = 0;
    for (int round = 0; round < 6; round++) {
        int n;
        cr_assert_eq(fill_until_full(&t, "f", round % 2 ? 3000 : 0, &n), -ENOSPC);
        cr_assert_gt(n, 50);
        if (round == 0)
            first = n;
        if (round % 2 == 0)
            cr_expect_gt(n, first / 2, "round %d: %d of %d", round, n, first);
        cr_expect_eq(ASK(&t, SETATTR, .ino = ROOT_INO, .set = SET_MTIME_NOW), 0);
        char name[32];
        for (int i = 0; i <= n; i++) {
            snprintf(name, sizeof name, "f%d", i);
            int r = ASK(&t, UNLINK, .parent = ROOT_INO, .name = str(name));
            cr_assert(r == 0 || (i == n && r == -ENOENT), "round %d name %d: %d", round, i, r);
        }
        cr_expect_eq(ASK(&t, SESSION, .identity = {HOST_A, 1000 + (uint64_t)round, 1}), 0);
        fixture_reopen(&t, 2u << 20);
    }
    struct tree_usage usage;
    tree_usage(t.tree, &usage);
    cr_expect_eq(usage.n_inodes, 1);
}

/* Applying what somebody else decided into a map that is too small fails cleanly: -ENOSPC, and the state stands. */
Test(tree_storage, apply_into_full_map, .timeout = 60)
{
    struct tree_fixture t __attribute__((cleanup(fixture_done))) = {.dirfd = -1};
    fixture_init_map(&t, 1u << 20);
    char name[32];
    int r = 0, n = 0;
    for (; r == 0 && n < 100000; n += r == 0) {
        snprintf(name, sizeof name, "f%d", n);
        struct change change = {
            .request = {.kind = REQUEST_MAKE,
                        .parent = ROOT_INO,
                        .name = str(name),
                        .mode = S_IFREG,
                        .identity = {HOST_A, 1, (uint64_t)n}},
            .index = tree_applied(t.tree) + 1,
            .ino = (uint64_t)n + 2,
        };
        r = tree_apply(t.tree, &change, &t.effect);
    }
    cr_expect_eq(r, -ENOSPC);
    cr_expect_eq(tree_applied(t.tree), (uint64_t)n + 1);
    cr_expect_eq(lookup(&t, ROOT_INO, name), -EIO);
    fixture_reopen(&t, 8u << 20);
    cr_expect_eq(tree_applied(t.tree), (uint64_t)n + 1);
    cr_expect_eq(lookup(&t, ROOT_INO, name), -ENOENT);
    cr_expect_eq(lookup(&t, ROOT_INO, "f0"), 0);
    cr_expect_eq(make(&t, ROOT_INO, name, S_IFREG), 0);
}

/* ---- readers ---- */

struct reading {
    struct tree *tree;
    atomic_bool stop;
    atomic_int n_bad;
};

/* a and b are exchanged for ever: in each snapshot both are there, and they differ. */
static bool note_ino(void *ctx, struct span name UNUSED, uint64_t cookie UNUSED,
                     const struct inode *inode)
{
    uint64_t *inos = ctx;
    inos[inos[0] ? 1 : 0] = inode->ino;
    return true;
}

static void *read_on(void *arg)
{
    struct reading *reading = arg;
    while (!atomic_load(&reading->stop)) {
        uint64_t inos[2] = {0};
        struct inode inode;
        if (tree_readdir(reading->tree, ROOT_INO, 0, note_ino, inos) != 0 || inos[1] == 0 ||
            inos[0] == inos[1])
            atomic_fetch_add(&reading->n_bad, 1);
        if (tree_lookup(reading->tree, ROOT_INO, str("a"), &inode) != 0)
            atomic_fetch_add(&reading->n_bad, 1);
    }
    return NULL;
}

Test(tree_storage, readers_beside_a_writer, .timeout = 60)
{
    TREE_FIXTURE(t);
    made(&t, ROOT_INO, "a", S_IFREG);
    made(&t, ROOT_INO, "b", S_IFREG);
    struct reading reading = {.tree = t.tree};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(thread_start(&threads[i], "reader", read_on, &reading), 0);
    for (int i = 0; i < 3000; i++)
        cr_assert_eq(move(&t, ROOT_INO, "a", ROOT_INO, "b", RENAME_EXCHANGE), 0);
    atomic_store(&reading.stop, true);
    for (int i = 0; i < 4; i++)
        thread_join(threads[i]);
    cr_expect_eq(atomic_load(&reading.n_bad), 0);
    cr_expect_leq(t.tree->n_idle, 4 + 2);
    /* readers that rest keep their slots and hold no old pages */
    MDB_envinfo before, after;
    cr_assert_eq(mdb_env_info(t.tree->env, &before), 0);
    cr_expect_leq(before.me_numreaders, 4 + 2);
    for (int i = 0; i < 3000; i++)
        cr_assert_eq(move(&t, ROOT_INO, "a", ROOT_INO, "b", RENAME_EXCHANGE), 0);
    cr_assert_eq(mdb_env_info(t.tree->env, &after), 0);
    cr_expect_lt(after.me_last_pgno, before.me_last_pgno + 200);
}

struct nesting {
    struct tree *tree;
    int depth;
};

static bool nest(void *ctx, const struct inode *inode UNUSED)
{
    struct nesting *n = ctx;
    n->depth++;
    int r = tree_each(n->tree, 0, nest, n);
    cr_expect(r == 0 || r == -EAGAIN);
    return false;
}

/* With all reader slots in use one more read is refused, and afterwards reads go on. */
Test(tree_storage, too_many_readers)
{
    TREE_FIXTURE(t);
    struct nesting n = {.tree = t.tree};
    cr_expect_eq(tree_each(t.tree, 0, nest, &n), 0);
    cr_expect_geq(n.depth, 1000);
    cr_expect_leq(n.depth, TREE_READERS_MAX);
    cr_expect_eq(t.tree->n_idle, IDLE_MAX);
    stat_of(&t, ROOT_INO);
}
