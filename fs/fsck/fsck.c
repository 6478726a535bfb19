#include "fs/fsck/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "fs/directory.h"
#include "fs/disk/disk.h"
#include "fs/fsck/impl.h"
#include "proto/base/cleanup.h"

#define SENTENCE_BYTES 512

static void say(struct fsck *f, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
static void say(struct fsck *f, const char *fmt, va_list ap)
{
    char sentence[SENTENCE_BYTES];
    (void)vsnprintf(sentence, sizeof sentence, fmt, ap);
    f->options->say(f->options->ctx, sentence);
}

void fsck_found(struct fsck *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(f, fmt, ap);
    va_end(ap);
    f->result.n_found++;
}

void fsck_repaired(struct fsck *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(f, fmt, ap);
    va_end(ap);
    f->result.n_repaired++;
}

static int move(struct fsck *f, int dirfd, const char *dir, const char *name)
{
    char to[128];
    (void)snprintf(to, sizeof to, "%s.%s", dir, name);
    if (f->lostfd < 0)
        f->lostfd = directory_make(f->imagefd >= 0 ? f->imagefd : f->dirfd, "lost+found");
    if (f->lostfd < 0)
        return f->lostfd;
    if (disk_exists(f->lostfd, to))
        return -EEXIST;
    return disk_rename(dirfd, name, f->lostfd, to);
}

void fsck_put_aside(struct fsck *f, int dirfd, const char *dir, const char *name)
{
    char sentence[SENTENCE_BYTES];
    if (!f->options->repairs)
        return;
    int error = move(f, dirfd, dir, name);
    (void)snprintf(sentence, sizeof sentence, "%s %s/%s %s lost+found%s%s",
                   error < 0 ? "cannot move" : "moved", dir, name, "to", error < 0 ? ": " : "",
                   error < 0 ? strerror(-error) : "");
    f->result.n_repaired += error == 0;
    f->options->say(f->options->ctx, sentence);
}

static int check(struct fsck *f)
{
    int error = fsck_log(f);
    if (error == 0)
        error = fsck_checkpoints(f);
    return error < 0 ? error : fsck_state(f);
}

int fsck_volume(const struct fsck_options *options, struct fsck_result *ret_result)
{
    struct fsck f = {.options = options, .lostfd = -1, .imagefd = -1};
    AUTO_CLOSE int dirfd = directory_open(AT_FDCWD, options->directory);
    if (dirfd < 0)
        return dirfd;
    if (flock(dirfd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (!disk_exists(dirfd, "log"))
        return -ENOENT;
    f.dirfd = dirfd;
    int error = check(&f);
    close_fd(&f.lostfd);
    if (error == 0)
        *ret_result = f.result;
    return error;
}
