/* Who decides, who is told, and what a failure leaves. */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "fs/volume/retired.h"
#include "tests/unit/fs/volume_fixture.h"

/* The linker sends the volume's calls here (--wrap). */
int __wrap_tree_apply(struct tree *tree, const struct change *change,
                      struct tree_effect *ret_effect);
int __real_tree_apply(struct tree *tree, const struct change *change,
                      struct tree_effect *ret_effect);
static atomic_bool apply_fails;

int __wrap_tree_apply(struct tree *tree, const struct change *change,
                      struct tree_effect *ret_effect)
{
    return atomic_load(&apply_fails) ? -EIO : __real_tree_apply(tree, change, ret_effect);
}

int __wrap_store_demote(struct store *store, uint64_t ino, uint64_t old_version);
int __real_store_demote(struct store *store, uint64_t ino, uint64_t old_version);
static atomic_bool demote_fails;

int __wrap_store_demote(struct store *store, uint64_t ino, uint64_t old_version)
{
    return atomic_load(&demote_fails) ? -EIO : __real_store_demote(store, ino, old_version);
}

TestSuite(volume, .init = setup, .fini = teardown, .timeout = 60);

/* A new volume has its root and its limit, one opener at a time, and is not made twice. */
Test(volume, genesis)
{
    struct volume_options options = options_of("home", HOME, NULL);
    struct volume *volume = create_and_open();
    struct volume *second = NULL;
    struct inode root = get(volume, ROOT_INO);
    cr_assert(root.mode == (S_IFDIR | 01777) && root.uid == 5 && root.gid == 6);
    struct tree_usage usage;
    tree_usage(volume_tree(volume), &usage);
    cr_assert(usage.limit_bytes == 1 << 30 && usage.n_inodes == 1);
    cr_assert(volume_is_home(volume) && volume_applied(volume) == 2);
    cr_assert_neq(volume_session(volume), 0);
    cr_assert_eq(volume_open(&options, &second), -EBUSY);
    cr_assert_eq(volume_create(&options, &genesis), -EBUSY);
    volume_free(volume);
    cr_assert_eq(volume_create(&options, &genesis), -EEXIST);
    options.directory = path_of("none");
    cr_assert_eq(volume_open(&options, &second), -ENOENT);
    options.self = NO_HOST;
    cr_assert_eq(volume_open(&options, &second), -EINVAL);
}

/* A change is there when it returned; one that is refused leaves no entry. */
Test(volume, change)
{
    struct volume *volume = create_and_open();
    struct outcome outcome = change(volume, make_request("a", S_IFDIR | 0700));
    cr_assert(outcome.error == 0 && outcome.index == 3 && outcome.ino > ROOT_INO);
    cr_assert(has(volume, "a"));
    outcome = change(volume, make_request("a", S_IFDIR | 0700));
    cr_assert(outcome.error == -EEXIST && outcome.index == 0);
    cr_assert_eq(log_last(volume_log(volume)), 3);
    /* Nothing to change is success without an entry. */
    outcome = change(volume, (struct request){.kind = REQUEST_SETATTR, .ino = ROOT_INO});
    cr_assert(outcome.error == 0 && outcome.index == 0);
    /* What no log could hold is refused before the log. */
    outcome = change(volume, make_request("", S_IFDIR | 0700));
    cr_assert(outcome.error < 0);
    cr_assert(volume_applied(volume) == 3 && log_last(volume_log(volume)) == 3);
    volume_free(volume);
}

/* DURABLE is durable when it returns, also where there was nothing to change. */
Test(volume, durable)
{
    struct volume *volume = create_and_open();
    make(volume, "a");
    cr_assert_lt(log_durable(volume_log(volume)), 3);
    struct request request = {.kind = REQUEST_SETATTR, .ino = ROOT_INO, .flags = REQUEST_DURABLE};
    cr_assert_eq(change(volume, request).error, 0);
    cr_assert_eq(log_durable(volume_log(volume)), 3);
    request = make_request("b", S_IFDIR | 0700);
    request.flags = REQUEST_DURABLE;
    cr_assert_eq(change(volume, request).error, 0);
    cr_assert_eq(log_durable(volume_log(volume)), 4);
    volume_free(volume);
}

static struct request by_kernel(struct request request, uint64_t unique)
{
    request.identity = (struct identity){.session = KERNEL_SESSION, .unique = unique};
    return request;
}

/* A request that comes again is answered as the first time, over a restart too, until its answer was delivered. */
Test(volume, known_identity)
{
    struct volume *volume = create_and_open();
    struct request request = by_kernel(make_request("a", S_IFDIR | 0700), 2);
    struct outcome first = change(volume, request);
    cr_assert(first.error == 0 && first.index == 3);
    for (int round = 0; round < 2; round++) {
        struct outcome again = change(volume, request);
        cr_assert(again.error == 0 && again.index == first.index && again.ino == first.ino);
        volume_free(volume);
        volume = open_as("home", HOME, NULL);
    }
    cr_assert_eq(log_last(volume_log(volume)), 3);
    volume_answered(volume, KERNEL_SESSION, 2);
    cr_assert_eq(change(volume, by_kernel(make_request("b", S_IFDIR | 0700), 4)).error, 0);
    cr_assert_eq(change(volume, request).error, -EEXIST);
    volume_free(volume);
}

/* Refused requests carry nothing away: what they took goes with the next. */
Test(volume, retire_after_refusal)
{
    struct volume *volume = create_and_open();
    struct request request = by_kernel(make_request("a", S_IFDIR | 0700), 2);
    cr_assert_eq(change(volume, request).error, 0);
    volume_answered(volume, KERNEL_SESSION, 2);
    cr_assert_eq(change(volume, by_kernel(make_request("a", S_IFDIR | 0700), 4)).error, -EEXIST);
    cr_assert_eq(change(volume, request).error, 0, "still known");
    cr_assert_eq(change(volume, by_kernel(make_request("b", S_IFDIR | 0700), 6)).error, 0);
    cr_assert_eq(change(volume, request).error, -EEXIST, "retired");
    volume_free(volume);
}

/* The daemon's own requests leave nothing behind: each takes the one before along. */
Test(volume, own_requests_retire)
{
    struct volume *volume = create_and_open();
    for (int i = 0; i < 40; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "d%d", i);
        make(volume, name);
    }
    struct request request = make_request("d0", S_IFDIR | 0755);
    for (uint64_t unique = 1; unique < 79; unique += 2) {
        request.identity = (struct identity){.session = volume_session(volume), .unique = unique};
        cr_assert_eq(change(volume, request).error, -EEXIST, "unique %u is still known",
                     (unsigned)unique);
    }
    volume_free(volume);
}

/* The table of answered identities is bounded in both directions. */
Test(volume, retired_is_bounded)
{
    static struct retired retired;
    retired_init(&retired);
    for (uint64_t i = 0; i < 3 * RETIRED_PER_SESSION; i++)
        retired_add(&retired, 5, i);
    struct request request = {.identity.session = 5};
    size_t n = 0;
    for (;;) {
        retired_attach(&retired, &request);
        if (request.n_retire == 0)
            break;
        cr_assert_leq(request.n_retire, REQUEST_RETIRE_MAX);
        for (uint32_t i = 0; i < request.n_retire; i++)
            cr_assert_eq(request.retire[i], 2 * RETIRED_PER_SESSION + n++);
    }
    cr_assert_eq(n, RETIRED_PER_SESSION);
    for (uint64_t session = 10; session < 20; session++)
        retired_add(&retired, session, session);
    for (uint64_t session = 10; session < 20; session++) {
        request.identity.session = session;
        retired_attach(&retired, &request);
        cr_assert_eq(request.n_retire, session >= 20 - RETIRED_SESSIONS);
    }
    retired_done(&retired);
}

/* The source sees every entry in order, and a change waits until it is settled. */
Test(volume, appended_and_settled)
{
    struct fake fake = {0};
    create("home");
    struct volume *volume = open_as("home", HOME, &fake);
    for (unsigned i = 0; i < 3; i++) {
        make(volume, (const char *[]){"a", "b", "c"}[i]);
        cr_assert(fake.n_appended == i + 1 && fake.appended[i] == 3 + i);
        cr_assert(fake.n_settled == i + 1 && fake.settled == 3 + i);
    }
    fake.settle_error = -EIO;
    cr_assert_eq(change(volume, make_request("d", S_IFDIR | 0700)).error, -EIO);
    cr_assert(has(volume, "d"));
    /* Executing for a replica leaves settling to the caller. */
    struct request request = make_request("e", S_IFDIR | 0700);
    request.identity = (struct identity){.host = OTHER, .session = 1, .unique = 2};
    struct outcome outcome, again;
    cr_assert_eq(volume_execute(volume, &request, &outcome), 0);
    cr_assert(outcome.index == 7 && fake.n_settled == 4);
    cr_assert_eq(volume_execute(volume, &request, &again), 0);
    cr_assert(again.index == 7 && again.ino == outcome.ino && fake.n_appended == 5);
    volume_free(volume);
}

struct noting {
    struct volume_watcher watcher;
    atomic_uint n;
    uint64_t index;
    struct tree_effect effect;
    atomic_bool is_inside, may_go;
};

static void note(struct volume_watcher *watcher, const struct change *change,
                 const struct tree_effect *effect)
{
    struct noting *noting = container_of(watcher, struct noting, watcher);
    noting->index = change->index;
    noting->effect = *effect;
    atomic_fetch_add(&noting->n, 1);
}

/* The watcher hears of what its own kernel did not ask for. */
Test(volume, watcher)
{
    struct volume *volume = create_and_open();
    struct noting noting = {.watcher = {.changed = note, .session = KERNEL_SESSION}};
    volume_watch(volume, &noting.watcher);
    cr_assert_eq(change(volume, by_kernel(make_request("a", S_IFDIR | 0700), 2)).error, 0);
    cr_assert_eq(atomic_load(&noting.n), 0);
    uint64_t ino = make(volume, "b");
    cr_assert(atomic_load(&noting.n) == 1 && noting.index == 4);
    cr_assert(noting.effect.after.ino == ino && noting.effect.outcome.ino == ino);
    volume_watch(volume, NULL);
    make(volume, "c");
    cr_assert_eq(atomic_load(&noting.n), 1);
    volume_free(volume);
}

static void linger(struct volume_watcher *watcher, const struct change *change UNUSED,
                   const struct tree_effect *effect UNUSED)
{
    struct noting *noting = container_of(watcher, struct noting, watcher);
    atomic_store(&noting->is_inside, true);
    while (!atomic_load(&noting->may_go))
        sched_yield();
    atomic_fetch_add(&noting->n, 1);
}

static void *make_one(void *volume)
{
    make(volume, "x");
    return NULL;
}

static void *let_go(void *arg)
{
    struct noting *noting = arg;
    atomic_store(&noting->may_go, true);
    return NULL;
}

/* Taking the watcher away waits until no call of it is running. */
Test(volume, watcher_leaves)
{
    struct volume *volume = create_and_open();
    struct noting noting = {.watcher = {.changed = linger, .session = KERNEL_SESSION}};
    volume_watch(volume, &noting.watcher);
    pthread_t maker, releaser;
    cr_assert_eq(pthread_create(&maker, NULL, make_one, volume), 0);
    while (!atomic_load(&noting.is_inside))
        sched_yield();
    cr_assert_eq(pthread_create(&releaser, NULL, let_go, &noting), 0);
    volume_watch(volume, NULL);
    cr_assert_eq(atomic_load(&noting.n), 1);
    pthread_join(maker, NULL);
    pthread_join(releaser, NULL);
    volume_free(volume);
}

/* A full disk refuses the change and nothing else; with room again it goes on. */
Test(volume, disk_full)
{
    struct volume *volume = create_and_open();
    make(volume, "a");
    struct stat st;
    cr_assert_eq(stat(path_of("home/log/0000000000000001.log"), &st), 0);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, tight;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = (rlim_t)st.st_size + 20;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
    struct outcome outcome = change(volume, make_request("b", S_IFDIR | 0700));
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    cr_assert(outcome.error == -ENOSPC && outcome.index == 0);
    cr_assert(!has(volume, "b") && volume_applied(volume) == 3);
    make(volume, "b");
    volume_free(volume);
    volume = open_as("home", HOME, NULL);
    cr_assert(has(volume, "a") && has(volume, "b"));
    volume_free(volume);
}

/* An entry that the state cannot take stops the volume; the next opening replays it. */
Test(volume, state_fails)
{
    struct volume *volume = create_and_open();
    make(volume, "a");
    atomic_store(&apply_fails, true);
    cr_assert_eq(change(volume, make_request("b", S_IFDIR | 0700)).error, -EIO);
    atomic_store(&apply_fails, false);
    cr_assert_eq(change(volume, make_request("c", S_IFDIR | 0700)).error, -EIO);
    cr_assert_eq(volume_checkpoint(volume, true), -EIO);
    cr_assert(!has(volume, "b"));
    volume_free(volume);
    volume = open_as("home", HOME, NULL);
    cr_assert(has(volume, "a") && has(volume, "b") && !has(volume, "c"));
    make(volume, "c");
    volume_free(volume);
}

/* ---- two hosts ---- */

static struct volume *install_empty(struct fake *fake, struct volume *home)
{
    struct volume_options options = options_of("replica", OTHER, fake);
    cr_assert_eq(volume_install(&options, -1), 0);
    struct volume *volume = open_as("replica", OTHER, fake);
    fake->home = home;
    fake->volume = volume;
    catch_up(home, volume);
    return volume;
}

/* What a replica wants is decided at the home and comes back as an entry. */
Test(volume, forwarded)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume *replica = install_empty(&fake, home);
    struct noting at_home = {.watcher = {.changed = note, .session = KERNEL_SESSION}};
    struct noting here = {.watcher = {.changed = note, .session = 88}};
    volume_watch(home, &at_home.watcher);
    volume_watch(replica, &here.watcher);
    cr_assert(!volume_is_home(replica));

    struct request request = make_request("a", S_IFDIR | 0700);
    request.identity = (struct identity){.session = 88, .unique = 2};
    struct outcome outcome = change(replica, request);
    cr_assert(outcome.error == 0 && outcome.index == 3);
    cr_assert(has(home, "a") && has(replica, "a"));
    cr_assert(atomic_load(&at_home.n) == 1 && atomic_load(&here.n) == 0);
    make(home, "b");
    catch_up(home, replica);
    cr_assert(has(replica, "b") && atomic_load(&here.n) == 1);
    cr_assert_eq(here.index, 4);

    cr_assert_eq(change(replica, make_request("a", S_IFDIR | 0700)).error, -EEXIST);
    cr_assert_eq(volume_execute(replica, &request, &outcome), -EREMOTE);
    fake.is_silent = true;
    cr_assert_eq(change(replica, make_request("c", S_IFDIR | 0700)).error, -EIO);
    volume_watch(home, NULL);
    volume_watch(replica, NULL);
    volume_free(replica);
    /* Without a source there is nobody to ask. */
    replica = open_as("replica", OTHER, NULL);
    cr_assert_eq(change(replica, make_request("c", S_IFDIR | 0700)).error, -EIO);
    volume_free(replica);
    volume_free(home);
}

/* Entries that are here already are passed over; a gap, damage, and entries for the home itself are refused. */
Test(volume, follow)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume *replica = install_empty(&fake, home);
    for (unsigned i = 0; i < 200; i++) { /* more than one batch */
        char name[16];
        (void)snprintf(name, sizeof name, "d%u", i);
        make(home, name);
    }
    static uint8_t buffer[LOG_ENTRY_BYTES_MAX];
    size_t used;
    uint64_t applied = 0;
    cr_assert_eq(log_read(volume_log(home), 4, buffer, sizeof buffer, &used), 0);
    cr_assert_eq(volume_follow(replica, (struct span){buffer, used}, &applied), -EINVAL);
    cr_assert(volume_applied(replica) == 2 && applied == 0);
    cr_assert_eq(log_read(volume_log(home), 1, buffer, sizeof buffer, &used), 0);
    cr_assert_eq(volume_follow(replica, (struct span){buffer, used - 1}, &applied), -EBADMSG);
    cr_assert_eq(volume_applied(replica), 201);
    cr_assert_eq(volume_follow(replica, (struct span){buffer, used}, &applied), 0);
    cr_assert(applied == 202 && has(replica, "d199"));
    cr_assert_eq(volume_follow(replica, (struct span){buffer, used}, &applied), 0);
    cr_assert(applied == 202 && log_last(volume_log(replica)) == 202);
    cr_assert_eq(volume_follow(home, (struct span){buffer, used}, &applied), -EINVAL);
    volume_free(replica);
    replica = open_as("replica", OTHER, &fake);
    cr_assert(has(replica, "d199") && volume_applied(replica) == 202);
    volume_free(replica);
    volume_free(home);
}

static void *wait_for_three(void *volume)
{
    bool is_there = volume_wait_applied(volume, 3, clock_mono_ns() + 20 * NS_PER_S);
    cr_assert(is_there);
    return NULL;
}

/* Waiters wake when the entry is applied; the deadline ends a wait. */
Test(volume, wait_applied)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume *replica = install_empty(&fake, home);
    cr_assert(volume_wait_applied(replica, 2, 0));
    cr_assert(!volume_wait_applied(replica, 3, clock_mono_ns() + 20 * NS_PER_MS));
    pthread_t waiter;
    cr_assert_eq(pthread_create(&waiter, NULL, wait_for_three, replica), 0);
    make(home, "a");
    catch_up(home, replica);
    pthread_join(waiter, NULL);
    volume_free(replica);
    volume_free(home);
}

/* ---- content ---- */

/* Another host publishes over ours: what we have becomes the copy of the old version, as long as it is needed. */
Test(volume, demoted_by_publish)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume *replica = install_empty(&fake, home);
    uint64_t ino = write_file(home, "f", "first");
    uint64_t version = publish(home, ino, 5, REQUEST_LAST_CLOSE).index;
    catch_up(home, replica);
    cr_assert(file_exists("home", ino, 0));
    cr_assert_eq(change(replica, (struct request){.kind = REQUEST_OPEN_WRITE, .ino = ino}).error,
                 0);
    cr_assert_eq(change(home, (struct request){.kind = REQUEST_OPEN_WRITE, .ino = ino}).error,
                 -EBUSY);
    uint64_t next = publish(replica, ino, 9, REQUEST_INCOMPLETE).index;
    cr_assert_gt(next, version);
    cr_assert(!file_exists("home", ino, 0) && file_exists("home", ino, version));
    cr_assert_eq(get(home, ino).keeper.n, OTHER.n);
    /* The new keeper has all of it: the old version is not needed any more. */
    struct request keep = {.kind = REQUEST_KEEP, .ino = ino, .base_version = next};
    cr_assert_eq(change(replica, keep).error, 0);
    settle_removals(home);
    cr_assert(!file_exists("home", ino, version));
    volume_free(replica);
    volume_free(home);
}

/* If the copy that others draw from cannot be put aside, the entry does not count as applied; the next start does both. */
Test(volume, demotion_fails)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume *replica = install_empty(&fake, home);
    uint64_t ino = write_file(home, "f", "first");
    uint64_t version = publish(home, ino, 5, REQUEST_LAST_CLOSE).index;
    catch_up(home, replica);
    cr_assert_eq(change(replica, (struct request){.kind = REQUEST_OPEN_WRITE, .ino = ino}).error,
                 0);
    atomic_store(&demote_fails, true);
    cr_assert_eq(publish(replica, ino, 9, REQUEST_INCOMPLETE).error, -EIO);
    atomic_store(&demote_fails, false);
    cr_assert_eq(get(home, ino).version, version);
    cr_assert_eq(change(home, make_request("d", S_IFDIR | 0700)).error, -EIO);
    volume_free(replica);
    volume_free(home);
    home = open_as("home", HOME, NULL);
    cr_assert_eq(get(home, ino).keeper.n, OTHER.n);
    cr_assert(!file_exists("home", ino, 0) && file_exists("home", ino, version));
    volume_free(home);
}

/* Content goes with the last name of its inode, on every host. */
Test(volume, content_goes_with_inode)
{
    struct fake fake = {0};
    struct volume *home = create_and_open();
    struct volume *replica = install_empty(&fake, home);
    uint64_t ino = write_file(replica, "f", "first");
    cr_assert_eq(publish(replica, ino, 5, REQUEST_LAST_CLOSE).error, 0);
    struct inode inode = get(home, ino);
    struct content *content = NULL;
    cr_assert_eq(content_get(volume_store(home), HOME, &inode, &content), 0);
    content_put(content);
    cr_assert(file_exists("replica", ino, 0) && file_exists("home", ino, inode.version));
    struct request request = {.kind = REQUEST_UNLINK, .parent = ROOT_INO, .name = span_of("f")};
    cr_assert_eq(change(home, request).error, 0);
    settle_removals(home);
    cr_assert(!file_exists("home", ino, inode.version));
    catch_up(home, replica);
    settle_removals(replica);
    cr_assert(!file_exists("replica", ino, 0));
    volume_free(replica);
    volume_free(home);
}

/* ---- many at once ---- */

struct crowd {
    struct volume *volume;
    unsigned id;
    uint64_t last;
};

static void *make_many(void *arg)
{
    struct crowd *crowd = arg;
    for (unsigned i = 0; i < 200; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "t%u-%u", crowd->id, i);
        struct outcome outcome = change(crowd->volume, make_request(name, S_IFDIR | 0700));
        cr_assert_eq(outcome.error, 0);
        cr_assert_gt(outcome.index, crowd->last);
        crowd->last = outcome.index;
        cr_assert(has(crowd->volume, name));
    }
    return NULL;
}

/* Four threads change at once: every change has an index of its own and is there, now and after a restart. */
Test(volume, four_threads)
{
    struct volume *volume = create_and_open();
    pthread_t threads[4];
    struct crowd crowds[4];
    for (unsigned i = 0; i < 4; i++) {
        crowds[i] = (struct crowd){.volume = volume, .id = i};
        cr_assert_eq(pthread_create(&threads[i], NULL, make_many, &crowds[i]), 0);
    }
    cr_assert_eq(volume_checkpoint(volume, true), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert(volume_applied(volume) == 802 && log_last(volume_log(volume)) == 802);
    volume_free(volume);
    forget_boot("home");
    volume = open_as("home", HOME, NULL);
    struct tree_usage usage;
    tree_usage(volume_tree(volume), &usage);
    cr_assert_eq(usage.n_inodes, 801);
    volume_free(volume);
}
