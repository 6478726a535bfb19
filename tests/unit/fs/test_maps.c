/* Maps of files that are cut, written and unlinked meanwhile; each in a process that does not serve the mount. */
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/fs/mount_fixture.h"

#define HOST (&hosts[0])

static void set_up(void)
{
    one_host(10ULL << 30, true);
}

TestSuite(maps, .init = set_up, .fini = fixture_end, .timeout = 60);

static bool in_child(bool (*f)(const char *), const char *name)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(f(name) ? 0 : 1);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define MAP_PAGE 4096

static sigjmp_buf beyond_the_end;

static void on_bus_error(int number)
{
    siglongjmp(beyond_the_end, number);
}

static bool is_bus_error(const volatile char *byte)
{
    if (sigsetjmp(beyond_the_end, 1) != 0)
        return true;
    (void)*byte;
    return false;
}

static bool are_zeros(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i] != 0)
            return false;
    return true;
}

static bool shrink_and_grow(const char *name)
{
    char data[4 * MAP_PAGE];
    int fd = open(path_on(HOST, name), O_RDWR | O_CREAT, 0600);
    memset(data, 'x', sizeof data);
    if (pwrite(fd, data, sizeof data, 0) != sizeof data || signal(SIGBUS, on_bus_error) == SIG_ERR)
        return false;
    char *map = mmap(NULL, sizeof data, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return false;
    map[3 * MAP_PAGE] = 'y';
    bool is_right = ftruncate(fd, MAP_PAGE + 100) == 0 && map[MAP_PAGE + 99] == 'x' &&
                    map[MAP_PAGE + 100] == 0 && is_bus_error(map + 2 * MAP_PAGE);
    is_right &= ftruncate(fd, sizeof data) == 0 &&
                are_zeros(map + MAP_PAGE + 100, sizeof data - MAP_PAGE - 100);
    map[2 * MAP_PAGE] = 'z';
    is_right &= msync(map, sizeof data, MS_SYNC) == 0 &&
                pread(fd, data, sizeof data, 0) == sizeof data && data[MAP_PAGE + 99] == 'x' &&
                are_zeros(data + MAP_PAGE + 100, MAP_PAGE - 100) && data[2 * MAP_PAGE] == 'z';
    return is_right && munmap(map, sizeof data) == 0 && close(fd) == 0;
}

/* What is cut off is SIGBUS while it is, and zeros when the file is longer again: never what was there. */
Test(maps, shrinking_under_a_map)
{
    char byte;
    cr_assert(in_child(shrink_and_grow, "f"));
    int fd = open(path_on(HOST, "f"), O_RDONLY);
    cr_assert_eq(pread(fd, &byte, 1, 2L * MAP_PAGE), 1);
    cr_assert_eq(byte, 'z');
    cr_assert_eq(close(fd), 0);
}

static bool use_private_map(const char *name)
{
    char data[3 * MAP_PAGE];
    int fd = open(path_on(HOST, name), O_RDONLY);
    char *map = mmap(NULL, sizeof data, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED || unlink(path_on(HOST, name)) < 0)
        return false;
    bool is_right = map[0] == 'a' && map[2 * MAP_PAGE] == 'a';
    map[MAP_PAGE] = 'b';
    is_right &= pread(fd, data, sizeof data, 0) == sizeof data && data[MAP_PAGE] == 'a';
    is_right &= close(fd) == 0 && map[MAP_PAGE] == 'b' && map[2 * MAP_PAGE + 1] == 'a';
    return is_right && munmap(map, sizeof data) == 0;
}

/* As libraries are mapped: stores stay the process's own, and the file may lose its name. */
Test(maps, private_maps)
{
    char data[3 * MAP_PAGE];
    memset(data, 'a', sizeof data);
    put_file(HOST, "library", data, sizeof data);
    cr_assert(in_child(use_private_map, "library"));
}

/* Linux does not offer clones to FUSE; what programs do instead of one works (copying_ranges). */
Test(maps, no_clones)
{
    put_file(HOST, "from", "abc", 3);
    put_file(HOST, "to", "", 0);
    int from = open(path_on(HOST, "from"), O_RDONLY), to = open(path_on(HOST, "to"), O_RDWR);
    cr_assert_eq(ioctl(to, FICLONE, from), -1);
    cr_assert(errno == EOPNOTSUPP || errno == ENOTTY, "%s", strerror(errno));
    cr_assert_eq(close(from) + close(to), 0);
    char byte;
    cr_assert_eq(get_file(HOST, "to", &byte, 1), 0);
}
