#include <stdint.h>
#include <string.h>

#include "client/cli/cli.h"

static const char *standing_of(const json_t *volume)
{
    if (cli_flag(volume, "is_home"))
        return "this host";
    if (!cli_flag(volume, "connected"))
        return "CUT OFF from it";
    return cli_flag(volume, "member") && cli_flag(volume, "lease") ? "member" : "learner";
}

void cli_print_damage(const json_t *volume)
{
    size_t i;
    const json_t *block;
    json_array_foreach(json_object_get(volume, "damage"), i, block)(void) printf(
        "    DAMAGED: block %lld of '%s' (inode %lld)\n", (long long)cli_number(block, "block"),
        cli_text(block, "path"), (long long)cli_number(block, "inode"));
}

static void print_scrub(const json_t *volume)
{
    const json_t *scrub = json_object_get(volume, "scrub");
    char bytes[32];
    if (cli_flag(scrub, "running"))
        (void)printf("    being scrubbed: %s in %lld files so far\n",
                     cli_bytes(cli_number(scrub, "bytes"), bytes),
                     (long long)cli_number(scrub, "files"));
    else if (cli_number(scrub, "passes") > 0)
        (void)printf("    scrubbed: %s in %lld files\n",
                     cli_bytes(cli_number(scrub, "bytes"), bytes),
                     (long long)cli_number(scrub, "files"));
    cli_print_damage(volume);
}

/* An epoch is (term << 32 | turn). */
static void print_home(const json_t *volume)
{
    long long epoch = (long long)cli_number(volume, "epoch");
    long long lag = (long long)(cli_number(volume, "home_index") - cli_number(volume, "applied"));
    (void)printf("    term %lld, turn %lld", epoch >> 32, epoch & UINT32_MAX);
    if (cli_flag(volume, "is_home"))
        (void)printf(", %lld members, %lld learners", (long long)cli_number(volume, "members"),
                     (long long)cli_number(volume, "learners"));
    else
        (void)printf(", %lld entries behind its home", lag > 0 ? lag : 0);
    (void)putchar('\n');
    if (!cli_flag(volume, "is_home") && !cli_flag(volume, "connected"))
        (void)printf("    NO HOME: nothing can be changed here; if host '%s' is lost for good: "
                     "whiskfs volume take-home %s\n",
                     cli_text(volume, "home"), cli_text(volume, "name"));
    if (cli_flag(volume, "is_home") &&
        cli_number(volume, "members") + cli_number(volume, "learners") == 0)
        (void)printf("    AT RISK: no other host has its names and changes\n");
}

static void print_volume(const json_t *volume)
{
    char used[32], limit[32];
    (void)printf(
        "  %s: home '%s', %s, %s of %s (held by the %s), %lld inodes, entry %lld of %lld\n",
        cli_text(volume, "name"), cli_text(volume, "home"), standing_of(volume),
        cli_bytes(cli_number(volume, "used_bytes"), used),
        cli_bytes(cli_number(volume, "limit_bytes"), limit), cli_text(volume, "limit_held_by"),
        (long long)cli_number(volume, "inodes"), (long long)cli_number(volume, "applied"),
        (long long)cli_number(volume, "home_index"));
    (void)printf("    %s%s", cli_flag(volume, "mounted") ? "mounted at " : "not mounted",
                 cli_flag(volume, "mounted") ? cli_text(volume, "mountpoint") : "");
    (void)printf("%s", cli_flag(volume, "passthrough") ? ", passthrough" : "");
    if (cli_flag(volume, "mounted"))
        (void)printf(", %s",
                     cli_flag(volume, "kept") ? "survives the daemon" : "ENDS WITH THE DAEMON");
    (void)putchar('\n');
    print_home(volume);
    print_scrub(volume);
}

static void print_saved(const json_t *saved)
{
    size_t i;
    const json_t *one;
    char bytes[32];
    json_array_foreach(saved, i, one)(void) printf(
        "SAVED of volume '%s', as another home took its place: %lld changes, %lld files, %s: %s\n",
        cli_text(one, "volume"), (long long)cli_number(one, "entries"),
        (long long)cli_number(one, "files"), cli_bytes(cli_number(one, "bytes"), bytes),
        cli_text(one, "path"));
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    size_t i;
    const json_t *volume;
    (void)argv;
    if (argc != 1)
        return cli_usage(cli, "it takes no argument");
    int code = cli_ask(cli, json_pack("{s:s}", "command", "status"), NULL, NULL, &result);
    if (code != CLI_OK || cli_print_json(cli, result))
        return code;
    (void)printf("host '%s' at %s, up %.0f s, membership %s: %s\n", cli_text(result, "host"),
                 cli_text(result, "address"),
                 json_real_value(json_object_get(result, "up_seconds")),
                 cli_text(result, "membership"),
                 cli_flag(result, "membership_connected") ? "connected" : "CUT OFF");
    const json_t *volumes = json_object_get(result, "volumes");
    (void)printf("%zu volumes\n", json_array_size(volumes));
    json_array_foreach(volumes, i, volume) print_volume(volume);
    print_saved(json_object_get(result, "saved"));
    return CLI_OK;
}

static const json_t *counters_of(const json_t *seen, const char *name)
{
    size_t i;
    const json_t *peer;
    json_array_foreach(seen, i, peer) if (strcmp(cli_text(peer, "name"), name) == 0) return peer;
    return NULL;
}

int cmd_peers(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    size_t i;
    const json_t *host;
    char sent[32], received[32];
    (void)argv;
    if (argc != 1)
        return cli_usage(cli, "it takes no argument");
    int code = cli_ask(cli, json_pack("{s:s}", "command", "peers"), NULL, NULL, &result);
    if (code != CLI_OK || cli_print_json(cli, result))
        return code;
    (void)printf("%-20s %-24s %-7s %-6s %12s %12s\n", "HOST", "ADDRESS", "INVOKER", "ALIVE", "SENT",
                 "RECEIVED");
    json_array_foreach(json_object_get(result, "hosts"), i, host)
    {
        const json_t *counters =
            counters_of(json_object_get(result, "seen"), cli_text(host, "name"));
        (void)printf("%-20s %-24s %-7lld %-6s %12s %12s\n", cli_text(host, "name"),
                     cli_text(host, "address"), (long long)cli_number(host, "invoker"),
                     cli_flag(host, "alive") ? "yes" : "no",
                     cli_bytes(cli_number(counters, "sent_bytes"), sent),
                     cli_bytes(cli_number(counters, "received_bytes"), received));
    }
    return CLI_OK;
}

/* As Prometheus text shows them: NAME{LABEL="VALUE"} NUMBER. */
static void print_samples(const char *name, const json_t *samples)
{
    size_t i;
    const json_t *sample;
    json_array_foreach(samples, i, sample)
    {
        const char *label, *separator = "{";
        json_t *value, *labels = json_object_get(sample, "labels");
        (void)fputs(name, stdout);
        json_object_foreach(labels, label, value)
        {
            (void)printf("%s%s=\"%s\"", separator, label, json_string_value(value));
            separator = ",";
        }
        (void)printf("%s %.17g\n", json_object_size(labels) > 0 ? "}" : "",
                     json_number_value(json_object_get(sample, "value")));
    }
}

int cmd_stats(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    const char *name;
    json_t *samples;
    (void)argv;
    if (argc != 1)
        return cli_usage(cli, "it takes no argument");
    int code = cli_ask(cli, json_pack("{s:s}", "command", "stats"), NULL, NULL, &result);
    if (code != CLI_OK || cli_print_json(cli, result))
        return code;
    json_object_foreach(result, name, samples) print_samples(name, samples);
    return CLI_OK;
}
