/* tests/lib/direct_io.c — preloaded into fsx: its file is opened for direct I/O.
 *
 * A filesystem may want direct reads and writes aligned in memory, which fsx's buffers are not: they go through one that
 * is. Offsets and sizes are for fsx's configuration to align.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALIGNMENT 4096
#define EXPORT __attribute__((visibility("default")))

static void *next(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol)
        abort();
    return symbol;
}

static void *aligned(size_t size)
{
    void *buffer;
    int error = posix_memalign(&buffer, ALIGNMENT, size);
    errno = error;
    return error ? NULL : buffer;
}

/* What fsx writes to, and not its reports. */
static int with_direct(int flags)
{
    return (flags & O_ACCMODE) == O_RDWR ? flags | O_DIRECT : flags;
}

EXPORT int open64(const char *path, int flags, ...)
{
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))next("open64");
    va_list arguments;

    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return real(path, with_direct(flags), mode);
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    ssize_t (*real)(int, void *, size_t, off64_t) =
        (ssize_t(*)(int, void *, size_t, off64_t))next("pread64");
    void *buffer = aligned(size);
    ssize_t n = buffer ? real(fd, buffer, size, offset) : -1;

    if (n > 0)
        memcpy(data, buffer, (size_t)n);
    free(buffer);
    return n;
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t(*)(int, const void *, size_t, off64_t))next("pwrite64");
    void *buffer = aligned(size);
    ssize_t n = -1;

    if (buffer) {
        memcpy(buffer, data, size);
        n = real(fd, buffer, size, offset);
    }
    free(buffer);
    return n;
}
