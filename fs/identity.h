/* fs/identity.h — who asked: hosts and requests.
 *
 * A host's id is XXH3-64 of its name, the name that its certificate carries. 0 is nobody. A collision between two
 * names of one cluster is refused where hosts become known (membership).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct host_id {
    uint64_t n;
};

#define NO_HOST ((struct host_id){0})

/* An epoch is (term << 32 | turn), compared as a number: one host orders a volume's changes in it. A hand-over raises
 * the turn; a host that takes the place of a lost home begins a term. A volume begins with this one. */
#define FIRST_EPOCH (1ULL << 32 | 1)

static inline uint32_t term_of(uint64_t epoch)
{
    return (uint32_t)(epoch >> 32);
}

/* The first of the next term. drawn: 16 random bits, the lower half of its number: so two hosts that begin one and know
 * nothing of each other begin different ones. */
static inline uint64_t epoch_of_next_term(uint64_t epoch, uint16_t drawn)
{
    uint64_t term = ((term_of(epoch) >> 16) + 1ULL) << 16 | drawn;
    return term << 32 | 1;
}

/* What a volume's log says of who orders its changes. */
struct turn {
    uint64_t epoch;
    struct host_id home;
    struct host_id successor; /* home has stopped and offers epoch + 1 to it; or NO_HOST */
};

/* What a host's disk says beside the log of one volume. The log alone does not make a host the home: one that lost its
 * copy meets its own old turns when it catches up. */
struct leads {
    uint64_t started; /* the last epoch that it has started; 0: none */
    uint64_t
        resumed; /* the last that it started, or will, in place of one that was not taken; 0: none */
    uint64_t
        claimed; /* the last that it started, or was about to, in place of a lost home; 0: none */
};

struct host_id host_id_of(const char *name);

static inline bool host_equal(struct host_id a, struct host_id b)
{
    return a.n == b.n;
}

/* Has self stopped, and decided to go on because its successor would not start? Recorded before it is logged. */
static inline bool turn_is_resumed_by(const struct turn *turn, struct host_id self,
                                      const struct leads *leads)
{
    return host_equal(turn->home, self) && !host_equal(turn->successor, NO_HOST) &&
           leads->resumed == turn->epoch + 2;
}

/* Is self the home that the log names, or has it stopped and not seen another start? */
static inline bool turn_is_led_by(const struct turn *turn, struct host_id self,
                                  const struct leads *leads)
{
    bool has_started = host_equal(turn->home, self) && turn->epoch != 0 &&
                       (leads->started == turn->epoch || leads->claimed == turn->epoch);
    return has_started || turn_is_resumed_by(turn, self, leads);
}

/* The identity of a request, carried by the log entry it leads to. A request whose identity is in the log or the
 * state gets the recorded outcome: it is answered, not done twice. */
struct identity {
    struct host_id host;
    uint64_t session; /* drawn at random when the volume is mounted or opened on that host */
    uint64_t
        unique; /* the kernel's `unique` without the resend bit; odd numbers: the daemon's own requests */
};

/* FUSE_UNIQUE_RESEND of linux/fuse.h: set on a request that the kernel hands out again. */
#define UNIQUE_RESEND_BIT (1ULL << 63)
