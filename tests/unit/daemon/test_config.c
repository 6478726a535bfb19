#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"

static struct config *config;
static char why[1024];

/* Loads text as a file; whiskfsd.conf in the sentences is its name. */
static int load(const char *text)
{
    char directory[] = "/tmp/whiskfs-config-XXXXXX", path[64];
    cr_assert(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/whiskfsd.conf", directory);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    why[0] = '\0';
    int r = config_load(path, &config, why, sizeof why);
    unlink(path);
    rmdir(directory);
    return r;
}

static void tear_down(void)
{
    config_free(config);
}

TestSuite(config, .fini = tear_down);

static void refused(const char *text, const char *sentence)
{
    cr_expect(eq(int, load(text), -EINVAL), "%s", text);
    cr_expect(strstr(why, sentence) != NULL, "\"%s\" is not in \"%s\"", sentence, why);
}

/* Only the name must be given. */
Test(config, has_presets)
{
    cr_assert(eq(int, load("[host]\nname = h1\n"), 0), "%s", why);
    cr_assert(eq(str, config->name, "h1"));
    cr_assert(eq(str, config->state, "/var/lib/whiskfs"));
    cr_assert(eq(str, config->advertise, "0.0.0.0:7433"));
    cr_assert(eq(str, config->membership_mode, "static"));
    cr_assert(eq(u64, config->volume_bytes, 10ULL << 30));
    cr_assert(eq(int, config->invoker, -1));
    cr_assert(eq(int, config->scrub_days, 7));
    cr_assert(eq(int, config->run_end_s, 30));
    cr_assert(eq(int, config->step_limit_s, 7 * 60));
    cr_assert(eq(int, config->run_limit_s, 5 * 60 * 60));
    cr_assert(config->passthrough && config->prefetch && !config->openwhisk);
    cr_assert(eq(str, config->autofs, "auto"));
}

/* Peers and librdkafka's properties have names of their own. */
Test(config, free_sections)
{
    cr_assert(
        eq(int,
           load("; hosts\n[host]\nname = h1\n[peers]\nh2 = 10.0.0.2:7433\nh3 = [fd00::3]:7433\n"
                "[kafka]\nbootstrap.servers = b:9092\nsecurity.protocol = ssl\n"),
           0),
        "%s", why);
    cr_assert(eq(int, config->n_peers, 2));
    cr_assert(eq(str, config->peers[1].address, "[fd00::3]:7433"));
    cr_assert(eq(u64, config->peers[0].id.n, host_id_of("h2").n));
    cr_assert(eq(int, config->n_kafka, 2));
    cr_assert(eq(str, config->kafka[1].value, "ssl"));
    cr_assert(eq(str, config->membership_mode, "kafka"));
}

/* What is wrong is refused with file, line and what would be right. */
Test(config, refuses_with_file_and_line)
{
    refused("[host]\nname = h1\nstat = /x\n", "whiskfsd.conf:3: [host] stat: unknown key");
    refused("[hots]\nname = h1\n", "whiskfsd.conf:2: [hots] name: unknown key");
    refused("[host]\nname = h1\nname = h2\n", "whiskfsd.conf:3: [host] name: given twice");
    refused("[host]\nname = h1\n[mounts]\nautofs = yes\n", "expected auto, on or off");
    refused("[host]\nname = h1\nmountd = off\n[mounts]\nautofs = on\n", "needs [host] mountd");
    refused("[host]\nname = a b\n", "whiskfsd.conf:2: [host] name = 'a b': expected a host name");
    refused("[host]\nname = h1\nstate = x\n", "expected an absolute path");
    refused("[host]\nname = h1\nlisten = 10.0.0.1\n", "expected ADDRESS:PORT");
    refused("[host]\nname = h1\nlisten = ::1:80\n", "expected ADDRESS:PORT");
    refused("[host]\nname = h1\nlog_level = loud\n", "expected error, warning, info or debug");
    refused("[host]\nname = h1\n[volumes]\nsize = 10GB\n",
            "whiskfsd.conf:4: [volumes] size = '10GB'");
    refused("[host]\nname = h1\n[volumes]\npassthrough = on\n", "expected auto or off");
    refused("[host]\nname = h1\n[prefetch]\nenabled = yes\n", "expected true or false");
    refused("[host]\nname = h1\n[openwhisk]\nmanaged_fraction = 2\n",
            "expected a number from 0 to 1");
    refused("[host]\nname = h1\n[openwhisk]\nrun_end = 0\n", "expected at least 1 second");
    refused("[host]\nname = h1\n[volumes]\nscrub_days = -1\n", "scrub_days: expected 0 to 3650");
    refused("[host]\nname = h1\n[transfer]\nstreams = 0\n", "streams: expected 1 to 16");
    refused("[host]\nname = h1\n[transfer]\nserve_rate = 1000\n", "expected 0 or at least 1MiB");
    refused("[host]\nname = h1\n[transfer]\nprefetch_rate = 9KiB\n", "expected 0 or at least 1MiB");
    refused("[host]\nname = h1\n[openwhisk]\nenabled = true\ninvoker = 0\n",
            "bootstrap.servers is missing");
    refused("[host]\nname = h1\nthis is no line\n", "whiskfsd.conf:3");
    refused("[tls]\nca = /x\n", "[host] name is missing");
}

/* A file that is not there says so. */
Test(config, missing_file)
{
    cr_assert(
        eq(int, config_load("/nonexistent/whiskfsd.conf", &config, why, sizeof why), -ENOENT));
    cr_assert(strstr(why, "/nonexistent/whiskfsd.conf: cannot open") != NULL);
}

/* Sizes are whole numbers with binary units. */
Test(config, sizes)
{
    uint64_t n;
    cr_assert(eq(int, config_parse_size("4096", &n), 0));
    cr_assert(eq(u64, n, 4096));
    cr_assert(eq(int, config_parse_size("3TiB", &n), 0));
    cr_assert(eq(u64, n, 3ULL << 40));
    cr_assert(eq(int, config_parse_size("-1", &n), -EINVAL));
    cr_assert(eq(int, config_parse_size("", &n), -EINVAL));
    cr_assert(eq(int, config_parse_size("1.5GiB", &n), -EINVAL));
    cr_assert(eq(int, config_parse_size("99999999TiB", &n), -ERANGE));
    cr_assert(eq(int, config_parse_size("99999999999999999999999", &n), -ERANGE));
}
