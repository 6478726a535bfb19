/* whiskfsd — the daemon: reads its configuration, starts a host, waits for a signal, stops it. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <jansson.h>
#include <systemd/sd-daemon.h>

#include "daemon/host.h"
#include "daemon/volumes/volumes.h"
#include "fs/fsck/fsck.h"
#include "fs/volume/snapshot.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define OPEN_FILES_WANTED (1u << 20)
#define DEFAULT_CONFIG "/etc/whiskfs/whiskfsd.conf"

static int usage(FILE *out, int code)
{
    (void)fputs(
        "usage: whiskfsd [--config FILE] [--check | --fsck VOLUME [--repair] [--json]]\n\n"
        "  --config FILE  configuration (" DEFAULT_CONFIG ")\n"
        "  --check        only read the configuration, and say what is wrong with it\n"
        "  --fsck VOLUME  check a volume that no daemon has open, and end\n"
        "  --repair       with --fsck: put aside, into its lost+found, what can be made again\n"
        "  --json         with --fsck: say it as one JSON document\n"
        "  --version\n",
        out);
    return code;
}

/* Signals are taken by the main thread alone; every other inherits the mask. */
static void block_signals(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGTERM);
    (void)sigaddset(ret_set, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Every open file of a container is one of ours, or two. */
static void raise_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_max = MAX(limit.rlim_max, OPEN_FILES_WANTED);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Feeds systemd's watchdog, if there is one, until a signal comes. */
static void wait_for_signal(const sigset_t *set)
{
    uint64_t watchdog_us = 0;
    bool is_watched = sd_watchdog_enabled(0, &watchdog_us) > 0;
    int64_t wait_ns = is_watched ? (int64_t)watchdog_us * 500 : 3600 * NS_PER_S;
    const struct timespec wait = {.tv_sec = wait_ns / NS_PER_S, .tv_nsec = wait_ns % NS_PER_S};
    for (;;) {
        int signal = sigtimedwait(set, NULL, &wait);
        if (signal > 0) {
            log_info("daemon", "%s: stopping", strsignal(signal));
            return;
        }
        if (is_watched)
            (void)sd_notify(0, "WATCHDOG=1");
    }
}

static int serve(const struct config *config)
{
    sigset_t set;
    struct host *host;
    block_signals(&set);
    raise_open_files();
    int r = host_start(config, &host);
    if (r < 0)
        return 1;
    log_info("daemon", "host '%s' listens on %s", config->name, config->listen);
    (void)sd_notifyf(0, "READY=1\nSTATUS=host '%s' on %s", config->name, config->listen);
    wait_for_signal(&set);
    (void)sd_notify(0, "STOPPING=1");
    host_stop(host);
    log_info("daemon", "stopped");
    return 0;
}

/* What the command line asks for. */
struct order {
    const char *config_file;
    const char *volume; /* to be checked, or NULL */
    bool is_check, repairs, is_json, is_snapshot;
};

static void print_finding(void *ctx, const char *sentence)
{
    json_t *findings = ctx;
    if (findings)
        (void)json_array_append_new(findings, json_string(sentence));
    else
        (void)puts(sentence);
}

static void print_result(const char *name, const struct fsck_result *result, json_t *findings)
{
    if (!findings) {
        (void)printf("%s: found %u, mended %u\n", name, result->n_found, result->n_repaired);
        return;
    }
    json_t *document =
        json_pack("{s:s, s:b, s:i, s:i, s:O}", "name", name, "online", 0, "found",
                  (int)result->n_found, "repaired", (int)result->n_repaired, "findings", findings);
    (void)json_dumpf(document, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(document);
}

static int check_directory(const struct config *config, const struct order *order,
                           const char *directory)
{
    struct fsck_result result;
    json_t *findings = order->is_json ? json_array() : NULL;
    int r = fsck_volume(&(struct fsck_options){.directory = directory,
                                               .self = host_id_of(config->name),
                                               .repairs = order->repairs,
                                               .say = print_finding,
                                               .ctx = findings},
                        &result);
    if (r == 0)
        print_result(order->volume, &result, findings);
    else
        log_error("daemon", "cannot check volume '%s': %s", order->volume,
                  r == -EBUSY ? "a daemon has it open: use 'whiskfs fsck', or stop that first"
                              : strerror(-r));
    json_decref(findings);
    return r < 0 ? 3 : result.n_found > 0;
}

/* 0: nothing found; 1: something; 3: it could not be checked. */
static int check_volume(const struct config *config, const struct order *order)
{
    AUTO_FREE char *directory = NULL;
    if (volume_name_check(order->volume) < 0)
        return usage(stderr, 2);
    if (asprintf(&directory, "%s/volumes/%s%s", config->state, order->volume,
                 order->is_snapshot ? "/" SNAPSHOT_DIRECTORY : "") < 0) {
        directory = NULL;
        return 3;
    }
    return check_directory(config, order, directory);
}

/* -1: go on; else the exit code. */
static int take_options(int argc, char **argv, struct order *order)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"fsck", required_argument, NULL, 'f'},
        {"repair", no_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"snapshot", no_argument, NULL, 's'}, /* of a volume that is open: whiskfsd's own */
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            order->config_file = optarg;
        else if (option == 'k')
            order->is_check = true;
        else if (option == 'f')
            order->volume = optarg;
        else if (option == 'r')
            order->repairs = true;
        else if (option == 'j')
            order->is_json = true;
        else if (option == 's')
            order->is_snapshot = true;
        else if (option == 'v')
            return puts("whiskfsd " WHISKFS_VERSION) < 0;
        else
            return usage(option == 'h' ? stdout : stderr, option == 'h' ? 0 : 2);
    }
    bool is_for_fsck = order->repairs || order->is_json || order->is_snapshot;
    return optind != argc || (is_for_fsck && !order->volume) ? usage(stderr, 2) : -1;
}

int main(int argc, char **argv)
{
    struct order order = {.config_file = DEFAULT_CONFIG};
    AUTO(config_freep) struct config *config = NULL;
    char error[1024];
    int code = take_options(argc, argv, &order);
    if (code >= 0)
        return code;
    if (config_load(order.config_file, &config, error, sizeof error) < 0) {
        log_error("daemon", "%s", error);
        return 2;
    }
    log_set_level(config->log_level);
    if (order.volume)
        return check_volume(config, &order);
    return order.is_check ? 0 : serve(config);
}
