/* whiskfsd — the daemon: reads its configuration, starts a host, waits for a signal, stops it. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <systemd/sd-daemon.h>

#include "daemon/host.h"
#include "daemon/volumes/volumes.h"
#include "fs/fsck/fsck.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define OPEN_FILES_WANTED (1u << 20)
#define DEFAULT_CONFIG "/etc/whiskfs/whiskfsd.conf"

static int usage(FILE *out, int code)
{
    (void)fputs(
        "usage: whiskfsd [--config FILE] [--check | --fsck VOLUME [--repair]]\n\n"
        "  --config FILE  configuration (" DEFAULT_CONFIG ")\n"
        "  --check        only read the configuration, and say what is wrong with it\n"
        "  --fsck VOLUME  check a volume that no daemon has open, and end\n"
        "  --repair       with --fsck: put aside, into its lost+found, what can be made again\n"
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

static void print_finding(void *ctx UNUSED, const char *sentence)
{
    (void)puts(sentence);
}

/* 0: nothing found; 1: something; 3: it could not be checked. */
static int check_volume(const struct config *config, const char *name, bool repairs)
{
    struct fsck_result result;
    AUTO_FREE char *directory = NULL;
    if (volume_name_check(name) < 0)
        return usage(stderr, 2);
    if (asprintf(&directory, "%s/volumes/%s", config->state, name) < 0) {
        directory = NULL;
        return 3;
    }
    int r = fsck_volume(&(struct fsck_options){.directory = directory,
                                               .self = host_id_of(config->name),
                                               .repairs = repairs,
                                               .say = print_finding},
                        &result);
    if (r < 0) {
        log_error("daemon", "cannot check volume '%s': %s", name,
                  r == -EBUSY ? "a daemon has it open: stop that first" : strerror(-r));
        return 3;
    }
    (void)printf("%s: found %u, moved to lost+found %u\n", name, result.n_found, result.n_repaired);
    return result.n_found > 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"fsck", required_argument, NULL, 'f'},
        {"repair", no_argument, NULL, 'r'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *file = DEFAULT_CONFIG;
    const char *volume = NULL;
    bool is_check = false, repairs = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            file = optarg;
        else if (option == 'k')
            is_check = true;
        else if (option == 'f')
            volume = optarg;
        else if (option == 'r')
            repairs = true;
        else if (option == 'v')
            return puts("whiskfsd " WHISKFS_VERSION) < 0;
        else
            return usage(option == 'h' ? stdout : stderr, option == 'h' ? 0 : 2);
    }
    if (optind != argc || (repairs && !volume))
        return usage(stderr, 2);
    AUTO(config_freep) struct config *config = NULL;
    char error[1024];
    if (config_load(file, &config, error, sizeof error) < 0) {
        log_error("daemon", "%s", error);
        return 2;
    }
    log_set_level(config->log_level);
    if (volume)
        return check_volume(config, volume, repairs);
    return is_check ? 0 : serve(config);
}
