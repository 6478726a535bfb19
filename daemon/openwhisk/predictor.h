/* daemon/openwhisk/predictor.h — where a sequence goes next.
 *
 *     ActivationMessage of step k ──► run (by cause) ──► transitions: Y follows X
 *     classic, on invokerN:    pings on health ──► invokers ──► balancer: Y's home ──────► prediction {Y, invoker}
 *     newer, on schedulerM:    containers, completions ──► placements: Y's container ──► prediction {Y, invoker}
 *
 * Every message that was decoded goes through here, on one thread. Pure: time is passed in (any steady clock, in
 * milliseconds), nothing is sent. Bounded: runs, invokers and transitions have limits, the oldest goes first. What was
 * learned is in predictor_transitions(), for whoever keeps it across restarts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/openwhisk/placements.h"
#include "daemon/openwhisk/transitions.h"
#include "proto/base/cleanup.h"
#include "proto/openwhisk/message.h"

struct predictor;

#define ANY_INVOKER                                                                                \
    (-1) /* an activation that was handed to a scheduler: whichever has a container */

struct predictor_config {
    double managed_fraction, blackbox_fraction;
    unsigned max_runs;
    unsigned max_actions;  /* contexts with known successors, and actions with known containers */
    int64_t run_expiry_ms; /* a step may run this long: its time limit and then some */
    int64_t
        run_end_ms; /* after the last step's result this long without a next step: the run is over */
    int64_t ping_fresh_ms; /* an invoker is up for this long after a ping */
};

/* OpenWhisk's own limits: 5 minutes and 2 more; offline after 10 s; a shrunk result is fetched after 16 s at most. */
#define PREDICTOR_DEFAULTS                                                                         \
    {                                                                                              \
        .managed_fraction = 0.9, .blackbox_fraction = 0.1, .max_runs = 4096, .max_actions = 16384, \
        .run_expiry_ms = 420000, .run_end_ms = 30000, .ping_fresh_ms = 10000                       \
    }

struct prediction {
    char run[OW_ID_SIZE];
    char namespace_name[OW_NAME_SIZE];
    char action[OW_ACTION_SIZE]; /* the next one */
    unsigned step;               /* its index in the run */
    int from_invoker;            /* that the current step was sent to, or ANY_INVOKER */
    int invoker;        /* where, or -1: no invoker is known to be up, or to have a container */
    double probability; /* that action is next */
};

MUST_USE int predictor_new(const struct predictor_config *config, struct predictor **ret_predictor);
void predictor_free(struct predictor *p);
DEFINE_FREEP(predictor, struct predictor)

void predictor_ping(struct predictor *p, const struct ow_ping *ping, int64_t now_ms);

/* An activation was sent to this invoker, or to ANY_INVOKER. Fills *ret_prediction and returns true if a next step is
 * expected. Noise and actions outside of sequences are none of its business. */
bool predictor_activation(struct predictor *p, const struct ow_activation *activation, int invoker,
                          int64_t now_ms, struct prediction *ret_prediction);

/* A message about containers; creations come on the topic of this invoker. */
void predictor_container(struct predictor *p, const struct ow_container *container,
                         unsigned invoker, int64_t now_ms);

/* A result or completion. True: the run ends here and *ret_cancelled, predicted for it before, will not come. */
bool predictor_ack(struct predictor *p, const struct ow_ack *ack, int64_t now_ms,
                   struct prediction *ret_cancelled);

/* Forgets runs that are over, learning from their ends. Call about once a second. */
void predictor_expire(struct predictor *p, int64_t now_ms);

/* Where the newer scheduler will most probably run it; -1: it has no container that is known. */
int predictor_container_place(const struct predictor *p, const char *namespace_name,
                              const char *action, int64_t now_ms);

/* The first healthy invoker in the order that the balancer asks; -1: none is known to be up. */
int predictor_place(const struct predictor *p, const char *namespace_name, const char *action,
                    int64_t now_ms);

/* The id of the invoker that pinged under this unique name, or -1. */
int predictor_invoker_named(const struct predictor *p, const char *unique_name);

struct transitions *predictor_transitions(struct predictor *p);

struct predictor_stats {
    unsigned n_runs;     /* now */
    unsigned n_invokers; /* highest id seen + 1 */
    unsigned n_up;       /* of these, with a fresh ping */
    unsigned n_contexts; /* with known successors */
    uint64_t n_evicted;  /* runs that went because there were too many */
    uint64_t n_checked;  /* predictions that a next step has confirmed or refuted */
    uint64_t n_action_right, n_invoker_right;
};
void predictor_stats(const struct predictor *p, int64_t now_ms, struct predictor_stats *ret_stats);
