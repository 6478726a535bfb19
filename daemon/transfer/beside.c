/* daemon/transfer/beside.c — small files that travel together.
 *
 * Who reads a small file mostly reads those beside it next. Inodes are numbered in the order in which they are made, and
 * what copies, unpacks or installs a tree makes it directory by directory, so a volume's inode numbers are read like the blocks
 * of one file: the window of files asked for ahead doubles while readers go on, and many files are one request.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/transfer/transfer_private.h"
#include "fs/volume/volume.h"

#define SMALL_BYTES (64u << 10)

bool transfer_is_elsewhere(const struct inode *inode, struct host_id self)
{
    return S_ISREG(inode->mode) && inode->size > 0 && !host_equal(inode->keeper, NO_HOST) &&
           !host_equal(inode->keeper, self) && !host_equal(inode->writer, self);
}

/* ---- which ones ---- */

struct neighbours {
    struct host_id self;
    uint64_t end; /* of the inode numbers */
    unsigned n;
    struct inode items[AHEAD_MAX_BLOCKS];
};

/* What is being written elsewhere will have another version soon. */
static bool is_wanted(const struct inode *inode, struct host_id self)
{
    return transfer_is_elsewhere(inode, self) && inode->size <= SMALL_BYTES &&
           host_equal(inode->writer, NO_HOST);
}

static bool add_neighbour(void *ctx, const struct inode *inode)
{
    struct neighbours *found = ctx;
    if (inode->ino >= found->end || found->n == AHEAD_MAX_BLOCKS)
        return false;
    if (is_wanted(inode, found->self))
        found->items[found->n++] = *inode;
    return true;
}

/* ---- asking for them ---- */

/* Missing files of one upstream. */
struct portion {
    struct wanted items[FLIGHT_BLOCKS];
    unsigned n;
};

/* What fails is nobody's loss: who comes to need the file asks again. */
static void send_portion(struct transfer *t, const char *volume, struct portion *portion)
{
    if (portion->n == 0)
        return;
    atomic_fetch_add(&t->counters.beside_files, portion->n);
    int e = fetch_ask(t, volume, portion->items, portion->n, FETCH_STREAM, 0);
    if (e < 0)
        log_debug("transfer", "cannot ask for what lies beside a file: %s", strerror(-e));
    for (unsigned i = 0; i < portion->n; i++)
        content_put(portion->items[i].content);
    portion->n = 0;
}

static void add_to_portion(struct transfer *t, const char *volume, struct portion *portion,
                           struct content *content)
{
    const struct wanted *first = &portion->items[0];
    if (portion->n == FLIGHT_BLOCKS ||
        (portion->n > 0 &&
         !host_equal(content_upstream(content), content_upstream(first->content))))
        send_portion(t, volume, portion);
    portion->items[portion->n++] = (struct wanted){content, 0};
}

static void ask_for(struct transfer *t, const char *name, struct volume *volume,
                    const struct neighbours *found)
{
    struct portion portion = {.n = 0};
    for (unsigned i = 0; i < found->n; i++) {
        struct content *content;
        if (content_get(volume_store(volume), found->self, &found->items[i], &content) < 0)
            continue;
        if (content_is_complete(content))
            content_put(content);
        else
            add_to_portion(t, name, &portion, content);
    }
    send_portion(t, name, &portion);
}

static void ask_between(struct transfer *t, const char *name, struct volume *volume, uint64_t from,
                        uint64_t end)
{
    AUTO_FREE struct neighbours *found = calloc(1, sizeof *found);
    if (!found)
        return;
    found->self = volume_self(volume);
    found->end = end;
    if (tree_each(volume_tree(volume), from, add_neighbour, found) == 0)
        ask_for(t, name, volume, found);
}

/* ---- when ---- */

static bool plan(struct transfer *t, const struct content *content, uint64_t *ret_from,
                 uint64_t *ret_end)
{
    uint64_t ino = content_ino(content);
    SCOPED_LOCK(&t->lock);
    readahead_note(&t->beside, content_store(content), ino, ino + 1, ret_from, ret_end);
    return *ret_from < *ret_end;
}

void beside_reading(struct transfer *t, const char *name, struct content *content)
{
    uint64_t from, end;
    if (content_size(content) > SMALL_BYTES ||
        atomic_load(&t->counters.in_flight_blocks) >= t->in_flight_max ||
        !plan(t, content, &from, &end))
        return;
    struct volume *volume = t->find(t->ctx, name);
    if (!volume)
        return;
    ask_between(t, name, volume, from, end);
    t->put(t->ctx, volume);
}
