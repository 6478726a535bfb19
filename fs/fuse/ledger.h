/* fs/fuse/ledger.h — what the kernel has open, where the next daemon finds it.
 *
 *     page 0   header: who the mount is, its INIT request, what was negotiated, the end of the lease
 *     slots    one for each open file (HANDLE), one for each node that has any (NODE)
 *
 * Mapped memory (a memfd) that outlives the process which serves the mount: whoever keeps the /dev/fuse descriptor keeps
 * this one. A handle is in it before OPEN or CREATE is answered and leaves it before RELEASE is. A kill at any
 * instruction leaves it whole: an entry counts from the store of its kind, which comes last when it is made and first
 * when it goes, and every field that changes in between is one aligned word.
 *
 * The number of a file handle (fuse_file_info.fh) is its slot and how often that slot was used, so it never means
 * another file again, and the next process understands it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/fuse/mount_page.h"
#include "fs/inode.h"
#include "fs/volume/volume.h"
#include "proto/base/check.h"
#include "proto/base/cleanup.h"

#define LEDGER_SLOTS_MAX (1u << 20)

enum ledger_kind {
    LEDGER_FREE,
    LEDGER_NODE,
    LEDGER_HANDLE
};

/* flags of a node */
#define LEDGER_STALE 1u /* another host has published a newer version */
#define LEDGER_OWN 2u   /* its content is, or was when it became stale, this host's own file */
#define LEDGER_DIRTY 4u /* written since it was last published, where size and time may not tell */
/* flags of a handle */
#define LEDGER_WRITE 1u
#define LEDGER_MAY_MAP 2u
#define LEDGER_PASSTHROUGH 4u
#define LEDGER_SEES_WRITES 8u
#define LEDGER_CLOSING 16u /* its RELEASE has come */

struct ledger_slot {
    _Atomic uint32_t kind;
    _Atomic uint32_t seq; /* how often the slot was used */
    _Atomic uint32_t flags;
    _Atomic int32_t backing_id; /* nodes: of the kernel's connection; 0: none */
    uint32_t node;              /* handles: the slot of their node */
    _Atomic uint64_t opened_by; /* handles: `unique` of the OPEN or CREATE */
    uint64_t id;                /* nodes */
    _Atomic uint64_t version;   /* nodes: of the content */
    struct inode last;          /* nodes: as it was when it was opened */
};
#define LEDGER_LAYOUT (1u << 16 | (uint32_t)sizeof(struct ledger_slot))

struct ledger;

/* Maps the ledger behind fd, which it takes; -1: makes one that ends with this process. A ledger that no session has
 * used yet is empty. -EBADMSG: not a ledger. -EPROTO: of a daemon that kept it in another way. -ENOMEM. */
MUST_USE int ledger_open(int fd, struct ledger **ret_ledger);
void ledger_free(struct ledger *ledger);
DEFINE_FREEP(ledger, struct ledger)

struct ledger_header *ledger_header(struct ledger *ledger);
/* A session has begun with it and goes on. */
bool ledger_is_begun(const struct ledger *ledger);
/* From here on the session can be resumed. */
void ledger_begin(struct ledger *ledger, int64_t born_ns);
/* Forgets everything: the mount that it was of is gone. */
void ledger_reset(struct ledger *ledger);

/* A free slot, not counted yet: fill it in, then ledger_commit. -ENFILE: as many files are open as there can be. */
MUST_USE int ledger_take(struct ledger *ledger, struct ledger_slot **ret_slot);
/* From here on the entry is there. object is what ledger_object finds; this process's only. */
void ledger_commit(struct ledger *ledger, struct ledger_slot *slot, enum ledger_kind kind,
                   void *object);
void ledger_remove(struct ledger *ledger, struct ledger_slot *slot);

uint32_t ledger_index(const struct ledger *ledger, const struct ledger_slot *slot);
/* The number of a handle, and the object that was committed under it; NULL: there is no such handle any more. */
uint64_t ledger_number(const struct ledger *ledger, const struct ledger_slot *slot);
void *ledger_object(struct ledger *ledger, uint64_t number);
/* The object of the handle that the request `unique` opened, or NULL. */
void *ledger_opened_by(struct ledger *ledger, uint64_t unique);

/* Every entry of that kind; for resuming. */
typedef int ledger_each_f(void *ctx, struct ledger_slot *slot);
MUST_USE int ledger_each(struct ledger *ledger, enum ledger_kind kind, ledger_each_f *each,
                         void *ctx);
struct ledger_slot *ledger_slot(struct ledger *ledger, uint32_t index); /* NULL: out of range */

/* What goes on, for the volume that is opened under it; NULL if nothing does. */
struct volume_survivors *ledger_survivors(struct ledger *ledger);
