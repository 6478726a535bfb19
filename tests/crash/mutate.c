/* Mistakes that the simulator must find: a sync that is left out, or two steps in the wrong order. Made in the record, they
 * are what the disk would have seen of a program that makes them. */
#include <string.h>

#include "proto/base/check.h"
#include "tests/crash/record.h"

struct mistake {
    const char *name;
    /* Is operation i one that is left out? */
    bool (*is_left_out)(const struct record *record, unsigned i);
    /* Or: is it one that comes only after the next? */
    bool (*is_late)(const struct record *record, unsigned i);
};

/* ---- what a file is ---- */

/* The name that the inode was made under, before i. */
static const char *name_of(const struct record *record, unsigned inode)
{
    for (unsigned i = 0; i < record->n_ops; i++) {
        const struct op *op = &record->ops[i];
        if ((op->op == DISK_OPEN || op->op == DISK_MAKE_DIR) && op->what == inode)
            return op->name;
    }
    return "";
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool is_sync(const struct op *op)
{
    return op->op == DISK_SYNC || op->op == DISK_SYNC_DATA;
}

static bool syncs(const struct record *record, unsigned i, const char *end)
{
    const struct op *op = &record->ops[i];
    return is_sync(op) && ends_with(name_of(record, op->inode), end);
}

static bool is_content(const struct record *record, unsigned i)
{
    const char *name = name_of(record, record->ops[i].inode);
    return !record->is_dir[record->ops[i].inode] && strlen(name) >= 16 &&
           !ends_with(name, ".map") && !ends_with(name, ".log") && !ends_with(name, ".mdb");
}

/* ---- mistakes ---- */

static bool log_unsynced(const struct record *record, unsigned i)
{
    return syncs(record, i, ".log");
}

static bool log_names_unsynced(const struct record *record, unsigned i)
{
    return syncs(record, i, "log") && record->is_dir[record->ops[i].inode];
}

static bool checkpoint_unsynced(const struct record *record, unsigned i)
{
    return syncs(record, i, "new.mdb");
}

static bool content_unsynced(const struct record *record, unsigned i)
{
    return is_sync(&record->ops[i]) && is_content(record, i);
}

static bool content_names_unsynced(const struct record *record, unsigned i)
{
    return syncs(record, i, "own") || syncs(record, i, "drawn");
}

static bool map_unsynced(const struct record *record, unsigned i)
{
    return syncs(record, i, ".map");
}

/* The bytes that the next write of a map calls synced. */
static bool bytes_unsynced(const struct record *record, unsigned i)
{
    return i + 1 < record->n_ops && is_content(record, i) && is_sync(&record->ops[i]) &&
           record->ops[i + 1].op == DISK_WRITE &&
           ends_with(name_of(record, record->ops[i + 1].inode), ".map");
}

/* Content goes with its entry, before that is durable. */
static bool log_synced_after_removal(const struct record *record, unsigned i)
{
    return i + 1 < record->n_ops && syncs(record, i, ".log") &&
           record->ops[i + 1].op == DISK_UNLINK && strlen(record->ops[i + 1].name) >= 16 &&
           !ends_with(record->ops[i + 1].name, ".log") &&
           !ends_with(record->ops[i + 1].name, ".mdb");
}

static bool seals_unsynced(const struct record *record, unsigned i)
{
    return record->ops[i].op == DISK_SYNC_ALL;
}

static bool base_unnoted(const struct record *record, unsigned i)
{
    return record->ops[i].op == DISK_SET_XATTR;
}

static const struct mistake mistakes[] = {
    {.name = "log segments are not synced", .is_left_out = log_unsynced},
    {.name = "the log's directory is not synced", .is_left_out = log_names_unsynced},
    {.name = "checkpoints are not synced", .is_left_out = checkpoint_unsynced},
    {.name = "content is not synced", .is_left_out = content_unsynced},
    {.name = "the directories of content are not synced", .is_left_out = content_names_unsynced},
    {.name = "maps are not synced", .is_left_out = map_unsynced},
    {.name = "bytes are called synced and are not", .is_left_out = bytes_unsynced},
    {.name = "content is removed before the log is synced", .is_late = log_synced_after_removal},
    {.name = "seals are not synced at an orderly end", .is_left_out = seals_unsynced},
    {.name = "the base of a copy that is taken over is not noted", .is_left_out = base_unnoted},
};

bool record_mutate(unsigned which, const char **ret_name)
{
    if (which >= N_ELEMENTS(mistakes))
        return false;
    const struct mistake *mistake = &mistakes[which];
    struct record *record = record_change();
    *ret_name = mistake->name;
    for (unsigned i = record->n_ops; i > 0; i--) {
        struct op *op = &record->ops[i - 1];
        if (mistake->is_left_out && mistake->is_left_out(record, i - 1))
            op->op = DISK_READ; /* does nothing */
        if (mistake->is_late && mistake->is_late(record, i - 1)) {
            struct op first = *op;
            op[0] = op[1];
            op[1] = first;
        }
    }
    return true;
}
