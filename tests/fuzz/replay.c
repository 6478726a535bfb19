/* tests/fuzz/replay.c — runs a fuzz target over files and directories of files, where libFuzzer is not linked. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "tests/fuzz/fuzz.h"

static void close_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* The input lies in a block of exactly its size, so that a sanitizer sees the first byte too many. */
static int replay_file(int dir_fd, const char *name)
{
    AUTO_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    size_t size = (size_t)st.st_size;
    AUTO_FREE uint8_t *data = malloc(size > 0 ? size : 1);
    if (!data)
        return -ENOMEM;
    if (read(fd, data, size) != (ssize_t)size)
        return -EIO;
    LLVMFuzzerTestOneInput(data, size);
    return 0;
}

/* The number of inputs that were run, or an error. */
static int replay_directory(const char *path)
{
    AUTO(close_dir) DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int n_inputs = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        int r = replay_file(dirfd(dir), entry->d_name);
        if (r < 0) {
            (void)fprintf(stderr, "%s/%s: %s\n", path, entry->d_name, strerror(-r));
            return r;
        }
        n_inputs++;
    }
    return n_inputs;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay_directory(argv[i]);
        if (n == -ENOTDIR)
            n = replay_file(AT_FDCWD, argv[i]) < 0 ? -EIO : 1;
        if (n < 0) {
            (void)fprintf(stderr, "cannot replay %s: %s\n", argv[i], strerror(-n));
            return EXIT_FAILURE;
        }
        total += n;
    }
    (void)printf("%d inputs replayed\n", total);
    return total > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
