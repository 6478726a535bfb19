/* A disk that fails at its n-th call, for every n until nothing fails any more: an error that says so, and no damage. */
#include "tests/lib/disk_fault.h"
#include "tests/unit/fs/volume_fixture.h"

TestSuite(volume_faults, .init = setup, .fini = teardown, .timeout = 100);

#define N_STEPS 7

/* What the caller heard of each step. */
struct heard {
    int errors[N_STEPS];
};

static int try_change(struct volume *volume, struct request request)
{
    struct outcome outcome;
    return volume_change(volume, &request, &outcome);
}

static int write_and_sync(struct volume *volume, const char *name)
{
    struct content *content = NULL;
    struct request request = make_request(name, S_IFREG | 0644);
    struct outcome outcome;
    request.flags = REQUEST_FOR_WRITE;
    int e = volume_change(volume, &request, &outcome);
    if (e == 0)
        e = content_make(volume_store(volume), outcome.ino, &content);
    if (e == 0)
        e = disk_write(content_fd(content), "bytes", 5, 0);
    if (e == 0)
        e = content_sync(content);
    if (content)
        content_put(content);
    if (e < 0)
        return e;
    return try_change(volume, (struct request){.kind = REQUEST_PUBLISH,
                                               .flags = REQUEST_LAST_CLOSE | REQUEST_DURABLE,
                                               .ino = outcome.ino,
                                               .size = 5,
                                               .mtime_ns = 1,
                                               .base_version = 0});
}

static struct request unlink_of(const char *name)
{
    return (struct request){.kind = REQUEST_UNLINK, .parent = ROOT_INO, .name = span_of(name)};
}

static void work(struct volume *volume, struct heard *heard)
{
    heard->errors[0] = try_change(volume, make_request("a", S_IFDIR | 0755));
    heard->errors[1] = write_and_sync(volume, "f");
    heard->errors[2] = try_change(volume, make_request("b", S_IFDIR | 0755));
    heard->errors[3] = volume_checkpoint(volume, true);
    heard->errors[4] = write_and_sync(volume, "g");
    heard->errors[5] = heard->errors[1] == 0 ? try_change(volume, unlink_of("f")) : -1;
    heard->errors[6] = try_change(volume, make_request("c", S_IFDIR | 0755));
}

static void check_file(struct volume *volume, const char *name)
{
    struct inode inode;
    struct content *content = NULL;
    char text[8] = "";
    cr_assert_eq(tree_lookup(volume_tree(volume), ROOT_INO, span_of(name), &inode), 0);
    cr_assert_eq(inode.size, 5);
    cr_assert_eq(content_get(volume_store(volume), HOME, &inode, &content), 0);
    cr_assert_eq(disk_read(content_fd(content), text, 5, 0), 5);
    cr_assert_str_eq(text, "bytes");
    content_put(content);
}

/* What was answered well is there. */
static void check(struct volume *volume, const struct heard *heard)
{
    cr_assert(heard->errors[0] < 0 || has(volume, "a"));
    cr_assert(heard->errors[2] < 0 || has(volume, "b"));
    cr_assert(heard->errors[6] < 0 || has(volume, "c"));
    if (heard->errors[4] == 0)
        check_file(volume, "g");
    if (heard->errors[1] == 0 && heard->errors[5] < 0 && has(volume, "f"))
        check_file(volume, "f");
    cr_assert(heard->errors[5] < 0 || !has(volume, "f"));
    /* And it goes on. */
    cr_assert_eq(volume_resume(volume), 0);
    make(volume, "afterwards");
    cr_assert_eq(volume_checkpoint(volume, true), 0);
}

/* Returns whether anything failed. */
static bool once(const char *name, struct disk_fault *fault, int countdown, int repeat)
{
    struct heard heard;
    create(name);
    struct volume *volume = open_as(name, HOME, NULL);
    cr_assert_eq(volume_resume(volume), 0);
    disk_fault_arm(fault, countdown, repeat);
    work(volume, &heard);
    volume_free(volume);
    disk_set_hook(NULL);
    for (int again = 0; again < 2; again++) {
        volume = open_as(name, HOME, NULL);
        if (again == 0)
            check(volume, &heard);
        cr_assert(again == 0 || has(volume, "afterwards"));
        volume_free(volume);
        forget_boot(name); /* the second time as after a power cut */
    }
    cr_assert_eq(volume_delete(path_of(name)), 0);
    return atomic_load(&fault->n_failed) > 0;
}

static void sweep(int error, bool fails_sync, int repeat)
{
    struct disk_fault fault = {.error = error, .fails_sync = fails_sync};
    int n = 0;
    while (once("home", &fault, n, repeat))
        n++;
    cr_assert_gt(n, 10);
}

/* One call fails, and what it was for; the next ones find the disk well. */
Test(volume_faults, full_once)
{
    sweep(-ENOSPC, false, 0);
}

/* From some call on all fail: a disk that is full, or was remounted read-only. */
Test(volume_faults, full_from_then_on)
{
    sweep(-ENOSPC, false, DISK_FAULT_FOR_EVER);
}

Test(volume_faults, read_only_from_then_on)
{
    sweep(-EROFS, true, DISK_FAULT_FOR_EVER);
}

Test(volume_faults, io_error_once)
{
    sweep(-EIO, true, 0);
}

/* A full disk refuses what makes more and takes what frees some; with room again it goes on without a restart. */
Test(volume_faults, removing_on_a_full_disk)
{
    struct disk_fault fault = {.error = -ENOSPC, .is_full = true};
    char name[16];
    struct volume *volume = create_and_open();
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "d%d", i);
        make(volume, name);
    }
    disk_fault_arm(&fault, 0, DISK_FAULT_FOR_EVER);
    /* Up to a half of what was set aside is for everything. */
    static uint8_t value[60000];
    int error = 0;
    for (int i = 0; i < 100 && error == 0; i++)
        error = try_change(volume, (struct request){.kind = REQUEST_SETXATTR,
                                                    .ino = ROOT_INO,
                                                    .name = span_of("user.x"),
                                                    .value = {value, sizeof value}});
    cr_assert_eq(error, -ENOSPC);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "d%d", i);
        struct request request = {.kind = REQUEST_RMDIR, .parent = ROOT_INO, .name = span_of(name)};
        cr_assert_eq(change(volume, request).error, 0);
    }
    cr_assert_eq(try_change(volume, make_request("more", S_IFDIR | 0755)), -ENOSPC);
    disk_set_hook(NULL);
    make(volume, "more");
    volume_free(volume);
}
