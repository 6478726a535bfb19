/* fs/volume/volume.h — one volume on one host: log, tree and store under one lock, and who decides.
 *
 * STATE/volumes/NAME/{log,state,checkpoint,content,boot,volume.json} (volume.json is the daemon's; boot: which boot of
 * the machine had it open last, and whether it was closed). On the home a change is decided, logged and
 * applied under the volume's lock, settled with the members, then answered. Elsewhere it is forwarded and comes
 * back as a log entry. Reads never leave this host.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fs/log/log.h"
#include "fs/request.h"
#include "fs/source.h"
#include "fs/store/store.h"
#include "fs/tree/tree.h"
#include "fs/volume/scrub.h"

struct volume;

/* Every wait on behalf of a kernel request ends within this: a pause of a container has 10 s. */
#define REQUEST_TIMEOUT_NS (8 * 1000000000LL)

/* Logged since the last checkpoint: then the volume's own thread writes the next one. */
#define VOLUME_CHECKPOINT_BYTES (64ULL << 20)

/* A mount of this volume that outlived the daemon which served it: what it has open goes on. */
struct volume_survivors {
    bool (*is_open)(struct volume_survivors *survivors, uint64_t ino);
    bool (*is_written)(struct volume_survivors *survivors, uint64_t ino);
    uint64_t session, unique; /* of the mount, and one for the SESSION request that says so */
};

struct volume_options {
    const char *directory; /* STATE/volumes/NAME */
    struct host_id self;
    struct source *source; /* or NULL; must outlive the volume */
    struct volume_survivors
        *survivors;     /* or NULL: no mount goes on. Until volume_resume has returned */
    uint64_t map_bytes; /* LMDB map; 0: 16 GiB of address space */
    int64_t
        seal_after_ns; /* files that were quiet for so long are sealed (fs/store/seal.h); 0: none is */
    bool image;        /* content lies in an image where this host can (fs/store/image.h) */
};

/* Makes a new volume whose home is options->self: its first entries are CONFIGURE and SESSION. -EEXIST. */
struct volume_genesis {
    uint64_t limit_bytes;
    uint64_t limit_inodes;   /* 0: none */
    uint32_t copies;         /* 0: 1 */
    uint32_t mode, uid, gid; /* of the root directory */
    bool is_suid, is_dev;    /* set-id programs, device files have an effect */
};
MUST_USE int volume_create(const struct volume_options *options,
                           const struct volume_genesis *genesis);

/* Makes a replica's directory from a checkpoint file received from the home (NULL: from an empty state; all
 * entries follow). Replaces an older state of the same volume; content that is still current stays. */
MUST_USE int volume_install(const struct volume_options *options, int checkpoint_fd);

/* Recovers: state or checkpoint + log, store sweep; then, on the home or through the source, what was open for
 * writing when the daemon ended is published and closed (volume_resume). -ENOENT, -EBADMSG (says what to do), -EIO. */
MUST_USE int volume_open(const struct volume_options *options,
                         struct volume **ret_volume); /* -EBUSY: open elsewhere */
/* Ends what earlier sessions of this host left: SESSION entry, open-for-writing files published with size and times
 * of their backing files; but what survivors have open goes on. Call once the volume can reach its home. */
MUST_USE int volume_resume(struct volume *volume);
void volume_free(struct volume *volume); /* syncs */
DEFINE_FREEP(volume, struct volume)
MUST_USE int volume_delete(const char *directory);

struct tree *volume_tree(struct volume *volume);
struct store *volume_store(struct volume *volume);
struct log *volume_log(struct volume *volume);
struct source *volume_source(struct volume *volume); /* or NULL */
struct host_id volume_self(const struct volume *volume);
bool volume_is_home(struct volume *volume);
/* Is this host the home, or has it stopped and offers that to another? */
bool volume_orders(struct volume *volume);
struct turn volume_turn(struct volume *volume);
struct leads volume_leads(struct volume *volume);
uint64_t volume_applied(struct volume *volume);
/* When it was made: tells it from another of the same name, whatever it is called later. 0: not known yet. */
int64_t volume_born_ns(struct volume *volume);
/* Waits until volume_applied() >= index. False: deadline. */
MUST_USE bool volume_wait_applied(struct volume *volume, uint64_t index, int64_t deadline_ns);

/* The random number that this opening of the volume draws for identities of its own requests. */
uint64_t volume_session(const struct volume *volume);

/* A change asked for by this host's kernel or daemon. identity.host is filled in; identity.session 0 and unique 0
 * mean: draw one (the daemon's own). Returns when it is settled everywhere. The result is ret_outcome->error;
 * the return value repeats it. */
MUST_USE int volume_change(struct volume *volume, struct request *request,
                           struct outcome *ret_outcome);
/* The reply to this identity has reached the kernel: its result may go. */
void volume_answered(struct volume *volume, uint64_t session, uint64_t unique);

/* The home, for a replica: decides, logs and applies; settling is the caller's (source_ops.settle) when *ret_index != 0. */
MUST_USE int volume_execute(struct volume *volume, const struct request *request,
                            struct outcome *ret_outcome);

/* The home moves. Both log one entry, not yet durable, and return its index.
 * Stop: from here on this host decides nothing. -EREMOTE: it is not the home.
 * Start: from here on this host decides, in epoch: of what the log offers it, or of a term after the log's, in place of a
 * home that is lost. -EREMOTE: neither. */
MUST_USE int volume_stop(struct volume *volume, struct host_id successor, uint64_t *ret_index);
MUST_USE int volume_start(struct volume *volume, uint64_t epoch, uint64_t *ret_index);
/* Another host has begun a term: this one is not the home, whatever its log says. Durable. */
MUST_USE int volume_yield(struct volume *volume);

/* A replica: entries from the home, in order. Appends, applies, tells the watcher. -EINVAL: a gap. */
MUST_USE int volume_follow(struct volume *volume, struct span entries, uint64_t *ret_applied);

/* What a mounted session wants to know: a change that did not come from this session's kernel. Called without locks,
 * after the change is applied and before it is acknowledged or answered; must not wait for the kernel. One SESSION entry may end many write ownerships at once: effect names none of them. */
struct volume_watcher {
    void (*changed)(struct volume_watcher *watcher, const struct change *change,
                    const struct tree_effect *effect);
    uint64_t session; /* changes with this identity.session are the watcher's own */
};
void volume_watch(struct volume *volume,
                  struct volume_watcher *watcher); /* NULL: nobody; returns when none is running */

/* Seals a file that this host keeps, now. -EALREADY: it is sealed; -EBUSY: somebody has it open, or writes it, or another
 * is being sealed; -EAGAIN: it was opened for writing meanwhile; -EINVAL: it has nothing to seal here; -EBADMSG: it, or its
 * seal, is damaged; what pace (or NULL) returned. */
MUST_USE int volume_seal(struct volume *volume, uint64_t ino, seal_pace_f *pace, void *ctx);

uint64_t volume_n_sealed(struct volume *volume); /* since it was opened */

/* Returns when the content of what was removed so far is off the disk; without it that takes a moment. False: deadline. */
MUST_USE bool volume_wait_removed(struct volume *volume, int64_t deadline_ns);

/* Writes a checkpoint when enough has been logged since the last, and trims the log to the one before it (members a
 * little behind still find their entries); thread-safe. */
MUST_USE int volume_checkpoint(struct volume *volume, bool force);
/* For a joiner: a checkpoint file that is at least as new as log_first() - 1; *ret_index is where it stands. */
MUST_USE int volume_checkpoint_open(struct volume *volume, int *ret_fd, uint64_t *ret_index);
