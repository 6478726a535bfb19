/* Attributes, extended attributes, content versions, write ownership, sessions and identities. */
#include "tests/unit/fs/test_tree_fixture.h"

#include <sys/xattr.h>

static uint64_t used_bytes(struct tree_fixture *t)
{
    struct tree_usage usage;
    tree_usage(t->tree, &usage);
    return usage.used_bytes;
}

/* ---- attributes ---- */

Test(tree_inodes, setattr)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG | 0644);
    cr_expect_eq(ASK(&t, SETATTR, .ino = f, .set = SET_MODE | SET_ATIME | SET_MTIME, .mode = 04600,
                     .atime_ns = -5, .mtime_ns = 6),
                 0);
    struct inode inode = stat_of(&t, f);
    cr_expect_eq(inode.mode, (mode_t)(S_IFREG | 04600));
    cr_expect_eq(inode.atime_ns, -5);
    cr_expect_eq(inode.mtime_ns, 6);
    cr_expect_eq(inode.ctime_ns, t.now_ns);
    cr_expect_eq(t.effect.touched[0], f);
    cr_expect_eq(ASK(&t, SETATTR, .ino = f, .set = SET_ATIME_NOW | SET_MTIME_NOW, .atime_ns = 1),
                 0);
    cr_expect_eq(stat_of(&t, f).atime_ns, t.now_ns);
    cr_expect_eq(stat_of(&t, f).mtime_ns, t.now_ns);
    cr_expect_eq(ASK(&t, SETATTR, .ino = f), 2);
    cr_expect_eq(ASK(&t, SETATTR, .ino = 999, .set = SET_UID), -ENOENT);
    cr_expect_eq(ASK(&t, SETATTR, .ino = f, .set = SET_ALL + 1), -EINVAL);
}

/* chown takes setuid, and setgid where it means a group's identity, from files, unless the mode comes along. */
Test(tree_inodes, chown_clears_setid)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG | 06755);
    cr_expect_eq(ASK(&t, SETATTR, .ino = f, .set = SET_UID, .uid = 1), 0);
    cr_expect_eq(stat_of(&t, f).mode & 07777, 0755);
    cr_expect_eq(stat_of(&t, f).uid, 1);
    uint64_t g = made(&t, ROOT_INO, "g", S_IFREG | 06744); /* setgid without x: mandatory locking */
    cr_expect_eq(ASK(&t, SETATTR, .ino = g, .set = SET_GID, .gid = 1), 0);
    cr_expect_eq(stat_of(&t, g).mode & 07777, 02744);
    cr_expect_eq(ASK(&t, SETATTR, .ino = g, .set = SET_GID | SET_MODE, .gid = 2, .mode = 06755), 0);
    cr_expect_eq(stat_of(&t, g).mode & 07777, 06755);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR | 06755);
    cr_expect_eq(ASK(&t, SETATTR, .ino = d, .set = SET_UID, .uid = 1), 0);
    cr_expect_eq(stat_of(&t, d).mode & 07777, 06755);
}

Test(tree_inodes, xattrs)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    char buffer[64];
    size_t used = 0;
#define SET(n, v, fl)                                                                              \
    ASK(&t, SETXATTR, .ino = f, .name = str(n), .value = str(v), .xattr_flags = fl)
    cr_expect_eq(tree_getxattr(t.tree, f, str("user.a"), buffer, 64, &used), -ENODATA);
    cr_expect_eq(tree_getxattr(t.tree, 99, str("user.a"), buffer, 64, &used), -ENOENT);
    cr_expect_eq(SET("user.a", "one", XATTR_REPLACE), -ENODATA);
    cr_expect_eq(SET("user.a", "one", XATTR_CREATE), 0);
    cr_expect_eq(stat_of(&t, f).ctime_ns, t.now_ns);
    cr_expect_eq(SET("user.a", "two", XATTR_CREATE), -EEXIST);
    cr_expect_eq(SET("user.a", "three", XATTR_REPLACE), 0);
    cr_expect_eq(SET("user.b", "", 0), 0);
    cr_expect_eq(SET("", "x", 0), -ERANGE);
    cr_expect_eq(SET("user.c", "x", 4), -EINVAL);

    cr_expect_eq(tree_getxattr(t.tree, f, str("user.a"), buffer, 64, &used), 0);
    cr_expect_eq(used, 5);
    cr_expect_eq(memcmp(buffer, "three", 5), 0);
    cr_expect_eq(tree_getxattr(t.tree, f, str("user.a"), NULL, 0, &used), 0);
    cr_expect_eq(used, 5);
    cr_expect_eq(tree_getxattr(t.tree, f, str("user.a"), buffer, 4, &used), -ERANGE);
    cr_expect_eq(tree_getxattr(t.tree, f, str("user.b"), buffer, 64, &used), 0);
    cr_expect_eq(used, 0);
    cr_expect_eq(tree_listxattr(t.tree, f, NULL, 0, &used), 0);
    cr_expect_eq(used, 14);
    cr_expect_eq(tree_listxattr(t.tree, f, buffer, 13, &used), -ERANGE);
    cr_expect_eq(tree_listxattr(t.tree, f, buffer, 14, &used), 0);
    cr_expect_eq(memcmp(buffer, "user.a\0user.b", 14), 0);

    cr_expect_eq(ASK(&t, REMOVEXATTR, .ino = f, .name = str("user.a")), 0);
    cr_expect_eq(ASK(&t, REMOVEXATTR, .ino = f, .name = str("user.a")), -ENODATA);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f")), 0);
    cr_expect_eq(tree_getxattr(t.tree, f, str("user.b"), buffer, 64, &used), -ENOENT);
}

/* The largest value goes in and comes out; the names of one inode stay within what listxattr(2) can say. */
Test(tree_inodes, xattr_limits)
{
    TREE_FIXTURE(t);
    static uint8_t big[XATTR_VALUE_BYTES_MAX + 1], back[XATTR_VALUE_BYTES_MAX];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, SETXATTR, .ino = f, .name = str("user.big"), .value = {big, sizeof big}),
                 -E2BIG);
    cr_expect_eq(
        ASK(&t, SETXATTR, .ino = f, .name = str("user.big"), .value = {big, XATTR_VALUE_BYTES_MAX}),
        0);
    size_t used = 0;
    cr_expect_eq(tree_getxattr(t.tree, f, str("user.big"), back, sizeof back, &used), 0);
    cr_expect_eq(used, sizeof back);
    cr_expect_eq(memcmp(big, back, sizeof back), 0);

    char name[XATTR_NAME_BYTES_MAX + 1];
    int r = 0, n = 0;
    for (; r == 0; n += r == 0) {
        snprintf(name, sizeof name, "user.%0*d", XATTR_NAME_BYTES_MAX - 5, n);
        r = ASK(&t, SETXATTR, .ino = f, .name = str(name), .value = str("v"));
    }
    cr_expect_eq(r, -ENOSPC);
    cr_expect_eq(n, (65536 - 9) / 256);
    cr_expect_eq(tree_listxattr(t.tree, f, NULL, 0, &used), 0);
    cr_expect_leq(used, 65536);
}

/* ---- content ---- */

Test(tree_inodes, publish)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    uint64_t v = stat_of(&t, f).version;
    int64_t made_ns = stat_of(&t, f).ctime_ns;
    cr_expect_eq(ASK(&t, PUBLISH, .identity.host = HOST_B, .ino = f, .size = 5000, .occupied = 8192,
                     .mtime_ns = 42, .base_version = v, .flags = REQUEST_INCOMPLETE),
                 0);
    struct inode inode = stat_of(&t, f);
    cr_expect_eq(inode.size, 5000);
    cr_expect_eq(inode.mtime_ns, 42);
    cr_expect_eq(inode.ctime_ns, made_ns, "a time that was set is no write");
    cr_expect_eq(inode.version, t.effect.outcome.index);
    cr_expect(host_equal(inode.keeper, HOST_B));
    cr_expect_not(inode.keeper_complete);
    cr_expect_eq(used_bytes(&t), 8192);
    cr_expect_eq(t.effect.before.version, v);
    cr_expect(host_equal(t.effect.before.keeper, HOST_A));
    cr_expect_eq(t.effect.after.version, inode.version);

    cr_expect_eq(ASK(&t, PUBLISH, .ino = f, .size = 1, .base_version = v), -ESTALE);
    cr_expect_eq(ASK(&t, PUBLISH, .ino = ROOT_INO, .size = 1), -EISDIR);
    cr_expect_eq(ASK(&t, PUBLISH, .ino = 99, .size = 1), -ENOENT);
    cr_expect_eq(ASK(&t, PUBLISH, .ino = f, .size = 1ULL << 63, .base_version = inode.version),
                 -EFBIG);

    cr_expect_eq(ASK(&t, KEEP, .ino = f, .base_version = inode.version), -ESTALE);
    cr_expect_eq(ASK(&t, KEEP, .identity.host = HOST_B, .ino = f, .base_version = v), -ESTALE);
    cr_expect_eq(ASK(&t, KEEP, .identity.host = HOST_B, .ino = f, .base_version = inode.version),
                 0);
    cr_expect(stat_of(&t, f).keeper_complete);
    cr_expect_eq(ASK(&t, KEEP, .identity.host = HOST_B, .ino = f, .base_version = inode.version),
                 2);

    cr_expect_eq(
        ASK(&t, PUBLISH, .ino = f, .size = 1, .occupied = 4096, .base_version = inode.version), 0);
    cr_expect_eq(used_bytes(&t), 4096);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f")), 0);
    cr_expect_eq(used_bytes(&t), 0);
}

static bool count_inode(void *ctx, const struct inode *inode)
{
    cr_expect_neq(inode->ino, 0);
    ++*(int *)ctx;
    return true;
}

static int n_writers(struct tree_fixture *t, struct host_id host)
{
    int n = 0;
    cr_assert_eq(tree_each_writer(t->tree, host, count_inode, &n), 0);
    return n;
}

static int n_held(struct tree_fixture *t, struct host_id host)
{
    int n = 0;
    cr_assert_eq(tree_each_held(t->tree, host, count_inode, &n), 0);
    return n;
}

/* One host at a time has a file open for writing. */
Test(tree_inodes, write_ownership)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, OPEN_WRITE, .ino = f), 0);
    cr_expect(host_equal(stat_of(&t, f).writer, HOST_A));
    cr_expect(host_equal(t.effect.before.writer, NO_HOST));
    cr_expect_eq(t.effect.touched[0], 0);
    cr_expect_eq(ASK(&t, OPEN_WRITE, .ino = f), 2);
    cr_expect_eq(t.outcome.ino, f);
    cr_expect_eq(ASK(&t, OPEN_WRITE, .identity.host = HOST_B, .ino = f), -EBUSY);
    cr_expect_eq(ASK(&t, CLOSE_WRITE, .identity.host = HOST_B, .ino = f), 2);
    uint64_t v = stat_of(&t, f).version;
    cr_expect_eq(ASK(&t, PUBLISH, .identity.host = HOST_B, .ino = f, .base_version = v), -EBUSY);
    cr_expect_eq(n_writers(&t, HOST_A), 1);
    cr_expect_eq(n_writers(&t, HOST_B), 0);
    cr_expect_eq(ASK(&t, PUBLISH, .ino = f, .base_version = v), 0);
    cr_expect(host_equal(stat_of(&t, f).writer, HOST_A));
    cr_expect_eq(ASK(&t, CLOSE_WRITE, .ino = f), 0);
    cr_expect(host_equal(stat_of(&t, f).writer, NO_HOST));
    cr_expect_eq(n_writers(&t, HOST_A), 0);

    cr_expect_eq(ASK(&t, OPEN_WRITE, .identity.host = HOST_B, .ino = f), 0);
    v = stat_of(&t, f).version;
    cr_expect_eq(ASK(&t, PUBLISH, .identity.host = HOST_B, .ino = f, .base_version = v,
                     .flags = REQUEST_LAST_CLOSE),
                 0);
    cr_expect(host_equal(stat_of(&t, f).writer, NO_HOST));
    cr_expect_eq(n_writers(&t, HOST_B), 0);
    cr_expect_eq(ASK(&t, OPEN_WRITE, .ino = ROOT_INO), -EISDIR);
}

static int n_incomplete(struct tree_fixture *t, struct host_id host)
{
    int n = 0;
    cr_assert_eq(tree_each_incomplete(t->tree, host, count_inode, &n), 0);
    return n;
}

/* A keeper that lacks blocks is found until it has them, another version is published, or the file goes. */
Test(tree_inodes, incomplete_keepers)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG), v = stat_of(&t, f).version;
    cr_expect_eq(n_incomplete(&t, HOST_A), 0);
    cr_expect_eq(ASK(&t, PUBLISH, .identity.host = HOST_B, .ino = f, .base_version = v,
                     .flags = REQUEST_INCOMPLETE),
                 0);
    cr_expect_eq(n_incomplete(&t, HOST_B), 1);
    cr_expect_eq(n_incomplete(&t, HOST_A), 0);
    fixture_reopen(&t, SMALL_MAP);
    cr_expect_eq(n_incomplete(&t, HOST_B), 1);

    v = stat_of(&t, f).version;
    cr_expect_eq(ASK(&t, KEEP, .ino = f, .base_version = v), -ESTALE);
    cr_expect_eq(ASK(&t, KEEP, .identity.host = HOST_B, .ino = f, .base_version = v - 1), -ESTALE);
    cr_expect_eq(n_incomplete(&t, HOST_B), 1);
    cr_expect_eq(ASK(&t, KEEP, .identity.host = HOST_B, .ino = f, .base_version = v), 0);
    cr_expect_eq(n_incomplete(&t, HOST_B), 0);
    cr_expect(stat_of(&t, f).keeper_complete);
    cr_expect_eq(stat_of(&t, f).version, v);
    cr_expect_eq(ASK(&t, KEEP, .identity.host = HOST_B, .ino = f, .base_version = v), 2);

    for (struct host_id host = HOST_A; host.n <= HOST_B.n; host.n++) {
        v = stat_of(&t, f).version;
        cr_expect_eq(ASK(&t, PUBLISH, .identity.host = host, .ino = f, .base_version = v,
                         .flags = REQUEST_INCOMPLETE),
                     0);
    }
    cr_expect_eq(n_incomplete(&t, HOST_A), 0);
    cr_expect_eq(n_incomplete(&t, HOST_B), 1);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f"), .flags = REQUEST_HOLD), 0);
    cr_expect_eq(n_incomplete(&t, HOST_B), 1);
    cr_expect_eq(ASK(&t, DROP, .ino = f), 0);
    cr_expect_eq(n_incomplete(&t, HOST_B), 0);
}

Test(tree_inodes, make_for_write)
{
    TREE_FIXTURE(t);
    cr_expect_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str("f"), .mode = S_IFREG,
                     .flags = REQUEST_FOR_WRITE),
                 0);
    uint64_t f = t.effect.outcome.ino;
    cr_expect(host_equal(stat_of(&t, f).writer, HOST_A));
    cr_expect_eq(n_writers(&t, HOST_A), 1);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f")), 0);
    cr_expect_eq(n_writers(&t, HOST_A), 0);
}

/* Files count for what they occupy; a limit is not set below what is used. */
Test(tree_inodes, quota_of_bytes)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, PUBLISH, .ino = f, .size = LIMIT_BYTES + 1, .occupied = 8192,
                     .base_version = stat_of(&t, f).version),
                 0);
    cr_expect_eq(used_bytes(&t), 8192);
    cr_expect_eq(stat_of(&t, f).occupied, 8192);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_bytes = 8191), -EDQUOT);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_bytes = 8192), 0);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f")), 0);
    cr_expect_eq(used_bytes(&t), 0);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_bytes = 8191), 0);
}

/* A volume without free inodes takes no new files, but names; removing makes room. */
Test(tree_inodes, quota_of_inodes)
{
    TREE_FIXTURE(t);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_inodes = 2), 0);
    (void)made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(make(&t, ROOT_INO, "g", S_IFDIR), -ENOSPC);
    cr_expect_eq(make(&t, ROOT_INO, "f", S_IFREG), -EEXIST);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "h", 0), 0);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_inodes = 1), -EDQUOT);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("h")), 0);
    cr_expect_eq(make(&t, ROOT_INO, "g", S_IFREG), 0);
}

/* ---- identities and sessions ---- */

/* A request that is asked again is answered again, not done again, until the answer is known to have arrived. */
Test(tree_inodes, identity)
{
    TREE_FIXTURE(t);
    struct request rq = {.kind = REQUEST_MAKE,
                         .parent = ROOT_INO,
                         .name = str("f"),
                         .mode = S_IFREG,
                         .identity = {HOST_A, 7, 1000}};
    cr_expect_eq(ask(&t, rq), 0);
    struct outcome first = t.effect.outcome;
    cr_expect_eq(ask(&t, rq), 1);
    cr_expect_eq(t.outcome.error, 0);
    cr_expect_eq(t.outcome.index, first.index);
    cr_expect_eq(t.outcome.ino, first.ino);
    fixture_reopen(&t, SMALL_MAP);
    cr_expect_eq(ask(&t, rq), 1);

    struct request other = rq;
    other.identity.session = 8;
    cr_expect_eq(ask(&t, other), -EEXIST);
    other = (struct request){.kind = REQUEST_SETATTR,
                             .ino = ROOT_INO,
                             .set = SET_UID,
                             .identity = {HOST_A, 7, 1001},
                             .n_retire = 2,
                             .retire = {1000, 555}};
    cr_expect_eq(ask(&t, other), 0);
    cr_expect_eq(ask(&t, rq), -EEXIST);
    cr_expect_eq(ask(&t, other), 1);
}

/* An entry that comes again changes nothing and says what it said; one from the future is refused. */
Test(tree_inodes, apply_again)
{
    TREE_FIXTURE(t);
    struct request rq = {.kind = REQUEST_MAKE,
                         .parent = ROOT_INO,
                         .name = str("f"),
                         .mode = S_IFREG,
                         .identity = {HOST_A, 7, 1000}};
    struct change change;
    cr_assert_eq(tree_decide(t.tree, &rq, 5, &change, &t.outcome), 0);
    change.index = tree_applied(t.tree) + 2;
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect), -EBADMSG);
    change.index--;
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect), 0);
    struct outcome first = t.effect.outcome;
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect), 0);
    cr_expect_eq(t.effect.outcome.index, first.index);
    cr_expect_eq(t.effect.outcome.ino, first.ino);
    cr_expect_eq(t.effect.after.ino, 0);
    cr_expect_eq(tree_applied(t.tree), change.index);
}

/* Applies what does not fit and opens the tree again. */
static void misfit(struct tree_fixture *t, const struct change *change)
{
    cr_assert_eq(tree_commit(t->tree), 0);
    cr_expect_eq(tree_apply(t->tree, change, &t->effect), -EBADMSG);
    fixture_reopen(t, SMALL_MAP);
    cr_expect_eq(tree_applied(t->tree), change->index - 1);
}

/* A change that does not fit the state leaves no trace. */
Test(tree_inodes, apply_misfit)
{
    TREE_FIXTURE(t);
    made(&t, ROOT_INO, "f", S_IFREG);
    struct request rq = {.kind = REQUEST_UNLINK,
                         .parent = ROOT_INO,
                         .name = str("f"),
                         .identity = {HOST_A, 7, 1000}};
    struct change change;
    cr_assert_eq(tree_decide(t.tree, &rq, 5, &change, &t.outcome), 0);
    change.index = tree_applied(t.tree) + 1;
    change.ino++;
    misfit(&t, &change);
    cr_expect_eq(lookup(&t, ROOT_INO, "f"), 0);
    change.request.name = str("g");
    misfit(&t, &change);
    change.request.kind = REQUEST_KIND_END;
    misfit(&t, &change);
    change.request.kind = REQUEST_UNLINK;
    change.request.name = str("f");
    change.ino--;
    cr_expect_eq(tree_apply(t.tree, &change, &t.effect), 0);
}

Test(tree_inodes, bad_requests)
{
    TREE_FIXTURE(t);
    cr_expect_eq(ask(&t, (struct request){.kind = REQUEST_KIND_END}), -EINVAL);
    cr_expect_eq(ask(&t, (struct request){.kind = 0}), -EINVAL);
    cr_expect_eq(ASK(&t, SESSION, .flags = REQUEST_FLAGS_ALL + 1), -EINVAL);
    cr_expect_eq(ASK(&t, SESSION, .n_retire = REQUEST_RETIRE_MAX + 1), -EINVAL);
    struct request rq = {.kind = REQUEST_SESSION, .identity = {NO_HOST, 1, 1}};
    struct change change;
    cr_expect_eq(tree_decide(t.tree, &rq, 1, &change, &t.outcome), -EINVAL);
}

/* A new session ends what earlier ones of its host left, and touches no other host. */
Test(tree_inodes, session)
{
    TREE_FIXTURE(t);
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        cr_expect_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str(name), .mode = S_IFREG,
                         .flags = REQUEST_FOR_WRITE),
                     0);
    }
    cr_expect_eq(ASK(&t, MAKE, .identity = {HOST_B, 7, 1}, .parent = ROOT_INO, .name = str("z"),
                     .mode = S_IFREG, .flags = REQUEST_FOR_WRITE),
                 0);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("a"), .flags = REQUEST_HOLD), 0);
    cr_expect_eq(n_writers(&t, HOST_A), 3);
    cr_expect_eq(n_held(&t, HOST_A), 1);
    cr_expect_eq(n_held(&t, HOST_B), 0);
    struct request old = {
        .kind = REQUEST_SETATTR, .ino = ROOT_INO, .set = SET_UID, .identity = {HOST_A, 7, 500}};
    struct request kept = old, above = old;
    kept.identity.session = 8;
    above.identity.session = 9;
    cr_expect_eq(ask(&t, old), 0);
    cr_expect_eq(ask(&t, kept), 0);
    cr_expect_eq(ask(&t, above), 0);

    cr_expect_eq(ASK(&t, SESSION, .identity = {HOST_A, 8, 501}), 0);
    cr_expect_eq(n_writers(&t, HOST_A), 0);
    cr_expect_eq(n_writers(&t, HOST_B), 1);
    cr_expect(host_equal(stat_of(&t, ino_at(&t, ROOT_INO, "b")).writer, NO_HOST));
    cr_expect(host_equal(stat_of(&t, ino_at(&t, ROOT_INO, "z")).writer, HOST_B));
    cr_expect_eq(ask(&t, kept), 1);
    cr_expect_eq(ask(&t, old), 0);
    cr_expect_eq(ask(&t, above), 0);
    cr_expect_eq(ASK(&t, MAKE, .identity = {HOST_B, 7, 1}, .parent = ROOT_INO, .name = str("z")),
                 1);
}
