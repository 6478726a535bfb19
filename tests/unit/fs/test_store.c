/* The store: which copy is found, what log entries do to copies, and what is there after a restart. */
#include <inttypes.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "tests/unit/fs/store_fixture.h"

#define OWN_5 "content/own/0000000000000005"
#define DRAWN_5_3 "content/drawn/0000000000000005.0000000000000003"
#define DRAWN_5_9 "content/drawn/0000000000000005.0000000000000009"

TestSuite(store, .init = store_setup, .fini = store_teardown, .timeout = 60);

static struct content *make(uint64_t ino)
{
    struct content *content = NULL;
    cr_assert_eq(content_make(store, ino, &content), 0);
    return content;
}

/* Runs steps in a process that ends as a killed daemon does: no close, no free. */
#define IN_A_KILLED_DAEMON(steps)                                                                  \
    do {                                                                                           \
        store_free(TAKE(store));                                                                   \
        pid_t pid_ = fork();                                                                       \
        if (pid_ == 0) {                                                                           \
            if (store_open(directory_fd, true, &source.source, &store) < 0)                        \
                _exit(1);                                                                          \
            steps;                                                                                 \
            _exit(0);                                                                              \
        }                                                                                          \
        int status_;                                                                               \
        cr_assert_eq(waitpid(pid_, &status_, 0), pid_);                                            \
        cr_assert_eq(status_, 0);                                                                  \
    } while (0)

Test(store, makes_own_files)
{
    struct content *a = make(5), *b = make(5);
    cr_assert_eq(a, b);
    cr_assert(content_is_complete(a));
    cr_assert_eq(content_size(a), 0);
    cr_assert_eq(pwrite(content_fd(a), "hello", 5, 0), 5);
    content_put(a);
    content_put(b);
    struct inode inode = ours(5, 3);
    a = get(&inode);
    cr_assert_eq(content_size(a), 5);
    content_put(a);
}

static bool has_atimes(int fd)
{
    unsigned flags = 0;
    cr_assert_eq(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
    return !(flags & FS_NOATIME_FL);
}

/* Reads of a backing file, passed-through ones too, need not look at its times. */
Test(store, keeps_no_access_times)
{
    unsigned flags = FS_NOATIME_FL;
    if (ioctl(directory_fd, FS_IOC_SETFLAGS, &flags) < 0)
        cr_skip("the filesystem of %s has no such flag", directory);
    flags = 0;
    cr_assert_eq(ioctl(directory_fd, FS_IOC_SETFLAGS, &flags), 0);
    struct inode inode = theirs(6, 3);
    struct content *own = make(5), *drawn = get(&inode);
    cr_assert_not(has_atimes(content_fd(own)));
    cr_assert_not(has_atimes(content_fd(drawn)));
    content_put(own);
    content_put(drawn);
}

Test(store, names_what_is_lost)
{
    struct inode inode = ours(5, 3);
    struct content *content = NULL;
    cr_assert_eq(content_get(store, SELF, &inode, &content), -ENOENT);
    cr_assert_null(content);
}

/* The same version is the same content for everybody; another version is another content. */
Test(store, shares_contents)
{
    struct inode three = theirs(5, 3), nine = theirs(5, 9);
    struct content *a = get(&three), *b = get(&three), *c = get(&nine);
    cr_assert_eq(a, b);
    cr_assert_neq(a, c);
    content_put(a);
    content_put(b);
    content_put(c);
}

/* A file in which nothing was ever written is complete from the start. */
Test(store, completes_empty_files)
{
    struct inode inode = theirs(5, 3);
    inode.size = 0;
    inode.keeper = NO_HOST;
    struct content *content = get(&inode);
    cr_assert(content_is_complete(content));
    cr_assert_not(exists(DRAWN_5_3 ".map"));
    content_put(content);
}

/* A hostile size is refused before anything is made. */
Test(store, refuses_huge_files)
{
    struct inode inode = theirs(5, 3);
    struct content *content = NULL;
    inode.size = UINT64_MAX;
    cr_assert_eq(content_get(store, SELF, &inode, &content), -EFBIG);
    cr_assert_not(exists(DRAWN_5_3));
    inode.size = 100;
    content_put(get(&inode));
}

/* Partial copies keep their blocks from one opening to the next. */
Test(store, keeps_partial_copies)
{
    struct inode inode = theirs(5, 3);
    struct content *content = get(&inode);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 2), 0);
    content_put(content);
    content = get(&inode);
    cr_assert(content_has(content, 2, 1));
    cr_assert_not(content_has(content, 3, 1));
    content_put(content);
    reopen(true);
    content = get(&inode);
    cr_assert(content_has(content, 2, 1));
    cr_assert(has_pattern(content, 3, 2 * BLOCK_BYTES, BLOCK_BYTES));
    content_put(content);
}

/* A killed daemon loses nothing that was filled or written. */
Test(store, survives_a_kill)
{
    struct inode inode = theirs(5, 3);
    IN_A_KILLED_DAEMON({
        struct content *content = get(&inode);
        (void)pattern_fill(content, FILE_BYTES, 1);
        (void)pattern_fill(content, FILE_BYTES, 4);
    });
    cr_assert_eq(store_open(directory_fd, true, &source.source, &store), 0);
    struct content *content = get(&inode);
    cr_assert(content_has(content, 1, 1) && content_has(content, 4, 1));
    cr_assert_not(content_has(content, 0, 1));
    cr_assert(has_pattern(content, 3, BLOCK_BYTES, BLOCK_BYTES));
    content_put(content);
}

/* After a power cut a drawn copy that was not synced is not trusted. */
Test(store, distrusts_maps_after_an_unclean_boot)
{
    struct inode inode = theirs(5, 3);
    IN_A_KILLED_DAEMON({
        struct content *content = get(&inode);
        (void)pattern_fill(content, FILE_BYTES, 1);
    });
    cr_assert_eq(store_open(directory_fd, false, &source.source, &store), 0);
    struct content *content = get(&inode);
    cr_assert_eq(content_present_bytes(content), 0);
    content_put(content);
    reopen(true);
    content = get(&inode);
    cr_assert_eq(content_present_bytes(content), 0, "nor later");
    content_put(content);
}

/* What was synced before the power cut is there after it. */
Test(store, trusts_what_was_synced)
{
    struct inode inode = theirs(5, 3);
    IN_A_KILLED_DAEMON({
        struct content *content = get(&inode);
        uint8_t *data = calloc(1, BLOCK_BYTES);
        int e = content_own(content);
        e |= content_prepare_write(content, BLOCK_BYTES, BLOCK_BYTES, soon());
        e |= pwrite(content_fd(content), data, BLOCK_BYTES, BLOCK_BYTES) != BLOCK_BYTES;
        e |= content_wrote(content, BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES) != BLOCK_BYTES;
        e |= content_sync(content);
        e |= pattern_fill(content, FILE_BYTES, 2);
        if (e != 0)
            _exit(2);
    });
    cr_assert_eq(store_open(directory_fd, false, &source.source, &store), 0);
    inode.writer = SELF;
    struct content *content = get(&inode);
    cr_assert(content_has(content, 1, 1));
    cr_assert_not(content_has(content, 2, 1));
    content_put(content);
}

/* A complete copy without a map was synced, so it is trusted; with a map that says all is there, the map goes. */
Test(store, finishes_what_a_kill_left)
{
    struct inode inode = theirs(5, 3);
    struct content *content = get(&inode);
    cr_assert_eq(content_need(content, 0, FILE_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert(goes_away(DRAWN_5_3 ".map"));
    content_put(content);
    reopen(false);
    content = get(&inode);
    cr_assert(content_is_complete(content));
    content_put(content);
}

/* Damage is cache lost, not an error. */
Test(store, draws_damaged_copies_anew)
{
    struct inode inode = theirs(5, 3);
    struct content *content = get(&inode);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 1), 0);
    content_put(content);
    AUTO_CLOSE int fd = openat(directory_fd, DRAWN_5_3 ".map", O_RDWR);
    cr_assert_eq(pwrite(fd, "garbage", 7, 520), 7);
    content = get(&inode);
    cr_assert_eq(content_present_bytes(content), 0);
    cr_assert_eq(content_need(content, 0, FILE_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert(has_pattern(content, 3, 0, FILE_BYTES));
    content_put(content);
}

/* An own copy whose map is damaged is not guessed at. */
Test(store, refuses_damaged_own_copies)
{
    struct inode inode = theirs(5, 3);
    struct content *content = get(&inode);
    cr_assert_eq(content_own(content), 0);
    content_put(content);
    AUTO_CLOSE int fd = openat(directory_fd, OWN_5 ".map", O_WRONLY | O_TRUNC);
    cr_assert_geq(fd, 0);
    inode.writer = SELF;
    cr_assert_eq(content_get(store, SELF, &inode, &content), -EUCLEAN);
}

/* A map whose data file was never made, or is gone, goes. */
Test(store, clears_orphaned_maps)
{
    struct inode inode = theirs(5, 3);
    content_put(get(&inode));
    cr_assert_eq(unlinkat(directory_fd, DRAWN_5_3, 0), 0);
    reopen(true);
    cr_assert_not(exists(DRAWN_5_3 ".map"));
    struct content *content = get(&inode);
    cr_assert_eq(content_present_bytes(content), 0);
    content_put(content);
}

/* Taking the write ownership makes the drawn copy the own one, missing blocks and all. */
Test(store, owns_drawn_copies)
{
    struct inode inode = theirs(5, 3);
    struct content *content = get(&inode);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 1), 0);
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(content_own(content), 0, "twice is once");
    cr_assert(exists(OWN_5) && exists(OWN_5 ".map"));
    cr_assert_not(exists(DRAWN_5_3) || exists(DRAWN_5_3 ".map"));
    inode.writer = SELF;
    struct content *same = get(&inode);
    cr_assert_eq(same, content);
    content_put(same);
    content_put(content);
    reopen(true);
    content = get(&inode);
    cr_assert(content_has(content, 1, 1));
    cr_assert_eq(content_upstream(content).n, OTHER.n, "the map says where the rest is");
    cr_assert_eq(content_version(content), 3);
    cr_assert_eq(content_need(content, 0, FILE_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert(goes_away(OWN_5 ".map"));
    content_put(content);
}

/* Killed within a truncation, after the file was cut and before its map knew: what was cut off is gone for good, and
 * what comes after is not the other host's old bytes. */
Test(store, cuts_off_what_a_kill_left_to_fetch)
{
    struct inode inode = theirs(5, 3);
    struct content *content = get(&inode);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 0), 0);
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(ftruncate(content_fd(content), BLOCK_BYTES), 0);
    content_put(content);
    reopen(true);
    inode.writer = SELF;
    content = get(&inode);
    cr_assert_eq(content_truncate(content, FILE_BYTES, soon()), 0);
    cr_assert_eq(content_need(content, 0, FILE_BYTES, FETCH_DEMAND, soon()), 0);
    char byte = 'x';
    cr_assert_eq(pread(content_fd(content), &byte, 1, 2 * BLOCK_BYTES + 7), 1);
    cr_assert_eq(byte, 0);
    content_put(content);
}

/* Another host published: our copy becomes a drawn one of its version, for whoever has it open and for peers. */
Test(store, demotes_own_copies)
{
    struct content *content = make(5), *found = NULL;
    cr_assert_eq(pwrite(content_fd(content), "mine", 4, 0), 4);
    cr_assert_eq(store_demote(store, 5, 3), 0);
    cr_assert_eq(store_demote(store, 5, 3), 0, "twice is once");
    cr_assert(exists(DRAWN_5_3));
    cr_assert_not(exists(OWN_5));
    struct inode inode = theirs(5, 9);
    cr_assert_eq(content_find(store, SELF, &inode, 3, &found), 0);
    cr_assert_eq(found, content);
    content_put(found);
    content_put(content);
    cr_assert_eq(content_find(store, SELF, &inode, 3, &found), 0, "open or not");
    cr_assert_eq(content_size(found), 4);
    content_put(found);
    cr_assert_eq(content_find(store, SELF, &inode, 9, &found), -ENOENT);
}

/* Replaying an old log must not take a newer own file for what it once was. */
Test(store, does_not_demote_a_newer_own_copy)
{
    struct content *content = make(5);
    cr_assert_eq(store_demote(store, 5, 3), 0);
    content_put(content);
    struct inode inode = theirs(5, 9);
    content = get(&inode);
    cr_assert_eq(content_own(content), 0);
    cr_assert_eq(store_demote(store, 5, 3), 0);
    cr_assert(exists(OWN_5));
    cr_assert_eq(store_demote(store, 5, 9), 0, "but of what it began as");
    cr_assert(exists(DRAWN_5_9));
    content_put(content);
}

/* An ownership that ended without a publication has left an own file: the copy that is owned next takes its place, and
 * it is the owner's descriptor that the own file's name leads to. */
Test(store, owns_over_a_left_own_file)
{
    struct content *left = make(5);
    cr_assert_eq(pwrite(content_fd(left), "left", 4, 0), 4);
    struct inode inode = theirs(5, 3);
    struct content *drawn = get(&inode);
    cr_assert_neq(drawn, left);
    cr_assert_eq(content_own(drawn), 0);
    cr_assert_eq(content_truncate(drawn, 7, soon()), 0);
    cr_assert_eq(content_size(left), 4, "who has it open goes on with it");
    content_put(left);
    content_put(drawn);
    cr_assert_not(exists(DRAWN_5_3));
    inode = ours(5, 9);
    struct content *own = get(&inode);
    cr_assert_eq(content_size(own), 7);
    content_put(own);
}

Test(store, finds_what_it_keeps)
{
    struct content *own = make(5), *found = NULL;
    struct inode inode = ours(5, 3);
    cr_assert_eq(content_find(store, SELF, &inode, 3, &found), 0);
    cr_assert_eq(found, own);
    content_put(found);
    cr_assert_eq(content_find(store, SELF, &inode, 2, &found), -ENOENT);
    cr_assert_eq(content_find(store, OTHER, &inode, 3, &found), -ENOENT);
    content_put(own);
}

/* Superseded copies go; who has one open keeps it. */
Test(store, removes_superseded_copies)
{
    struct inode three = theirs(5, 3), nine = theirs(5, 9);
    struct content *content = get(&three);
    cr_assert_eq(pattern_fill(content, FILE_BYTES, 1), 0);
    content_put(get(&nine));
    cr_assert_eq(store_superseded(store, 5, 8), 0);
    cr_assert_eq(store_superseded(store, 5, 8), 0, "twice is once");
    cr_assert_not(exists(DRAWN_5_3) || exists(DRAWN_5_3 ".map"));
    cr_assert(exists(DRAWN_5_9));
    cr_assert_eq(content_need(content, 0, FILE_BYTES, FETCH_DEMAND, soon()), 0);
    cr_assert(has_pattern(content, 3, 0, FILE_BYTES));
    struct content *again = get(&three);
    cr_assert_neq(again, content);
    content_put(again);
    content_put(content);
}

Test(store, removes_everything_of_an_inode)
{
    struct inode three = theirs(5, 3), other = theirs(6, 3);
    struct content *own = make(5);
    content_put(get(&three));
    content_put(get(&other));
    cr_assert_eq(pwrite(content_fd(own), "mine", 4, 0), 4);
    cr_assert_eq(store_remove(store, 5), 0);
    cr_assert_eq(store_remove(store, 5), 0, "twice is once");
    cr_assert_not(exists(OWN_5) || exists(DRAWN_5_3) || exists(DRAWN_5_3 ".map"));
    cr_assert_eq(content_size(own), 4, "open ones live on");
    cr_assert_eq(content_own(own), -ESTALE);
    content_put(own);
    cr_assert(exists("content/drawn/0000000000000006.0000000000000003"));
}

static bool is_six(void *ctx, uint64_t ino)
{
    (*(int *)ctx)++;
    return ino == 6;
}

Test(store, sweeps)
{
    struct inode five = theirs(5, 3), six = theirs(6, 3);
    int n_asked = 0;
    content_put(get(&five));
    content_put(get(&six));
    content_put(make(0xabcdef));
    AUTO_CLOSE UNUSED int stranger =
        openat(directory_fd, "content/own/notes.txt", O_CREAT | O_WRONLY, 0600);
    cr_assert_eq(store_sweep(store, is_six, &n_asked), 0);
    cr_assert_geq(n_asked, 3);
    cr_assert_not(exists(DRAWN_5_3) || exists("content/own/0000000000abcdef"));
    cr_assert(exists("content/drawn/0000000000000006.0000000000000003"));
    cr_assert(exists("content/own/notes.txt"), "what is not ours is left alone");
}

Test(store, knows_free_space)
{
    struct store_usage usage;
    cr_assert_eq(store_usage(store, &usage), 0);
    cr_assert_gt(usage.disk_free_bytes, 0);
}
