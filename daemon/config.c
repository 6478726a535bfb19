#include "daemon/config.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/transfer/pace.h"

enum key_type {
    KEY_STRING,
    KEY_PATH,
    KEY_OUTPUT,
    KEY_MOUNTD,
    KEY_NAME,
    KEY_ADDRESS,
    KEY_ENDPOINT,
    KEY_LEVEL,
    KEY_MODE,
    KEY_AUTOFS,
    KEY_BOOL,
    KEY_AUTO,
    KEY_INT,
    KEY_FRACTION,
    KEY_SIZE
};

/* One key of the file: where its value goes, and what it is when the file does not say. */
static const struct key {
    const char *section, *name;
    enum key_type type;
    size_t offset;
    const char *preset; /* NULL: must be given */
} keys[] = {
    {"host", "name", KEY_NAME, offsetof(struct config, name), NULL},
    {"host", "state", KEY_PATH, offsetof(struct config, state), "/var/lib/whiskfs"},
    {"host", "mount", KEY_PATH, offsetof(struct config, mount), "/mnt/ow"},
    {"host", "mountd", KEY_MOUNTD, offsetof(struct config, mountd), "/run/whiskfs/mountd.sock"},
    {"host", "control", KEY_PATH, offsetof(struct config, control), "/run/whiskfs/control.sock"},
    {"host", "listen", KEY_ADDRESS, offsetof(struct config, listen), "0.0.0.0:7433"},
    {"host", "advertise", KEY_ENDPOINT, offsetof(struct config, advertise), ""},
    {"host", "log_level", KEY_LEVEL, offsetof(struct config, log_level), "info"},
    {"host", "metrics", KEY_ENDPOINT, offsetof(struct config, metrics), "127.0.0.1:9433"},
    {"tls", "ca", KEY_PATH, offsetof(struct config, ca), "/etc/whiskfs/ca.pem"},
    {"tls", "cert", KEY_PATH, offsetof(struct config, cert), "/etc/whiskfs/host.pem"},
    {"tls", "key", KEY_PATH, offsetof(struct config, key), "/etc/whiskfs/host.key"},
    {"membership", "mode", KEY_MODE, offsetof(struct config, membership_mode), ""},
    {"membership", "topic_prefix", KEY_STRING, offsetof(struct config, membership_prefix),
     "whiskfs-"},
    {"openwhisk", "enabled", KEY_BOOL, offsetof(struct config, openwhisk), "false"},
    {"openwhisk", "topic_prefix", KEY_STRING, offsetof(struct config, openwhisk_prefix), ""},
    {"openwhisk", "invoker", KEY_INT, offsetof(struct config, invoker), "-1"},
    {"openwhisk", "managed_fraction", KEY_FRACTION, offsetof(struct config, managed_fraction),
     "0.9"},
    {"openwhisk", "blackbox_fraction", KEY_FRACTION, offsetof(struct config, blackbox_fraction),
     "0.1"},
    {"openwhisk", "activation_log", KEY_OUTPUT, offsetof(struct config, activation_log), ""},
    {"openwhisk", "run_end", KEY_INT, offsetof(struct config, run_end_s), "30"},
    {"openwhisk", "step_limit", KEY_INT, offsetof(struct config, step_limit_s), "420"},
    {"openwhisk", "run_limit", KEY_INT, offsetof(struct config, run_limit_s), "18000"},
    {"mounts", "autofs", KEY_AUTOFS, offsetof(struct config, autofs), "auto"},
    {"volumes", "size", KEY_SIZE, offsetof(struct config, volume_bytes), "10GiB"},
    {"volumes", "inodes", KEY_SIZE, offsetof(struct config, volume_inodes), "0"},
    {"volumes", "scrub_rate", KEY_SIZE, offsetof(struct config, scrub_rate), "64MiB"},
    {"volumes", "scrub_days", KEY_INT, offsetof(struct config, scrub_days), "7"},
    {"volumes", "content", KEY_SIZE, offsetof(struct config, content_bytes), "0"},
    {"volumes", "passthrough", KEY_AUTO, offsetof(struct config, passthrough), "auto"},
    {"volumes", "image", KEY_AUTO, offsetof(struct config, image), "auto"},
    {"transfer", "streams", KEY_INT, offsetof(struct config, streams), "2"},
    {"transfer", "memory", KEY_SIZE, offsetof(struct config, transfer_bytes), "64MiB"},
    {"transfer", "serve_rate", KEY_SIZE, offsetof(struct config, serve_rate), "0"},
    {"transfer", "prefetch_rate", KEY_SIZE, offsetof(struct config, prefetch_rate), "0"},
    {"prefetch", "enabled", KEY_BOOL, offsetof(struct config, prefetch), "true"},
    {"prefetch", "budget", KEY_SIZE, offsetof(struct config, prefetch_bytes), "4GiB"},
};

int config_parse_size(const char *text, uint64_t *ret_bytes)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0)
        return -ERANGE;
    for (size_t i = 0; i < N_ELEMENTS(units); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        if (n > UINT64_MAX >> units[i].shift)
            return -ERANGE;
        *ret_bytes = (uint64_t)n << units[i].shift;
        return 0;
    }
    return -EINVAL;
}

/* ---- values: each parser returns NULL or what would be right ---- */

static const char *parse_bool(const char *text, bool *ret)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return "true or false";
    *ret = text[0] == 't';
    return NULL;
}

static const char *parse_auto(const char *text, bool *ret)
{
    if (strcmp(text, "auto") != 0 && strcmp(text, "off") != 0)
        return "auto or off";
    *ret = text[0] == 'a';
    return NULL;
}

static const char *parse_int(const char *text, int *ret)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0' || n < -1 || n > 65535)
        return "a whole number from 0 to 65535";
    *ret = (int)n;
    return NULL;
}

static const char *parse_fraction(const char *text, double *ret)
{
    char *end;
    double x = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || !(x >= 0.0 && x <= 1.0))
        return "a number from 0 to 1";
    *ret = x;
    return NULL;
}

/* host:port or [v6]:port */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || colon == text || strlen(text) > ADDRESS_MAX_BYTES)
        return false;
    if (text[0] != '[' && memchr(text, ':', (size_t)(colon - text)))
        return false;
    unsigned long port = strtoul(colon + 1, &end, 10);
    return colon[1] >= '0' && colon[1] <= '9' && *end == '\0' && port <= 65535;
}

static bool is_host_name(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size <= HOST_NAME_MAX_BYTES &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") ==
               size;
}

static const char *check_string(enum key_type type, const char *text)
{
    switch (type) {
    case KEY_PATH:
        return text[0] == '/' ? NULL : "an absolute path";
    case KEY_OUTPUT:
        return *text == '\0' || text[0] == '/' ? NULL : "an absolute path, or nothing";
    case KEY_MOUNTD:
        return text[0] == '/' || strcmp(text, "off") == 0 ? NULL : "an absolute path, or off";
    case KEY_NAME:
        return is_host_name(text)
                   ? NULL
                   : "a host name of letters, digits, '.', '-' and '_', 63 bytes at most";
    case KEY_ADDRESS:
        return is_address(text) ? NULL : "ADDRESS:PORT";
    case KEY_ENDPOINT:
        return *text == '\0' || is_address(text) ? NULL : "ADDRESS:PORT, or nothing";
    case KEY_MODE:
        return *text == '\0' || strcmp(text, "static") == 0 || strcmp(text, "kafka") == 0
                   ? NULL
                   : "static or kafka";
    case KEY_AUTOFS:
        return strcmp(text, "auto") == 0 || strcmp(text, "on") == 0 || strcmp(text, "off") == 0
                   ? NULL
                   : "auto, on or off";
    default:
        return NULL;
    }
}

static const char *set_string(enum key_type type, const char *text, char **field)
{
    const char *right = check_string(type, text);
    if (right)
        return right;
    char *copy = strdup(text);
    if (!copy)
        return "read on a machine with memory left";
    free(*field);
    *field = copy;
    return NULL;
}

static const char *set_key(struct config *config, const struct key *key, const char *text)
{
    void *field = (char *)config + key->offset;
    switch (key->type) {
    case KEY_BOOL:
        return parse_bool(text, field);
    case KEY_AUTO:
        return parse_auto(text, field);
    case KEY_INT:
        return parse_int(text, field);
    case KEY_FRACTION:
        return parse_fraction(text, field);
    case KEY_SIZE:
        return config_parse_size(text, field) < 0
                   ? "a whole number, with KiB, MiB, GiB or TiB behind it"
                   : NULL;
    case KEY_LEVEL:
        return log_parse_level(text, field) < 0 ? "error, warning, info or debug" : NULL;
    default:
        return set_string(key->type, text, field);
    }
}

/* ---- the sections with free keys ---- */

static const char *add_peer(struct config *config, const char *name, const char *address)
{
    if (!is_host_name(name))
        return "NAME = ADDRESS:PORT";
    if (!is_address(address))
        return "ADDRESS:PORT";
    if (config->n_peers >= CONFIG_PEERS_MAX)
        return "at most 1024 peers";
    struct member_host *peers =
        reallocarray(config->peers, (size_t)config->n_peers + 1, sizeof *peers);
    if (!peers)
        return "read on a machine with memory left";
    config->peers = peers;
    struct member_host *peer = &peers[config->n_peers++];
    *peer = (struct member_host){.id = host_id_of(name), .invoker = -1, .alive = true};
    (void)snprintf(peer->name, sizeof peer->name, "%s", name);
    (void)snprintf(peer->address, sizeof peer->address, "%s", address);
    return NULL;
}

static const char *add_kafka(struct config *config, const char *name, const char *value)
{
    if (config->n_kafka >= CONFIG_KAFKA_MAX)
        return "at most 128 properties";
    struct config_pair *kafka =
        reallocarray(config->kafka, (size_t)config->n_kafka + 1, sizeof *kafka);
    if (!kafka)
        return "read on a machine with memory left";
    config->kafka = kafka;
    struct config_pair *pair = &kafka[config->n_kafka++];
    *pair = (struct config_pair){strdup(name), strdup(value)};
    return pair->name && pair->value ? NULL : "read on a machine with memory left";
}

/* ---- the file ---- */

struct loading {
    struct config *config;
    const char *path;
    int line;
    bool is_given[N_ELEMENTS(keys)];
    char *error;
    size_t error_size;
    bool has_failed;
};

/* Keeps the first complaint. Returns 0, which tells inih that the line was refused. */
static int refuse(struct loading *loading, const char *section, const char *name, const char *value,
                  const char *right)
{
    if (loading->has_failed)
        return 0;
    loading->has_failed = true;
    if (value)
        (void)snprintf(loading->error, loading->error_size, "%s:%d: [%s] %s = '%s': expected %s",
                       loading->path, loading->line, section, name, value, right);
    else
        (void)snprintf(loading->error, loading->error_size, "%s:%d: [%s] %s: %s", loading->path,
                       loading->line, section, name, right);
    return 0;
}

static int take_key(struct loading *loading, const char *section, const char *name,
                    const char *value)
{
    for (size_t i = 0; i < N_ELEMENTS(keys); i++) {
        if (strcmp(section, keys[i].section) != 0 || strcmp(name, keys[i].name) != 0)
            continue;
        if (loading->is_given[i])
            return refuse(loading, section, name, NULL, "given twice");
        loading->is_given[i] = true;
        const char *right = set_key(loading->config, &keys[i], value);
        return right ? refuse(loading, section, name, value, right) : 1;
    }
    return refuse(loading, section, name, NULL, "unknown key: see whiskfsd(8)");
}

static int on_line(void *ctx, const char *section, const char *name, const char *value)
{
    struct loading *loading = ctx;
    const char *right = NULL;
    if (loading->has_failed)
        return 0;
    if (strcmp(section, "peers") == 0)
        right = add_peer(loading->config, name, value);
    else if (strcmp(section, "kafka") == 0)
        right = add_kafka(loading->config, name, value);
    else
        return take_key(loading, section, name, value);
    return right ? refuse(loading, section, name, value, right) : 1;
}

/* inih counts lines only for itself: this reader counts them for the handler. */
struct line_reader {
    struct loading loading;
    FILE *file;
};

static char *read_line(char *line, int size, void *stream)
{
    struct line_reader *reader = stream;
    char *got = fgets(line, size, reader->file);
    reader->loading.line++;
    if (got && strlen(got) + 1 == (size_t)size && got[size - 2] != '\n')
        refuse(&reader->loading, "", "line", NULL, "longer than inih takes");
    return got;
}

static int parse_file(struct line_reader *reader)
{
    reader->file = fopen(reader->loading.path, "re");
    if (!reader->file) {
        int error = errno;
        (void)snprintf(reader->loading.error, reader->loading.error_size, "%s: cannot open: %s",
                       reader->loading.path, strerror(error));
        return -error;
    }
    int line = ini_parse_stream(read_line, reader, on_line, &reader->loading);
    (void)fclose(reader->file);
    if (line != 0 && !reader->loading.has_failed) {
        reader->loading.line = line;
        refuse(&reader->loading, "", "line", NULL, "neither [SECTION], KEY = VALUE nor a comment");
    }
    return reader->loading.has_failed ? -EINVAL : 0;
}

static const char *kafka_property(const struct config *config, const char *name)
{
    for (int i = 0; i < config->n_kafka; i++)
        if (strcmp(config->kafka[i].name, name) == 0)
            return config->kafka[i].value;
    return NULL;
}

/* ---- what the lines mean together ---- */

static int complain(struct loading *loading, const char *text)
{
    (void)snprintf(loading->error, loading->error_size, "%s: %s", loading->path, text);
    return -EINVAL;
}

static int set_presets(struct loading *loading)
{
    for (size_t i = 0; i < N_ELEMENTS(keys); i++) {
        if (keys[i].preset && set_key(loading->config, &keys[i], keys[i].preset))
            return -ENOMEM;
    }
    return 0;
}

static int replace_empty(char **field, const char *text)
{
    if (**field != '\0')
        return 0;
    return set_string(KEY_STRING, text, field) ? -ENOMEM : 0;
}

static bool is_too_slow(uint64_t rate)
{
    return rate > 0 && rate < PACE_RATE_MIN;
}

static int finish(struct loading *loading)
{
    struct config *config = loading->config;
    const char *brokers = kafka_property(config, "bootstrap.servers");
    if (!config->name)
        return complain(loading, "[host] name is missing: the name in this host's certificate");
    if (config->streams < 1 || config->streams > 16)
        return complain(loading, "[transfer] streams: expected 1 to 16");
    if (config->scrub_days < 0 || config->scrub_days > 3650)
        return complain(loading, "[volumes] scrub_days: expected 0 to 3650");
    if (config->transfer_bytes < 8u << 20)
        return complain(loading, "[transfer] memory: expected at least 8MiB");
    if (is_too_slow(config->serve_rate) || is_too_slow(config->prefetch_rate))
        return complain(loading,
                        "[transfer] serve_rate and prefetch_rate: expected 0 or at least 1MiB");
    if (config->run_end_s < 1 || config->step_limit_s < 1 || config->run_limit_s < 1)
        return complain(
            loading, "[openwhisk] run_end, step_limit and run_limit: expected at least 1 second");
    if (strcmp(config->autofs, "on") == 0 && strcmp(config->mountd, "off") == 0)
        return complain(loading, "[mounts] autofs = on needs [host] mountd");
    int r = replace_empty(&config->advertise, config->listen);
    if (r == 0)
        r = replace_empty(&config->membership_mode, brokers ? "kafka" : "static");
    if (r < 0)
        return r;
    if (!brokers && (config->openwhisk || strcmp(config->membership_mode, "kafka") == 0))
        return complain(
            loading,
            "[kafka] bootstrap.servers is missing: [openwhisk] and membership by Kafka need it");
    if (config->openwhisk && config->invoker < 0)
        return complain(
            loading,
            "[openwhisk] invoker is missing: the id of the invoker that runs on this host");
    return 0;
}

int config_load(const char *file, struct config **ret_config, char *ret_error, size_t size)
{
    AUTO(config_freep) struct config *config = calloc(1, sizeof *config);
    if (!config)
        return -ENOMEM;
    struct line_reader reader = {
        .loading = {.config = config, .path = file, .error = ret_error, .error_size = size},
    };
    config->file = strdup(file);
    int r = config->file ? set_presets(&reader.loading) : -ENOMEM;
    if (r == 0)
        r = parse_file(&reader);
    if (r == 0)
        r = finish(&reader.loading);
    if (r < 0)
        return r;
    *ret_config = TAKE(config);
    return 0;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < N_ELEMENTS(keys); i++) {
        if (keys[i].type <= KEY_ENDPOINT || keys[i].type == KEY_MODE || keys[i].type == KEY_AUTOFS)
            free(*(char **)(void *)((char *)config + keys[i].offset));
    }
    for (int i = 0; i < config->n_kafka; i++) {
        free(config->kafka[i].name);
        free(config->kafka[i].value);
    }
    free(config->kafka);
    free(config->file);
    free(config->peers);
    free(config);
}
