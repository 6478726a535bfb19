/* fs/store/restore.c — what a power cut leaves of copies whose entries were not durable.
 *
 *     an entry that is lost   had renamed                       now
 *     PUBLISH of another      own/INO -> drawn/INO.V            it goes back, as what this host keeps
 *     OPEN_WRITE here         drawn/INO.V -> own/INO            at the home it goes: V can be drawn again
 *
 * And the other way round: an entry is there and its rename is not. A drawn copy that was taken over for writing names
 * its own version as its base (copy_note_base), durably, before anything is written into it: under its old name it is no
 * copy of that version.
 */
#include <errno.h>

#include "fs/store/private.h"

/* What this host's own file has become: copies that were drawn later are newer. */
static struct copy *find_demoted(struct store *store, uint64_t ino, uint64_t version)
    REQUIRES(store->lock)
{
    struct file *file = store_find_file(store, ino);
    struct copy *oldest = NULL;
    if (!file)
        return NULL;
    list_for_each(copy, &file->copies, struct copy, link)
    {
        if (!copy->is_own && copy->version >= version &&
            (!oldest || copy->version < oldest->version))
            oldest = copy;
    }
    return oldest;
}

/* The copy that was taken over and has its old name. */
static struct copy *find_taken(struct store *store, uint64_t ino) REQUIRES(store->lock)
{
    struct file *file = store_find_file(store, ino);
    uint64_t base;
    if (!file)
        return NULL;
    list_for_each(copy, &file->copies, struct copy, link)
    {
        if (!copy->is_own && copy_base(store, ino, false, copy->version, &base) &&
            base == copy->version)
            return copy;
    }
    return NULL;
}

static int make_own(struct store *store, struct copy *copy, bool is_taken) REQUIRES(store->lock)
{
    uint64_t ino = copy->file->ino, version = copy->version;
    int e =
        is_taken ? copy_end_rename(store, ino, version) : copy_rename(store, ino, true, version);
    if (e == 0)
        store_forget_copy(store, copy);
    return e;
}

static int restore_own(struct store *store, const struct inode *inode, bool is_home)
    REQUIRES(store->lock)
{
    uint64_t base, ino = inode->ino;
    bool is_there = copy_exists(store, ino, true, 0);
    /* One that began with a version that is yet to come is what lost entries left; elsewhere the home has them. */
    bool is_ahead =
        is_home && is_there && copy_base(store, ino, true, 0, &base) && base > inode->version;
    struct copy *copy = !is_there || is_ahead ? find_demoted(store, ino, inode->version) : NULL;
    if (copy)
        return make_own(store, copy, false);
    copy = is_there ? NULL : find_taken(store, ino);
    if (copy)
        return make_own(store, copy, true);
    if (is_there)
        return 0;
    int e = copy_make_own(store, ino);
    return e < 0 ? e : inode->size > 0;
}

/* Another host keeps it, and it is not written here: so says the home. */
static int let_go(struct store *store, uint64_t ino) REQUIRES(store->lock)
{
    struct copy *taken = find_taken(store, ino);
    int e = copy_unlink(store, ino, true, 0);
    if (e < 0 || !taken)
        return e;
    e = copy_unlink(store, ino, false, taken->version);
    if (e == 0)
        store_forget_copy(store, taken);
    return e;
}

/* Another host keeps it, and it is written here, or may be. */
static int restore_taken(struct store *store, const struct inode *inode, bool is_home)
    REQUIRES(store->lock)
{
    uint64_t base;
    bool is_there = copy_exists(store, inode->ino, true, 0);
    if (is_there && is_home &&
        !(copy_base(store, inode->ino, true, 0, &base) && base == inode->version)) {
        int e = copy_unlink(store, inode->ino, true, 0); /* of before that host's version */
        if (e < 0)
            return e;
        is_there = false;
    }
    struct copy *taken = is_there ? NULL : find_taken(store, inode->ino);
    return taken ? make_own(store, taken, true) : 0;
}

int store_restore(struct store *store, struct host_id self, const struct inode *inode, bool is_home)
{
    SCOPED_LOCK(&store->lock);
    bool writes = host_equal(inode->writer, self);
    if (host_equal(inode->keeper, self) || (writes && host_equal(inode->keeper, NO_HOST)))
        return restore_own(store, inode, is_home);
    if (is_home && !writes)
        return let_go(store, inode->ino);
    return restore_taken(store, inode, is_home);
}
