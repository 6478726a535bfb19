#include "daemon/volumes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <uthash.h>

#include "daemon/attachment.h"
#include "daemon/volume_directory.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mutex.h"
#include "proto/messages.pb-c.h"

#define ATTACH_NS (8 * NS_PER_S)
#define RETRY_NS NS_PER_S
#define ASK_NS NS_PER_S /* a host that is silent must not use up the time to ask the others */
#define HOSTS_ASKED_MAX 256

enum errand {
    ERRAND_NONE,
    ERRAND_ATTACH,
    ERRAND_REATTACH,
    ERRAND_FORGET
};

/* A volume that this host knows about. */
struct entry {
    UT_hash_handle hh;
    char name[VOLUME_NAME_MAX_BYTES + 1];
    struct attachment *attachment; /* or NULL: being attached, or waiting to be */
    unsigned n_users;              /* of attachment; it goes only at 0 */
    bool is_busy;                  /* an operation is under way on it */
    bool is_closing;               /* no new users */
    enum errand errand;            /* for the maintenance thread */
};

struct volumes {
    struct replica_env env;
    struct attachment_options attachments;
    struct volume_directories directories;
    struct peers *peers;
    struct membership *membership;
    char *self;
    uint64_t default_limit_bytes;
    pthread_t maintainer;
    bool has_maintainer;

    struct mutex lock;
    struct cond changed; /* entries, users, busy, errands, stopping */
    struct entry *entries;
    bool is_stopping;
};

/* ---- entries ---- */

static struct entry *find_entry(struct volumes *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct entry *entry;
    HASH_FIND_STR(volumes->entries, name, entry);
    return entry;
}

static struct entry *find_or_add(struct volumes *volumes, const char *name) REQUIRES(volumes->lock)
{
    struct entry *entry = find_entry(volumes, name);
    if (entry)
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    (void)snprintf(entry->name, sizeof entry->name, "%s", name);
    HASH_ADD_STR(volumes->entries, name, entry);
    return entry;
}

static void drop_if_unused(struct volumes *volumes, struct entry *entry) REQUIRES(volumes->lock)
{
    if (entry->attachment || entry->is_busy || entry->errand != ERRAND_NONE)
        return;
    HASH_DEL(volumes->entries, entry);
    free(entry);
}

/* Begins an operation on name: nobody else's is under way until end_operation. */
static int begin_operation(struct volumes *volumes, const char *name, int64_t deadline_ns,
                           struct entry **ret_entry)
{
    int r = volume_name_check(name);
    if (r < 0)
        return r;
    SCOPED_LOCK(&volumes->lock);
    for (;;) {
        if (volumes->is_stopping)
            return -ESHUTDOWN;
        struct entry *entry = find_or_add(volumes, name);
        if (!entry)
            return -ENOMEM;
        if (!entry->is_busy) {
            entry->is_busy = true;
            *ret_entry = entry;
            return 0;
        }
        if (!cond_wait_until(&volumes->changed, &volumes->lock, deadline_ns))
            return -ETIMEDOUT;
    }
}

static void end_operation(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    entry->is_busy = false;
    drop_if_unused(volumes, entry);
    cond_broadcast(&volumes->changed);
}

static void show_attachment(struct volumes *volumes, struct entry *entry,
                            struct attachment *attachment)
{
    SCOPED_LOCK(&volumes->lock);
    entry->attachment = attachment;
    entry->is_closing = false;
    cond_broadcast(&volumes->changed);
}

/* Takes the attachment out of sight and waits until nobody uses it. */
static struct attachment *hide_attachment(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    entry->is_closing = true;
    while (entry->n_users > 0)
        cond_wait(&volumes->changed, &volumes->lock);
    return TAKE(entry->attachment);
}

static struct entry *use(struct volumes *volumes, const char *name)
{
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry = find_entry(volumes, name);
    if (!entry || !entry->attachment || entry->is_closing)
        return NULL;
    entry->n_users++;
    return entry;
}

static void unuse(struct volumes *volumes, struct entry *entry)
{
    SCOPED_LOCK(&volumes->lock);
    entry->n_users--;
    cond_broadcast(&volumes->changed);
}

struct volume *volumes_find(void *ctx, const char *name)
{
    struct volumes *volumes = ctx;
    struct entry *entry = use(volumes, name);
    if (!entry)
        return NULL;
    struct volume *volume = attachment_volume(entry->attachment);
    if (!volume)
        unuse(volumes, entry);
    return volume;
}

void volumes_put(void *ctx, struct volume *volume)
{
    struct volumes *volumes = ctx;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        if (entry->attachment && attachment_volume(entry->attachment) == volume) {
            entry->n_users--;
            cond_broadcast(&volumes->changed);
            return;
        }
    }
    CHECK(!"a volume that was found is attached until it is put");
}

bool volumes_is_wanted(struct volumes *volumes, const char *name)
{
    SCOPED_LOCK(&volumes->lock);
    const struct entry *entry = find_entry(volumes, name);
    return entry && entry->attachment && !entry->is_closing && !volumes->is_stopping;
}

int volumes_positions(struct volumes *volumes, struct volume_position *ret_positions, int max)
{
    int n = 0;
    SCOPED_LOCK(&volumes->lock);
    for (struct entry *entry = volumes->entries; entry; entry = entry->hh.next) {
        struct volume *volume = NULL;
        if (entry->attachment && !entry->is_closing)
            volume = attachment_volume(entry->attachment);
        if (volume && n < max) {
            (void)snprintf(ret_positions[n].name, sizeof ret_positions[n].name, "%s", entry->name);
            ret_positions[n].applied = volume_applied(volume);
        }
        n += volume != NULL;
    }
    return n;
}

/* ---- who is the home ---- */

static int ask_host(struct volumes *volumes, const struct member_host *host, const char *name,
                    char *ret_home, int64_t deadline_ns)
{
    struct conn *conn;
    int r = peers_get(volumes->peers, host->id, CHANNEL_CONTROL, 0, deadline_ns, &conn);
    if (r < 0)
        return r;
    struct frame *frame = NULL;
    ProtobufCMessage *reply = NULL;
    Whiskfs__VolumeQuery query = WHISKFS__VOLUME_QUERY__INIT;
    query.volume = (char *)(uintptr_t)name;
    r = conn_call(conn, FRAME_CONTROL, FRAME_VOLUME_QUERY, &query.base, (struct span){0},
                  deadline_ns, &frame);
    if (r == 0)
        r = message_get(frame->body, &whiskfs__volume_info__descriptor, &reply);
    if (r == 0)
        (void)snprintf(ret_home, HOST_NAME_MAX_BYTES + 1, "%s",
                       ((Whiskfs__VolumeInfo *)(void *)reply)->home);
    message_free(reply);
    frame_free(frame);
    conn_put(conn);
    return r;
}

/* -ENOENT: every host that could be reached says no. */
static int ask_hosts(struct volumes *volumes, const char *name, char *ret_home, int64_t deadline_ns)
{
    AUTO_FREE struct member_host *hosts = calloc(HOSTS_ASKED_MAX, sizeof *hosts);
    if (!hosts)
        return -ENOMEM;
    int n = volumes->membership->ops->hosts(volumes->membership, hosts, HOSTS_ASKED_MAX);
    int worst = -ENOENT;
    for (int i = 0; i < MIN(n, HOSTS_ASKED_MAX); i++) {
        if (!hosts[i].alive)
            continue;
        int64_t until = MIN(deadline_ns, clock_mono_ns() + ASK_NS);
        int r = ask_host(volumes, &hosts[i], name, ret_home, until);
        if (r == 0)
            return 0;
        if (r != -ENOENT)
            worst = -EHOSTUNREACH;
    }
    return worst;
}

static int find_home(struct volumes *volumes, const char *name, int64_t deadline_ns, char *ret_home)
{
    struct member_volume known;
    if (volume_directory_home(&volumes->directories, name, ret_home) == 0)
        return 0;
    if (volumes->membership->ops->volume(volumes->membership, name, &known) == 0) {
        (void)snprintf(ret_home, HOST_NAME_MAX_BYTES + 1, "%s", known.home);
        return 0;
    }
    return ask_hosts(volumes, name, ret_home, deadline_ns);
}

/* ---- operations; the caller has begun one ---- */

static void close_entry(struct volumes *volumes, struct entry *entry)
{
    struct attachment *attachment = hide_attachment(volumes, entry);
    attachment_free(attachment);
}

/* In sight before it resumes: what it resumes with is settled by members of before, which must be able to join. */
static int open_as_home(struct volumes *volumes, struct entry *entry)
{
    struct attachment *attachment = NULL;
    int r = attachment_new(&volumes->attachments, entry->name, NULL, &attachment);
    if (r < 0)
        return r;
    r = attachment_open(attachment);
    if (r < 0) {
        attachment_free(attachment);
        return r;
    }
    show_attachment(volumes, entry, attachment);
    r = attachment_resume(attachment);
    if (r < 0)
        close_entry(volumes, entry);
    return r < 0 ? r : attachment_mount(attachment);
}

/* The attachment is in sight while it joins: what the home sends comes in through it. */
static int open_as_replica(struct volumes *volumes, struct entry *entry, const char *home_name,
                           int64_t deadline_ns)
{
    struct member_host home;
    struct attachment *attachment = NULL;
    if (volumes->membership->ops->host_by_name(volumes->membership, home_name, &home) < 0)
        return -EHOSTUNREACH; /* membership does not know it yet */
    int r = attachment_new(&volumes->attachments, entry->name, &home, &attachment);
    if (r < 0)
        return r;
    show_attachment(volumes, entry, attachment);
    r = attachment_join(attachment, deadline_ns);
    if (r == 0)
        r = attachment_mount(attachment);
    if (r < 0) {
        (void)hide_attachment(volumes, entry);
        attachment_free(attachment);
    }
    return r == -ENOTCONN ? -EHOSTUNREACH : r; /* the home is starting or stopping */
}

static int attach_entry(struct volumes *volumes, struct entry *entry, int64_t deadline_ns)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (entry->attachment)
        return attachment_mount(entry->attachment);
    int r = find_home(volumes, entry->name, deadline_ns, home);
    if (r < 0)
        return r;
    if (strcmp(home, volumes->self) == 0)
        return open_as_home(volumes, entry);
    r = volume_directory_set_home(&volumes->directories, entry->name, home);
    if (r == 0)
        r = open_as_replica(volumes, entry, home, deadline_ns);
    if (r == -ENOENT) /* its home has it no more; another host may make it anew */
        (void)!volume_directory_delete(&volumes->directories, entry->name);
    return r;
}

static int announce(struct volumes *volumes, const char *name, uint64_t limit_bytes)
{
    struct member_volume volume = {.limit_bytes = limit_bytes};
    (void)snprintf(volume.name, sizeof volume.name, "%s", name);
    (void)snprintf(volume.home, sizeof volume.home, "%s", volumes->self);
    return volumes->membership->ops->announce(volumes->membership, &volume);
}

static void undo_create(struct volumes *volumes, struct entry *entry)
{
    if (entry->attachment)
        close_entry(volumes, entry);
    (void)!volumes->membership->ops->retract(volumes->membership, entry->name);
    (void)!volume_directory_delete(&volumes->directories, entry->name);
}

static int create_entry(struct volumes *volumes, struct entry *entry,
                        const struct volume_genesis *genesis)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    struct volume_genesis with_limit = *genesis;
    if (with_limit.limit_bytes == 0)
        with_limit.limit_bytes = volumes->default_limit_bytes;
    if (entry->attachment)
        return -EEXIST;
    int r = find_home(volumes, entry->name, clock_mono_ns() + ATTACH_NS, home);
    if (r == 0)
        return -EEXIST;
    if (r != -ENOENT) /* a host that is silent may have it */
        return r;
    r = volume_directory_create(&volumes->directories, entry->name, volumes->self, &with_limit);
    if (r < 0)
        return r;
    r = announce(volumes, entry->name, with_limit.limit_bytes);
    if (r == 0)
        r = open_as_home(volumes, entry);
    if (r < 0)
        undo_create(volumes, entry);
    return r;
}

/* ---- what callers ask for ---- */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int volume_name_check(const char *name)
{
    size_t size = strnlen(name, VOLUME_NAME_MAX_BYTES + 1);
    if (size == 0 || size > VOLUME_NAME_MAX_BYTES || !is_letter_or_digit(name[0]))
        return -EINVAL;
    for (size_t i = 0; i < size; i++)
        if (!is_letter_or_digit(name[i]) && !strchr("._-@", name[i]))
            return -EINVAL;
    return 0;
}

int volumes_create(struct volumes *volumes, const char *name, const struct volume_genesis *genesis)
{
    struct entry *entry;
    int r = begin_operation(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = create_entry(volumes, entry, genesis);
    end_operation(volumes, entry);
    if (r == 0)
        log_info("volumes", "made volume '%s': this host is its home", name);
    return r;
}

int volumes_attach(struct volumes *volumes, const char *name, int64_t deadline_ns)
{
    struct entry *entry;
    int r = begin_operation(volumes, name, deadline_ns, &entry);
    if (r < 0)
        return r;
    bool was_attached = entry->attachment != NULL;
    r = attach_entry(volumes, entry, deadline_ns);
    end_operation(volumes, entry);
    if (r == 0 && !was_attached)
        log_info("volumes", "attached volume '%s'", name);
    return r;
}

int volumes_attach_or_create(struct volumes *volumes, const char *name, int64_t deadline_ns)
{
    struct volume_genesis genesis = {.mode = 01777};
    int r = volumes_attach(volumes, name, deadline_ns);
    if (r != -ENOENT)
        return r;
    r = volumes_create(volumes, name, &genesis);
    return r == -EEXIST ? volumes_attach(volumes, name, deadline_ns) : r;
}

static int detach_entry(struct volumes *volumes, struct entry *entry, bool is_forced)
{
    if (!entry->attachment)
        return -ENOENT;
    int r = attachment_unmount(entry->attachment, is_forced);
    if (r < 0 || attachment_is_needed(entry->attachment))
        return r;
    close_entry(volumes, entry);
    return volume_directory_delete(&volumes->directories, entry->name);
}

int volumes_detach(struct volumes *volumes, const char *name, bool is_forced)
{
    struct entry *entry;
    int r = begin_operation(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = detach_entry(volumes, entry, is_forced);
    end_operation(volumes, entry);
    if (r == 0)
        log_info("volumes", "detached volume '%s'", name);
    return r;
}

static int remove_entry(struct volumes *volumes, struct entry *entry, bool is_forced)
{
    struct replica_status replica;
    if (!entry->attachment)
        return -ENOENT;
    attachment_replica_status(entry->attachment, &replica);
    if (!replica.is_home)
        return -EREMOTE;
    if (replica.n_members > 0 && !is_forced)
        return -EBUSY;
    int r = attachment_unmount(entry->attachment, is_forced);
    if (r < 0)
        return r;
    r = volumes->membership->ops->retract(volumes->membership, entry->name);
    if (r < 0) {
        (void)!attachment_mount(entry->attachment);
        return r;
    }
    close_entry(volumes, entry);
    return volume_directory_delete(&volumes->directories, entry->name);
}

int volumes_remove(struct volumes *volumes, const char *name, bool is_forced)
{
    struct entry *entry;
    int r = begin_operation(volumes, name, clock_mono_ns() + ATTACH_NS, &entry);
    if (r < 0)
        return r;
    r = remove_entry(volumes, entry, is_forced);
    end_operation(volumes, entry);
    if (r == 0)
        log_info("volumes", "removed volume '%s'", name);
    return r;
}

/* ---- errands: what must be done later, on the maintenance thread ---- */

static void send_errand(struct volumes *volumes, const char *name, enum errand errand)
{
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry = find_or_add(volumes, name);
    if (entry && !volumes->is_stopping)
        entry->errand = errand;
    cond_broadcast(&volumes->changed);
}

static void on_expire(void *ctx, const char *name)
{
    struct volumes *volumes = ctx;
    struct entry *entry = use(volumes, name);
    if (!entry)
        return;
    attachment_expire(entry->attachment);
    unuse(volumes, entry);
}

static void on_gone(void *ctx, const char *name)
{
    send_errand(ctx, name, ERRAND_FORGET);
}

static void on_stale(void *ctx, const char *name)
{
    send_errand(ctx, name, ERRAND_REATTACH);
}

static int forget_entry(struct volumes *volumes, struct entry *entry)
{
    log_info("volumes", "volume '%s' was removed by its home", entry->name);
    if (entry->attachment) {
        (void)!attachment_unmount(entry->attachment, true);
        close_entry(volumes, entry);
    }
    return volume_directory_delete(&volumes->directories, entry->name);
}

static int reattach_entry(struct volumes *volumes, struct entry *entry)
{
    log_warning("volumes",
                "volume '%s' is too far behind its home: attaching it anew, open files get EIO",
                entry->name);
    if (entry->attachment) {
        (void)!attachment_unmount(entry->attachment, true);
        close_entry(volumes, entry);
    }
    return attach_entry(volumes, entry, clock_mono_ns() + ATTACH_NS);
}

static int run_errand(struct volumes *volumes, struct entry *entry, enum errand errand)
{
    switch (errand) {
    case ERRAND_ATTACH:
        return attach_entry(volumes, entry, clock_mono_ns() + ATTACH_NS);
    case ERRAND_REATTACH:
        return reattach_entry(volumes, entry);
    case ERRAND_FORGET:
        return forget_entry(volumes, entry);
    default:
        return 0;
    }
}

/* The next errand whose volume is free; begins an operation on it. Waits; NULL: stopping. */
static struct entry *next_errand(struct volumes *volumes, enum errand *ret_errand)
{
    SCOPED_LOCK(&volumes->lock);
    while (!volumes->is_stopping) {
        struct entry *entry, *next;
        HASH_ITER(hh, volumes->entries, entry, next)
        {
            if (entry->errand == ERRAND_NONE || entry->is_busy)
                continue;
            *ret_errand = entry->errand;
            entry->errand = ERRAND_NONE;
            entry->is_busy = true;
            return entry;
        }
        cond_wait(&volumes->changed, &volumes->lock);
    }
    return NULL;
}

static void wait_before_retry(struct volumes *volumes)
{
    SCOPED_LOCK(&volumes->lock);
    int64_t deadline = clock_mono_ns() + RETRY_NS;
    while (!volumes->is_stopping && cond_wait_until(&volumes->changed, &volumes->lock, deadline))
        continue;
}

static void *maintain_main(void *arg)
{
    struct volumes *volumes = arg;
    struct entry *entry;
    enum errand errand;
    while ((entry = next_errand(volumes, &errand))) {
        int r = run_errand(volumes, entry, errand);
        bool is_retried = r < 0 && errand != ERRAND_FORGET && r != -ENOENT;
        if (r < 0)
            log_warning("volumes", "cannot attach volume '%s': %s%s", entry->name, strerror(-r),
                        is_retried ? ": trying again" : "");
        if (is_retried) {
            SCOPED_LOCK(&volumes->lock);
            entry->errand = ERRAND_ATTACH;
        }
        end_operation(volumes, entry);
        if (is_retried)
            wait_before_retry(volumes);
    }
    return NULL;
}

/* ---- frames ---- */

/* Field 1 of every message about a volume is its name; the other fields are unknown to VolumeQuery and ignored. */
static int volume_of_frame(const struct frame *frame, Whiskfs__VolumeQuery **ret_query)
{
    ProtobufCMessage *message = NULL;
    int r = message_get(frame->body, &whiskfs__volume_query__descriptor, &message);
    if (r == 0)
        *ret_query = (void *)message;
    return r;
}

/* A replica that hears -ENOENT forgets the volume and what it keeps of it, so that is said only when the volume is gone
 * from this disk: not while this host starts, stops or cannot open it. */
static int why_absent(const struct volumes *volumes, const char *name)
{
    char home[HOST_NAME_MAX_BYTES + 1];
    if (volume_name_check(name) < 0)
        return -ENOENT;
    int r = volume_directory_home(&volumes->directories, name, home);
    return r == -ENOENT ? -ENOENT : -ENOTCONN;
}

static void on_frame(void *ctx, struct conn *conn, const struct frame *frame)
{
    struct volumes *volumes = ctx;
    Whiskfs__VolumeQuery *query = NULL;
    if (volume_of_frame(frame, &query) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    struct entry *entry = use(volumes, query->volume);
    if (entry) {
        attachment_frame(entry->attachment, conn, frame);
        unuse(volumes, entry);
    } else if (frame->id != 0) {
        conn_refuse(conn, frame->id, why_absent(volumes, query->volume), "not open here");
    }
    message_free(&query->base);
}

static void answer_query(struct volumes *volumes, struct conn *conn, const struct frame *frame,
                         char *name)
{
    struct entry *entry = use(volumes, name);
    struct replica_status replica = {0};
    Whiskfs__VolumeInfo info = WHISKFS__VOLUME_INFO__INIT;
    if (entry) {
        attachment_replica_status(entry->attachment, &replica);
        unuse(volumes, entry);
    }
    if (!replica.is_home) {
        conn_refuse(conn, frame->id, -ENOENT, "this host is not its home");
        return;
    }
    info.volume = name;
    info.home = volumes->self;
    int r = conn_send(conn, FRAME_CONTROL, FRAME_VOLUME_INFO, frame->id, &info.base,
                      (struct span){0}, clock_mono_ns() + NS_PER_S);
    if (r < 0)
        log_debug("volumes", "cannot answer host '%s': %s", conn_name(conn), strerror(-r));
}

static void on_query(void *ctx, struct conn *conn, const struct frame *frame)
{
    Whiskfs__VolumeQuery *query = NULL;
    if (volume_of_frame(frame, &query) < 0) {
        conn_close(conn, "malformed message");
        return;
    }
    answer_query(ctx, conn, frame, query->volume);
    message_free(&query->base);
}

static void on_conn_closed(void *ctx, struct conn *conn)
{
    struct volumes *volumes = ctx;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        if (entry->attachment)
            attachment_conn_closed(entry->attachment, conn);
    }
}

void volumes_handle_frames(struct volumes *volumes)
{
    static const struct {
        enum frame_type type;
        bool is_inline;
    } handled[] = {
        {FRAME_JOIN, false},      {FRAME_PROMOTE, false}, {FRAME_FORWARD, false},
        {FRAME_ACK, true},        {FRAME_RENEW, true},    {FRAME_LEAVE, true},
        {FRAME_CHECKPOINT, true}, {FRAME_ENTRIES, true},
    };
    for (size_t i = 0; i < N_ELEMENTS(handled); i++)
        peers_handle(volumes->peers, handled[i].type, handled[i].is_inline, on_frame, volumes);
    peers_handle(volumes->peers, FRAME_VOLUME_QUERY, true, on_query, volumes);
    peers_on_close(volumes->peers, on_conn_closed, volumes);
}

/* ---- status ---- */

int volumes_status(struct volumes *volumes, const char *name, struct volume_status *ret_status)
{
    struct entry *entry = use(volumes, name);
    if (!entry)
        return -ENOENT;
    attachment_status(entry->attachment, ret_status);
    unuse(volumes, entry);
    return 0;
}

int volumes_list(struct volumes *volumes, struct volume_status *ret_list, int max)
{
    int n = 0;
    SCOPED_LOCK(&volumes->lock);
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        if (!entry->attachment || entry->is_closing)
            continue;
        if (n < max)
            attachment_status(entry->attachment, &ret_list[n]);
        n++;
    }
    return n;
}

/* ---- life ---- */

DEFINE_FREEP(volumes, struct volumes)

int volumes_new(const struct volumes_options *options, struct volumes **ret_volumes)
{
    AUTO(volumes_freep) struct volumes *volumes = calloc(1, sizeof *volumes);
    if (!volumes)
        return -ENOMEM;
    mutex_init(&volumes->lock, LOCK_daemon);
    cond_init(&volumes->changed);
    volumes->self = strdup(options->self);
    volumes->peers = options->peers;
    volumes->membership = options->membership;
    volumes->default_limit_bytes = options->default_limit_bytes;
    volumes->env = (struct replica_env){
        .self = host_id_of(options->self),
        .peers = options->peers,
        .ctx = volumes,
        .expire = on_expire,
        .gone = on_gone,
        .stale = on_stale,
    };
    int r =
        volume_directories_open(&volumes->directories, options->state, host_id_of(options->self));
    if (r < 0 || !volumes->self)
        return r < 0 ? r : -ENOMEM;
    volumes->attachments = (struct attachment_options){
        .env = &volumes->env,
        .self = volumes->self,
        .directories = &volumes->directories,
        .mount = options->mount,
        .passthrough = options->passthrough,
    };
    *ret_volumes = TAKE(volumes);
    return 0;
}

void volumes_set_transfer(struct volumes *volumes, struct transfer *transfer)
{
    volumes->env.transfer = transfer;
}

/* Own volumes first, so that other hosts find them; replicas on the maintenance thread. */
static void start_one(void *ctx, const char *name, const char *home)
{
    struct volumes *volumes = ctx;
    if (strcmp(home, volumes->self) != 0) {
        send_errand(volumes, name, ERRAND_ATTACH);
        return;
    }
    int r = volumes_attach(volumes, name, clock_mono_ns() + ATTACH_NS);
    if (r < 0)
        log_error("volumes", "cannot open volume '%s': %s: it stays as it is on disk", name,
                  strerror(-r));
}

int volumes_start(struct volumes *volumes)
{
    int r = volume_directories_each(&volumes->directories, start_one, volumes);
    if (r < 0)
        return r;
    r = thread_start(&volumes->maintainer, "whiskfs-volumes", maintain_main, volumes);
    volumes->has_maintainer = r == 0;
    return r;
}

/* Waits for operations that are under way. NULL: all are closed. */
static struct entry *next_to_close(struct volumes *volumes)
{
    SCOPED_LOCK(&volumes->lock);
    for (;;) {
        bool is_any_busy = false;
        struct entry *entry, *next;
        HASH_ITER(hh, volumes->entries, entry, next)
        {
            is_any_busy |= entry->is_busy;
            if (entry->is_busy || !entry->attachment)
                continue;
            entry->is_busy = true;
            return entry;
        }
        if (!is_any_busy)
            return NULL;
        cond_wait(&volumes->changed, &volumes->lock); /* entries may go meanwhile: look anew */
    }
}

void volumes_stop(struct volumes *volumes)
{
    {
        SCOPED_LOCK(&volumes->lock);
        volumes->is_stopping = true;
        cond_broadcast(&volumes->changed);
    }
    if (volumes->has_maintainer)
        thread_join(volumes->maintainer);
    volumes->has_maintainer = false;
    struct entry *entry;
    while ((entry = next_to_close(volumes))) {
        (void)!attachment_unmount(entry->attachment, true);
        close_entry(volumes, entry);
        end_operation(volumes, entry);
    }
}

void volumes_free(struct volumes *volumes)
{
    if (!volumes)
        return;
    struct entry *entry, *next;
    HASH_ITER(hh, volumes->entries, entry, next)
    {
        HASH_DEL(volumes->entries, entry);
        free(entry);
    }
    volume_directories_close(&volumes->directories);
    free(volumes->self);
    cond_done(&volumes->changed);
    mutex_done(&volumes->lock);
    free(volumes);
}
