/* daemon/openwhisk/observer.h — what to do about a message: one Kafka record in, attach and hint callbacks out.
 *
 * Every host sees every message and learns from it. Classic: only the host whose invoker the current step was sent to acts:
 * it attaches or makes that step's volumes here, and tells the host of the next step what to draw. With the newer scheduler
 * a step is sent to no host: each host acts for itself when it has the container that the step, or the next one, will
 * probably run in, and when it is told to start one. No thread, no clock.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "daemon/membership.h"
#include "daemon/openwhisk/predictor.h"
#include "proto/openwhisk/topic.h"

/* Those of the step that is expected, and those of the current one. */
#define OBSERVER_VOLUMES_MAX (2 * OW_VOLUMES_MAX)

struct observed_volume {
    char name[OW_INSTANCE_NAME_SIZE]; /* of the volume or of the run's instance */
    enum ow_scope scope;
    uint64_t size_bytes; /* 0: the default */
    bool is_read_only;
};

/* Called on the thread that calls observer_record(); must not wait for a peer or a disk. */
struct observer_ops {
    /* An activation that names volumes was sent to this host's invoker, or will probably run here. */
    void (*activation)(void *arg, const struct ow_activation *activation,
                       const struct observed_volume *volumes, unsigned n);
    /* The next step of a run is expected on another host, which is alive. */
    void (*hint)(void *arg, const struct member_host *host, const struct prediction *prediction,
                 const struct observed_volume *volumes, unsigned n);
    /* The next step of a run that no host was told of is expected here. */
    void (*expect)(void *arg, const struct prediction *prediction,
                   const struct observed_volume *volumes, unsigned n);
    /* What hint() said will not come: the run has ended early. NULL: nobody wants to know. */
    void (*cancel)(void *arg, const struct member_host *host, const struct prediction *prediction);
    /* Any host's: a step begins, or has ended. NULL: nobody wants to know. */
    void (*begin_step)(void *arg, const struct ow_activation *activation, int64_t now_ms);
    void (*end_step)(void *arg, const struct ow_ack *ack, int64_t now_ms);
    /* A message that may have begun a step was dropped. NULL: nobody wants to know. */
    void (*missed_step)(void *arg, int64_t now_ms);
};

/* Any thread may read them. The first ones only grow. */
struct observer_counters {
    atomic_uint_least64_t messages, malformed, skipped, activations, activations_here, noise, acks,
        pings;
    atomic_uint_least64_t volumes_refused;
    atomic_uint_least64_t predictions;    /* made by any host's messages */
    atomic_uint_least64_t hints, cancels; /* given by this one */
    atomic_uint_least64_t expected;       /* here, with the newer scheduler */
    atomic_uint_least64_t containers;
    atomic_uint_least64_t hints_unplaced; /* no invoker, or no host that is alive */
    atomic_uint_least64_t hints_local;    /* the next step is expected here */
    atomic_uint_least64_t checked, action_right,
        invoker_right; /* predictions that came to a test */
    /* As of the last tick. */
    atomic_uint_least64_t runs, runs_evicted, invokers, invokers_up, known_contexts;
};

struct observer_config {
    const char *topic_prefix; /* OpenWhisk's; copied */
    int invoker;              /* this host's */
    struct predictor_config predictor;
    struct membership *membership;
    const struct observer_ops *ops;
    void *arg;
};

struct observer;

MUST_USE int observer_new(const struct observer_config *config, struct observer **ret_observer);
void observer_free(struct observer *o);
DEFINE_FREEP(observer, struct observer)

void observer_record(struct observer *o, const char *topic, int64_t offset, const void *payload,
                     size_t size, int64_t now_ms);
/* About once a second. */
void observer_tick(struct observer *o, int64_t now_ms);

const struct observer_counters *observer_counters(const struct observer *o);
/* Owned by the thread that calls observer_record(). */
struct predictor *observer_predictor(struct observer *o);
