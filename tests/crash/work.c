#include "tests/crash/work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "proto/base/clock.h"
#include "tests/crash/record.h"
#include "tests/lib/pattern_source.h"

#define SIZE_MAX_BYTES (3u * BLOCK_BYTES)
#define NAMES 12

static struct volume *volume;
static struct work *work;
static const char *place;
static uint64_t rng;
static uint64_t others_unique = 1;

static uint64_t draw(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % below;
}

/* ---- the other host's blocks ---- */

static const struct work *served;

void work_use(const struct work *of)
{
    served = of;
}

uint64_t work_version_size(const struct work *of, uint64_t ino, uint64_t version)
{
    for (unsigned i = 0; i < of->n_versions; i++)
        if (of->versions[i].ino == ino && of->versions[i].version == version)
            return of->versions[i].size;
    return 0;
}

static int fetch(struct source *source, struct content *content, uint64_t first, uint64_t n,
                 enum fetch_class class, int64_t deadline_ns)
{
    (void)source, (void)class, (void)deadline_ns;
    uint64_t size = work_version_size(served, content_ino(content), content_version(content));
    for (uint64_t b = first; b < first + n; b++) {
        int e = content_has(content, b, 1) ? 0 : pattern_fill(content, size, b);
        if (e < 0)
            return e;
    }
    return 0;
}

static void appended(struct source *source, const struct log_entry *entry)
{
    (void)source, (void)entry;
}

static int settle(struct source *source, uint64_t index, int64_t deadline_ns)
{
    (void)source, (void)index, (void)deadline_ns;
    return 0;
}

/* Only a volume that has lost its beginning does not know that this host is its home. */
static int forward(struct source *source, const struct request *request, int64_t deadline_ns,
                   struct outcome *ret_outcome)
{
    (void)source, (void)request, (void)deadline_ns, (void)ret_outcome;
    return -EIO;
}

static const struct source_ops ops = {
    .forward = forward, .fetch = fetch, .appended = appended, .settle = settle};
struct source work_source = {.ops = &ops};

/* ---- what is known ---- */

static void hash_bytes(uint64_t *sum, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        *sum = (*sum ^ bytes[i]) * 0x100000001b3ULL;
}

struct dumping {
    struct volume *volume;
    uint64_t sum;
    uint64_t dirs[256];
    unsigned n_dirs;
};

static bool dump_name(void *ctx, struct span name, uint64_t cookie, const struct inode *inode)
{
    struct dumping *d = ctx;
    hash_bytes(&d->sum, name.data, name.size);
    hash_bytes(&d->sum, &cookie, sizeof cookie);
    hash_bytes(&d->sum, &inode->ino, sizeof inode->ino);
    return true;
}

static bool dump_inode(void *ctx, const struct inode *inode)
{
    struct dumping *d = ctx;
    uint64_t fields[] = {inode->ino,
                         inode->parent,
                         inode->size,
                         inode->version,
                         inode->keeper.n,
                         inode->writer.n,
                         inode->mode,
                         inode->nlink,
                         inode->uid,
                         inode->keeper_complete,
                         inode->gid,
                         inode->rdev,
                         (uint64_t)inode->mtime_ns,
                         (uint64_t)inode->ctime_ns};
    hash_bytes(&d->sum, fields, sizeof fields);
    if (S_ISDIR(inode->mode) && d->n_dirs < N_ELEMENTS(d->dirs))
        d->dirs[d->n_dirs++] = inode->ino;
    char names[4096];
    static uint8_t value[XATTR_VALUE_BYTES_MAX];
    size_t used;
    CHECK(tree_listxattr(volume_tree(d->volume), inode->ino, names, sizeof names, &used) == 0);
    for (size_t at = 0; at < used; at += strlen(names + at) + 1) {
        size_t n;
        struct span name = {(uint8_t *)names + at, strlen(names + at)};
        CHECK(tree_getxattr(volume_tree(d->volume), inode->ino, name, value, sizeof value, &n) ==
              0);
        hash_bytes(&d->sum, name.data, name.size);
        hash_bytes(&d->sum, value, n);
    }
    return true;
}

uint64_t tree_dump(struct volume *of)
{
    struct dumping d = {.volume = of, .sum = 0xcbf29ce484222325ULL};
    CHECK(tree_each(volume_tree(of), 0, dump_inode, &d) == 0);
    for (unsigned i = 0; i < d.n_dirs; i++)
        CHECK(tree_readdir(volume_tree(of), d.dirs[i], 0, dump_name, &d) == 0);
    return d.sum;
}

/* Notes what is durable now, and the tree. Called after every change of either. */
static void note(void)
{
    uint64_t last = volume_applied(volume);
    unsigned position = record_position();
    while (work->n_dumps <= last) {
        uint64_t n = work->n_dumps + 1;
        work->dumps = reallocarray(work->dumps, n, sizeof *work->dumps);
        work->durable_at = reallocarray(work->durable_at, n, sizeof *work->durable_at);
        work->dumps[work->n_dumps] = 0;
        work->durable_at[work->n_dumps++] = 0;
    }
    work->dumps[last] = tree_dump(volume);
    for (uint64_t i = log_durable(volume_log(volume)); i > 0 && work->durable_at[i] == 0; i--)
        work->durable_at[i] = position;
}

static struct outcome change(struct request request)
{
    struct outcome outcome;
    (void)!volume_change(volume, &request, &outcome);
    note();
    return outcome;
}

/* As if the other host had asked. */
static struct outcome change_by_other(struct request request)
{
    struct outcome outcome;
    request.identity = (struct identity){.host = OTHER, .session = 1, .unique = others_unique++};
    (void)!volume_execute(volume, &request, &outcome);
    note();
    return outcome;
}

static bool get(uint64_t ino, struct inode *ret_inode)
{
    return tree_get(volume_tree(volume), ino, ret_inode) == 0;
}

static struct work_file *new_file(uint64_t ino, uint64_t era)
{
    work->files = reallocarray(work->files, work->n_files + 1, sizeof *work->files);
    struct work_file *file = &work->files[work->n_files++];
    *file = (struct work_file){.ino = ino, .era = era};
    return file;
}

static struct work_file *file_of(uint64_t ino)
{
    for (unsigned i = work->n_files; i > 0; i--)
        if (work->files[i - 1].ino == ino)
            return &work->files[i - 1];
    return NULL;
}

/* The file as it is now becomes a snap; what is missing is as the version that it began with. */
static void snap(struct content *content)
{
    struct work_file *file = file_of(content_ino(content));
    uint64_t size = content_size(content);
    file->snaps = reallocarray(file->snaps, file->n_snaps + 1, sizeof *file->snaps);
    struct snap *s = &file->snaps[file->n_snaps++];
    *s = (struct snap){.position = record_position(), .size = size, .data = calloc(1, size + 1)};
    CHECK(disk_read(content_fd(content), s->data, size, 0) == (int64_t)size);
    uint64_t base_size = MIN(size, work_version_size(work, file->ino, file->era));
    for (uint64_t b = 0; b < block_count(base_size); b++)
        if (!content_has(content, b, 1))
            for (uint64_t at = b * BLOCK_BYTES; at < MIN(base_size, (b + 1) * BLOCK_BYTES); at++)
                s->data[at] = pattern_byte(file->ino, file->era, at);
}

static void note_synced(uint64_t ino)
{
    struct work_file *file = file_of(ino);
    CHECK(file->n_synced < N_ELEMENTS(file->synced_at));
    file->synced_at[file->n_synced] = record_position();
    file->synced_snap[file->n_synced++] = file->n_snaps - 1;
}

uint64_t work_era(const struct work *of, const struct inode *inode)
{
    uint64_t era = 0;
    for (unsigned i = 0; i < of->n_versions; i++)
        if (of->versions[i].ino == inode->ino && of->versions[i].version <= inode->version)
            era = MAX(era, of->versions[i].version);
    return era;
}

/* ---- steps ---- */

static const char *some_name(void)
{
    static char name[8];
    (void)snprintf(name, sizeof name, "n%u", (unsigned)draw(NAMES));
    return name;
}

static struct span span_of(const char *text)
{
    return (struct span){(const uint8_t *)text, strlen(text)};
}

/* A regular file that has a name; false: that name is something else. */
static bool some_file(struct inode *ret_inode)
{
    return tree_lookup(volume_tree(volume), ROOT_INO, span_of(some_name()), ret_inode) == 0 &&
           S_ISREG(ret_inode->mode);
}

static int64_t soon(void)
{
    return clock_mono_ns() + 10 * NS_PER_S;
}

static void write_some(struct content *content)
{
    static uint8_t data[SIZE_MAX_BYTES];
    uint64_t offset = draw(3) ? draw(SIZE_MAX_BYTES / 2) : 0;
    size_t size = 1 + draw(draw(4) ? 9000 : SIZE_MAX_BYTES / 2);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(draw(255) + 1);
    CHECK(content_prepare_write(content, offset, size, soon()) == 0);
    CHECK(disk_write(content_fd(content), data, size, offset) == 0);
    CHECK(content_wrote(content, offset, size, (int64_t)size) == (int64_t)size);
    snap(content);
}

static void publish(struct content *content, uint32_t flags)
{
    struct inode inode;
    struct stat st;
    CHECK(get(content_ino(content), &inode) && disk_stat(content_fd(content), &st) == 0);
    struct outcome outcome = change(
        (struct request){.kind = REQUEST_PUBLISH,
                         .flags = flags | (content_is_complete(content) ? 0 : REQUEST_INCOMPLETE),
                         .ino = inode.ino,
                         .size = (uint64_t)st.st_size,
                         .mtime_ns = (int64_t)st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
                         .base_version = inode.version});
    CHECK(outcome.error == 0);
}

static void sync_file(struct content *content)
{
    snap(content);
    CHECK(content_sync(content) == 0);
    publish(content, REQUEST_DURABLE);
    note_synced(content_ino(content));
}

/* Writes, cuts, syncs and publishes a file that is open for writing; perhaps leaves it open. */
static void work_on(struct content *content)
{
    for (uint64_t n = 1 + draw(4); n > 0; n--) {
        switch (draw(6)) {
        case 0:
            CHECK(content_truncate(content, draw(SIZE_MAX_BYTES), soon()) == 0);
            snap(content);
            break;
        case 1:
            sync_file(content);
            break;
        case 2:
            publish(content, 0);
            break;
        default:
            write_some(content);
        }
    }
    if (draw(3) == 0)
        sync_file(content);
    if (draw(4))
        publish(content, REQUEST_LAST_CLOSE);
}

static void step_create(void)
{
    AUTO(content_putp) struct content *content = NULL;
    struct outcome outcome = change((struct request){.kind = REQUEST_MAKE,
                                                     .flags = REQUEST_FOR_WRITE,
                                                     .parent = ROOT_INO,
                                                     .name = span_of(some_name()),
                                                     .mode = S_IFREG | 0644});
    if (outcome.error < 0)
        return;
    new_file(outcome.ino, 0);
    CHECK(content_make(volume_store(volume), outcome.ino, &content) == 0);
    snap(content);
    work_on(content);
}

/* Opens a file for writing, whoever had it. */
static void step_write(void)
{
    AUTO(content_putp) struct content *content = NULL;
    struct inode inode;
    if (!some_file(&inode) || host_equal(inode.writer, OTHER))
        return;
    bool is_theirs = host_equal(inode.keeper, OTHER);
    if (is_theirs && !host_equal(inode.writer, SELF))
        CHECK(content_get(volume_store(volume), SELF, &inode, &content) == 0);
    if (!host_equal(inode.writer, SELF))
        CHECK(change((struct request){.kind = REQUEST_OPEN_WRITE, .ino = inode.ino}).error == 0);
    if (content) {
        CHECK(content_own(content) == 0);
        new_file(inode.ino, inode.version);
        snap(content);
        note_synced(inode.ino); /* what was another's comes from there again, or is here */
    } else {
        CHECK(get(inode.ino, &inode));
        CHECK(content_get(volume_store(volume), SELF, &inode, &content) == 0);
    }
    work_on(content);
}

/* The other host writes the file: ours becomes a drawn copy, and goes when theirs is complete. */
static void step_other(void)
{
    struct inode inode;
    if (!some_file(&inode) || !host_equal(inode.writer, NO_HOST) || work->n_versions == 256)
        return;
    CHECK(change_by_other((struct request){.kind = REQUEST_OPEN_WRITE, .ino = inode.ino}).error ==
          0);
    bool is_partial = draw(2) && inode.size > 0;
    uint64_t size = 1 + draw(SIZE_MAX_BYTES);
    struct outcome outcome = change_by_other(
        (struct request){.kind = REQUEST_PUBLISH,
                         .flags = REQUEST_LAST_CLOSE | (is_partial ? REQUEST_INCOMPLETE : 0),
                         .ino = inode.ino,
                         .size = size,
                         .mtime_ns = 1000,
                         .base_version = inode.version});
    CHECK(outcome.error == 0);
    work->versions[work->n_versions++] = (struct drawn_version){inode.ino, outcome.index, size};
    if (is_partial && draw(2))
        CHECK(change_by_other((struct request){.kind = REQUEST_KEEP,
                                               .ino = inode.ino,
                                               .base_version = outcome.index})
                  .error == 0);
}

/* Draws some blocks of what the other host keeps. */
static void step_draw(void)
{
    AUTO(content_putp) struct content *content = NULL;
    struct inode inode;
    if (!some_file(&inode) || !host_equal(inode.keeper, OTHER) || host_equal(inode.writer, SELF))
        return;
    CHECK(content_get(volume_store(volume), SELF, &inode, &content) == 0);
    uint64_t n = block_count(inode.size), first = draw(n);
    uint64_t end = draw(2) ? n : first + 1 + draw(n - first);
    for (uint64_t b = draw(2) ? 0 : first; b < end; b++)
        CHECK(pattern_fill(content, inode.size, b) == 0);
    if (draw(4) == 0)
        CHECK(content_sync(content) == 0);
}

static void step_names(void)
{
    const char *name = some_name();
    char new_name[8];
    struct inode inode;
    (void)snprintf(new_name, sizeof new_name, "n%u", (unsigned)draw(NAMES));
    bool is_dir = tree_lookup(volume_tree(volume), ROOT_INO, span_of(name), &inode) == 0 &&
                  S_ISDIR(inode.mode);
    switch (draw(5)) {
    case 0:
        change((struct request){.kind = REQUEST_RENAME,
                                .parent = ROOT_INO,
                                .name = span_of(name),
                                .new_parent = ROOT_INO,
                                .new_name = span_of(new_name)});
        break;
    case 1:
        change((struct request){.kind = is_dir ? REQUEST_RMDIR : REQUEST_UNLINK,
                                .parent = ROOT_INO,
                                .name = span_of(name)});
        break;
    case 2:
        change((struct request){.kind = REQUEST_MAKE,
                                .parent = ROOT_INO,
                                .name = span_of(name),
                                .mode = S_IFDIR | 0755});
        break;
    default: {
        static uint8_t value[2000];
        memset(value, (int)draw(256), sizeof value);
        change((struct request){.kind = REQUEST_SETXATTR,
                                .ino = ROOT_INO,
                                .name = span_of("user.x"),
                                .value = {value, draw(sizeof value)}});
    }
    }
}

/* What is quiet gets its seal. */
static void step_seal(void)
{
    struct inode inode;
    if (!some_file(&inode))
        return;
    int e = volume_seal(volume, inode.ino, NULL, NULL);
    CHECK(e == 0 || e == -EALREADY || e == -EBUSY || e == -EINVAL);
    note();
}

/* Somebody's fsync: everything in the log. */
static void step_sync(void)
{
    CHECK(log_sync(volume_log(volume), log_last(volume_log(volume))) == 0);
    note();
}

/* ---- the run ---- */

static void open_volume(void)
{
    struct volume_options options = {
        .directory = place, .self = SELF, .source = &work_source, .map_bytes = 32u << 20};
    CHECK(volume_open(&options, &volume) == 0);
    note();
    CHECK(volume_resume(volume) == 0);
    note();
}

/* The daemon ends in order; sometimes the machine is restarted before the next one begins. */
static void step_restart(void)
{
    static const char other_boot[] = "00000000-0000-0000-0000-000000000000\n";
    volume_free(TAKE(volume));
    if (draw(2)) {
        AUTO_CLOSE int dirfd = directory_open(AT_FDCWD, place);
        CHECK(directory_write_file(dirfd, "boot", other_boot, sizeof other_boot - 1) == 0);
    }
    open_volume();
}

static void step(void)
{
    static void (*const steps[])(void) = {
        step_create, step_create, step_write, step_write, step_write, step_other, step_other,
        step_draw,   step_draw,   step_names, step_names, step_names, step_seal};
    uint64_t n = draw(100);
    if (n < 3)
        step_restart();
    else if (n < 9)
        CHECK(volume_checkpoint(volume, true) == 0);
    else if (n < 15)
        step_sync();
    else
        steps[draw(N_ELEMENTS(steps))]();
}

void work_run(struct work *new_work, const char *directory, uint64_t seed, unsigned n_steps)
{
    static const struct volume_genesis genesis = {.limit_bytes = 1 << 30, .mode = 01777};
    struct volume_options options = {.directory = directory, .self = SELF, .map_bytes = 32u << 20};
    *new_work = (struct work){0};
    work = new_work;
    place = directory;
    rng = seed * 0x9e3779b97f4a7c15ULL | 1;
    work_use(work);
    record_start(directory);
    CHECK(volume_create(&options, &genesis) == 0);
    open_volume();
    for (unsigned i = 0; i < n_steps; i++)
        step();
    volume_free(TAKE(volume));
    record_stop();
}

void work_free(struct work *of)
{
    for (unsigned i = 0; i < of->n_files; i++) {
        for (unsigned s = 0; s < of->files[i].n_snaps; s++)
            free(of->files[i].snaps[s].data);
        free(of->files[i].snaps);
    }
    free(of->files);
    free(of->dumps);
    free(of->durable_at);
}
