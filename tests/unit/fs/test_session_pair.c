/* Two mounted hosts of one volume: what one does, the other sees. */
#include <sys/mman.h>

#include "tests/unit/fs/mapper.h"
#include "tests/unit/fs/mount_fixture.h"

#define HOME (&hosts[0])
#define AWAY (&hosts[1])

static void set_up(void)
{
    two_hosts(true);
}

TestSuite(pair, .init = set_up, .fini = fixture_end, .timeout = 120);

/* RELEASE comes after close(2) has returned. */
static void wait_closed(const char *name)
{
    struct inode inode;
    struct span span = {.data = (const uint8_t *)name, .size = strlen(name)};
    int64_t deadline_ns = clock_mono_ns() + 5 * NS_PER_S;
    do {
        cr_assert_eq(tree_lookup(volume_tree(HOME->volume), ROOT_INO, span, &inode), 0);
        cr_assert(clock_mono_ns() < deadline_ns, "%s is still being written", name);
    } while (inode.writer.n != 0);
    cr_assert_eq(follow(), 0);
}

static bool exists(const struct host *host, const char *name)
{
    struct stat st;
    return stat(path_on(host, name), &st) == 0;
}

/* Names that the kernel remembers, and those that it remembers not to exist, follow the other host at once. */
Test(pair, names_follow_at_once)
{
    for (int i = 0; i < 50; i++) {
        cr_assert_not(exists(AWAY, "d"));
        cr_assert_eq(mkdir(path_on(HOME, "d"), 0755), 0);
        cr_assert(exists(AWAY, "d"));
        cr_assert_eq(mkdir(path_on(AWAY, "d/e"), 0755), 0);
        cr_assert(exists(HOME, "d/e"));
        cr_assert_eq(rename(path_on(HOME, "d/e"), path_on(HOME, "d/f")), 0);
        cr_assert_not(exists(AWAY, "d/e"));
        cr_assert_eq(rmdir(path_on(AWAY, "d/f")), 0);
        cr_assert_eq(rmdir(path_on(AWAY, "d")), 0);
        cr_assert_not(exists(HOME, "d"));
    }
}

/* Attributes too, also through a descriptor that is open. */
Test(pair, attributes_follow_at_once)
{
    struct stat st;
    put_file(HOME, "f", "abc", 3);
    wait_closed("f");
    int fd = open(path_on(AWAY, "f"), O_RDONLY);
    for (unsigned mode = 0600; mode < 0620; mode++) {
        cr_assert_eq(chmod(path_on(HOME, "f"), mode), 0);
        cr_assert_eq(fstat(fd, &st), 0);
        cr_assert_eq(st.st_mode & 07777, mode);
    }
    cr_assert_eq(close(fd), 0);
}

/* Closed here, read there: bytes are drawn when they are read, and a complete file is passed through after. */
Test(pair, content_is_drawn)
{
    AUTO_FREE char *data = pattern(3 * MIB + 5, 1);
    AUTO_FREE char *again = malloc(4 * MIB);
    put_file(HOME, "f", data, 3 * MIB + 5);
    wait_closed("f");
    const struct session_counters *c = session_counters(AWAY->session);
    int fd = open(path_on(AWAY, "f"), O_RDONLY);
    cr_assert_eq(n_fetches, 0, "open fetches nothing");
    cr_assert_eq(read_fd(fd, again, 4 * MIB), 3 * MIB + 5);
    cr_assert_eq(memcmp(data, again, 3 * MIB + 5), 0);
    cr_assert(n_fetches > 0);
    cr_assert_eq(c->opens_cached, 1);
    /* Beside the cached descriptor a second open must be cached too. */
    cr_assert_eq(get_file(AWAY, "f", again, 4 * MIB), 3 * MIB + 5);
    cr_assert_eq(c->opens_cached, 2);
    cr_assert_eq(close(fd), 0);
    unsigned before = n_fetches;
    for (int64_t end = clock_mono_ns() + 5 * NS_PER_S;
         c->opens_passthrough == 0 && clock_mono_ns() < end;)
        cr_assert_eq(get_file(AWAY, "f", again, 4 * MIB), 3 * MIB + 5);
    cr_assert(c->opens_passthrough > 0 || !session_has_passthrough(AWAY->session));
    cr_assert_eq(n_fetches, before, "and nothing is fetched twice");
}

/* A new version is a new node: the next open has it, the old descriptor and the old map keep theirs. */
Test(pair, old_descriptors_keep_their_version)
{
    AUTO_FREE char *old = pattern(MIB, 1);
    AUTO_FREE char *new = pattern(MIB + 9, 2);
    AUTO_FREE char *again = malloc(2 * MIB);
    struct stat before, after, st;
    put_file(HOME, "f", old, MIB);
    wait_closed("f");
    cr_assert_eq(get_file(AWAY, "f", again, 2 * MIB), MIB);
    int fd = open(path_on(AWAY, "f"), O_RDONLY);
    struct mapper mapper = mapper_start(path_on(AWAY, "f"), MIB, false);
    cr_assert_eq(fstat(fd, &before), 0);
    put_file(HOME, "f", new, MIB + 9);
    wait_closed("f");
    cr_assert_eq(stat(path_on(AWAY, "f"), &after), 0);
    cr_assert_eq(after.st_size, MIB + 9);
    cr_assert_eq(before.st_ino, after.st_ino);
    cr_assert_eq(get_file(AWAY, "f", again, 2 * MIB), MIB + 9);
    cr_assert_eq(memcmp(new, again, MIB + 9), 0);
    cr_assert_eq(read_fd(fd, again, 2 * MIB), MIB);
    cr_assert_eq(memcmp(old, again, MIB), 0);
    mapper_do(&mapper, MAPPER_LOAD, MIB - 64, old + MIB - 64, 64);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, MIB);
    mapper_stop(&mapper);
    cr_assert_eq(close(fd), 0);
}

/* The two take turns at writing one file; each sees the other's bytes. */
Test(pair, writing_in_turns)
{
    char text[16], again[16];
    for (int i = 0; i < 40; i++) {
        struct host *writer = &hosts[i % 2], *reader = &hosts[1 - i % 2];
        int n = snprintf(text, sizeof text, "turn %d", i);
        put_file(writer, "f", text, (size_t)n);
        wait_closed("f");
        cr_assert_eq(get_file(reader, "f", again, sizeof again), (size_t)n);
        cr_assert_eq(memcmp(text, again, (size_t)n), 0, "turn %d", i);
    }
}

/* Without waiting for anything but close(2). */
Test(pair, writing_in_turns_at_once)
{
    char again[128];
    for (int i = 0; i < 100; i++) {
        int fd = open(path_on(&hosts[i % 2], "f"), O_CREAT | O_WRONLY | O_APPEND, 0644);
        cr_assert(fd >= 0, "turn %d: %s", i, strerror(errno));
        cr_assert_eq(write(fd, "x", 1), 1);
        cr_assert_eq(close(fd), 0);
    }
    cr_assert_eq(get_file(HOME, "f", again, sizeof again), 100);
}

/* A file that was drawn only in part is changed in its middle: the rest is still the other host's. */
Test(pair, partial_files_are_written)
{
    AUTO_FREE char *data = pattern(2 * MIB, 3);
    AUTO_FREE char *again = malloc(2 * MIB);
    put_file(HOME, "f", data, 2 * MIB);
    wait_closed("f");
    int fd = open(path_on(AWAY, "f"), O_RDWR);
    cr_assert(fd >= 0);
    cr_assert_eq(pwrite(fd, "changed", 7, MIB + 3), 7);
    cr_assert_eq(close(fd), 0);
    memcpy(data + MIB + 3, "changed", 7);
    wait_closed("f");
    cr_assert_eq(get_file(AWAY, "f", again, 2 * MIB), 2 * MIB);
    cr_assert_eq(memcmp(data, again, 2 * MIB), 0);
    cr_assert_eq(get_file(HOME, "f", again, 2 * MIB), 2 * MIB);
    cr_assert_eq(memcmp(data, again, 2 * MIB), 0);
}

/* Opened for writing and closed as it was: what is written by the next open is published, and not lost. */
Test(pair, opened_for_writing_twice)
{
    char again[16];
    put_file(HOME, "f", "abc", 3);
    wait_closed("f");
    for (int i = 0; i < 3; i++) {
        int fd = open(path_on(AWAY, "f"), O_WRONLY | O_APPEND);
        cr_assert_eq(close(fd), 0);
        wait_closed("f");
        cr_assert_eq(get_file(AWAY, "f", again, sizeof again), 3, "as it was");
    }
    put_file(AWAY, "f", "def+", 4);
    wait_closed("f");
    cr_assert_eq(get_file(AWAY, "f", again, sizeof again), 4);
    cr_assert_eq(memcmp(again, "def+", 4), 0);
    cr_assert_eq(get_file(HOME, "f", again, sizeof again), 4);
    cr_assert_eq(memcmp(again, "def+", 4), 0);
}

/* While one host writes a file the other cannot, and is told so; afterwards it can. */
Test(pair, one_writer_at_a_time)
{
    int fd = open(path_on(HOME, "f"), O_CREAT | O_WRONLY, 0644);
    cr_assert_eq(open(path_on(AWAY, "f"), O_WRONLY), -1);
    cr_assert_eq(errno, EBUSY);
    cr_assert_eq(close(fd), 0);
    wait_closed("f");
    fd = open(path_on(AWAY, "f"), O_WRONLY);
    cr_assert(fd >= 0);
    cr_assert_eq(close(fd), 0);
}

/* Removed by the other host while open here: the descriptor goes on. */
Test(pair, removed_elsewhere_while_open)
{
    char buffer[8];
    struct stat st;
    put_file(HOME, "f", "abc", 3);
    wait_closed("f");
    int fd = open(path_on(AWAY, "f"), O_RDONLY);
    cr_assert_eq(read(fd, buffer, 8), 3);
    cr_assert_eq(unlink(path_on(HOME, "f")), 0);
    cr_assert_not(exists(AWAY, "f"));
    cr_assert_eq(pread(fd, buffer, 8, 0), 3);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_nlink, 0);
    cr_assert_eq(close(fd), 0);
}

/* A read that nobody can serve is an error in bounded time, never zeros; when it can be served again it works. */
Test(pair, unreachable_bytes_are_errors)
{
    char buffer[8] = "";
    AUTO_FREE char *data = pattern(MIB, 4);
    put_file(HOME, "f", data, MIB);
    wait_closed("f");
    fetch_error = -EHOSTUNREACH;
    int fd = open(path_on(AWAY, "f"), O_RDONLY);
    cr_assert_eq(pread(fd, buffer, 8, 0), -1);
    cr_assert_eq(errno, EIO);
    fetch_error = 0;
    cr_assert_eq(pread(fd, buffer, 8, 0), 8);
    cr_assert_eq(memcmp(buffer, data, 8), 0);
    cr_assert_eq(close(fd), 0);
}

/* The home is silent at close: close says so, and what was written is published when the home is back. */
Test(pair, published_when_the_home_is_back)
{
    char buffer[8];
    int fd = open(path_on(AWAY, "f"), O_CREAT | O_WRONLY, 0644);
    cr_assert_eq(write(fd, "abc", 3), 3);
    is_home_silent = true;
    cr_assert_eq(close(fd), -1);
    cr_assert_eq(errno, EIO);
    is_home_silent = false;
    wait_closed("f");
    cr_assert_eq(get_file(HOME, "f", buffer, 8), 3, "%s", strerror(errno));
    cr_assert_eq(memcmp(buffer, "abc", 3), 0);
}

/* A publication that took place though its answer got lost is this host's own, and what follows is built upon it. */
Test(pair, published_though_the_answer_was_lost)
{
    char buffer[8];
    int fd = open(path_on(AWAY, "f"), O_CREAT | O_WRONLY, 0644);
    cr_assert_eq(write(fd, "abc", 3), 3);
    are_answers_lost = true;
    cr_assert_eq(fsync(fd), -1);
    cr_assert_eq(errno, EIO);
    are_answers_lost = false;
    cr_assert_eq(write(fd, "def", 3), 3);
    cr_assert_eq(close(fd), 0, "%s", strerror(errno));
    wait_closed("f");
    cr_assert_eq(get_file(HOME, "f", buffer, 8), 6);
    cr_assert_eq(memcmp(buffer, "abcdef", 6), 0);
}

/* A creation that took place though its answer got lost leaves an empty file, not a broken one. */
Test(pair, created_though_the_answer_was_lost)
{
    char buffer[8];
    are_answers_lost = true;
    cr_assert_eq(open(path_on(AWAY, "f"), O_CREAT | O_WRONLY, 0644), -1);
    cr_assert_eq(errno, EIO);
    are_answers_lost = false;
    put_file(AWAY, "f", "abc", 3);
    wait_closed("f");
    cr_assert_eq(get_file(HOME, "f", buffer, 8), 3, "%s", strerror(errno));
    cr_assert_eq(memcmp(buffer, "abc", 3), 0);
}

/* A stop while the home is silent waits for it once, however many files are being written. */
Test(pair, stopped_while_the_home_is_silent)
{
    char name[8];
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "f%d", i);
        int fd = open(path_on(AWAY, name), O_CREAT | O_WRONLY, 0644);
        cr_assert_eq(write(fd, "abc", 3), 3);
    }
    is_home_silent = true;
    session_stop(AWAY->session);
    cr_assert_eq(n_unheard, 1);
    is_home_silent = false;
    cr_assert_eq(volume_resume(AWAY->volume), 0);
    host_mount(AWAY, true);
    char again[8];
    cr_assert_eq(get_file(HOME, "f4", again, 8), 3, "the recovery publishes");
}

/* An ownership whose grant got lost on the way is given back. */
Test(pair, lost_grants_are_given_back)
{
    put_file(HOME, "f", "abc", 3);
    wait_closed("f");
    are_answers_lost = true;
    cr_assert_eq(open(path_on(AWAY, "f"), O_WRONLY), -1);
    cr_assert_eq(errno, EIO);
    are_answers_lost = false;
    wait_closed("f");
    int fd = open(path_on(HOME, "f"), O_WRONLY);
    cr_assert(fd >= 0, "%s", strerror(errno));
    cr_assert_eq(close(fd), 0);
}

struct churn {
    const struct host *host;
    int number;
    int64_t worst_ns;
};

static void *churn(void *arg)
{
    struct churn *c = arg;
    char name[32];
    for (int i = 0; i < 100; i++) {
        int64_t start_ns = clock_mono_ns();
        snprintf(name, sizeof name, "d/%d.%d", c->number, i % 5);
        int fd = open(path_on(c->host, name), O_CREAT | O_WRONLY | O_EXCL, 0644);
        cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
        cr_assert_eq(write(fd, "x", 1), 1);
        cr_assert_eq(close(fd), 0);
        cr_assert_eq(unlink(path_on(c->host, name)), 0, "%s: %s", name, strerror(errno));
        c->worst_ns = MAX(c->worst_ns, clock_mono_ns() - start_ns);
    }
    return NULL;
}

/* Both hosts create and remove in one directory with eight threads each: nobody waits for long, nothing is left. */
Test(pair, churn_in_one_directory)
{
    pthread_t threads[16];
    struct churn churns[16];
    cr_assert_eq(mkdir(path_on(HOME, "d"), 0755), 0);
    for (int i = 0; i < 16; i++) {
        churns[i] = (struct churn){.host = &hosts[i % 2], .number = i};
        cr_assert_eq(pthread_create(&threads[i], NULL, churn, &churns[i]), 0);
    }
    int64_t worst_ns = 0;
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
        worst_ns = MAX(worst_ns, churns[i].worst_ns);
    }
    cr_assert(worst_ns < 4 * NS_PER_S, "create, write, close, unlink took %ld ms",
              (long)(worst_ns / NS_PER_MS));
    cr_assert_eq(rmdir(path_on(AWAY, "d")), 0, "%s", strerror(errno));
}
