#include <getopt.h>
#include <stdlib.h>

#include "client/cli/cli.h"
#include "client/pki/pki.h"

#define ADDRESSES_MAX 16

struct pki_arguments {
    struct pki_options options;
    const char *addresses[ADDRESSES_MAX];
    unsigned n_addresses;
};

static int take_options(struct cli *cli, int argc, char **argv, int n_words,
                        struct pki_arguments *ret)
{
    static const struct option options[] = {
        {"force", no_argument, NULL, 'f'},
        {"days", required_argument, NULL, 'd'},
        {"address", required_argument, NULL, 'a'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'f')
            ret->options.force = true;
        else if (option == 'd')
            ret->options.days = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'a' && ret->n_addresses < ADDRESSES_MAX)
            ret->addresses[ret->n_addresses++] = optarg;
        else
            return cli_usage(cli, "at most %d --address", ADDRESSES_MAX);
        if (option == 'd' && (ret->options.days < 1 || ret->options.days > 36500))
            return cli_usage(cli, "--days takes 1 to 36500");
    }
    return optind + n_words == argc ? CLI_OK : cli_usage(cli, "%d words are needed", n_words);
}

static int report(struct cli *cli, int r, const char *why, const char *dir, const char *name)
{
    if (r < 0)
        return cli_fail(r == -EEXIST ? -EBUSY : r, why);
    AUTO(cli_json_free) json_t *document = json_pack("{s:s, s:s}", "directory", dir, "name", name);
    if (!cli_print_json(cli, document))
        (void)printf("wrote %s/%s.pem and %s/%s.key\n", dir, name, dir, name);
    return CLI_OK;
}

int cmd_pki_init(struct cli *cli, int argc, char **argv)
{
    struct pki_arguments arguments = {0};
    char why[PKI_WHY_BYTES];
    int code = take_options(cli, argc, argv, 1, &arguments);
    if (code != CLI_OK)
        return code;
    int r = pki_init(argv[optind], &arguments.options, why);
    return report(cli, r, why, argv[optind], "ca");
}

int cmd_pki_host(struct cli *cli, int argc, char **argv)
{
    struct pki_arguments arguments = {0};
    char why[PKI_WHY_BYTES];
    int code = take_options(cli, argc, argv, 2, &arguments);
    if (code != CLI_OK)
        return code;
    int r = pki_host(argv[optind], argv[optind + 1], arguments.addresses, arguments.n_addresses,
                     &arguments.options, why);
    return report(cli, r, why, argv[optind], argv[optind + 1]);
}
