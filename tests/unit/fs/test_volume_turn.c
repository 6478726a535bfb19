/* Who orders a volume's changes: what the log says of it, and what the file `leads` beside it. */
#include "tests/unit/fs/volume_fixture.h"

TestSuite(volume_turn, .init = setup, .fini = teardown, .timeout = 60);

static struct outcome execute(struct volume *volume, const char *name)
{
    struct request request = make_request(name, S_IFDIR | 0755);
    struct outcome outcome = {0};
    request.identity = (struct identity){.host = OTHER, .session = KERNEL_SESSION, .unique = 2};
    int error = volume_execute(volume, &request, &outcome);
    cr_assert_eq(error, outcome.error);
    return outcome;
}

static struct volume *open_replica(struct volume *home)
{
    struct volume_options options = options_of("replica", OTHER, NULL);
    cr_assert_eq(volume_install(&options, -1), 0);
    struct volume *replica = open_as("replica", OTHER, NULL);
    catch_up(home, replica);
    return replica;
}

static void stop(struct volume *home)
{
    uint64_t index = 0;
    cr_assert_eq(volume_stop(home, OTHER, &index), 0);
    cr_assert_eq(index, volume_applied(home));
}

static void start(struct volume *volume, uint64_t epoch)
{
    uint64_t index = 0;
    cr_assert_eq(volume_start(volume, epoch, &index), 0);
    cr_assert_eq(index, volume_applied(volume));
    cr_assert_eq(volume_turn(volume).epoch, epoch);
}

static void assert_leads(struct volume *volume, uint64_t started, uint64_t resumed)
{
    struct leads leads = volume_leads(volume);
    cr_assert_eq(leads.started, started);
    cr_assert_eq(leads.resumed, resumed);
}

/* One host decides: the one that was made, until it stops; then the one that starts. Both remember it. */
Test(volume_turn, moves)
{
    struct volume *home = create_and_open();
    struct volume *replica = open_replica(home);
    cr_assert(volume_is_home(home) && !volume_is_home(replica) && !volume_orders(replica));
    cr_assert_eq(execute(replica, "a").error, -EREMOTE);
    stop(home);
    cr_assert(!volume_is_home(home) && volume_orders(home));
    cr_assert_eq(execute(home, "a").error, -EREMOTE);
    catch_up(home, replica);
    start(replica, FIRST_EPOCH + 1);
    cr_assert(volume_is_home(replica));
    cr_assert_eq(execute(replica, "a").error, 0);
    catch_up(replica, home);
    cr_assert(has(home, "a") && !volume_orders(home));
    volume_free(home);
    volume_free(replica);

    home = open_as("home", HOME, NULL);
    replica = open_as("replica", OTHER, NULL);
    cr_assert(!volume_orders(home) && volume_is_home(replica));
    assert_leads(home, FIRST_EPOCH, 0);
    assert_leads(replica, FIRST_EPOCH + 1, 0);
    volume_free(home);
    volume_free(replica);
}

/* Nobody starts who was not offered the home, nor with another epoch than was offered. */
Test(volume_turn, start_refused)
{
    uint64_t index;
    struct volume *home = create_and_open();
    struct volume *replica = open_replica(home);
    cr_assert_eq(volume_start(replica, FIRST_EPOCH + 1, &index), -EREMOTE);
    stop(home);
    cr_assert_eq(volume_stop(home, OTHER, &index), -EREMOTE);
    catch_up(home, replica);
    cr_assert_eq(volume_start(replica, FIRST_EPOCH + 2, &index), -EREMOTE);
    cr_assert(!volume_orders(replica));
    volume_free(home);
    volume_free(replica);
}

/* The old home goes on when its successor will not start, and records that it has decided to. */
Test(volume_turn, resumes)
{
    struct volume *home = create_and_open();
    stop(home);
    start(home, FIRST_EPOCH + 2);
    cr_assert(volume_is_home(home));
    make(home, "a");
    volume_free(home);
    home = open_as("home", HOME, NULL);
    cr_assert(volume_is_home(home));
    assert_leads(home, FIRST_EPOCH + 2, FIRST_EPOCH + 2);
    volume_free(home);
}

/* The record is there and the start is not: this host still has the last word. */
Test(volume_turn, resumption_recorded)
{
    struct volume *home = create_and_open();
    stop(home);
    volume_free(home);
    char text[64];
    (void)snprintf(text, sizeof text, "%llu %llu\n", FIRST_EPOCH + 2, FIRST_EPOCH + 2);
    AUTO_CLOSE int dirfd = directory_open(AT_FDCWD, path_of("home"));
    cr_assert_geq(dirfd, 0);
    cr_assert_eq(directory_write_file(dirfd, "leads", text, strlen(text)), 0);
    home = open_as("home", HOME, NULL);
    cr_assert(volume_orders(home) && !volume_is_home(home));
    start(home, FIRST_EPOCH + 2);
    cr_assert(volume_is_home(home));
    volume_free(home);
}

/* A host that lost its copy and is given another is not the home, whatever that says. */
Test(volume_turn, lost_copy)
{
    struct volume *home = create_and_open();
    AUTO_CLOSE int fd = -1;
    uint64_t index;
    make(home, "a");
    cr_assert_eq(volume_checkpoint_open(home, &fd, &index), 0);
    volume_free(home);
    struct volume_options options = options_of("again", HOME, NULL);
    cr_assert_eq(volume_install(&options, fd), 0);
    struct volume *again = open_as("again", HOME, NULL);
    cr_assert(volume_turn(again).home.n == HOME.n && !volume_orders(again));
    assert_leads(again, 0, 0);
    volume_free(again);
}

/* A file that says nothing sensible is damage, and not taken for "never". */
Test(volume_turn, damaged_record)
{
    volume_free(create_and_open());
    AUTO_CLOSE int dirfd = directory_open(AT_FDCWD, path_of("home"));
    cr_assert_geq(dirfd, 0);
    cr_assert_eq(directory_write_file(dirfd, "leads", "home\n", 5), 0);
    struct volume_options options = options_of("home", HOME, NULL);
    struct volume *volume = NULL;
    cr_assert_eq(volume_open(&options, &volume), -EBADMSG);
}

/* Anybody may begin a term, and until the log has it stays what it was; the home of before is none once that is recorded. */
Test(volume_turn, new_term)
{
    uint64_t index, epoch = epoch_of_next_term(FIRST_EPOCH, 5);
    struct volume *home = create_and_open();
    struct volume *replica = open_replica(home);
    make(home, "only-here");
    cr_assert_eq(volume_start(replica, FIRST_EPOCH + 1, &index), -EREMOTE);
    start(replica, epoch);
    cr_assert(volume_is_home(replica));
    cr_assert_eq(volume_leads(replica).claimed, epoch);
    cr_assert_eq(execute(replica, "a").error, 0);
    cr_assert(volume_is_home(home));
    cr_assert_eq(volume_yield(home), 0);
    cr_assert(!volume_is_home(home) && !volume_orders(home));
    cr_assert_eq(execute(home, "b").error, -EREMOTE);
    volume_free(home);
    volume_free(replica);

    home = open_as("home", HOME, NULL);
    replica = open_as("replica", OTHER, NULL);
    cr_assert(!volume_orders(home) && volume_is_home(replica));
    volume_free(home);
    volume_free(replica);
}

/* The claim is recorded and its start is not: a home that has stopped has stopped still. */
Test(volume_turn, claim_recorded)
{
    struct volume *home = create_and_open();
    stop(home);
    volume_free(home);
    char text[96];
    (void)snprintf(text, sizeof text, "%llu 0 %llu\n", FIRST_EPOCH,
                   (unsigned long long)epoch_of_next_term(FIRST_EPOCH, 5));
    AUTO_CLOSE int dirfd = directory_open(AT_FDCWD, path_of("home"));
    cr_assert_geq(dirfd, 0);
    cr_assert_eq(directory_write_file(dirfd, "leads", text, strlen(text)), 0);
    home = open_as("home", HOME, NULL);
    cr_assert(volume_orders(home) && !volume_is_home(home));
    start(home, epoch_of_next_term(FIRST_EPOCH, 6));
    cr_assert(volume_is_home(home));
    volume_free(home);
}
