/* What is there after a kill, a power cut, damage, and on a host that was given a copy. */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/wait.h>

#include "tests/unit/fs/volume_fixture.h"

TestSuite(volume_recovery, .init = setup, .fini = teardown, .timeout = 110);

#define SEGMENT "home/log/0000000000000001.log"

/* Does it in a process that then ends as if by kill -9. */
static void killed_after(void (*fn)(struct volume *volume))
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        fn(open_as("home", HOME, NULL));
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- all that a volume says, as one text ---- */

struct dump {
    char *text;
    size_t size;
    FILE *out;
};

static bool dump_inode(void *ctx, const struct inode *i)
{
    struct dump *dump = ctx;
    (void)fprintf(dump->out,
                  "%" PRIu64 " in %" PRIu64 " %" PRIu64 " v%" PRIu64 " k%" PRIu64 " w%" PRIu64
                  " %d %o %u %u %u %" PRId64 " %" PRId64 " %" PRId64 "\n",
                  i->ino, i->parent, i->size, i->version, i->keeper.n, i->writer.n,
                  i->keeper_complete, i->mode, i->nlink, i->uid, i->gid, i->mtime_ns, i->ctime_ns,
                  i->btime_ns);
    return true;
}

static bool dump_name(void *ctx, struct span name, uint64_t cookie, const struct inode *inode)
{
    struct dump *dump = ctx;
    (void)fprintf(dump->out, "%.*s %" PRIu64 " -> %" PRIu64 "\n", (int)name.size,
                  (const char *)name.data, cookie, inode->ino);
    return true;
}

static char *dump_of(struct volume *volume)
{
    struct dump dump = {0};
    dump.out = open_memstream(&dump.text, &dump.size);
    cr_assert_eq(tree_each(volume_tree(volume), 0, dump_inode, &dump), 0);
    cr_assert_eq(tree_readdir(volume_tree(volume), ROOT_INO, 0, dump_name, &dump), 0);
    struct tree_usage usage;
    tree_usage(volume_tree(volume), &usage);
    (void)fprintf(dump.out, "%" PRIu64 " %" PRIu64 "\n", usage.used_bytes, usage.n_inodes);
    (void)fclose(dump.out);
    return dump.text;
}

/* Something of every kind. */
static void work(struct volume *volume)
{
    for (unsigned i = 0; i < 150; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "d%u", i);
        make(volume, name);
    }
    uint64_t ino = write_file(volume, "file", "some text");
    cr_assert_eq(publish(volume, ino, 9, REQUEST_LAST_CLOSE).error, 0);
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_LINK,
                                                 .ino = ino,
                                                 .parent = ROOT_INO,
                                                 .name = span_of("link")})
                     .error,
                 0);
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_RENAME,
                                                 .parent = ROOT_INO,
                                                 .name = span_of("d1"),
                                                 .new_parent = ROOT_INO,
                                                 .new_name = span_of("d2")})
                     .error,
                 0);
    cr_assert_eq(
        change(volume,
               (struct request){.kind = REQUEST_RMDIR, .parent = ROOT_INO, .name = span_of("d3")})
            .error,
        0);
    cr_assert_eq(
        change(volume,
               (struct request){.kind = REQUEST_SETATTR, .ino = ino, .set = SET_MODE, .mode = 0600})
            .error,
        0);
}

static void assert_worked(struct volume *volume)
{
    cr_assert(has(volume, "d149") && has(volume, "d2") && has(volume, "file") &&
              has(volume, "link"));
    cr_assert(!has(volume, "d1") && !has(volume, "d3"));
}

/* ---- kills and power cuts ---- */

/* A killed daemon loses nothing that returned. */
Test(volume_recovery, kill)
{
    create("home");
    killed_after(work);
    struct volume *volume = open_as("home", HOME, NULL);
    assert_worked(volume);
    AUTO_FREE char *first = dump_of(volume);
    volume_free(volume);
    /* Again and again, with nothing in between. */
    for (int i = 0; i < 3; i++) {
        volume = open_as("home", HOME, NULL);
        AUTO_FREE char *again = dump_of(volume);
        cr_assert_str_eq(first, again);
        volume_free(volume);
    }
}

#define N_RUNNERS 4
#define KILLED_AT 500

struct runner {
    struct volume *volume;
    unsigned id;
    int report;
};

/* Reports each change once it has returned. */
static void *run(void *arg)
{
    const struct runner *runner = arg;
    for (unsigned i = 0;; i++) {
        char name[16] = "";
        (void)snprintf(name, sizeof name, "t%u-%u", runner->id, i);
        make(runner->volume, name);
        if (write(runner->report, name, sizeof name) != sizeof name)
            _exit(1);
    }
    return NULL;
}

static void run_until_killed(int report)
{
    struct runner runners[N_RUNNERS];
    pthread_t threads[N_RUNNERS];
    struct volume *volume = open_as("home", HOME, NULL);
    for (unsigned i = 0; i < N_RUNNERS; i++) {
        runners[i] = (struct runner){.volume = volume, .id = i, .report = report};
        if (pthread_create(&threads[i], NULL, run, &runners[i]) != 0)
            _exit(1);
    }
    for (;;)
        if (volume_checkpoint(volume, true) < 0)
            _exit(1);
}

/* Killed in the midst of changes and checkpoints: every change that had returned is there. */
Test(volume_recovery, kill_under_load)
{
    create("home");
    int fds[2];
    char name[16];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0)
        run_until_killed(fds[1]);
    close(fds[1]);
    static char names[KILLED_AT * 20][16];
    unsigned n = 0;
    while (read(fds[0], name, sizeof name) == sizeof name) {
        if (n < N_ELEMENTS(names))
            memcpy(names[n++], name, sizeof name);
        if (n == KILLED_AT)
            cr_assert_eq(kill(pid, SIGKILL), 0);
    }
    close(fds[0]);
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status) && n >= KILLED_AT);
    struct volume *volume = open_as("home", HOME, NULL);
    for (unsigned i = 0; i < n; i++)
        cr_assert(has(volume, names[i]), "%s of %u", names[i], n);
    AUTO_FREE char *before = dump_of(volume);
    volume_free(volume);
    forget_boot("home");
    volume = open_as("home", HOME, NULL);
    AUTO_FREE char *after = dump_of(volume);
    cr_assert_str_eq(before, after);
    volume_free(volume);
}

/* The state that a power cut has left is not looked at: log and checkpoint give the very same again. */
Test(volume_recovery, power_cut)
{
    create("home");
    killed_after(work);
    struct volume *volume = open_as("home", HOME, NULL);
    AUTO_FREE char *before = dump_of(volume);
    volume_free(volume);
    for (int i = 0; i < 2; i++) {
        AUTO_CLOSE int fd = open(path_of("home/state/data.mdb"), O_WRONLY | O_CLOEXEC);
        cr_assert_eq(pwrite(fd, "nonsense", 8, 4096), 8);
        forget_boot("home");
        volume = open_as("home", HOME, NULL);
        AUTO_FREE char *after = dump_of(volume);
        cr_assert_str_eq(before, after);
        if (i == 0)
            cr_assert_eq(volume_checkpoint(volume, true), 0);
        volume_free(volume);
    }
}

/* A restart of the machine after an orderly end takes the state as it is. */
Test(volume_recovery, clean_end)
{
    create("home");
    struct volume *volume = open_as("home", HOME, NULL);
    work(volume);
    volume_free(volume);
    {
        AUTO_CLOSE int fd = open(path_of("home/boot"), O_RDWR | O_CLOEXEC);
        char text[64] = "";
        cr_assert_gt(read(fd, text, sizeof text - 1), 36);
        cr_assert_str_eq(text + 36, " clean\n");
        cr_assert_eq(pwrite(fd, "00000000", 8, 0), 8);
    }
    struct stat before, after;
    cr_assert_eq(stat(path_of("home/state/data.mdb"), &before), 0);
    volume = open_as("home", HOME, NULL);
    assert_worked(volume);
    cr_assert_eq(stat(path_of("home/state/data.mdb"), &after), 0);
    cr_assert_eq(before.st_ino, after.st_ino, "the state was built anew");
    volume_free(volume);
}

/* A state that is damaged though the machine ran through is recovered as well. */
Test(volume_recovery, damaged_state)
{
    create("home");
    killed_after(work);
    {
        AUTO_CLOSE int fd = open(path_of("home/state/data.mdb"), O_WRONLY | O_CLOEXEC);
        char zeros[8192] = "";
        cr_assert_eq(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    }
    struct volume *volume = open_as("home", HOME, NULL);
    assert_worked(volume);
    volume_free(volume);
}

static void make_three(struct volume *volume)
{
    make(volume, "a");
    make(volume, "b");
    make(volume, "c");
}

/* Wherever the power cut tore the last entry: all before it is there and the volume goes on. */
Test(volume_recovery, torn_tail)
{
    create("home");
    struct volume *volume = open_as("home", HOME, NULL);
    make(volume, "a");
    make(volume, "b");
    struct stat st;
    cr_assert_eq(stat(path_of(SEGMENT), &st), 0);
    off_t start = st.st_size;
    make(volume, "c");
    volume_free(volume);
    for (off_t cut = start;; cut++) {
        cr_assert_eq(stat(path_of(SEGMENT), &st), 0);
        if (cut == st.st_size)
            break;
        cr_assert_eq(truncate(path_of(SEGMENT), cut), 0);
        forget_boot("home");
        volume = open_as("home", HOME, NULL);
        cr_assert(has(volume, "a") && has(volume, "b") && !has(volume, "c"), "cut at %d", (int)cut);
        make(volume, "c");
        volume_free(volume);
    }
    cr_assert_gt(st.st_size - start, 100);
}

/* Damage in the middle of the log is refused, not cut away. */
Test(volume_recovery, damaged_log)
{
    create("home");
    killed_after(make_three);
    {
        AUTO_CLOSE int fd = open(path_of(SEGMENT), O_RDWR | O_CLOEXEC);
        uint8_t byte;
        cr_assert_eq(pread(fd, &byte, 1, 60), 1);
        byte ^= 1;
        cr_assert_eq(pwrite(fd, &byte, 1, 60), 1);
    }
    struct volume_options options = options_of("home", HOME, NULL);
    struct volume *volume = NULL;
    cr_assert_eq(volume_open(&options, &volume), -EBADMSG);
    cr_assert_null(volume);
}

/* If the log lost what the state still has, the log begins anew behind it and a checkpoint covers the gap. */
Test(volume_recovery, log_behind_state)
{
    create("home");
    killed_after(make_three);
    struct volume *volume = open_as("home", HOME, NULL);
    AUTO_FREE char *before = dump_of(volume);
    uint64_t last = volume_applied(volume);
    volume_free(volume);
    struct stat st;
    cr_assert_eq(stat(path_of(SEGMENT), &st), 0);
    cr_assert_eq(truncate(path_of(SEGMENT), st.st_size - 10), 0);
    for (int i = 0; i < 2; i++) {
        volume = open_as("home", HOME, NULL);
        AUTO_FREE char *after = dump_of(volume);
        cr_assert_str_eq(before, after);
        cr_assert(log_first(volume_log(volume)) == last + 1 && volume_applied(volume) == last);
        volume_free(volume);
        forget_boot("home"); /* the second time from the checkpoint */
    }
    volume = open_as("home", HOME, NULL);
    make(volume, "d");
    volume_free(volume);
}

/* ---- checkpoints ---- */

static uint8_t big_value[XATTR_VALUE_BYTES_MAX];

static void log_bytes(struct volume *volume, uint64_t bytes)
{
    struct request request = {.kind = REQUEST_SETXATTR,
                              .ino = ROOT_INO,
                              .name = span_of("user.big"),
                              .value = {big_value, sizeof big_value}};
    for (uint64_t done = 0; done < bytes; done += sizeof big_value) {
        memset(big_value, (int)(done >> 16), sizeof big_value);
        cr_assert_eq(change(volume, request).error, 0);
    }
}

/* A checkpoint and what was logged after it are all that is needed; the log before the checkpoint before it goes. */
Test(volume_recovery, checkpoint_and_trim)
{
    struct volume *volume = create_and_open();
    work(volume);
    log_bytes(volume, 20 << 20);
    cr_assert_eq(volume_checkpoint(volume, false), 0);
    cr_assert_eq(access(path_of("home/checkpoint/new.mdb"), F_OK), -1);
    uint64_t first = volume_applied(volume);
    cr_assert_eq(volume_checkpoint(volume, true), 0);
    cr_assert_eq(log_first(volume_log(volume)), 1);
    log_bytes(volume, 20 << 20);
    cr_assert_eq(volume_checkpoint(volume, true), 0);
    uint64_t trimmed = log_first(volume_log(volume));
    cr_assert(trimmed > 1 && trimmed <= first + 1);
    make(volume, "after");
    AUTO_FREE char *before = dump_of(volume);

    /* One checkpoint is kept, under its index. */
    char name[64];
    (void)snprintf(name, sizeof name, "home/checkpoint/%016" PRIx64 ".mdb",
                   volume_applied(volume) - 1);
    cr_assert_eq(access(path_of(name), F_OK), 0);
    (void)snprintf(name, sizeof name, "home/checkpoint/%016" PRIx64 ".mdb", first);
    cr_assert_eq(access(path_of(name), F_OK), -1);
    volume_free(volume);

    for (int i = 0; i < 2; i++) {
        forget_boot("home");
        volume = open_as("home", HOME, NULL);
        AUTO_FREE char *after = dump_of(volume);
        cr_assert_str_eq(before, after);
        volume_free(volume);
    }
    /* Without the checkpoint the log's beginning is missing. */
    cr_assert_eq(directory_remove(AT_FDCWD, path_of("home/checkpoint")), 0);
    forget_boot("home");
    struct volume_options options = options_of("home", HOME, NULL);
    cr_assert_eq(volume_open(&options, &volume), -EBADMSG);
}

/* The volume's own thread writes one when enough was logged. */
Test(volume_recovery, checkpoint_by_itself)
{
    struct volume *volume = create_and_open();
    AUTO_CLOSE int watch = inotify_init1(IN_CLOEXEC);
    cr_assert_geq(inotify_add_watch(watch, path_of("home/checkpoint"), IN_MOVED_TO), 0);
    log_bytes(volume, VOLUME_CHECKPOINT_BYTES - (1 << 20));
    struct pollfd poll_fd = {.fd = watch, .events = POLLIN};
    cr_assert_eq(poll(&poll_fd, 1, 0), 0);
    log_bytes(volume, 2 << 20);
    cr_assert_eq(poll(&poll_fd, 1, 60000), 1);
    volume_free(volume);
}

/* ---- copies ---- */

static void assert_same(struct volume *a, struct volume *b)
{
    AUTO_FREE char *of_a = dump_of(a);
    AUTO_FREE char *of_b = dump_of(b);
    cr_assert_str_eq(of_a, of_b);
}

static void install(struct volume *home, const struct volume_options *options)
{
    AUTO_CLOSE int fd = -1;
    uint64_t index = 0;
    cr_assert_eq(volume_checkpoint_open(home, &fd, &index), 0);
    cr_assert(index + 1 >= log_first(volume_log(home)) && index <= volume_applied(home));
    cr_assert_eq(volume_install(options, fd), 0);
}

/* A replica begins with a checkpoint and follows from there; a newer copy replaces its state and keeps its content. */
Test(volume_recovery, install)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    work(home);
    struct volume_options options = options_of("replica", OTHER, &fake);
    install(home, &options);
    struct volume *replica = open_as("replica", OTHER, &fake);
    fake.home = home;
    fake.volume = replica;
    cr_assert(!volume_is_home(replica) && tree_home(volume_tree(replica)).n == HOME.n);
    assert_same(home, replica);
    make(home, "later");
    catch_up(home, replica);
    assert_same(home, replica);
    uint64_t ino = write_file(replica, "mine", "text");
    cr_assert_eq(publish(replica, ino, 4, REQUEST_LAST_CLOSE).error, 0);
    volume_free(replica);

    make(home, "much later");
    cr_assert_eq(volume_checkpoint(home, true), 0);
    install(home, &options);
    replica = open_as("replica", OTHER, &fake);
    fake.volume = replica;
    assert_same(home, replica);
    cr_assert(has(replica, "much later") && file_exists("replica", ino, 0));
    cr_assert_eq(log_first(volume_log(replica)), volume_applied(home) + 1);
    make(home, "at last");
    catch_up(home, replica);
    volume_free(replica);
    /* The copy is as safe as the original. */
    forget_boot("replica");
    replica = open_as("replica", OTHER, &fake);
    assert_same(home, replica);
    volume_free(replica);
    volume_free(home);
}

/* A power cut took entries of a replica's log that the home has made durable, and not the file that they are about:
 * when they come again the file is still there. */
Test(volume_recovery, power_cut_of_a_replica)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume_options options = options_of("replica", OTHER, &fake);
    cr_assert_eq(volume_install(&options, -1), 0);
    struct volume *replica = open_as("replica", OTHER, &fake);
    fake.home = home;
    fake.volume = replica;
    catch_up(home, replica);
    struct stat before;
    cr_assert_eq(stat(path_of("replica/log/0000000000000001.log"), &before), 0);
    uint64_t ino = write_file(replica, "mine", "text");
    cr_assert_eq(publish(replica, ino, 4, REQUEST_LAST_CLOSE | REQUEST_DURABLE).error, 0);
    volume_free(replica);
    cr_assert_eq(truncate(path_of("replica/log/0000000000000001.log"), before.st_size), 0);
    forget_boot("replica");

    replica = open_as("replica", OTHER, &fake);
    fake.volume = replica;
    cr_assert(!has(replica, "mine"), "what the power cut took");
    catch_up(home, replica);
    struct inode mine = get(replica, ino);
    struct content *content = NULL;
    char text[8];
    cr_assert_eq(content_get(volume_store(replica), OTHER, &mine, &content), 0);
    cr_assert_eq(pread(content_fd(content), text, sizeof text, 0), 4);
    content_put(content);
    volume_free(replica);
    volume_free(home);
}

/* What is no checkpoint replaces nothing. */
Test(volume_recovery, install_refused)
{
    struct volume *home = create_and_open();
    make(home, "a");
    volume_free(home);
    struct volume_options options = options_of("home", HOME, NULL);
    AUTO_CLOSE int junk = open(path_of("junk"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(write(junk, "junk", 4), 4);
    options.self = OTHER;
    cr_assert_lt(volume_install(&options, junk), 0);
    home = open_as("home", HOME, NULL);
    cr_assert(has(home, "a"));
    volume_free(home);
}

/* ---- what sessions leave ---- */

static void leave_open(struct volume *volume)
{
    uint64_t ino = write_file(volume, "written", "first");
    cr_assert_eq(publish(volume, ino, 5, 0).error, 0);
    struct inode inode = get(volume, ino);
    struct content *content = NULL;
    cr_assert_eq(content_get(volume_store(volume), HOME, &inode, &content), 0);
    cr_assert_eq(pwrite(content_fd(content), "first and second", 16, 0), 16);
    (void)write_file(volume, "new", "never published");
    ino = write_file(volume, "held", "x");
    cr_assert_eq(publish(volume, ino, 1, REQUEST_LAST_CLOSE).error, 0);
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_UNLINK,
                                                 .flags = REQUEST_HOLD,
                                                 .parent = ROOT_INO,
                                                 .name = span_of("held")})
                     .error,
                 0);
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_MAKE,
                                                 .flags = REQUEST_FOR_WRITE | REQUEST_NAMELESS,
                                                 .parent = ROOT_INO,
                                                 .mode = S_IFREG | 0644})
                     .error,
                 0);
    /* Killed before there was a file to write to. */
    cr_assert_eq(change(volume, (struct request){.kind = REQUEST_MAKE,
                                                 .flags = REQUEST_FOR_WRITE,
                                                 .parent = ROOT_INO,
                                                 .name = span_of("made"),
                                                 .mode = S_IFREG | 0644})
                     .error,
                 0);
}

/* After a kill, files that were being written are published as they are and closed; what was open without a name goes. */
Test(volume_recovery, resume)
{
    create("home");
    killed_after(leave_open);
    struct volume *volume = open_as("home", HOME, NULL);
    struct inode written, new_file;
    cr_assert_eq(tree_lookup(volume_tree(volume), ROOT_INO, span_of("written"), &written), 0);
    cr_assert(written.size == 5 && written.writer.n == HOME.n);
    cr_assert_eq(volume_resume(volume), 0);
    struct stat st;
    char path[128];
    (void)snprintf(path, sizeof path, "home/content/own/%016" PRIx64, written.ino);
    cr_assert_eq(stat(path_of(path), &st), 0);
    written = get(volume, written.ino);
    cr_assert(written.size == 16 && written.writer.n == 0 && written.keeper_complete);
    cr_assert_eq(written.mtime_ns, st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec);
    cr_assert_eq(tree_lookup(volume_tree(volume), ROOT_INO, span_of("new"), &new_file), 0);
    cr_assert(new_file.size == 15 && new_file.writer.n == 0);
    struct tree_usage usage;
    tree_usage(volume_tree(volume), &usage);
    cr_assert_eq(usage.n_inodes, 4);
    settle_removals(volume);
    cr_assert(!file_exists("home", new_file.ino + 1, 0), "the held file's content");
    struct inode made;
    struct content *content = NULL;
    cr_assert_eq(tree_lookup(volume_tree(volume), ROOT_INO, span_of("made"), &made), 0);
    cr_assert_eq(made.writer.n, 0);
    cr_assert_eq(content_get(volume_store(volume), HOME, &made, &content), 0, "empty, not lost");
    cr_assert_eq(content_size(content), 0);
    content_put(content);
    /* Once more there is nothing to end. */
    uint64_t last = volume_applied(volume);
    cr_assert_eq(volume_resume(volume), 0);
    cr_assert_eq(volume_applied(volume), last + 1);
    volume_free(volume);
}

/* ---- making and deleting that did not end ---- */

/* A deletion that was interrupted leaves no volume, and nothing of it comes back in a new one of the name. */
Test(volume_recovery, delete)
{
    struct volume *volume = create_and_open();
    struct volume_options options = options_of("home", HOME, NULL);
    uint64_t ino = write_file(volume, "f", "old");
    cr_assert_eq(volume_delete(path_of("home")), -EBUSY);
    volume_free(volume);
    cr_assert(file_exists("home", ino, 0));
    AUTO_CLOSE int fd = open(path_of("home/deleted"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(volume_open(&options, &volume), -ENOENT);
    create("home");
    cr_assert(!file_exists("home", ino, 0));
    volume = open_as("home", HOME, NULL);
    cr_assert_eq(volume_applied(volume), 2);
    volume_free(volume);
    cr_assert_eq(volume_delete(path_of("home")), 0);
    cr_assert_eq(access(path_of("home"), F_OK), -1);
    cr_assert_eq(volume_delete(path_of("home")), -ENOENT);
}

/* What an interrupted making left is no volume and in nobody's way. */
Test(volume_recovery, interrupted_making)
{
    create("home");
    cr_assert_eq(mkdir(path_of("home/new"), 0700), 0);
    cr_assert_eq(rename(path_of("home/log"), path_of("home/new/log")), 0);
    struct volume_options options = options_of("home", HOME, NULL);
    struct volume *volume = NULL;
    cr_assert_eq(volume_open(&options, &volume), -ENOENT);
    create("home");
    volume = open_as("home", HOME, NULL);
    make(volume, "a");
    volume_free(volume);
}

/* Content whose inode is gone is swept at the start. */
Test(volume_recovery, sweep)
{
    struct volume *volume = create_and_open();
    uint64_t ino = write_file(volume, "f", "text");
    volume_free(volume);
    char stray[128];
    (void)snprintf(stray, sizeof stray, "home/content/own/%016" PRIx64, ino + 1000);
    AUTO_CLOSE int fd = open(path_of(stray), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    volume = open_as("home", HOME, NULL);
    cr_assert(file_exists("home", ino, 0) && !file_exists("home", ino + 1000, 0));
    volume_free(volume);
}
