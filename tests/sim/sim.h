/* tests/sim/sim.h — the replication core of several hosts on a simulated network, clock and disk.
 *
 * One thread, one queue of events in simulated time, one source of chance: a seed gives the same schedule for ever.
 *
 *     sim.c      one schedule: clients, faults, the end; the command line
 *     world.c    events, clocks, links between hosts
 *     host.c     what daemon/replica does on a real host: joins, pushes, applies, renews, hands over
 *     claims.c   what it does when the home is lost
 *     client.c   what callers want, and when it is answered
 *     check.c    what must be true at each step
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/replica/core/broken.h"
#include "daemon/replica/core/core.h"
#include "proto/base/clock.h"

#define HOSTS 4
#define LOG_MAX 6000
#define BATCH 32
#define LINKS 4096
#define INBOX 8192
#define NS_PER_US 1000LL
#define CLIENTS (HOSTS * 3)
#define TURN_ONE (1ULL << 32 | 1)

enum entry_kind {
    CHANGE = 1,
    STOP,
    START
};

struct entry {
    uint64_t epoch, id; /* id: who asked, and for what */
    uint64_t stamp;     /* drawn for each entry: what the checksum over its time is in a real log */
    uint64_t turn;      /* STOP, START: the epoch that is offered or begins */
    uint8_t kind, host; /* CHANGE: who asked. STOP: successor. START: home */
};

/* Where a log says that its last term began. */
struct claim {
    uint64_t epoch, index;
};

enum message_type {
    JOIN = 1,
    JOIN_REPLY,
    ENTRIES,
    ACK,
    PROMOTE,
    PROMOTE_REPLY,
    RENEW,
    RENEW_REPLY,
    LEAVE,
    FORWARD,
    OUTCOME,
    OFFER,
    REFUSED,
    NEWS
};

struct message {
    enum message_type type;
    uint64_t epoch, index, id, seen;
    int64_t sent_ns, lease_ns; /* sent_ns: of the asker's clock, given back in the answer */
    int error, home;           /* REFUSED: who is the home, as far as the refuser knows, or -1 */
    bool is_durable, is_install, is_answer;
    uint64_t shared, first; /* JOIN_REPLY */
    unsigned n;
    struct entry entries[BATCH];
    struct {
        int host;
        int64_t left_ns;
    } members[HOSTS];
};

struct parcel {
    struct parcel *next;
    int64_t at_ns;
    struct message message;
};

struct link {
    bool is_used, is_open; /* open: nothing has broken it yet */
    bool is_dead[2];       /* that end knows that it is broken */
    int host[2];
    unsigned life[2];                  /* of the hosts when it was made */
    struct parcel *first[2], *last[2]; /* on their way to that end */
    struct entry *snapshot;            /* a checkpoint that goes over it */
};

enum client_state {
    IDLE,
    WANTS_READ,
    WANTS_CHANGE,
    FORWARDED,
    SETTLING,
    PASSING_ON,
    SYNCING
};

struct client {
    int host;
    unsigned burst; /* changes that follow at once */
    enum client_state state;
    bool is_durable;
    uint64_t id, index, seen;
    uint64_t
        answered_before; /* index of the newest change that was answered when this began, and its id */
    uint64_t answered_id;
    int64_t deadline_ns, resend_ns; /* simulated time */
    unsigned life;
};

/* A FORWARD that is being carried out for another host. */
struct service {
    int link, asker;
    uint64_t id, index;
    int64_t deadline_ns;
    bool is_durable, is_syncing;
};
#define SERVICES 64

struct host {
    struct core core;
    bool is_up, is_attached;
    unsigned life;
    int64_t offset_ns;
    double rate;
    bool is_slow;      /* its disk */
    int64_t asleep_ns; /* until then its daemon is stopped and its kernel goes on */

    /* on disk */
    struct entry *log; /* log[1..n] */
    struct turn turn;  /* what it says at its end */
    struct claim claim;
    int64_t claimed_ns; /* simulated time: when it was told to take the home */
    uint64_t n, synced; /* the rest is in the page cache: it survives the daemon, not the power */
    bool members[HOSTS];
    struct leads leads;
    int home_file; /* whom to ask for what is not here */

    /* of this life */
    struct entry inbox[INBOX];
    unsigned n_inbox;
    uint64_t inbox_from;                   /* index of inbox[0] */
    int64_t dials_ns, retry_ns, renews_ns; /* simulated time; 0: not */
    bool is_applying, is_promoting, is_saving, is_joining, is_leaving;
    struct service services[SERVICES];

    /* its kernel */
    bool has_cache;
    uint64_t cached;   /* entries that it has seen the effect of */
    int64_t cached_ns; /* until then, of its own clock */
};

struct sim {
    uint64_t seed, random;
    int64_t now_ns;
    bool is_healed, traces;
    struct host host[HOSTS];
    struct link link[LINKS];
    bool cut[HOSTS][HOSTS];
    struct client client[CLIENTS];
    uint64_t next_id, n_drawn;
    int busy;            /* the host whose clients do the work at present, or -1: all */
    const char *failure; /* what was wrong, or NULL */
    char text[256];
    int directory; /* who announced last that it is the home */
    /* statistics */
    uint64_t n_answered, n_failed, n_handovers, n_crashes, n_reads, n_installs, n_resumed, n_claims,
        n_yielded, n_put_aside;
};

extern struct sim sim;

/* ---- world.c ---- */
uint64_t chance(uint64_t n); /* 0 … n - 1 */
bool one_in(uint64_t n);
int64_t between(int64_t low, int64_t high);
typedef void event_f(int host, uint64_t argument);
/* life: the event is forgotten when the host has died meanwhile; host -1: never. */
void after(int64_t ns, int host, event_f *event, uint64_t argument);
bool step(void); /* the next event; false: none */
void forget_events(void);
int64_t local_ns(int host);
struct link *dial(int from, int to); /* or NULL */
void post(int link, int from, const struct message *message);
void break_link(int link);
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int host_of(struct host_id id);
int64_t disk_ns(int host);
bool host_finds(int host, uint64_t id, uint64_t *ret_index);
struct host_id id_of(int host);
const char *name_of(int host);

/* ---- host.c ---- */
void host_boot(int host); /* from what is on its disk */
void host_boot_later(int host, int64_t ns);
void host_kill(int host, bool has_power); /* the daemon, or the machine */
void host_wipe(int host);                 /* detached: nothing is kept */
void host_leave(int host);                /* the daemon is stopped in order */
void host_receive(int host, int link, const struct message *message);
void host_link_ended(int host, int link);
void host_work(int host);
void host_hand_over(int host);
void host_claim(int host); /* an operator says so */
uint64_t host_append(int host, enum entry_kind kind, uint64_t id, int about, uint64_t turn);

/* ---- client.c ---- */
void clients_reset(void);
void clients_work(int host);
void clients_ask_kernel(int host);
void client_outcome(int host, const struct message *message);
void clients_begin(void);
void clients_die(int host);

/* ---- check.c ---- */
void check_reset(void);
void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void check_append(int host, const struct entry *entry, uint64_t index);
void check_answered(int host, uint64_t id, uint64_t index, bool is_durable);
void check_read(int host, uint64_t seen_index, uint64_t answered_index, uint64_t answered_id,
                const char *how);
void check_serving(int host);  /* a host begins to serve as home */
void check_home(int host);     /* now and then */
void check_claiming(int host); /* it is about to begin a term */
void check_claimed(
    int host); /* the beginning of a term is durable, or is what a home started with */
/* The entries of its log from there on, which another log is to replace, are put aside. */
void check_put_aside(int host, uint64_t from);
void check_replaced(int host, const struct entry *by, uint64_t n);
bool check_is_current(int host); /* it knows of the last claim */
void check_end(int home);
void check_power_cut(int host);
uint64_t newest_answered(uint64_t *ret_id);
