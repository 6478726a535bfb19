#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "client/cli/cli.h"
#include "client/cli/propagation.h"

#define CERTIFICATE_DAYS_LOW 14
#define DISK_PERCENT_LOW 10
#define CLOCK_SKEW_S 2.0

/* What a check found. */
enum verdict {
    GOOD,
    WORSE,
    BROKEN
};

static const char *const verdict_words[] = {[GOOD] = "ok", [WORSE] = "warning", [BROKEN] = "FAIL"};

static void note(json_t *report, enum verdict verdict, const char *check, const char *finding,
                 const char *remedy)
{
    (void)json_array_append_new(report, json_pack("{s:s, s:s, s:s, s:s}", "check", check, "verdict",
                                                  verdict_words[verdict], "finding", finding,
                                                  "remedy", verdict == GOOD ? "" : remedy));
}

/* ---- this machine ---- */

static bool kernel_is(const struct utsname *name, int major, int minor)
{
    char *end;
    long have_major = strtol(name->release, &end, 10);
    long have_minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return have_major > major || (have_major == major && have_minor >= minor);
}

static void check_kernel(json_t *report)
{
    struct utsname name;
    char finding[256];
    (void)uname(&name);
    (void)snprintf(finding, sizeof finding, "Linux %s", name.release);
    if (!kernel_is(&name, 6, 9))
        note(report, WORSE, "kernel", finding,
             "files are served through the daemon: FUSE passthrough needs Linux 6.9");
    else if (!kernel_is(&name, 6, 16))
        note(report, WORSE, "kernel", finding,
             "names are not cached on shared volumes: that needs Linux 6.16");
    else
        note(report, GOOD, "kernel", finding, "");
}

static void check_fuse(json_t *report)
{
    if (access("/dev/fuse", R_OK | W_OK) == 0)
        note(report, GOOD, "/dev/fuse", "can be opened", "");
    else if (errno == ENOENT)
        note(report, BROKEN, "/dev/fuse", "is not there", "modprobe fuse");
    else
        note(report, BROKEN, "/dev/fuse", strerror(errno), "run as root");
}

/* A FUSE filesystem with passthrough may not lie on one that is stacked already (overlayfs, another FUSE). */
static void check_passthrough(json_t *report, const json_t *volumes)
{
    size_t i;
    const json_t *volume;
    json_array_foreach(volumes, i, volume)
    {
        if (!cli_flag(volume, "mounted") || cli_flag(volume, "passthrough"))
            continue;
        note(report, WORSE, "passthrough", "a mounted volume goes without it",
             "[volumes] passthrough must be auto, the kernel 6.9 or newer, and STATE on a plain "
             "filesystem (ext4, xfs, btrfs)");
        return;
    }
    note(report, GOOD, "passthrough",
         json_array_size(volumes) > 0 ? "on" : "no volume is mounted: not seen yet", "");
}

static bool file_begins_with(const char *path, char expected)
{
    FILE *f = fopen(path, "re");
    int c = f ? getc(f) : EOF;
    if (f)
        (void)fclose(f);
    return c == expected;
}

static void check_uring(json_t *report)
{
    const char *path = "/sys/module/fuse/parameters/enable_uring";
    if (access(path, F_OK) < 0)
        note(report, GOOD, "FUSE over io_uring", "not in this kernel: /dev/fuse is used", "");
    else
        note(report, GOOD, "FUSE over io_uring",
             file_begins_with(path, 'Y')
                 ? "on; mounts use /dev/fuse all the same, to outlive the daemon"
                 : "off; not needed",
             "");
}

static bool file_has_line(const char *path, const char *word)
{
    char line[4096];
    bool is_found = false;
    FILE *f = fopen(path, "re");
    while (f && !is_found && fgets(line, sizeof line, f))
        is_found = strstr(line, word) != NULL;
    if (f)
        (void)fclose(f);
    return is_found;
}

static void check_autofs(json_t *report)
{
    if (!file_has_line("/proc/filesystems", "\tautofs\n"))
        note(report, WORSE, "autofs", "not in the kernel, or its module is not loaded",
             "modprobe autofs4; without it volumes must be attached by 'whiskfs attach' or "
             "OpenWhisk's messages");
    else if (access("/dev/autofs", F_OK) < 0)
        note(report, WORSE, "autofs", "in the kernel, but there is no /dev/autofs",
             "mknod /dev/autofs c 10 235; then restart whiskfs-mountd and whiskfsd");
    else
        note(report, GOOD, "autofs", "in the kernel", "");
}

static void check_first_access(json_t *report, const json_t *daemon)
{
    char finding[1200];
    const char *mount = cli_text(daemon, "mount");
    bool is_in_force = json_is_true(json_object_get(daemon, "autofs"));
    (void)snprintf(finding, sizeof finding,
                   is_in_force ? "autofs in force at %s"
                               : "no autofs at %s: a volume that is not attached is not found",
                   mount);
    note(report, is_in_force ? GOOD : WORSE, "first access", finding,
         is_in_force ? ""
                     : "set [mounts] autofs = auto and [host] mountd; then, with no volume in use, "
                       "systemctl restart whiskfs-mountd whiskfsd; the log says why it cannot be");
}

/* ---- whether containers see what is mounted ---- */

/* The programs that make the mounts of containers; each is its systemd unit's name and its own. */
static const struct engine {
    const char *unit, *program;
} engines[] = {{"docker", "dockerd"}, {"containerd", "containerd"}, {"crio", "crio"}};

static int read_propagation(const char *pid, const char *path, struct propagation *ret)
{
    char mountinfo[64];
    (void)snprintf(mountinfo, sizeof mountinfo, "/proc/%s/mountinfo", pid);
    FILE *f = fopen(mountinfo, "re");
    if (!f)
        return -errno;
    int r = propagation_read(f, path, ret);
    (void)fclose(f);
    return r;
}

static bool check_propagation(json_t *report, const char *mount, struct propagation *ret)
{
    char finding[2 * PROPAGATION_PATH_MAX], remedy[PROPAGATION_PATH_MAX + 64];
    int r = read_propagation("self", mount, ret);
    if (r < 0) {
        note(report, BROKEN, "mount propagation", strerror(-r), "mount /proc");
        return false;
    }
    (void)snprintf(finding, sizeof finding, "%s lies on %s, which is %s", mount, ret->at,
                   ret->shared ? "shared" : "private: containers will not see volumes");
    (void)snprintf(remedy, sizeof remedy, "mount --make-rshared %s", ret->at);
    note(report, ret->shared ? GOOD : WORSE, "mount propagation", finding, remedy);
    return ret->shared != 0;
}

/* 1: in the same namespace of that kind as this command. */
static int is_in_our_namespace(const char *pid, const char *kind)
{
    struct stat ours, theirs;
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    if (stat(path, &ours) < 0)
        return -errno;
    (void)snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, kind);
    if (stat(path, &theirs) < 0)
        return -errno;
    return ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

/* 1: what is mounted below from appears where that process looks for mount. */
static int is_reached(const char *pid, const char *mount, const struct propagation *from)
{
    struct propagation to;
    int r = is_in_our_namespace(pid, "mnt");
    if (r != 0)
        return r;
    r = read_propagation(pid, mount, &to);
    return r < 0 ? r : propagation_reaches(from, &to);
}

static void check_engine(json_t *report, const struct engine *engine, const char *pid,
                         const char *mount, const struct propagation *from)
{
    char finding[PROPAGATION_PATH_MAX + 256], remedy[512];
    int r = is_reached(pid, mount, from);
    if (r == -ENOENT || r == -ESRCH) /* it has ended */
        return;
    if (r < 0) {
        (void)snprintf(finding, sizeof finding, "cannot look at %s (process %s): %s",
                       engine->program, pid, strerror(-r));
        note(report, WORSE, "container engine", finding, "run as root");
        return;
    }
    (void)snprintf(finding, sizeof finding,
                   r ? "%s (process %s) sees what is mounted in %s"
                     : "%s (process %s) has a mount namespace of its own, where what is mounted in "
                       "%s does not appear",
                   engine->program, pid, mount);
    (void)snprintf(remedy, sizeof remedy,
                   "mkdir -p /etc/systemd/system/%s.service.d && printf "
                   "'[Service]\\nMountFlags=shared\\n' "
                   ">/etc/systemd/system/%s.service.d/whiskfs.conf && systemctl daemon-reload && "
                   "systemctl restart %s; without systemd start it by 'nsenter -t 1 -m %s'",
                   engine->unit, engine->unit, engine->unit, engine->program);
    note(report, r ? GOOD : WORSE, "container engine", finding, remedy);
}

/* NULL: that process is no engine, or one inside a container. */
static const struct engine *engine_of(const char *pid)
{
    char path[64], line[64] = "";
    (void)snprintf(path, sizeof path, "/proc/%s/comm", pid);
    FILE *f = fopen(path, "re");
    bool is_read = f && fgets(line, sizeof line, f);
    if (f)
        (void)fclose(f);
    line[strcspn(line, "\n")] = '\0';
    for (size_t i = 0; is_read && i < N_ELEMENTS(engines); i++) {
        if (strcmp(line, engines[i].program) == 0)
            return is_in_our_namespace(pid, "pid") == 0 ? NULL : &engines[i];
    }
    return NULL;
}

static void check_engines(json_t *report, const char *mount, const struct propagation *from)
{
    const struct dirent *entry;
    DIR *processes = opendir("/proc");
    while (processes && (entry = readdir(processes))) {
        const struct engine *engine =
            strlen(entry->d_name) == strspn(entry->d_name, "0123456789") &&
                    strlen(entry->d_name) < 16
                ? engine_of(entry->d_name)
                : NULL;
        if (engine)
            check_engine(report, engine, entry->d_name, mount, from);
    }
    if (processes)
        (void)closedir(processes);
}

static void check_containers(json_t *report, const char *mount)
{
    struct propagation from;
    if (check_propagation(report, mount, &from))
        check_engines(report, mount, &from);
}

/* ---- this machine's clock ---- */

static void check_clock(json_t *report)
{
    struct timex status = {0};
    int state = adjtimex(&status);
    if (state >= 0 && state != TIME_ERROR && (status.status & STA_UNSYNC) == 0)
        note(report, GOOD, "clock", "synchronised", "");
    else
        note(report, WORSE, "clock", "the kernel does not know it to be synchronised",
             "run chrony or systemd-timesyncd: certificates and file times depend on it");
}

/* ---- what the daemon says ---- */

static void check_certificate(json_t *report, const char *path)
{
    char finding[1200];
    int days = 0, seconds = 0;
    FILE *f = fopen(path, "re");
    X509 *certificate = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    if (f)
        (void)fclose(f);
    if (!certificate ||
        ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1) {
        (void)snprintf(finding, sizeof finding, "cannot read '%s'", path);
        note(report, WORSE, "certificate", finding,
             "run as root, or make it anew with 'whiskfs pki host'");
    } else {
        bool is_over = days < 0 || seconds < 0;
        (void)snprintf(finding, sizeof finding, "'%s' %s %d days", path,
                       is_over ? "expired since" : "is valid for", abs(days));
        note(report,
             is_over                       ? BROKEN
             : days < CERTIFICATE_DAYS_LOW ? WORSE
                                           : GOOD,
             "certificate", finding, "make it anew with 'whiskfs pki host' and restart whiskfsd");
    }
    X509_free(certificate);
}

static void check_key(json_t *report, const char *path)
{
    struct stat st;
    char finding[1200];
    if (stat(path, &st) < 0)
        (void)snprintf(finding, sizeof finding, "'%s': %s", path, strerror(errno));
    else if ((st.st_mode & 077) != 0)
        (void)snprintf(finding, sizeof finding, "'%s' can be read by others", path);
    else {
        note(report, GOOD, "key", "is the daemon's alone", "");
        return;
    }
    note(report, WORSE, "key", finding, "chown root and chmod 600 it");
}

static void check_membership(json_t *report, const json_t *daemon)
{
    if (strcmp(cli_text(daemon, "membership"), "static") == 0)
        note(report, GOOD, "membership", "static list of [peers]", "");
    else if (cli_flag(daemon, "membership_connected"))
        note(report, GOOD, "membership", "Kafka answers", "");
    else
        note(report, BROKEN, "membership", "no Kafka broker answers",
             "check [kafka] bootstrap.servers; mounted volumes go on without it");
}

static void check_peers(json_t *report, const json_t *peers)
{
    size_t i;
    const json_t *peer;
    char finding[1024];
    json_array_foreach(peers, i, peer)
    {
        bool is_reached = cli_flag(peer, "reached");
        (void)snprintf(finding, sizeof finding, "host '%s' at %s %s%s", cli_text(peer, "name"),
                       cli_text(peer, "address"),
                       is_reached ? "answers" : "does not answer: ", cli_text(peer, "error"));
        note(report, is_reached ? GOOD : BROKEN, "peer", finding,
             "see its log and this host's: wrong address, firewall, daemon down or a certificate "
             "of another CA");
    }
    if (json_array_size(peers) == 0)
        note(report, WORSE, "peer", "no other host is known",
             "list them in [peers], or use membership by Kafka");
}

static void check_limits(json_t *report, const json_t *volumes)
{
    size_t i;
    const json_t *volume;
    json_array_foreach(volumes, i, volume)
    {
        if (strcmp(cli_text(volume, "limit_held_by"), "daemon") != 0)
            continue;
        note(report, WORSE, "limits", "the daemon holds a volume's limit, so writing is slower",
             "new volumes lie in images where [volumes] image is auto and there are "
             "/dev/loop-control "
             "and mkfs.ext4");
        return;
    }
    note(report, GOOD, "limits", "the kernel holds the limits of what is attached", "");
}

static void check_disk(json_t *report, const json_t *disk)
{
    char finding[1200], bytes[32];
    json_int_t free_bytes = cli_number(disk, "free_bytes"), total = cli_number(disk, "total_bytes");
    bool is_low = total == 0 || free_bytes < total / 100 * DISK_PERCENT_LOW;
    (void)snprintf(finding, sizeof finding, "%s free below %s", cli_bytes(free_bytes, bytes),
                   cli_text(disk, "path"));
    note(report, is_low ? WORSE : GOOD, "disk", finding,
         "make room: volumes and what is drawn ahead live there");
}

static void check_kept(json_t *report, const json_t *volumes)
{
    size_t i;
    const json_t *volume;
    json_array_foreach(volumes, i, volume)
    {
        if (!cli_flag(volume, "mounted") || cli_flag(volume, "kept"))
            continue;
        note(report, WORSE, "mounts",
             "a mount ends with the daemon, and what is open there with it",
             "systemctl start whiskfs-mountd, then systemctl restart whiskfsd");
        return;
    }
    note(report, GOOD, "mounts", "whiskfs-mountd keeps them over a restart of the daemon", "");
}

static void check_skew(json_t *report, const json_t *daemon)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    double skew = (double)now.tv_sec - json_real_value(json_object_get(daemon, "clock"));
    if (skew > CLOCK_SKEW_S || skew < -CLOCK_SKEW_S)
        note(report, WORSE, "daemon's clock", "differs from this command's",
             "restart whiskfsd after setting the clock");
}

static void check_daemon(json_t *report, const json_t *daemon)
{
    note(report, GOOD, "daemon", "answers", "");
    check_first_access(report, daemon);
    check_containers(report, cli_text(daemon, "mount"));
    check_certificate(report, cli_text(daemon, "ca"));
    check_certificate(report, cli_text(daemon, "cert"));
    check_key(report, cli_text(daemon, "key"));
    check_membership(report, daemon);
    check_peers(report, json_object_get(daemon, "peers"));
    check_disk(report, json_object_get(daemon, "disk"));
    check_passthrough(report, json_object_get(daemon, "volumes"));
    check_limits(report, json_object_get(daemon, "volumes"));
    check_kept(report, json_object_get(daemon, "volumes"));
    check_skew(report, daemon);
}

/* ---- the report ---- */

static int print_report(struct cli *cli, const json_t *report)
{
    size_t i;
    const json_t *line;
    bool is_broken = false, is_json = cli_print_json(cli, report);
    json_array_foreach(report, i, line)
    {
        is_broken = is_broken || strcmp(cli_text(line, "verdict"), verdict_words[BROKEN]) == 0;
        if (is_json)
            continue;
        (void)printf("%-8s %-20s %s\n", cli_text(line, "verdict"), cli_text(line, "check"),
                     cli_text(line, "finding"));
        if (*cli_text(line, "remedy"))
            (void)printf("%-8s %-20s -> %s\n", "", "", cli_text(line, "remedy"));
    }
    return is_broken ? CLI_FAILED : CLI_OK;
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *daemon = NULL;
    AUTO(cli_json_free) json_t *report = json_array();
    AUTO(cli_json_free) json_t *request = json_pack("{s:s}", "command", "doctor");
    char error[2048];
    (void)argv;
    if (argc != 1)
        return cli_usage(cli, "it takes no argument");
    check_kernel(report);
    check_fuse(report);
    check_uring(report);
    check_autofs(report);
    check_clock(report);
    if (link_call(cli->socket_path, request, NULL, NULL, &daemon, error, sizeof error) == 0)
        check_daemon(report, daemon);
    else
        note(report, BROKEN, "daemon", error, "systemctl start whiskfsd, and see its log");
    return print_report(cli, report);
}
