#include <getopt.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

#define COPIES_MAX 16

/* "10GiB" */
static bool parse_size(const char *text, json_int_t *ret_bytes)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    for (size_t i = 0; i < N_ELEMENTS(units); i++) {
        if (text[0] >= '0' && text[0] <= '9' && strcmp(end, units[i].unit) == 0 &&
            n <= ((unsigned long long)INT64_MAX >> units[i].shift)) {
            *ret_bytes = (json_int_t)(n << units[i].shift);
            return true;
        }
    }
    return false;
}

static bool parse_number(const char *text, int base, unsigned long max, json_int_t *ret_number)
{
    char *end;
    unsigned long n = strtoul(text, &end, base);
    *ret_number = (json_int_t)n;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n <= max;
}

static bool parse_owner(char *text, json_t *request)
{
    json_int_t uid, gid;
    char *colon = strchr(text, ':');
    if (!colon)
        return false;
    *colon = '\0';
    if (!parse_number(text, 10, UINT32_MAX - 1, &uid) ||
        !parse_number(colon + 1, 10, UINT32_MAX - 1, &gid))
        return false;
    return json_object_set_new(request, "uid", json_integer(uid)) == 0 &&
           json_object_set_new(request, "gid", json_integer(gid)) == 0;
}

int cli_take_create_options(struct cli *cli, int argc, char **argv, json_t *request)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'},   {"inodes", required_argument, NULL, 'i'},
        {"copies", required_argument, NULL, 'c'}, {"mode", required_argument, NULL, 'm'},
        {"owner", required_argument, NULL, 'o'},  {"suid", no_argument, NULL, 'u'},
        {"dev", no_argument, NULL, 'd'},          {NULL, 0, NULL, 0},
    };
    int option;
    json_int_t number;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's' && parse_size(optarg, &number))
            (void)json_object_set_new(request, "size", json_integer(number));
        else if (option == 'i' && parse_number(optarg, 10, INT64_MAX, &number))
            (void)json_object_set_new(request, "inodes", json_integer(number));
        else if (option == 'c' && parse_number(optarg, 10, COPIES_MAX, &number))
            (void)json_object_set_new(request, "copies", json_integer(number));
        else if (option == 'm' && parse_number(optarg, 8, 07777, &number))
            (void)json_object_set_new(request, "mode", json_integer(number));
        else if (option == 'u' || option == 'd')
            (void)json_object_set_new(request, option == 'u' ? "suid" : "dev", json_true());
        else if (option != 'o' || !parse_owner(optarg, request))
            return cli_usage(
                cli,
                "--size takes 10GiB and the like, --inodes and --copies numbers, --mode an octal "
                "number, --owner UID:GID");
    }
    if (optind + 1 != argc)
        return cli_usage(cli, "name one volume");
    (void)json_object_set_new(request, "name", json_string(argv[optind]));
    return CLI_OK;
}

int cmd_volume_create(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    json_t *request = json_pack("{s:s}", "command", "volume create");
    int code = cli_take_create_options(cli, argc, argv, request);
    if (code != CLI_OK) {
        json_decref(request);
        return code;
    }
    code = cli_ask(cli, request, NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("made volume '%s', home '%s'\n", cli_text(result, "name"),
                     cli_text(result, "home"));
    return code;
}

static const char *role_of(const json_t *volume)
{
    if (cli_flag(volume, "is_home"))
        return "home";
    if (!cli_flag(volume, "connected"))
        return "cut off";
    return cli_flag(volume, "member") ? "member" : "learner";
}

static void print_attached(const json_t *volumes)
{
    size_t i;
    const json_t *volume;
    char used[32], limit[32];
    json_array_foreach(volumes, i, volume)(void) printf(
        "%-32s %-16s %-8s %10s of %-10s %s\n", cli_text(volume, "name"), cli_text(volume, "home"),
        role_of(volume), cli_bytes(cli_number(volume, "used_bytes"), used),
        cli_bytes(cli_number(volume, "limit_bytes"), limit),
        cli_flag(volume, "mounted") ? cli_text(volume, "mountpoint") : "not mounted");
}

static bool is_attached(const json_t *attached, const char *name)
{
    size_t i;
    const json_t *volume;
    json_array_foreach(attached, i,
                       volume) if (strcmp(cli_text(volume, "name"), name) == 0) return true;
    return false;
}

static void print_elsewhere(const json_t *known, const json_t *attached)
{
    size_t i;
    const json_t *volume;
    char limit[32];
    json_array_foreach(known, i, volume) if (!is_attached(attached, cli_text(volume, "name")))(void)
        printf("%-32s %-16s %-8s %24s\n", cli_text(volume, "name"), cli_text(volume, "home"), "-",
               cli_bytes(cli_number(volume, "limit_bytes"), limit));
}

int cmd_volume_list(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    (void)argv;
    if (argc != 1)
        return cli_usage(cli, "it takes no argument");
    int code = cli_ask(cli, json_pack("{s:s}", "command", "volume list"), NULL, NULL, &result);
    if (code != CLI_OK || cli_print_json(cli, result))
        return code;
    (void)printf("%-32s %-16s %-8s %24s %s\n", "VOLUME", "HOME", "ROLE", "USED", "MOUNTED AT");
    print_attached(json_object_get(result, "attached"));
    print_elsewhere(json_object_get(result, "known"), json_object_get(result, "attached"));
    return CLI_OK;
}

int cmd_volume_show(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    const char *key;
    json_t *value;
    if (argc != 2)
        return cli_usage(cli, "name one volume");
    int code = cli_ask(cli, json_pack("{s:s, s:s}", "command", "volume show", "name", argv[1]),
                       NULL, NULL, &result);
    if (code != CLI_OK || cli_print_json(cli, result))
        return code;
    json_object_foreach(result, key, value)
    {
        AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY);
        (void)printf("%-14s %s\n", key, json_is_string(value) ? json_string_value(value) : text);
    }
    return CLI_OK;
}

static int take_resize_options(struct cli *cli, int argc, char **argv, json_t *request)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'},
        {"inodes", required_argument, NULL, 'i'},
        {NULL, 0, NULL, 0},
    };
    int option;
    json_int_t number;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's' && parse_size(optarg, &number) && number > 0)
            (void)json_object_set_new(request, "size", json_integer(number));
        else if (option == 'i' && parse_number(optarg, 10, INT64_MAX, &number) && number > 0)
            (void)json_object_set_new(request, "inodes", json_integer(number));
        else
            return cli_usage(cli, "--size takes 10GiB and the like, --inodes a number");
    }
    if (optind + 1 != argc || json_object_size(request) == 1)
        return cli_usage(cli, "name one volume, and --size, --inodes or both");
    (void)json_object_set_new(request, "name", json_string(argv[optind]));
    return CLI_OK;
}

int cmd_volume_resize(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    char limit[32];
    json_t *request = json_pack("{s:s}", "command", "volume resize");
    int code = take_resize_options(cli, argc, argv, request);
    if (code != CLI_OK) {
        json_decref(request);
        return code;
    }
    code = cli_ask(cli, request, NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("volume '%s' may have %s and %lld inodes\n", cli_text(result, "name"),
                     cli_bytes(cli_number(result, "limit_bytes"), limit),
                     (long long)cli_number(result, "limit_inodes"));
    return code;
}

int cmd_volume_set(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"suid", no_argument, NULL, 'u'},
        {"no-suid", no_argument, NULL, 'U'},
        {"dev", no_argument, NULL, 'd'},
        {"no-dev", no_argument, NULL, 'D'},
        {NULL, 0, NULL, 0},
    };
    AUTO(cli_json_free) json_t *result = NULL;
    AUTO(cli_json_free) json_t *request = json_pack("{s:s}", "command", "volume set");
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!strchr("uUdD", option))
            return cli_usage(cli, "it takes --suid, --no-suid, --dev and --no-dev");
        (void)json_object_set_new(request, strchr("uU", option) ? "suid" : "dev",
                                  json_boolean(strchr("ud", option) != NULL));
    }
    if (optind + 1 != argc || json_object_size(request) == 1)
        return cli_usage(cli, "name one volume, and what to set");
    (void)json_object_set_new(request, "name", json_string(argv[optind]));
    int code = cli_ask(cli, json_incref(request), NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("volume '%s' will be mounted %s,%s: detach and attach it where it is now\n",
                     cli_text(result, "name"), cli_flag(result, "suid") ? "suid" : "nosuid",
                     cli_flag(result, "dev") ? "dev" : "nodev");
    return code;
}

int cmd_volume_rename(struct cli *cli, int argc, char **argv)
{
    AUTO(cli_json_free) json_t *result = NULL;
    if (argc != 3)
        return cli_usage(cli, "name the volume and its new name");
    int code = cli_ask(cli,
                       json_pack("{s:s, s:s, s:s}", "command", "volume rename", "name", argv[1],
                                 "new_name", argv[2]),
                       NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("renamed volume '%s' to '%s'\n", argv[1], argv[2]);
    return code;
}

int cmd_volume_take_home(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        {"force", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    AUTO(cli_json_free) json_t *result = NULL;
    bool is_forced = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'f')
            return cli_usage(cli, "it takes --force");
        is_forced = true;
    }
    if (optind + 1 != argc)
        return cli_usage(cli, "name one volume");
    int code = cli_ask(cli,
                       json_pack("{s:s, s:s, s:b}", "command", "volume take-home", "name",
                                 argv[optind], "force", is_forced),
                       NULL, NULL, &result);
    if (code == CLI_OK && !cli_print_json(cli, result))
        (void)printf("this host is the home of volume '%s' now\n", argv[optind]);
    return code;
}

int cmd_volume_remove(struct cli *cli, int argc, char **argv)
{
    return cli_end_volume(cli, argc, argv, "removed");
}
