/* Names: making, linking, removing, renaming, and what Linux answers when that cannot be. */
#include "tests/unit/fs/test_tree_fixture.h"

#include "fs/tree/impl.h"

/* A fresh volume is a root directory, the limit, and nothing else. */
Test(tree_names, root)
{
    TREE_FIXTURE(t);
    struct inode root = stat_of(&t, ROOT_INO);
    cr_expect_eq(root.mode, (mode_t)(S_IFDIR | 0755));
    cr_expect_eq(root.nlink, 2);
    cr_expect_eq(root.parent, ROOT_INO);
    struct tree_usage usage;
    tree_usage(t.tree, &usage);
    cr_expect_eq(usage.limit_bytes, LIMIT_BYTES);
    cr_expect_eq(usage.used_bytes, 0);
    cr_expect_eq(usage.n_inodes, 1);
    cr_expect(host_equal(tree_home(t.tree), HOST_A));
}

/* A later CONFIGURE moves the limit only. */
Test(tree_names, configure_again)
{
    TREE_FIXTURE(t);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_bytes = 5, .home = HOST_B.n, .mode = 0700), 0);
    struct tree_usage usage;
    tree_usage(t.tree, &usage);
    cr_expect_eq(usage.limit_bytes, 5);
    cr_expect(host_equal(tree_home(t.tree), HOST_A));
    cr_expect_eq(stat_of(&t, ROOT_INO).mode & 07777, 0755);
    cr_expect_eq(ASK(&t, CONFIGURE, .limit_inodes = 3, .copies = 2), 0);
    tree_usage(t.tree, &usage);
    cr_expect_eq(usage.limit_bytes, 5, "what is not given stays");
    cr_expect_eq(usage.limit_inodes, 3);
    cr_expect_eq(usage.copies, 2);
}

/* Off unless it is said, and one at a time. */
Test(tree_names, configure_effects)
{
    static const struct {
        uint32_t flags;
        bool is_suid, is_dev;
    } steps[] = {
        {REQUEST_SUID, true, false},    {0, true, false},
        {REQUEST_DEV, true, true},      {REQUEST_NO_SUID | REQUEST_DEV, false, true},
        {REQUEST_NO_DEV, false, false},
    };
    TREE_FIXTURE(t);
    struct tree_usage usage;
    tree_usage(t.tree, &usage);
    cr_expect(!usage.is_suid && !usage.is_dev);
    for (size_t i = 0; i < N_ELEMENTS(steps); i++) {
        cr_expect_eq(ASK(&t, CONFIGURE, .flags = steps[i].flags), 0);
        tree_usage(t.tree, &usage);
        cr_expect_eq(usage.is_suid, steps[i].is_suid, "step %zu", i);
        cr_expect_eq(usage.is_dev, steps[i].is_dev, "step %zu", i);
    }
    cr_expect_eq(ASK(&t, CONFIGURE, .flags = REQUEST_DEV | REQUEST_NO_DEV), -EINVAL);
    cr_expect_eq(ASK(&t, CONFIGURE, .flags = REQUEST_SUID | REQUEST_NO_SUID), -EINVAL);
}

/* A new file belongs to who asked, its content to the host that asked. */
Test(tree_names, make_file)
{
    TREE_FIXTURE(t);
    cr_expect_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str("f"), .mode = S_IFREG | 0640,
                     .uid = 3, .gid = 4, .rdev = 9),
                 0);
    struct inode f = stat_of(&t, t.effect.outcome.ino);
    cr_expect_eq(f.mode, (mode_t)(S_IFREG | 0640));
    cr_expect_eq(f.uid, 3);
    cr_expect_eq(f.gid, 4);
    cr_expect_eq(f.rdev, 0);
    cr_expect_eq(f.nlink, 1);
    cr_expect_eq(f.parent, 0);
    cr_expect(host_equal(f.keeper, HOST_A));
    cr_expect(f.keeper_complete);
    cr_expect_eq(f.version, t.effect.outcome.index);
    cr_expect(host_equal(f.writer, NO_HOST));
    cr_expect_eq(f.btime_ns, t.now_ns);
    cr_expect_eq(t.effect.before.ino, 0);
    cr_expect_eq(t.effect.after.ino, f.ino);
    cr_expect_eq(ino_at(&t, ROOT_INO, "f"), f.ino);
    cr_expect_eq(stat_of(&t, ROOT_INO).mtime_ns, t.now_ns);
    cr_expect_eq(stat_of(&t, ROOT_INO).nlink, 2);
}

Test(tree_names, make_directory_counts_in_parent)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR | 0755);
    cr_expect_eq(stat_of(&t, d).nlink, 2);
    cr_expect_eq(stat_of(&t, d).parent, ROOT_INO);
    cr_expect_eq(stat_of(&t, ROOT_INO).nlink, 3);
    made(&t, d, "e", S_IFDIR | 0755);
    cr_expect_eq(stat_of(&t, d).nlink, 3);
    cr_expect_eq(stat_of(&t, ROOT_INO).nlink, 3);
}

/* Below a setgid directory the group is inherited, and by directories the bit. */
Test(tree_names, setgid_directory)
{
    TREE_FIXTURE(t);
    cr_assert_eq(
        ASK(&t, MAKE, .parent = ROOT_INO, .name = str("d"), .mode = S_IFDIR | 02775, .gid = 77), 0);
    uint64_t d = t.effect.outcome.ino;
    struct inode f = stat_of(&t, made(&t, d, "f", S_IFREG | 0644));
    cr_expect_eq(f.gid, 77);
    cr_expect_eq(f.mode, (mode_t)(S_IFREG | 0644));
    struct inode e = stat_of(&t, made(&t, d, "e", S_IFDIR | 0755));
    cr_expect_eq(e.gid, 77);
    cr_expect_eq(e.mode, (mode_t)(S_IFDIR | 02755));
}

Test(tree_names, symlink)
{
    TREE_FIXTURE(t);
    cr_assert_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str("l"), .mode = S_IFLNK,
                     .value = str("to/there")),
                 0);
    uint64_t l = t.effect.outcome.ino;
    cr_expect_eq(stat_of(&t, l).size, 8);
    cr_expect_eq(stat_of(&t, l).mode, (mode_t)(S_IFLNK | 0777));
    char target[16];
    size_t used = 0;
    /* the target outlives changes of the inode */
    cr_assert_eq(ASK(&t, SETATTR, .ino = l, .set = SET_UID, .uid = 5), 0);
    cr_assert_eq(tree_readlink(t.tree, l, target, sizeof target, &used), 0);
    cr_expect_eq(used, 8);
    cr_expect_eq(memcmp(target, "to/there", 8), 0);
    cr_expect_eq(tree_readlink(t.tree, l, target, 7, &used), -ERANGE);
    cr_expect_eq(tree_readlink(t.tree, ROOT_INO, target, 7, &used), -EINVAL);

    cr_expect_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str("m"), .mode = S_IFLNK), -ENOENT);
    static uint8_t big[SYMLINK_BYTES_MAX + 1];
    memset(big, 'x', sizeof big);
    cr_expect_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str("m"), .mode = S_IFLNK,
                     .value = {big, sizeof big}),
                 -ENAMETOOLONG);
    cr_expect_eq(ASK(&t, MAKE, .parent = ROOT_INO, .name = str("m"), .mode = S_IFLNK,
                     .value = {big, SYMLINK_BYTES_MAX}),
                 0);
}

Test(tree_names, device)
{
    TREE_FIXTURE(t);
    cr_assert_eq(
        ASK(&t, MAKE, .parent = ROOT_INO, .name = str("n"), .mode = S_IFCHR | 0600, .rdev = 259),
        0);
    cr_expect_eq(stat_of(&t, t.effect.outcome.ino).rdev, 259);
    cr_expect(host_equal(stat_of(&t, t.effect.outcome.ino).keeper, NO_HOST));
}

Test(tree_names, make_errors)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG | 0644);
    char name[NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_BYTES_MAX + 1] = '\0';
    uint64_t before = tree_applied(t.tree);
    cr_expect_eq(make(&t, ROOT_INO, "f", S_IFREG), -EEXIST);
    cr_expect_eq(make(&t, f, "x", S_IFREG), -ENOTDIR);
    cr_expect_eq(make(&t, 999, "x", S_IFREG), -ENOENT);
    cr_expect_eq(make(&t, ROOT_INO, "x", 0644), -EINVAL);
    cr_expect_eq(make(&t, ROOT_INO, name, S_IFREG), -ENAMETOOLONG);
    cr_expect_eq(make(&t, ROOT_INO, "", S_IFREG), -EINVAL);
    cr_expect_eq(make(&t, ROOT_INO, ".", S_IFREG), -EINVAL);
    cr_expect_eq(make(&t, ROOT_INO, "..", S_IFREG), -EINVAL);
    cr_expect_eq(make(&t, ROOT_INO, "a/b", S_IFREG), -EINVAL);
    cr_expect_eq(tree_applied(t.tree), before);
    name[NAME_BYTES_MAX] = '\0';
    cr_expect_eq(make(&t, ROOT_INO, name, S_IFREG), 0);
    cr_expect_eq(make(&t, ROOT_INO, "...", S_IFREG), 0);
}

Test(tree_names, lookup_errors)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    char name[NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_BYTES_MAX + 1] = '\0';
    cr_expect_eq(lookup(&t, ROOT_INO, "none"), -ENOENT);
    cr_expect_eq(lookup(&t, f, "x"), -ENOTDIR);
    cr_expect_eq(lookup(&t, 999, "x"), -ENOENT);
    cr_expect_eq(lookup(&t, ROOT_INO, name), -ENAMETOOLONG);
    struct inode inode;
    cr_expect_eq(tree_get(t.tree, 999, &inode), -ENOENT);
}

Test(tree_names, link_and_unlink)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR), f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = d, .name = str("g")), 0);
    cr_expect_eq(t.effect.outcome.ino, f);
    cr_expect_eq(stat_of(&t, f).nlink, 2);
    cr_expect_eq(stat_of(&t, f).ctime_ns, t.now_ns);
    cr_expect_eq(stat_of(&t, d).mtime_ns, t.now_ns);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = d, .name = str("g")), -EEXIST);
    cr_expect_eq(ASK(&t, LINK, .ino = d, .parent = d, .name = str("h")), -EPERM);
    cr_expect_eq(ASK(&t, LINK, .ino = 999, .parent = d, .name = str("h")), -ENOENT);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = f, .name = str("h")), -ENOTDIR);

    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f")), 0);
    cr_expect_eq(t.effect.gone, 0);
    cr_expect_eq(t.effect.before.nlink, 2);
    cr_expect_eq(t.effect.after.nlink, 1);
    cr_expect_eq(lookup(&t, ROOT_INO, "f"), -ENOENT);
    cr_expect_eq(ino_at(&t, d, "g"), f);
    cr_expect_eq(ASK(&t, UNLINK, .parent = d, .name = str("g")), 0);
    cr_expect_eq(t.effect.gone, f);
    cr_expect_eq(t.effect.before.ino, f);
    cr_expect_eq(t.effect.after.ino, 0);
    struct inode inode;
    cr_expect_eq(tree_get(t.tree, f, &inode), -ENOENT);
    cr_expect_eq(ASK(&t, UNLINK, .parent = d, .name = str("g")), -ENOENT);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("d")), -EISDIR);
}

Test(tree_names, rmdir_asks_for_an_empty_directory)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR);
    made(&t, d, "f", S_IFREG);
    made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, RMDIR, .parent = ROOT_INO, .name = str("f")), -ENOTDIR);
    cr_expect_eq(ASK(&t, RMDIR, .parent = ROOT_INO, .name = str("none")), -ENOENT);
    cr_expect_eq(ASK(&t, RMDIR, .parent = ROOT_INO, .name = str("d")), -ENOTEMPTY);
    cr_expect_eq(ASK(&t, UNLINK, .parent = d, .name = str("f")), 0);
    cr_expect_eq(ASK(&t, RMDIR, .parent = ROOT_INO, .name = str("d")), 0);
    cr_expect_eq(t.effect.gone, d);
    cr_expect_eq(stat_of(&t, ROOT_INO).nlink, 2);
    cr_expect_eq(make(&t, d, "x", S_IFREG), -ENOENT);
}

static void fill_links(struct tree_fixture *t, uint64_t ino)
{
    struct inode full = stat_of(t, ino);
    full.nlink = TREE_LINK_MAX;
    SCOPED_LOCK(&t->tree->lock);
    struct rows rows;
    cr_assert_eq(tree_rows_locked(t->tree, &rows), 0);
    cr_assert_eq(rows_update_inode(&rows, &full), 0);
}

/* With as many links as there may be, one more is refused; records at the limit are written directly. */
Test(tree_names, too_many_links)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR), e = made(&t, ROOT_INO, "e", S_IFDIR);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    fill_links(&t, d);
    fill_links(&t, f);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = ROOT_INO, .name = str("g")), -EMLINK);
    cr_expect_eq(make(&t, d, "x", S_IFDIR), -EMLINK);
    cr_expect_eq(make(&t, d, "x", S_IFREG), 0);
    cr_expect_eq(move(&t, ROOT_INO, "e", d, "e", 0), -EMLINK);
    cr_expect_eq(move(&t, ROOT_INO, "e", d, "x", RENAME_EXCHANGE), -EMLINK);
    cr_expect_eq(ino_at(&t, ROOT_INO, "e"), e);
}

Test(tree_names, rename_plain)
{
    TREE_FIXTURE(t);
    uint64_t d = made(&t, ROOT_INO, "d", S_IFDIR), f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "g", 0), 0);
    cr_expect_eq(t.effect.before.ino, f);
    cr_expect_eq(t.effect.after.ctime_ns, t.now_ns);
    cr_expect_eq(ino_at(&t, ROOT_INO, "g"), f);
    cr_expect_eq(lookup(&t, ROOT_INO, "f"), -ENOENT);
    cr_expect_eq(move(&t, ROOT_INO, "g", d, "h", 0), 0);
    cr_expect_eq(ino_at(&t, d, "h"), f);
    cr_expect_eq(stat_of(&t, d).mtime_ns, t.now_ns);
    cr_expect_eq(stat_of(&t, ROOT_INO).mtime_ns, t.now_ns);
    cr_expect_eq(stat_of(&t, f).nlink, 1);
}

Test(tree_names, rename_directory_moves_its_count)
{
    TREE_FIXTURE(t);
    uint64_t a = made(&t, ROOT_INO, "a", S_IFDIR), b = made(&t, ROOT_INO, "b", S_IFDIR);
    uint64_t d = made(&t, a, "d", S_IFDIR);
    cr_expect_eq(move(&t, a, "d", b, "e", 0), 0);
    cr_expect_eq(stat_of(&t, a).nlink, 2);
    cr_expect_eq(stat_of(&t, b).nlink, 3);
    cr_expect_eq(stat_of(&t, d).parent, b);
    cr_expect_eq(stat_of(&t, d).nlink, 2);
}

Test(tree_names, rename_over)
{
    TREE_FIXTURE(t);
    uint64_t a = made(&t, ROOT_INO, "a", S_IFDIR), b = made(&t, ROOT_INO, "b", S_IFDIR);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG), g = made(&t, ROOT_INO, "g", S_IFREG);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "a", 0), -EISDIR);
    cr_expect_eq(move(&t, ROOT_INO, "a", ROOT_INO, "f", 0), -ENOTDIR);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "g", RENAME_NOREPLACE), -EEXIST);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "g", 0), 0);
    cr_expect_eq(t.effect.gone, g);
    cr_expect_eq(t.effect.before.ino, g);
    cr_expect_eq(t.effect.after.ino, 0);
    cr_expect_eq(ino_at(&t, ROOT_INO, "g"), f);

    made(&t, b, "x", S_IFREG);
    cr_expect_eq(move(&t, ROOT_INO, "a", ROOT_INO, "b", 0), -ENOTEMPTY);
    cr_expect_eq(ASK(&t, UNLINK, .parent = b, .name = str("x")), 0);
    cr_expect_eq(move(&t, ROOT_INO, "a", ROOT_INO, "b", 0), 0);
    cr_expect_eq(t.effect.gone, b);
    cr_expect_eq(ino_at(&t, ROOT_INO, "b"), a);
    cr_expect_eq(stat_of(&t, ROOT_INO).nlink, 3);
}

Test(tree_names, rename_errors)
{
    TREE_FIXTURE(t);
    uint64_t a = made(&t, ROOT_INO, "a", S_IFDIR), b = made(&t, a, "b", S_IFDIR);
    uint64_t c = made(&t, b, "c", S_IFDIR), f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(move(&t, ROOT_INO, "none", a, "x", 0), -ENOENT);
    cr_expect_eq(move(&t, 999, "x", a, "x", 0), -ENOENT);
    cr_expect_eq(move(&t, f, "x", a, "x", 0), -ENOTDIR);
    cr_expect_eq(move(&t, ROOT_INO, "f", f, "x", 0), -ENOTDIR);
    cr_expect_eq(move(&t, ROOT_INO, "a", a, "x", 0), -EINVAL);
    cr_expect_eq(move(&t, ROOT_INO, "a", c, "x", 0), -EINVAL);
    cr_expect_eq(move(&t, b, "c", ROOT_INO, "a", 0), -ENOTEMPTY);
    cr_expect_eq(move(&t, b, "c", ROOT_INO, "a", RENAME_EXCHANGE), -EINVAL);
    cr_expect_eq(move(&t, ROOT_INO, "a", b, "c", RENAME_EXCHANGE), -EINVAL);
    cr_expect_eq(move(&t, ROOT_INO, "f", a, "x", RENAME_EXCHANGE), -ENOENT);
    cr_expect_eq(move(&t, ROOT_INO, "f", a, "x", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
    cr_expect_eq(move(&t, ROOT_INO, "f", a, "x", RENAME_WHITEOUT), -EINVAL);
    char name[NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_BYTES_MAX + 1] = '\0';
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, name, 0), -ENAMETOOLONG);
    cr_expect_eq(move(&t, ROOT_INO, name, ROOT_INO, "f", 0), -ENAMETOOLONG);
}

/* Two names of one inode: renaming one over the other changes nothing, as POSIX wants it. */
Test(tree_names, rename_same_inode)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = ROOT_INO, .name = str("g")), 0);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "g", 0), 2);
    cr_expect_eq(t.outcome.error, 0);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "f", 0), 2);
    cr_expect_eq(move(&t, ROOT_INO, "f", ROOT_INO, "g", RENAME_NOREPLACE), -EEXIST);
    cr_expect_eq(stat_of(&t, f).nlink, 2);
}

/* Exchanging a directory with a file moves one subdirectory from here to there. */
Test(tree_names, exchange)
{
    TREE_FIXTURE(t);
    uint64_t a = made(&t, ROOT_INO, "a", S_IFDIR), b = made(&t, ROOT_INO, "b", S_IFDIR);
    uint64_t d = made(&t, a, "d", S_IFDIR), f = made(&t, b, "f", S_IFREG);
    made(&t, d, "inside", S_IFREG);
    cr_expect_eq(move(&t, a, "d", b, "f", RENAME_EXCHANGE), 0);
    cr_expect_eq(ino_at(&t, a, "d"), f);
    cr_expect_eq(ino_at(&t, b, "f"), d);
    cr_expect_eq(stat_of(&t, a).nlink, 2);
    cr_expect_eq(stat_of(&t, b).nlink, 3);
    cr_expect_eq(stat_of(&t, d).parent, b);
    cr_expect_eq(stat_of(&t, f).parent, 0);

    uint64_t e = made(&t, a, "e", S_IFDIR);
    cr_expect_eq(move(&t, a, "e", b, "f", RENAME_EXCHANGE), 0);
    cr_expect_eq(stat_of(&t, a).nlink, 3);
    cr_expect_eq(stat_of(&t, b).nlink, 3);
    cr_expect_eq(stat_of(&t, d).parent, a);
    cr_expect_eq(stat_of(&t, e).parent, b);
    cr_expect_eq(ino_at(&t, d, "inside") != 0, true);
    /* within one directory */
    cr_expect_eq(move(&t, a, "e", a, "d", RENAME_EXCHANGE), 0);
    cr_expect_eq(ino_at(&t, a, "e"), f);
    cr_expect_eq(stat_of(&t, a).nlink, 3);
}

/* An inode that is open here outlives its last name until it is dropped; nobody else's drop counts. */
Test(tree_names, held)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG), g = made(&t, ROOT_INO, "g", S_IFREG);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f"), .flags = REQUEST_HOLD), 0);
    cr_expect_eq(t.effect.gone, 0);
    cr_expect_eq(stat_of(&t, f).nlink, 0);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = ROOT_INO, .name = str("f")), -ENOENT);
    cr_expect_eq(ASK(&t, DROP, .identity.host = HOST_B, .ino = f), 2);
    made(&t, ROOT_INO, "h", S_IFREG);
    cr_expect_eq(move(&t, ROOT_INO, "h", ROOT_INO, "g", RENAME_NOREPLACE), -EEXIST);
    cr_expect_eq(ASK(&t, RENAME, .parent = ROOT_INO, .name = str("h"), .new_parent = ROOT_INO,
                     .new_name = str("g"), .flags = REQUEST_HOLD),
                 0);
    cr_expect_eq(t.effect.gone, 0);
    cr_expect_eq(stat_of(&t, g).nlink, 0);
    fixture_reopen(&t, SMALL_MAP);

    cr_expect_eq(ASK(&t, DROP, .ino = f), 0);
    cr_expect_eq(t.effect.gone, f);
    cr_expect_eq(ASK(&t, DROP, .ino = f), 2);
    cr_expect_eq(ASK(&t, DROP, .ino = g), 0);
    struct inode inode;
    cr_expect_eq(tree_get(t.tree, g, &inode), -ENOENT);
    struct tree_usage usage;
    tree_usage(t.tree, &usage);
    cr_expect_eq(usage.n_inodes, 2);
}

/* Holding matters for the last name only. */
Test(tree_names, hold_with_names_left)
{
    TREE_FIXTURE(t);
    uint64_t f = made(&t, ROOT_INO, "f", S_IFREG);
    cr_expect_eq(ASK(&t, LINK, .ino = f, .parent = ROOT_INO, .name = str("g")), 0);
    cr_expect_eq(ASK(&t, UNLINK, .parent = ROOT_INO, .name = str("f"), .flags = REQUEST_HOLD), 0);
    cr_expect_eq(ASK(&t, DROP, .ino = f), 2);
    cr_expect_eq(stat_of(&t, f).nlink, 1);
}
