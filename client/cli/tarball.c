#include "client/cli/tarball.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <grp.h>
#include <locale.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

#define BUFFER_BYTES (256u << 10)
#define RECORD_BYTES 10240 /* what tar makes a stream's size a multiple of */

static void free_archive(struct archive **archive)
{
    (void)archive_free(*archive);
}

static void free_entry(struct archive_entry **entry)
{
    archive_entry_free(*entry);
}

static void free_resolver(struct archive_entry_linkresolver **resolver)
{
    archive_entry_linkresolver_free(*resolver);
}

static int fail(struct tarball *t, struct archive *archive, const char *doing,
                struct archive_entry *entry)
{
    int error = archive_errno(archive);
    const char *path = entry ? archive_entry_pathname(entry) : NULL;
    const char *why = archive_error_string(archive);
    bool has_reason = error > 0 && error != EILSEQ; /* that is: no such format */
    (void)snprintf(t->error, sizeof t->error, "cannot %s %s%s%s: %s%s%s", doing, path ? "'" : "it",
                   path ? path : "", path ? "'" : "", why ? why : "", has_reason ? ": " : "",
                   has_reason ? strerror(error) : "");
    return error > 0 ? -error : -EIO;
}

static int fail_errno(struct tarball *t, const char *doing)
{
    int error = errno;
    (void)snprintf(t->error, sizeof t->error, "cannot %s '%s': %s", doing, t->directory,
                   strerror(error));
    return -error;
}

static bool is_stopped(const struct tarball *t)
{
    struct pollfd stop = {.fd = t->stop_fd, .events = POLLIN};
    return poll(&stop, 1, 0) > 0;
}

static int go_on(struct tarball *t)
{
    if (t->report)
        t->report(t->ctx, t);
    if (!is_stopped(t))
        return 0;
    (void)snprintf(t->error, sizeof t->error, "it was interrupted");
    return -ECANCELED;
}

/* Names are bytes: pax wants UTF-8, and what is not goes as it is (hdrcharset=BINARY). */
static int enter(struct tarball *t)
{
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    return chdir(t->directory) < 0 ? fail_errno(t, "enter") : 0;
}

static int leave(struct tarball *t, int r)
{
    return chdir("/") < 0 && r == 0 ? fail_errno(t, "leave") : r;
}

/* ---- times before 1970 ---- */

#define NS_PER_SECOND 1000000000L

/* libarchive prints and reads seconds and nanoseconds one behind the other: what it calls -2.25 is -2 s and 0.25 s, but
 * to everybody else 2.25 s before 1970. It has no way to say half a second before 1970: that loses its fraction. */
static void to_decimal(la_int64_t *s, long *ns)
{
    if (*s >= 0 || *ns == 0)
        return;
    *ns = *s == -1 ? 0 : NS_PER_SECOND - *ns;
    *s += *s == -1 ? 0 : 1;
}

static void from_decimal(la_int64_t *s, long *ns)
{
    if (*s >= 0 || *ns == 0)
        return;
    *ns = NS_PER_SECOND - *ns;
    *s -= 1;
}

static void change_times(struct archive_entry *entry, void change(la_int64_t *s, long *ns))
{
    la_int64_t s = archive_entry_mtime(entry);
    long ns = archive_entry_mtime_nsec(entry);
    change(&s, &ns);
    archive_entry_set_mtime(entry, s, ns);
    if (!archive_entry_atime_is_set(entry))
        return;
    s = archive_entry_atime(entry);
    ns = archive_entry_atime_nsec(entry);
    change(&s, &ns);
    archive_entry_set_atime(entry, s, ns);
}

/* ---- writing ---- */

static int write_all(struct tarball *t, struct archive *out, struct archive_entry *entry,
                     const void *data, size_t size)
{
    la_ssize_t n = archive_write_data(out, data, size);
    if (n < 0)
        return fail(t, out, "write", entry);
    t->bytes += (uint64_t)n;
    return go_on(t);
}

/* The writer knows where holes are, and wants them as zeros. */
static int write_zeros(struct tarball *t, struct archive *out, struct archive_entry *entry,
                       int64_t size)
{
    static const char zeros[BUFFER_BYTES];
    int r = 0;
    for (; r == 0 && size > 0; size -= (int64_t)sizeof zeros)
        r = write_all(t, out, entry, zeros, (size_t)MIN(size, (int64_t)sizeof zeros));
    return r;
}

static int write_content(struct tarball *t, struct archive *disk, struct archive *out,
                         struct archive_entry *entry)
{
    const void *data;
    size_t size;
    int64_t offset, done = 0;
    int status = ARCHIVE_EOF, r = 0;
    while (r == 0 &&
           (status = archive_read_data_block(disk, &data, &size, &offset)) == ARCHIVE_OK) {
        r = write_zeros(t, out, entry, offset - done);
        if (r == 0)
            r = write_all(t, out, entry, data, size);
        done = offset + (int64_t)size;
    }
    if (r == 0 && status != ARCHIVE_EOF)
        return fail(t, disk, "read", entry);
    t->n_cut += done < archive_entry_size(entry);
    return r;
}

static int write_entry(struct tarball *t, struct archive *disk, struct archive *out,
                       struct archive_entry *entry)
{
    if (archive_entry_filetype(entry) == AE_IFSOCK) {
        t->n_sockets++;
        return 0;
    }
    change_times(entry, to_decimal);
    archive_entry_unset_ctime(entry);                    /* nobody can set it */
    if (archive_write_header(out, entry) < ARCHIVE_WARN) /* it warns of names that are not UTF-8 */
        return fail(t, out, "write", entry);
    int r = archive_entry_size(entry) > 0 ? write_content(t, disk, out, entry) : 0;
    if (r == 0 && archive_write_finish_entry(out) != ARCHIVE_OK)
        r = fail(t, out, "write", entry);
    t->n_entries++;
    return r < 0 ? r : go_on(t);
}

/* A second name of a file becomes a link to the first. */
static int write_resolved(struct tarball *t, struct archive *disk, struct archive *out,
                          struct archive_entry_linkresolver *resolver, struct archive_entry *entry)
{
    struct archive_entry *resolved = entry, *deferred = NULL;
    archive_entry_linkify(resolver, &resolved, &deferred);
    return resolved ? write_entry(t, disk, out, resolved) : 0;
}

static int write_tree(struct tarball *t, struct archive *disk, struct archive *out,
                      struct archive_entry_linkresolver *resolver)
{
    for (;;) {
        AUTO(free_entry) struct archive_entry *entry = archive_entry_new2(disk);
        int status = entry ? archive_read_next_header2(disk, entry) : ARCHIVE_FATAL;
        if (status == ARCHIVE_EOF)
            return 0;
        if (status == ARCHIVE_FAILED && archive_errno(disk) == ENOENT)
            continue; /* it went away */
        if (status != ARCHIVE_OK)
            return fail(t, disk, "read", entry);
        (void)archive_read_disk_descend(disk);
        int r = write_resolved(t, disk, out, resolver, entry);
        if (r < 0)
            return r;
    }
}

static struct archive *new_writer(struct tarball *t)
{
    struct archive *out = archive_write_new();
    if (!out)
        return NULL;
    (void)archive_write_set_format_pax(out);
    (void)archive_write_set_options(out, "xattrheader=SCHILY"); /* as GNU tar has them */
    (void)archive_write_set_bytes_per_block(out, BUFFER_BYTES);
    (void)archive_write_set_bytes_in_last_block(out, RECORD_BYTES);
    if (archive_write_open_fd(out, t->fd) != ARCHIVE_OK)
        (void)fail(t, out, "begin", NULL);
    return out;
}

static int write_stream(struct tarball *t)
{
    AUTO(free_archive) struct archive *disk = archive_read_disk_new();
    AUTO(free_archive) struct archive *out = new_writer(t);
    AUTO(free_resolver)
    struct archive_entry_linkresolver *resolver = archive_entry_linkresolver_new();
    if (!disk || !out || !resolver)
        return -ENOMEM;
    archive_entry_linkresolver_set_strategy(resolver, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    (void)archive_read_disk_set_symlink_physical(disk);
    (void)archive_read_disk_set_behavior(disk, ARCHIVE_READDISK_NO_FFLAGS |
                                                   ARCHIVE_READDISK_NO_TRAVERSE_MOUNTS);
    if (archive_read_disk_open(disk, ".") != ARCHIVE_OK)
        return fail(t, disk, "read", NULL);
    int r = write_tree(t, disk, out, resolver);
    if (r < 0)
        (void)archive_write_fail(out); /* no end that looks like one */
    else if (archive_write_close(out) != ARCHIVE_OK)
        r = fail(t, out, "end", NULL);
    return r;
}

int tarball_write(struct tarball *t)
{
    int r = enter(t);
    return r < 0 ? r : leave(t, write_stream(t));
}

/* ---- reading ---- */

struct input {
    struct tarball *tarball;
    char *buffer; /* BUFFER_BYTES */
};

static la_ssize_t read_some(struct archive *archive, void *ctx, const void **ret_data)
{
    struct input *input = ctx;
    struct pollfd fds[] = {{.fd = input->tarball->fd, .events = POLLIN},
                           {.fd = input->tarball->stop_fd, .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 || fds[1].revents != 0) {
        archive_set_error(archive, ECANCELED, "interrupted");
        return -1;
    }
    ssize_t n = read(input->tarball->fd, input->buffer, BUFFER_BYTES);
    if (n < 0)
        archive_set_error(archive, errno, "%s", strerror(errno));
    *ret_data = input->buffer;
    return n;
}

static int read_content(struct tarball *t, struct archive *in, struct archive *disk,
                        struct archive_entry *entry)
{
    const void *data;
    size_t size;
    int64_t offset;
    int status;
    while ((status = archive_read_data_block(in, &data, &size, &offset)) == ARCHIVE_OK) {
        if (archive_write_data_block(disk, data, size, offset) != ARCHIVE_OK)
            return fail(t, disk, "write", entry);
        t->bytes += size;
        int r = go_on(t);
        if (r < 0)
            return r;
    }
    return status == ARCHIVE_EOF ? 0 : fail(t, in, "read", entry);
}

static int read_entry(struct tarball *t, struct archive *in, struct archive *disk,
                      struct archive_entry *entry)
{
    change_times(entry, from_decimal);
    if (archive_write_header(disk, entry) != ARCHIVE_OK)
        return fail(t, disk, "make", entry);
    int r = archive_entry_size(entry) > 0 ? read_content(t, in, disk, entry) : 0;
    if (r == 0 && archive_write_finish_entry(disk) != ARCHIVE_OK)
        r = fail(t, disk, "make", entry);
    t->n_entries++;
    return r < 0 ? r : go_on(t);
}

static int read_tree(struct tarball *t, struct archive *in, struct archive *disk)
{
    for (;;) {
        struct archive_entry *entry; /* the reader's */
        int status = archive_read_next_header(in, &entry);
        if (status == ARCHIVE_EOF)
            return 0;
        if (status != ARCHIVE_OK)
            return fail(t, in, "read", NULL);
        int r = read_entry(t, in, disk, entry);
        if (r < 0)
            return r;
    }
}

/* Owners are numbers here. GNU tar names those in ACLs, and only them, without a number. */
static la_int64_t number_of_user(void *ctx, const char *name, la_int64_t uid)
{
    (void)ctx;
    const struct passwd *user = uid < 0 && name ? getpwnam(name) : NULL;
    return user ? (la_int64_t)user->pw_uid : uid;
}

static la_int64_t number_of_group(void *ctx, const char *name, la_int64_t gid)
{
    (void)ctx;
    const struct group *group = gid < 0 && name ? getgrnam(name) : NULL;
    return group ? (la_int64_t)group->gr_gid : gid;
}

static struct archive *new_disk(void)
{
    struct archive *disk = archive_write_disk_new();
    if (!disk)
        return NULL;
    (void)archive_write_disk_set_options(
        disk, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                  ARCHIVE_EXTRACT_ACL | ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                  ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
    (void)archive_write_disk_set_user_lookup(disk, NULL, number_of_user, NULL);
    (void)archive_write_disk_set_group_lookup(disk, NULL, number_of_group, NULL);
    return disk;
}

static int read_stream(struct tarball *t)
{
    AUTO_FREE char *buffer = malloc(BUFFER_BYTES);
    struct input input = {t, buffer};
    AUTO(free_archive) struct archive *in = archive_read_new();
    AUTO(free_archive) struct archive *disk = new_disk();
    if (!buffer || !in || !disk)
        return -ENOMEM;
    (void)archive_read_support_format_tar(in);
    if (archive_read_open(in, &input, NULL, read_some, NULL) != ARCHIVE_OK)
        return fail(t, in, "read", NULL);
    int r = read_tree(t, in, disk);
    if (archive_write_close(disk) != ARCHIVE_OK && r == 0) /* directories get their times now */
        r = fail(t, disk, "end", NULL);
    return r;
}

int tarball_read(struct tarball *t)
{
    int r = enter(t);
    return r < 0 ? r : leave(t, read_stream(t));
}
