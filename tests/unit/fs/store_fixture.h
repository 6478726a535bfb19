/* A store in a directory of its own, over a source whose bytes are known. */
#pragma once

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/store/store.h"
#include "proto/base/clock.h"
#include "tests/lib/pattern_source.h"

#define SELF ((struct host_id){1})
#define OTHER ((struct host_id){2})
#define FILE_BYTES (4ULL * BLOCK_BYTES + 1000)

static char directory[64];
static int directory_fd = -1;
static struct pattern_source source;
static struct store *store;

static int64_t soon(void)
{
    return clock_mono_ns() + 10 * NS_PER_S;
}

static void reopen(bool clean_boot)
{
    store_free(TAKE(store));
    cr_assert_eq(store_open(directory_fd, clean_boot, &source.source, &store), 0);
}

static void store_setup(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/whiskfs-store-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pattern_source_init(&source, FILE_BYTES);
    reopen(true);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void store_teardown(void)
{
    store_free(TAKE(store));
    close(directory_fd);
    cr_assert_eq(nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* A file of FILE_BYTES that the other host keeps. */
UNUSED static struct inode theirs(uint64_t ino, uint64_t version)
{
    return (struct inode){.ino = ino,
                          .version = version,
                          .size = FILE_BYTES,
                          .keeper = OTHER,
                          .keeper_complete = true,
                          .mode = S_IFREG | 0644,
                          .nlink = 1};
}

UNUSED static struct inode ours(uint64_t ino, uint64_t version)
{
    struct inode inode = theirs(ino, version);
    inode.keeper = SELF;
    return inode;
}

UNUSED static struct content *get(const struct inode *inode)
{
    struct content *content = NULL;
    cr_assert_eq(content_get(store, SELF, inode, &content), 0);
    return content;
}

/* All of [offset, offset + size) is the pattern of the version. */
UNUSED static bool has_pattern(struct content *content, uint64_t version, uint64_t offset,
                               uint64_t size)
{
    AUTO_FREE uint8_t *data = malloc(size);
    cr_assert_eq(pread(content_fd(content), data, size, (off_t)offset), (ssize_t)size);
    for (uint64_t i = 0; i < size; i++) {
        if (data[i] != pattern_byte(content_ino(content), version, offset + i))
            return false;
    }
    return true;
}

UNUSED static bool exists(const char *name)
{
    struct stat st;
    return fstatat(directory_fd, name, &st, 0) == 0;
}

/* Waits, bounded, until the tidy thread has removed it. */
UNUSED static bool goes_away(const char *name)
{
    int64_t deadline = soon();
    while (exists(name)) {
        if (clock_mono_ns() > deadline)
            return false;
        sched_yield();
    }
    return true;
}
