/* daemon/host.h — whiskfsd as an object: what main() starts and stops, and what commands and metrics look at. */
#pragma once

#include <stdatomic.h>

#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/kafka/settings.h"
#include "daemon/membership.h"
#include "daemon/net/peers.h"
#include "daemon/volumes/volumes.h"

struct events;
struct http;
struct hints;
struct keeper;
struct scrubber;
struct reaper;
struct runs;
struct space;
struct transfer;

struct host {
    const struct config *config;
    struct kafka_settings kafka; /* of [kafka], pointing into config */
    struct membership *membership;
    struct peers *peers;
    struct volumes *volumes;
    struct transfer *transfer;
    struct hints *hints;
    struct keeper *keeper;
    struct space *space;
    struct scrubber *scrubber;
    struct reaper *reaper;
    struct runs *runs;
    struct events *events; /* NULL: [openwhisk] is off */
    struct http *http;     /* NULL: [host] metrics is empty */
    struct control *control;
    int64_t started_ns;
    atomic_flag is_checking; /* one volume is being checked by fsck */
};

/* Starts everything, in the order of the fields; a failure is logged in one sentence and unwound. */
MUST_USE int host_start(const struct config *config, struct host **ret_host);
/* Stops in the opposite order: first nobody asks any more, then volumes are unmounted, then peers are left. */
void host_stop(struct host *host);
