#include "daemon/volumes/saved.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define DEPTH_MAX 12 /* of what is under its path */
#define PATH_BYTES 4096u
#define ABOUT "about"

/* An inode that the entries name. */
struct named {
    uint64_t ino;
    bool is_made, is_written; /* by any host; by this one */
};

/* An inode that is put aside. */
struct picked {
    struct inode inode;
    bool is_done;
    bool is_taken; /* its content does not stay */
};

struct cached {
    uint64_t ino, version;
};

struct put {
    const struct saved_options *options;
    struct tree *tree;
    struct store *store;
    struct host_id self;
    int dirfd, filesfd, entriesfd;
    FILE *changes;
    uint64_t first, last; /* entries that the log has */
    uint64_t entries, files, bytes, entry_bytes, checksum;
    bool is_worthwhile;
    struct named *named;
    size_t n_named, named_room;
    struct picked *picked;
    size_t n_picked, picked_room;
    struct cached *cached;
    size_t n_cached, cached_room;
    int error;
};

static void put_done(struct put *put)
{
    close_fd(&put->dirfd);
    close_fd(&put->filesfd);
    close_fd(&put->entriesfd);
    if (put->changes)
        (void)fclose(put->changes);
    free(put->named);
    free(put->picked);
    free(put->cached);
}

/* One more place at the end of an array, or NULL with put->error set. */
static void *add(struct put *put, void **items, size_t *n, size_t *room, size_t size)
{
    if (*n == *room) {
        size_t more = *room ? 2 * *room : 64;
        void *grown = reallocarray(*items, more, size);
        if (!grown) {
            put->error = -ENOMEM;
            return NULL;
        }
        *items = grown;
        *room = more;
    }
    return (char *)*items + (*n)++ * size;
}

/* ---- the entries ---- */

static bool is_housekeeping(enum request_kind kind)
{
    return kind == REQUEST_KEEP || kind == REQUEST_DROP || kind == REQUEST_SESSION ||
           kind == REQUEST_STOP || kind == REQUEST_START;
}

static void note_named(struct put *put, const struct change *change)
{
    const struct request *q = &change->request;
    bool is_own = host_equal(q->identity.host, put->self);
    struct named named = {
        .ino = change->ino,
        .is_made = q->kind == REQUEST_MAKE,
        .is_written = is_own && (q->kind == REQUEST_MAKE || q->kind == REQUEST_OPEN_WRITE ||
                                 q->kind == REQUEST_PUBLISH),
    };
    if (!named.is_made && !named.is_written)
        return;
    void *all = put->named;
    struct named *place = add(put, &all, &put->n_named, &put->named_room, sizeof named);
    put->named = all;
    if (place)
        *place = named;
}

/* Names come from callers: nothing of them may look like another line. */
static void print_name(FILE *f, struct span name)
{
    (void)fputs(" '", f);
    for (size_t i = 0; i < name.size; i++)
        (void)fputc(name.data[i] < ' ' || name.data[i] == 0x7f ? '?' : name.data[i], f);
    (void)fputc('\'', f);
}

static void print_change(FILE *f, const struct change *change)
{
    const struct request *q = &change->request;
    (void)fprintf(f, "%" PRIu64 " at %.3f: %s inode=%" PRIu64 " parent=%" PRIu64, change->index,
                  (double)change->time_ns / 1e9, request_kind_name(q->kind), change->ino,
                  q->parent);
    if (q->name.size > 0)
        print_name(f, q->name);
    if (q->new_name.size > 0) {
        (void)fprintf(f, " to parent=%" PRIu64, q->new_parent);
        print_name(f, q->new_name);
    }
    (void)fputc('\n', f);
}

static int take_entry(struct put *put, const struct log_entry *logged)
{
    struct change change;
    struct reader payload = reader_over(logged->payload.data, logged->payload.size);
    if (get_change(&payload, &change) < 0)
        return -EBADMSG;
    int r = disk_write(put->entriesfd, logged->bytes.data, logged->bytes.size, put->entry_bytes);
    put->entry_bytes += logged->bytes.size;
    put->checksum = logged->checksum;
    put->entries++;
    put->is_worthwhile |= !is_housekeeping(change.request.kind);
    print_change(put->changes, &change);
    note_named(put, &change);
    return r < 0 ? r : put->error;
}

static int take_entries(struct put *put)
{
    struct log *log = volume_log(put->options->volume);
    AUTO_FREE uint8_t *buffer = malloc(LOG_ENTRY_BYTES_MAX);
    if (!buffer)
        return -ENOMEM;
    for (uint64_t index = put->first; index <= put->last;) {
        struct log_entry logged;
        size_t used;
        int r = log_read(log, index, buffer, LOG_ENTRY_BYTES_MAX, &used);
        if (r < 0)
            return r;
        struct reader reader = reader_over(buffer, used);
        for (; log_entry_get(&reader, &logged) == 0; index = logged.index + 1)
            if ((r = take_entry(put, &logged)) < 0)
                return r;
    }
    return 0;
}

static int compare_named(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* One for each inode, in the order of their numbers. */
static void merge_named(struct put *put)
{
    size_t n = 0;
    if (put->n_named == 0)
        return;
    qsort(put->named, put->n_named, sizeof *put->named, compare_named);
    for (size_t i = 1; i < put->n_named; i++) {
        const struct named *next = &put->named[i];
        if (next->ino != put->named[n].ino) {
            put->named[++n] = *next;
            continue;
        }
        put->named[n].is_made |= next->is_made;
        put->named[n].is_written |= next->is_written;
    }
    put->n_named = n + 1;
}

static struct named find_named(const struct put *put, uint64_t ino)
{
    const struct named key = {.ino = ino};
    const struct named *found =
        put->n_named > 0 ? bsearch(&key, put->named, put->n_named, sizeof key, compare_named)
                         : NULL;
    return found ? *found : key;
}

/* ---- which inodes ---- */

/* What this host published from there on, what it has open for writing, and what else was made. */
static bool pick(void *ctx, const struct inode *inode)
{
    struct put *put = ctx;
    struct named named = find_named(put, inode->ino);
    bool is_file = S_ISREG(inode->mode);
    bool is_published =
        is_file && host_equal(inode->keeper, put->self) && inode->version >= put->options->from;
    bool is_open = is_file && host_equal(inode->writer, put->self);
    bool is_whole_log = put->first == put->options->from;
    if (!is_published && !is_open && (is_file || !named.is_made))
        return true;
    void *all = put->picked;
    struct picked *picked = add(put, &all, &put->n_picked, &put->picked_room, sizeof *picked);
    put->picked = all;
    if (picked)
        *picked = (struct picked){
            .inode = *inode,
            .is_taken = is_published || (is_open && (named.is_written || !is_whole_log)),
        };
    return picked != NULL;
}

static int compare_picked(const void *a, const void *b)
{
    const struct picked *x = a, *y = b;
    return x->inode.ino < y->inode.ino ? -1 : x->inode.ino > y->inode.ino;
}

static struct picked *find_picked(const struct put *put, uint64_t ino)
{
    const struct picked key = {.inode.ino = ino};
    return put->n_picked > 0 ? bsearch(&key, put->picked, put->n_picked, sizeof key, compare_picked)
                             : NULL;
}

/* ---- copies ---- */

static int set_attributes(int fd, const struct inode *inode)
{
    const struct timespec times[2] = {
        {.tv_sec = inode->atime_ns / NS_PER_S, .tv_nsec = inode->atime_ns % NS_PER_S},
        {.tv_sec = inode->mtime_ns / NS_PER_S, .tv_nsec = inode->mtime_ns % NS_PER_S},
    };
    if (fchown(fd, inode->uid, inode->gid) < 0 || fchmod(fd, inode->mode & 01777) < 0)
        return -errno;
    (void)futimens(fd, times); /* of before 1970, perhaps */
    return 0;
}

/* Content that this host should have and has not was lost before. */
static int copy_file(struct put *put, struct picked *picked, int dirfd, const char *name)
{
    AUTO(content_putp) struct content *content = NULL;
    int r = content_get(put->store, put->self, &picked->inode, &content);
    if (r == -ENOENT || r == -EUCLEAN) {
        log_error("volumes", "inode %" PRIu64 " of volume '%s' has no content here: %s",
                  picked->inode.ino, put->options->volume_name, strerror(-r));
        picked->is_taken = false;
        return 0;
    }
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = disk_open(dirfd, name, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return fd;
    uint64_t size = content_size(content);
    r = directory_copy_data(content_fd(content), fd, size);
    if (r == 0)
        r = set_attributes(fd, &picked->inode);
    put->files++;
    put->bytes += size;
    return r;
}

static int copy_symlink(struct put *put, const struct picked *picked, int dirfd, const char *name)
{
    char target[SYMLINK_BYTES_MAX + 1];
    size_t used;
    int r = tree_readlink(put->tree, picked->inode.ino, target, SYMLINK_BYTES_MAX, &used);
    if (r < 0)
        return r;
    target[used] = '\0';
    put->files++;
    return symlinkat(target, dirfd, name) < 0 ? -errno : 0;
}

/* Other kinds are named in `changes`, and no more. */
static int copy(struct put *put, struct picked *picked, int dirfd, const char *name)
{
    picked->is_done = true;
    if (S_ISREG(picked->inode.mode))
        return copy_file(put, picked, dirfd, name);
    if (S_ISLNK(picked->inode.mode))
        return copy_symlink(put, picked, dirfd, name);
    if (!S_ISDIR(picked->inode.mode))
        return 0;
    AUTO_CLOSE int fd = directory_make(dirfd, name);
    return MIN(fd, 0);
}

/* ---- their paths ---- */

/* path is "A/B/NAME": A and B are made. */
static int copy_at(struct put *put, struct picked *picked, char *path)
{
    AUTO_CLOSE int dirfd = fcntl(put->filesfd, F_DUPFD_CLOEXEC, 3);
    if (dirfd < 0)
        return -errno;
    char *name = path, *slash;
    for (; (slash = strchr(name, '/')); name = slash + 1) {
        *slash = '\0';
        int below = directory_make(dirfd, name);
        *slash = '/';
        if (below < 0)
            return below;
        close_fd(&dirfd);
        dirfd = below;
    }
    return copy(put, picked, dirfd, name);
}

struct child {
    struct child *next;
    uint64_t ino;
    bool is_directory;
    char name[NAME_BYTES_MAX + 1];
};

struct listing {
    struct child *first;
    int error;
};

static void listing_done(struct listing *listing)
{
    for (struct child *child = listing->first, *next; child; child = next) {
        next = child->next;
        free(child);
    }
}

static bool list_child(void *ctx, struct span name, uint64_t cookie, const struct inode *inode)
{
    struct listing *listing = ctx;
    struct child *child = calloc(1, sizeof *child);
    (void)cookie;
    if (!child) {
        listing->error = -ENOMEM;
        return false;
    }
    *child = (struct child){
        .next = listing->first, .ino = inode->ino, .is_directory = S_ISDIR(inode->mode)};
    memcpy(child->name, name.data, MIN(name.size, NAME_BYTES_MAX));
    listing->first = child;
    return true;
}

/* What lies deeper than a path may be long, or than directory_remove goes, is put beside the rest, by its number. */
static int walk(struct put *put, uint64_t dir, char *path, size_t used, unsigned depth)
{
    AUTO(listing_done) struct listing listing = {0};
    int r = tree_readdir(put->tree, dir, 0, list_child, &listing);
    if (r == 0)
        r = listing.error;
    for (const struct child *child = listing.first; r == 0 && child; child = child->next) {
        size_t size = strlen(child->name);
        if (used + size + 2 > PATH_BYTES)
            continue;
        memcpy(path + used, child->name, size + 1);
        struct picked *picked = find_picked(put, child->ino);
        if (picked && !picked->is_done)
            r = copy_at(put, picked, path);
        if (r < 0 || !child->is_directory || depth == DEPTH_MAX)
            continue;
        path[used + size] = '/';
        r = walk(put, child->ino, path, used + size + 1, depth + 1);
    }
    return r;
}

static int copy_picked(struct put *put)
{
    AUTO_FREE char *path = malloc(PATH_BYTES);
    if (!path)
        return -ENOMEM;
    AUTO_CLOSE int numbersfd = directory_make(put->dirfd, "by-number");
    int r = MIN(numbersfd, 0);
    if (r == 0 && put->n_picked > 0)
        r = walk(put, ROOT_INO, path, 0, 0);
    for (size_t i = 0; r == 0 && i < put->n_picked; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "inode-%" PRIu64, put->picked[i].inode.ino);
        if (!put->picked[i].is_done && put->picked[i].inode.ino != ROOT_INO)
            r = copy(put, &put->picked[i], numbersfd, name);
    }
    return r;
}

/* ---- what does not stay ---- */

static void note_cached(void *ctx, const struct store_cached *cached)
{
    struct put *put = ctx;
    if (cached->version < put->options->from || put->error < 0)
        return;
    void *all = put->cached;
    struct cached *place = add(put, &all, &put->n_cached, &put->cached_room, sizeof *place);
    put->cached = all;
    if (place)
        *place = (struct cached){cached->ino, cached->version};
}

/* The other log may have been the same for a while yet. */
static bool stays(const struct tree_copy *other, const struct picked *picked, struct host_id self)
{
    struct inode inode;
    return host_equal(picked->inode.writer, NO_HOST) &&
           tree_copy_get(other, picked->inode.ino, &inode) == 0 && host_equal(inode.keeper, self) &&
           inode.version == picked->inode.version;
}

static int take_files_away(struct put *put)
{
    AUTO(tree_copy_freep) struct tree_copy *other = NULL;
    int r = tree_copy_open(put->options->checkpoint_fd, &other);
    for (size_t i = 0; r == 0 && i < put->n_picked; i++) {
        const struct picked *picked = &put->picked[i];
        if (picked->is_taken && S_ISREG(picked->inode.mode) && !stays(other, picked, put->self))
            r = store_remove(put->store, picked->inode.ino);
    }
    return r;
}

static int take_away(struct put *put)
{
    int r = take_files_away(put);
    store_each_cached(put->store, note_cached, put);
    for (size_t i = 0; r == 0 && i < put->n_cached; i++) {
        r = store_evict(put->store, put->cached[i].ino, put->cached[i].version);
        r = r == -ENOENT ? 0 : r;
    }
    return r < 0 ? r : put->error;
}

/* ---- all together ---- */

static int open_new(struct put *put, int savedfd, const char *name)
{
    int r = directory_remove(savedfd, name);
    if (r < 0)
        return r;
    put->dirfd = directory_make(savedfd, name);
    if (put->dirfd < 0)
        return put->dirfd;
    put->filesfd = directory_make(put->dirfd, "files");
    if (put->filesfd < 0)
        return put->filesfd;
    put->entriesfd = disk_open(put->dirfd, "entries", O_WRONLY | O_CREAT | O_EXCL);
    if (put->entriesfd < 0)
        return put->entriesfd;
    int fd = disk_open(put->dirfd, "changes", O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return fd;
    put->changes = fdopen(fd, "w");
    if (!put->changes)
        close_fd(&fd);
    return put->changes ? 0 : -ENOMEM;
}

static int write_about(struct put *put)
{
    char text[SAVED_NAME_MAX + 128];
    int n = snprintf(text, sizeof text,
                     "volume %s\nentries %" PRIu64 "\nfiles %" PRIu64 "\nbytes %" PRIu64 "\n",
                     put->options->volume_name, put->entries, put->files, put->bytes);
    if (fflush(put->changes) != 0 || ferror(put->changes))
        return -EIO;
    int r = directory_write_file(put->dirfd, ABOUT, text, (size_t)n);
    return r < 0 ? r : disk_sync_all(put->dirfd);
}

static int fill(struct put *put)
{
    int r = take_entries(put);
    if (r < 0)
        return r;
    merge_named(put);
    r = tree_each(put->tree, ROOT_INO, pick, put);
    if (r == 0)
        r = put->error;
    if (r == 0)
        r = copy_picked(put);
    put->is_worthwhile |= put->files > 0;
    return r < 0 ? r : write_about(put);
}

/* What is there under that name already is the same, put aside before a crash, and nothing of it taken away since. */
static int give_name(struct put *put, int savedfd, const char *new_name)
{
    char name[SAVED_NAME_MAX];
    (void)snprintf(name, sizeof name, "%s.%" PRIu64 "-%" PRIu64 ".%08x", put->options->volume_name,
                   put->first, put->last, (unsigned)(put->checksum & UINT32_MAX));
    if (!put->is_worthwhile || disk_exists(savedfd, name))
        return directory_remove(savedfd, new_name);
    int r = disk_rename(savedfd, new_name, savedfd, name);
    if (r == 0)
        r = disk_sync(savedfd);
    if (r == 0)
        log_warning("volumes",
                    "put aside what only this host had of volume '%s': %" PRIu64
                    " changes, %" PRIu64 " files: '%s/%s'",
                    put->options->volume_name, put->entries, put->files, put->options->directory,
                    name);
    return r;
}

int saved_put(const struct saved_options *options)
{
    struct log *log = volume_log(options->volume);
    AUTO(put_done)
    struct put put = {
        .options = options,
        .tree = volume_tree(options->volume),
        .store = volume_store(options->volume),
        .self = volume_self(options->volume),
        .dirfd = -1,
        .filesfd = -1,
        .entriesfd = -1,
        .first = MAX(options->from, log_first(log)),
        .last = log_last(log),
    };
    char new_name[VOLUME_NAME_MAX_BYTES + 8];
    (void)snprintf(new_name, sizeof new_name, ".%s", options->volume_name);
    AUTO_CLOSE int savedfd = directory_open(AT_FDCWD, options->directory);
    int r = savedfd < 0 ? savedfd : open_new(&put, savedfd, new_name);
    if (r == 0)
        r = fill(&put);
    if (r == 0)
        r = give_name(&put, savedfd, new_name);
    if (r == 0)
        return take_away(&put);
    log_error("volumes",
              "cannot put aside what only this host has of volume '%s': %s: the volume is not "
              "attached before it is",
              options->volume_name, strerror(-r));
    return r;
}

/* ---- what there is ---- */

static bool read_about(int savedfd, const char *name, struct saved *ret_saved)
{
    char text[SAVED_NAME_MAX + 128];
    AUTO_CLOSE int dirfd = directory_open(savedfd, name);
    AUTO_CLOSE int fd = dirfd < 0 ? -1 : disk_open(dirfd, ABOUT, O_RDONLY);
    int64_t n = fd < 0 ? -1 : disk_read(fd, text, sizeof text - 1, 0);
    if (n < 0)
        return false;
    text[n] = '\0';
    *ret_saved = (struct saved){0};
    (void)snprintf(ret_saved->name, sizeof ret_saved->name, "%s", name);
    return sscanf(text, "volume %200s entries %" SCNu64 " files %" SCNu64 " bytes %" SCNu64,
                  ret_saved->volume, &ret_saved->entries, &ret_saved->files,
                  &ret_saved->bytes) == 4;
}

static void close_directory(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

int saved_list(const char *directory, struct saved *ret_saved, int max)
{
    AUTO(close_directory) DIR *dir = opendir(directory);
    struct saved saved;
    const struct dirent *found;
    int n = 0;
    while (dir && (found = readdir(dir))) {
        if (found->d_name[0] == '.' || !read_about(dirfd(dir), found->d_name, &saved))
            continue;
        if (n < max)
            ret_saved[n] = saved;
        n++;
    }
    return n;
}
