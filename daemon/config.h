/* daemon/config.h — the configuration file: INI, every key in whiskfsd(8). Unknown keys and bad values are refused with
 * file and line.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/membership.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

#define CONFIG_PEERS_MAX 1024
#define CONFIG_KAFKA_MAX 128

struct config_pair {
    char *name, *value;
};

struct config {
    char *file; /* that it was read from */
    /* [host] */
    char *name, *state, *mount, *mountd, *control, *listen, *advertise, *metrics;
    enum log_level log_level;
    /* [tls] */
    char *ca, *cert, *key;
    /* [membership] */
    char *membership_mode; /* "static", "kafka" */
    char *membership_prefix;
    /* [peers] */
    struct member_host *peers;
    int n_peers;
    /* [kafka]: librdkafka's own properties */
    struct config_pair *kafka;
    int n_kafka;
    /* [openwhisk] */
    bool openwhisk;
    char *openwhisk_prefix;
    int invoker; /* -1: none runs here */
    double managed_fraction, blackbox_fraction;
    char *activation_log;                     /* "": none */
    int run_end_s, step_limit_s, run_limit_s; /* see daemon/openwhisk/lifetimes.h */
    /* [mounts] */
    char *autofs; /* "auto", "on", "off" */
    /* [volumes] */
    uint64_t volume_bytes, volume_inodes;
    uint64_t content_bytes;             /* of all volumes on this host; 0: no limit */
    uint64_t serve_rate, prefetch_rate; /* bytes a second; 0: no limit */
    uint64_t scrub_rate;                /* bytes a second; 0: no limit */
    int scrub_days; /* from the end of a scrub to the next; 0: only when asked for */
    bool passthrough;
    bool image;
    /* [transfer] */
    int streams;
    uint64_t transfer_bytes;
    /* [prefetch] */
    bool prefetch;
    uint64_t prefetch_bytes;
};

/* Reads and checks file. On failure *ret_error (a buffer of size bytes) is one sentence: FILE:LINE: what is wrong and
 * what would be right; -EINVAL, or the errno of opening it. */
MUST_USE int config_load(const char *file, struct config **ret_config, char *ret_error,
                         size_t size);
void config_free(struct config *config);
DEFINE_FREEP(config, struct config)

/* "10GiB", "64MiB", "4096": whole numbers with an optional KiB, MiB, GiB, TiB. -EINVAL, -ERANGE. */
MUST_USE int config_parse_size(const char *text, uint64_t *ret_bytes);
