/* whiskfs-mountd — keeps the mounts of whiskfsd while that is killed, upgraded or restarted.
 *
 * It opens /dev/fuse, mounts, keeps the descriptors and unmounts; what it cannot do is serve a request. The less it does
 * the less there is to go wrong: it is the one process whose end is seen by every container.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include <systemd/sd-daemon.h>

#include "daemon/mountd/server.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"

#define DEFAULT_SOCKET "/run/whiskfs/mountd.sock"
#define DEFAULT_TIMEOUT_S 30
#define TIMEOUT_MAX_S 3600

static int usage(FILE *out, int code)
{
    (void)fputs(
        "usage: whiskfs-mountd [--socket PATH] [--timeout SECONDS]\n\n"
        "  --socket PATH      where whiskfsd finds it (" DEFAULT_SOCKET ")\n"
        "  --timeout SECONDS  how long a mount, or a first access, waits for a daemon (30)\n"
        "  --debug            says more\n"
        "  --version\n",
        out);
    return code;
}

static int open_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* HUP: of a restart, over which systemd keeps the descriptors. True: over. */
static bool take_signal(int signals, struct mounts *mounts, struct autofs *autofs)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != (ssize_t)sizeof info)
        return false;
    if (info.ssi_signo == SIGHUP && mounts_hand_over(mounts)) {
        autofs_leave(autofs);
        return true;
    }
    if (info.ssi_signo == SIGHUP) {
        log_warning("mountd", "SIGHUP: nobody would keep the mounts meanwhile: going on");
        return false;
    }
    log_info("mountd", "%s: unmounting", strsignal((int)info.ssi_signo));
    mounts_end(mounts);
    autofs_close(autofs);
    return true;
}

/* In how many ms there is something to do; -1: not by itself. */
static int look(struct server *server, int64_t timeout_ns)
{
    int mounts_ms = mounts_look(server->mounts, timeout_ns);
    int autofs_ms = autofs_look(server->autofs, timeout_ns);
    if (mounts_ms < 0 || autofs_ms < 0)
        return MAX(mounts_ms, autofs_ms);
    return MIN(mounts_ms, autofs_ms);
}

static void serve(struct server *server, int signals, int64_t timeout_ns)
{
    for (;;) {
        server_tell(server);
        struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                               {.fd = server->listener, .events = POLLIN},
                               {.fd = server->daemon, .events = POLLIN},
                               {.fd = server->autofs->pipe, .events = POLLIN}};
        int n = poll(fds, N_ELEMENTS(fds), look(server, timeout_ns));
        if (n <= 0)
            continue;
        if (fds[0].revents && take_signal(signals, server->mounts, server->autofs))
            return;
        if (fds[3].revents)
            autofs_read(server->autofs);
        if (fds[2].revents)
            server_answer(server);
        else if (fds[1].revents) /* a daemon that is gone is seen before the next one is refused */
            server_accept(server);
    }
}

static int run(const char *path, int64_t timeout_ns)
{
    struct server server;
    struct mounts mounts;
    struct autofs autofs;
    AUTO_CLOSE int signals = open_signals();
    (void)setpgid(0,
                  0); /* nobody else may act below an autofs; a leader of a session has its own */
    autofs_init(&autofs);
    mounts_init(&mounts);
    mounts_adopt(&mounts);
    int r = signals < 0 ? -errno : server_open(&server, path, &mounts, &autofs);
    if (r < 0) {
        log_error("mountd", "cannot listen on '%s': %s", path, strerror(-r));
        return 1;
    }
    log_info("mountd", "listens on %s", path);
    (void)sd_notify(0, "READY=1");
    serve(&server, signals, timeout_ns);
    (void)sd_notify(0, "STOPPING=1");
    (void)unlink(path);
    server_close(&server);
    return 0;
}

static bool parse_timeout(const char *text, int64_t *ret_ns)
{
    char *end;
    errno = 0;
    long seconds = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || seconds < 1 || seconds > TIMEOUT_MAX_S)
        return false;
    *ret_ns = seconds * NS_PER_S;
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'}, {"timeout", required_argument, NULL, 't'},
        {"debug", no_argument, NULL, 'd'},        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    const char *path = DEFAULT_SOCKET;
    int64_t timeout_ns = DEFAULT_TIMEOUT_S * NS_PER_S;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            path = optarg;
        else if (option == 'd')
            log_set_level(LOG_DEBUG);
        else if (option == 'v')
            return puts("whiskfs-mountd " WHISKFS_VERSION) < 0;
        else if (option != 't' || !parse_timeout(optarg, &timeout_ns))
            return usage(option == 'h' ? stdout : stderr, option == 'h' ? 0 : 2);
    }
    return optind == argc ? run(path, timeout_ns) : usage(stderr, 2);
}
