/* Every operation, with the daemon killed at every request that it takes, and at every step that it makes for one: what
 * the caller sees, and what is left.
 *
 *     test ── keeps /dev/fuse and the ledger ──┬── daemon: one after the other; kills itself where it is told to
 *                                              └── program: one operation, armed right before it
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "fs/fuse/ledger.h"
#include "fs/fuse/node.h"
#include "fs/fuse/passthrough.h"
#include "tests/unit/fs/mount_fixture.h"

#define HOST (&hosts[0])
#define LARGE (256 * 1024)
#define SETTLE_NS (20 * NS_PER_S)

enum moment {
    TAKEN,     /* read, and nothing done */
    ANSWERING, /* done, and nobody knows */
    ANSWERED,  /* the caller knows, what follows the answer is not done */
    BETWEEN    /* after one of the steps that outlive the daemon */
};

/* Shared by all processes. */
struct plan {
    enum moment moment;
    _Atomic long countdown; /* requests, or steps, to go; the one that makes it 0 kills */
    _Atomic bool is_armed, has_fired;
    _Atomic bool is_twice; /* the same request kills the next daemon, too */
    _Atomic uint64_t unique;
    _Atomic unsigned n_taken, n_done;
    _Atomic uint32_t opcode; /* of the request that killed */
};

static struct plan *plan;
static int fuse_fd, ledger_fd;
static pid_t daemon_pid;
static _Thread_local bool is_chosen; /* this thread's request is the one */

/* ---- the daemon ---- */

void __real_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf);
void __wrap_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf);

static void end_at(enum moment moment)
{
    if (is_chosen && plan->moment == moment)
        (void)raise(SIGKILL);
}

static bool counts_down(void)
{
    return plan->is_armed && atomic_fetch_sub(&plan->countdown, 1) == 1;
}

/* FORGET is not answered, and what is lost of it is memory of a daemon that is gone. */
static bool is_first(const struct fuse_in_header *in)
{
    return plan->moment != BETWEEN && in->opcode != FUSE_FORGET &&
           in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INIT && counts_down();
}

static bool is_second(const struct fuse_in_header *in)
{
    return plan->is_twice && in->unique == (plan->unique | UNIQUE_RESEND_BIT) &&
           atomic_exchange(&plan->is_twice, false);
}

static void fire(const struct fuse_in_header *in)
{
    plan->opcode = in->opcode;
    plan->unique = in->unique;
    plan->is_armed = false;
    plan->has_fired = true;
}

void __wrap_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf)
{
    struct fuse_in_header in;
    memcpy(&in, buf->mem, sizeof in);
    plan->n_taken++;
    is_chosen = is_second(&in) || is_first(&in);
    if (is_chosen)
        fire(&in);
    else if (plan->is_armed)
        plan->opcode = in.opcode;
    end_at(TAKEN);
    __real_fuse_session_process_buf(se, buf);
    is_chosen = false;
    plan->n_done++;
}

/* libfuse's, too: by it go answers, and notifications, which answer nothing. */
__attribute__((visibility("default"))) ssize_t writev(int fd, const struct iovec *iov, int n)
{
    struct fuse_out_header out = {0};
    if (is_chosen && iov[0].iov_len >= sizeof out)
        memcpy(&out, iov[0].iov_base, sizeof out);
    if (out.unique != 0)
        end_at(ANSWERING);
    ssize_t r = syscall(SYS_writev, fd, iov, n);
    if (out.unique != 0)
        end_at(ANSWERED);
    return r;
}

/* ---- steps ---- */

static void step_made(void)
{
    if (plan->moment != BETWEEN || !counts_down())
        return;
    plan->is_armed = false;
    plan->has_fired = true;
    (void)raise(SIGKILL);
}

/* STEP(name, parameters, arguments): the function, and a kill after it. */
#define STEP(type, name, parameters, arguments)                                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        type r = __real_##name arguments;                                                          \
        step_made();                                                                               \
        return r;                                                                                  \
    }

#define STEP_VOID(name, parameters, arguments)                                                     \
    void __real_##name parameters;                                                                 \
    void __wrap_##name parameters;                                                                 \
    void __wrap_##name parameters                                                                  \
    {                                                                                              \
        __real_##name arguments;                                                                   \
        step_made();                                                                               \
    }

STEP(int, log_append,
     (struct log * log, uint64_t epoch, struct span payload, struct log_entry *ret_entry),
     (log, epoch, payload, ret_entry))
STEP(int, content_make, (struct store * store, uint64_t ino, struct content **ret_content),
     (store, ino, ret_content))
STEP(int, passthrough_open, (int device, int fd), (device, fd))
STEP_VOID(passthrough_close, (int device, int id), (device, id))
STEP_VOID(ledger_commit,
          (struct ledger * ledger, struct ledger_slot *slot, enum ledger_kind kind, void *object),
          (ledger, slot, kind, object))
STEP_VOID(ledger_remove, (struct ledger * ledger, struct ledger_slot *slot), (ledger, slot))
STEP_VOID(node_set_dirty, (struct node * node, bool is_dirty), (node, is_dirty))

__attribute__((noreturn)) static void daemon_main(int ready)
{
    struct session_mount kept = {.fd = fuse_fd};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ledger_open(dup(ledger_fd), &kept.ledger) < 0)
        _exit(2);
    const struct volume_options options = {.directory = HOST->state,
                                           .self = HOST->self,
                                           .image = true,
                                           .survivors = ledger_survivors(kept.ledger)};
    const struct session_options serving = {
        .mountpoint = HOST->mount, .name = "kept", .passthrough = true, .mount = &kept};
    if (volume_open(&options, &HOST->volume) < 0 || volume_resume(HOST->volume) < 0 ||
        session_start(HOST->volume, &serving, &HOST->session) < 0)
        _exit(3);
    (void)!write(ready, "", 1);
    for (;;)
        pause();
}

/* False: it was killed before it was ready. */
static bool try_daemon(void)
{
    int ready[2], status;
    char byte;
    cr_assert_eq(pipe(ready), 0);
    plan->n_taken = plan->n_done = 0;
    daemon_pid = fork();
    cr_assert(daemon_pid >= 0);
    if (daemon_pid == 0)
        daemon_main(ready[1]);
    close(ready[1]);
    bool is_ready = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    if (is_ready)
        return true;
    cr_assert_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the daemon does not start");
    return false;
}

static void start_daemon(void)
{
    while (!try_daemon())
        continue;
}

static void end_daemon(void)
{
    if (daemon_pid <= 0)
        return; /* the setting up ended early */
    kill(daemon_pid, SIGKILL);
    cr_assert_eq(waitpid(daemon_pid, NULL, 0), daemon_pid);
}

/* ---- programs ---- */

static char directory[256]; /* of the operation */

/* In a program: says what is wrong and ends it. */
#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, strerror(errno));           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Waits for the program, and starts the daemon again whenever it ends. */
static bool supervise(pid_t program)
{
    int status;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        cr_assert(ended > 0);
        if (ended == program)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        cr_assert_eq(ended, daemon_pid);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the daemon died by itself");
        start_daemon();
    }
}

typedef void step_f(void);

static bool run(step_f *step, bool is_armed)
{
    pid_t program = fork();
    cr_assert(program >= 0);
    if (program != 0)
        return supervise(program);
    struct statvfs st;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(fuse_fd); /* or the mount would not end with the test */
    must(mkdir(directory, 0755) == 0 || errno == EEXIST);
    must(chdir(directory) == 0);
    plan->is_armed = is_armed;
    step();
    must(statvfs(".", &st) == 0); /* comes after the last RELEASE */
    _exit(0);
}

/* ---- what is left ---- */

static int count(void *ctx, struct ledger_slot *slot)
{
    (void)slot;
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned n_open(void)
{
    struct ledger *ledger;
    unsigned n = 0;
    cr_assert_eq(ledger_open(dup(ledger_fd), &ledger), 0);
    cr_assert_eq(ledger_each(ledger, LEDGER_HANDLE, count, &n), 0);
    ledger_free(ledger);
    return n;
}

/* Closes are told after close(2); a daemon that one of them kills is followed by the next. */
static bool settles(void)
{
    int64_t deadline_ns = clock_mono_ns() + SETTLE_NS;
    do {
        if (waitpid(daemon_pid, NULL, WNOHANG) == daemon_pid)
            start_daemon();
        if (n_open() == 0 && (plan->has_fired || plan->n_taken == plan->n_done))
            return true;
        (void)poll(NULL, 0, 1);
    } while (clock_mono_ns() < deadline_ns);
    return false;
}

/* ---- operations ---- */

static void put(const char *name, const void *data, size_t size)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
}

static void expect(const char *name, const char *data)
{
    char back[64] = "";
    int fd = open(name, O_RDONLY);
    must(fd >= 0);
    must(read(fd, back, sizeof back - 1) == (ssize_t)strlen(data));
    must(strcmp(back, data) == 0 && close(fd) == 0);
}

static bool is_missing(const char *name)
{
    struct stat st;
    return lstat(name, &st) < 0 && errno == ENOENT;
}

static void prepare(void)
{
    static const char large[LARGE] = "large";
    put("f", "before", 6);
    put("g", "other", 5);
    put("large", large, sizeof large);
    must(mkdir("d", 0755) == 0);
    must(setxattr("f", "user.x", "x", 1, 0) == 0);
}

static void do_create(void)
{
    char back[8];
    int fd = open("new", O_RDWR | O_CREAT | O_EXCL, 0640);
    must(fd >= 0);
    must(write(fd, "created", 7) == 7);
    must(pread(fd, back, 8, 0) == 7 && memcmp(back, "created", 7) == 0);
    must(close(fd) == 0);
}

static void check_create(void)
{
    struct stat st;
    expect("new", "created");
    must(stat("new", &st) == 0 && st.st_mode == (S_IFREG | 0640) && st.st_nlink == 1);
}

/* Written past the daemon. */
static void do_create_passed(void)
{
    struct stat st;
    int fd = open("new", O_WRONLY | O_CREAT, 0640);
    must(fd >= 0);
    must(write(fd, "created", 7) == 7);
    must(fstat(fd, &st) == 0 && st.st_size == 7 && S_ISREG(st.st_mode));
    must(close(fd) == 0);
}

static void do_tmpfile(void)
{
    char path[64];
    int fd = open(".", O_RDWR | O_TMPFILE, 0640);
    must(fd >= 0 && write(fd, "created", 7) == 7);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must(linkat(AT_FDCWD, path, AT_FDCWD, "new", AT_SYMLINK_FOLLOW) == 0);
    must(close(fd) == 0);
}

static void do_open_read(void)
{
    char byte;
    int fd = open("large", O_RDONLY);
    must(fd >= 0 && pread(fd, &byte, 1, LARGE - 1) == 1 && byte == 0);
    expect("f", "before");
    must(close(fd) == 0);
}

static void check_unchanged(void)
{
    expect("f", "before");
}

static void do_open_write(void)
{
    int fd = open("f", O_WRONLY);
    must(fd >= 0 && write(fd, "after!", 6) == 6);
    must(fsync(fd) == 0);
    must(close(fd) == 0);
}

static void check_after(void)
{
    expect("f", "after!");
}

static void do_write_cached(void)
{
    int fd = open("f", O_RDWR);
    must(fd >= 0 && pwrite(fd, "after!", 6, 0) == 6 && close(fd) == 0);
}

static void do_open_truncate(void)
{
    int fd = open("f", O_WRONLY | O_TRUNC);
    must(fd >= 0 && write(fd, "after!", 6) == 6 && close(fd) == 0);
}

static void do_append(void)
{
    int fd = open("f", O_RDWR | O_APPEND);
    must(fd >= 0);
    must(write(fd, "+", 1) == 1 && write(fd, "+", 1) == 1);
    must(close(fd) == 0);
}

static void check_append(void)
{
    expect("f", "before++");
}

static void do_map(void)
{
    int fd = open("f", O_RDWR);
    must(fd >= 0);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(map != MAP_FAILED);
    memcpy(map, "after!", 6);
    must(msync(map, 4096, MS_SYNC) == 0 && munmap(map, 4096) == 0 && close(fd) == 0);
}

static void do_truncate(void)
{
    must(truncate("f", 3) == 0);
}

static void check_truncate(void)
{
    expect("f", "bef");
}

static void do_allocate(void)
{
    struct stat st;
    int fd = open("f", O_WRONLY);
    must(fd >= 0 && fallocate(fd, 0, 0, 9000) == 0);
    must(fstat(fd, &st) == 0 && st.st_size == 9000 && ftruncate(fd, 6) == 0 && close(fd) == 0);
}

static void do_copy(void)
{
    int from = open("g", O_RDONLY), to = open("f", O_RDWR);
    must(from >= 0 && to >= 0);
    must(copy_file_range(from, NULL, to, NULL, 5, 0) == 5);
    must(close(to) == 0 && close(from) == 0);
}

static void check_copy(void)
{
    expect("f", "othere");
}

static void do_link(void)
{
    must(link("f", "new") == 0);
}

static void check_link(void)
{
    struct stat st;
    must(stat("new", &st) == 0 && st.st_nlink == 2);
    expect("new", "before");
}

static void do_rename(void)
{
    must(rename("g", "f") == 0);
}

static void check_rename(void)
{
    must(is_missing("g"));
    expect("f", "other");
}

static void do_exchange(void)
{
    must(renameat2(AT_FDCWD, "f", AT_FDCWD, "g", RENAME_EXCHANGE) == 0);
}

static void check_exchange(void)
{
    expect("f", "other");
    expect("g", "before");
}

static void do_unlink(void)
{
    must(unlink("f") == 0);
}

static void do_unlink_open(void)
{
    char back[8];
    struct stat st;
    int fd = open("f", O_RDWR);
    must(fd >= 0 && unlink("f") == 0);
    must(pwrite(fd, "after!", 6, 0) == 6 && pread(fd, back, 8, 0) == 6);
    must(memcmp(back, "after!", 6) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
    must(close(fd) == 0);
}

static void check_unlink(void)
{
    must(is_missing("f"));
}

static void do_directories(void)
{
    struct stat st;
    must(mkdir("new", 0750) == 0 && rmdir("d") == 0);
    must(stat(".", &st) == 0 && st.st_nlink == 3);
}

static void check_directories(void)
{
    struct stat st;
    must(is_missing("d") && stat("new", &st) == 0 && st.st_mode == (S_IFDIR | 0750));
}

static void do_nodes(void)
{
    must(symlink("target", "new") == 0 && mknod("fifo", S_IFIFO | 0640, 0) == 0 &&
         mknod("made", S_IFREG | 0640, 0) == 0);
}

static void check_nodes(void)
{
    char target[16];
    struct stat st;
    must(readlink("new", target, sizeof target) == 6 && memcmp(target, "target", 6) == 0);
    must(stat("fifo", &st) == 0 && st.st_mode == (S_IFIFO | 0640));
    expect("made", "");
}

static void do_attributes(void)
{
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 2, .tv_nsec = 3}};
    must(chmod("f", 0600) == 0 && chown("f", 1, 2) == 0 && utimensat(AT_FDCWD, "f", times, 0) == 0);
    must(setxattr("f", "user.y", "y", 1, XATTR_CREATE) == 0 && removexattr("f", "user.x") == 0);
}

static void check_attributes(void)
{
    char value[8];
    struct stat st;
    must(stat("f", &st) == 0 && st.st_mode == (S_IFREG | 0600) && st.st_uid == 1 && st.st_gid == 2);
    must(st.st_mtim.tv_sec == 2 && st.st_mtim.tv_nsec == 3);
    must(getxattr("f", "user.y", value, 8) == 1 && getxattr("f", "user.x", value, 8) == -1);
}

static const struct operation {
    const char *name;
    step_f *run, *check;
} operations[] = {
    {"create", do_create, check_create},
    {"create, passed through", do_create_passed, check_create},
    {"create without a name", do_tmpfile, check_create},
    {"open and read", do_open_read, check_unchanged},
    {"open and write", do_open_write, check_after},
    {"open and write, cached", do_write_cached, check_after},
    {"open and truncate", do_open_truncate, check_after},
    {"append", do_append, check_append},
    {"map", do_map, check_after},
    {"truncate", do_truncate, check_truncate},
    {"allocate", do_allocate, check_unchanged},
    {"copy", do_copy, check_copy},
    {"link", do_link, check_link},
    {"rename", do_rename, check_rename},
    {"exchange", do_exchange, check_exchange},
    {"unlink", do_unlink, check_unlink},
    {"unlink, open", do_unlink_open, check_unlink},
    {"directories", do_directories, check_directories},
    {"nodes", do_nodes, check_nodes},
    {"attributes", do_attributes, check_attributes},
};

/* ---- the tests ---- */

/* What whiskfs-mountd does. */
static void keep_mount(void)
{
    char options[128];
    fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    cr_assert(fuse_fd >= 0);
    snprintf(options, sizeof options,
             "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fuse_fd);
    cr_assert_eq(mount("whiskfs:kept", HOST->mount, "fuse.whiskfs", MS_NOSUID | MS_NODEV, options),
                 0);
    const uint64_t magic = LEDGER_MAGIC;
    ledger_fd = memfd_create("ledger", MFD_CLOEXEC);
    cr_assert(ledger_fd >= 0 && ftruncate(ledger_fd, LEDGER_PAGE) == 0);
    cr_assert_eq(pwrite(ledger_fd, &magic, sizeof magic, 0), sizeof magic);
}

static void set_up(void)
{
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert(plan != MAP_FAILED);
    fixture_begin();
    host_init(HOST, 0);
    const struct volume_options options = {.directory = HOST->state, .self = HOST->self};
    const struct volume_genesis genesis = {.limit_bytes = 1ULL << 30, .mode = 0755};
    cr_assert_eq(volume_create(&options, &genesis), 0);
    keep_mount();
    start_daemon();
}

static void tear_down(void)
{
    end_daemon();
    cr_assert_eq(umount2(HOST->mount, MNT_DETACH), 0);
    close(fuse_fd);
    fixture_end();
}

/* True: a daemon was killed. */
static bool kill_once(const struct operation *operation, enum moment moment, bool is_twice,
                      long nth)
{
    snprintf(directory, sizeof directory, "%s/%s-%ld", HOST->mount, operation->name, nth);
    plan->moment = moment;
    plan->countdown = nth;
    plan->has_fired = false;
    plan->is_twice = is_twice;
    cr_assert(run(prepare, false));
    bool is_done = run(operation->run, true);
    cr_assert(settles(), "%s: something stays open after opcode %u", operation->name, plan->opcode);
    plan->is_armed = plan->is_twice = false;
    cr_assert(is_done, "%s: killed at opcode %u", operation->name, plan->opcode);
    cr_assert(run(operation->check, false), "%s: killed at opcode %u", operation->name,
              plan->opcode);
    return plan->has_fired;
}

static void kill_everywhere(enum moment moment, bool is_twice)
{
    for (size_t i = 0; i < N_ELEMENTS(operations); i++) {
        long nth = 1;
        while (kill_once(&operations[i], moment, is_twice, nth))
            nth++;
        cr_assert_gt(nth, 1, "%s asks the daemon for nothing", operations[i].name);
    }
}

TestSuite(session_killed, .init = set_up, .fini = tear_down, .timeout = 500);

Test(session_killed, with_a_request_taken)
{
    kill_everywhere(TAKEN, false);
}

Test(session_killed, after_an_answer)
{
    kill_everywhere(ANSWERED, false);
}

Test(session_killed, before_an_answer_twice)
{
    kill_everywhere(ANSWERING, true);
}

Test(session_killed, between)
{
    kill_everywhere(BETWEEN, false);
}
