/* The directory of hosts and volumes: its records, its tables, and two hosts that find each other over a mock broker. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/kafka/directory.h"
#include "daemon/kafka/directory_record.h"
#include "daemon/kafka/directory_table.h"
#include "proto/base/clock.h"
#include "tests/unit/openwhisk/mock_kafka.h"

TestSuite(directory, .timeout = 60);

#define WAIT_NS (15 * NS_PER_S)

static struct member_host host_named(const char *name, int invoker)
{
    struct member_host host = {.id = host_id_of(name), .invoker = invoker};
    (void)snprintf(host.name, sizeof host.name, "%s", name);
    (void)snprintf(host.address, sizeof host.address, "%s.example:7433", name);
    return host;
}

static int decode_host(const char *key, const char *text, struct member_host *host)
{
    return directory_host_decode(key, strlen(key), text, strlen(text), host);
}

static int decode_volume(const char *key, const char *text, struct member_volume *volume)
{
    return directory_volume_decode(key, strlen(key), text, strlen(text), volume);
}

/* What one host writes, another reads. */
Test(directory, records)
{
    struct member_host host = host_named("h1", 3), read_host;
    char text[DIRECTORY_RECORD_MAX];
    cr_assert_eq(directory_host_encode(&host, text, sizeof text), 0);
    cr_assert_eq(decode_host("h1", text, &read_host), 0);
    cr_assert_str_eq(read_host.name, "h1");
    cr_assert_str_eq(read_host.address, "h1.example:7433");
    cr_assert_eq(read_host.invoker, 3);
    cr_assert(host_equal(read_host.id, host_id_of("h1")));
    struct member_volume volume = {.name = "work--Guest_1--c0ffee00c0ffee00c0ffee00c0ffee00",
                                   .home = "h1",
                                   .limit_bytes = 10ULL << 30},
                         read_volume;
    cr_assert_eq(directory_volume_encode(&volume, text, sizeof text), 0);
    cr_assert_eq(decode_volume(volume.name, text, &read_volume), 0);
    cr_assert_str_eq(read_volume.name, volume.name);
    cr_assert_str_eq(read_volume.home, "h1");
    cr_assert_eq(read_volume.limit_bytes, 10ULL << 30);
}

/* Fields of later versions are ignored, a missing invoker is none. */
Test(directory, records_of_others)
{
    struct member_host host;
    cr_assert_eq(
        decode_host(
            "h", "{\"future\":[],\"address\":\"[fe80::1]:7433\",\"name\":\"h\",\"invoker\":null}",
            &host),
        0);
    cr_assert_eq(host.invoker, -1);
    cr_assert_str_eq(host.address, "[fe80::1]:7433");
}

/* What could harm or confuse is refused. */
Test(directory, malformed_records)
{
    static const char *const hosts[] = {"",
                                        "[]",
                                        "{}",
                                        "{\"name\":\"h\"}",
                                        "{\"name\":\"h\",\"address\":\"h\"}",
                                        "{\"name\":\"h\",\"address\":\":1\"}",
                                        "{\"name\":\"h\",\"address\":\"h:\"}",
                                        "{\"name\":\"h\",\"address\":\"h:123456\"}",
                                        "{\"name\":\"h\",\"address\":\"h\\\"x:1\"}",
                                        "{\"name\":\"other\",\"address\":\"h:1\"}",
                                        "{\"name\":7,\"address\":\"h:1\"}"};
    for (unsigned i = 0; i < N_ELEMENTS(hosts); i++) {
        struct member_host host;
        cr_assert_eq(decode_host("h", hosts[i], &host), -EBADMSG, "%s", hosts[i]);
    }
    static const char *const volumes[] = {
        "{\"name\":\"v\"}", "{\"name\":\"v\",\"home\":\"\"}", "{\"name\":\"v\",\"home\":\"a/b\"}",
        "{\"name\":\"v\",\"home\":\"h\",\"size\":-1}", "{\"name\":\"w\",\"home\":\"h\"}"};
    for (unsigned i = 0; i < N_ELEMENTS(volumes); i++) {
        struct member_volume volume;
        cr_assert_eq(decode_volume("v", volumes[i], &volume), -EBADMSG, "%s", volumes[i]);
    }
    struct member_volume volume;
    cr_assert_eq(decode_volume("../etc", "{\"name\":\"../etc\",\"home\":\"h\"}", &volume),
                 -EBADMSG);
    cr_assert_eq(decode_volume(".x", "{\"name\":\".x\",\"home\":\"h\"}", &volume), -EBADMSG);
    struct member_host bad = host_named("h", 0);
    char text[DIRECTORY_RECORD_MAX];
    (void)snprintf(bad.name, sizeof bad.name, "a\"b");
    cr_assert_eq(directory_host_encode(&bad, text, sizeof text), -EINVAL);
}

/* Alive for 15 s after a sign of life; dead hosts stay known. */
Test(directory, table_liveness)
{
    struct directory_table t = {0};
    struct member_host h1 = host_named("h1", 1), h2 = host_named("h2", 2), found, list[4];
    cr_assert_eq(directory_table_put_host(&t, &h1, 1000), 0);
    cr_assert_eq(directory_table_put_host(&t, &h2, 5000), 0);
    cr_assert_eq(directory_table_host(&t, "h1", 15999, &found), 0);
    cr_assert(found.alive);
    cr_assert_eq(directory_table_host(&t, "h1", 16000, &found), 0);
    cr_assert(!found.alive);
    cr_assert_str_eq(found.address, "h1.example:7433");
    cr_assert_eq(directory_table_host_by_id(&t, h2.id, 16000, &found), 0);
    cr_assert(found.alive);
    cr_assert_eq(directory_table_hosts(&t, "h1", 16000, list, 4), 1);
    cr_assert_str_eq(list[0].name, "h2");
    cr_assert_eq(directory_table_hosts(&t, "other", 16000, list, 1), 2);
    cr_assert_eq(directory_table_put_host(&t, &h1, 500), 0); /* an old record changes nothing */
    cr_assert_eq(directory_table_put_host(&t, &h1, 20000), 0);
    cr_assert_eq(directory_table_host(&t, "h1", 20000, &found), 0);
    cr_assert(found.alive);
    directory_table_drop_host(&t, "h1");
    cr_assert_eq(directory_table_host(&t, "h1", 20000, &found), -ENOENT);
    cr_assert_eq(directory_table_host_by_id(&t, h1.id, 20000, &found), -ENOENT);
    directory_table_done(&t);
}

/* While the broker is away nobody ages, and nobody returns from the dead. */
Test(directory, table_hold)
{
    struct directory_table t = {0};
    struct member_host h1 = host_named("h1", 1), h2 = host_named("h2", 2), found;
    cr_assert_eq(directory_table_put_host(&t, &h1, 0), 0);
    cr_assert_eq(directory_table_put_host(&t, &h2, -20000), 0);
    for (int64_t ms = 1000; ms < 100000; ms += 1000)
        directory_table_hold(&t, ms, ms + 1000);
    cr_assert_eq(directory_table_host(&t, "h1", 100000, &found), 0);
    cr_assert(found.alive);
    cr_assert_eq(directory_table_host(&t, "h2", 100000, &found), 0);
    cr_assert(!found.alive);
    cr_assert_eq(directory_table_host(&t, "h1", 115000, &found), 0);
    cr_assert(!found.alive);
    directory_table_done(&t);
}

/* An invoker that moved is where it was seen last. */
Test(directory, table_invokers)
{
    struct directory_table t = {0};
    struct member_host h1 = host_named("h1", 7), h2 = host_named("h2", 7),
                       h3 = host_named("h3", -1), found;
    cr_assert_eq(directory_table_put_host(&t, &h1, 1000), 0);
    cr_assert_eq(directory_table_put_host(&t, &h2, 2000), 0);
    cr_assert_eq(directory_table_put_host(&t, &h3, 3000), 0);
    cr_assert_eq(directory_table_host_by_invoker(&t, 7, 2000, &found), 0);
    cr_assert_str_eq(found.name, "h2");
    cr_assert_eq(directory_table_host_by_invoker(&t, 8, 2000, &found), -ENOENT);
    cr_assert_eq(directory_table_host_by_invoker(&t, -1, 2000, &found), -ENOENT);
    directory_table_done(&t);
}

/* Two names with one id cannot both be hosts; tables are bounded. */
Test(directory, table_limits)
{
    struct directory_table t = {0};
    struct member_host h1 = host_named("h1", 1), twin = host_named("h2", 2);
    cr_assert_eq(directory_table_put_host(&t, &h1, 0), 0);
    twin.id = h1.id;
    cr_assert_eq(directory_table_put_host(&t, &twin, 0), -EEXIST);
    int r = 0;
    char name[32];
    for (unsigned i = 0; i <= DIRECTORY_HOSTS_MAX && r == 0; i++) {
        (void)snprintf(name, sizeof name, "host%u", i);
        struct member_host host = host_named(name, -1);
        r = directory_table_put_host(&t, &host, 0);
    }
    cr_assert_eq(r, -ENOSPC);
    r = 0;
    for (unsigned i = 0; i <= DIRECTORY_VOLUMES_MAX && r == 0; i++) {
        struct member_volume volume = {.home = "h1"};
        (void)snprintf(volume.name, sizeof volume.name, "v%u", i);
        r = directory_table_put_volume(&t, &volume);
    }
    cr_assert_eq(r, -ENOSPC);
    cr_assert_eq(directory_table_volumes(&t, NULL, 0), DIRECTORY_VOLUMES_MAX);
    directory_table_done(&t);
}

static struct membership *join(const struct mock_kafka *mock, const char *name, int invoker)
{
    char address[64], sentence[KAFKA_SENTENCE_SIZE];
    (void)snprintf(address, sizeof address, "%s.example:7433", name);
    struct kafka_directory_config config = {
        .name = name,
        .address = address,
        .invoker = invoker,
        .topic_prefix = "whiskfs-",
        .settings = mock_kafka_settings(mock),
        .beat_ms = 200,
    };
    struct membership *m;
    cr_assert_eq(kafka_directory_new(&config, &m, sentence), 0, "%s", sentence);
    cr_assert(kafka_directory_wait_ready(m, clock_mono_ns() + WAIT_NS));
    return m;
}

#define WAIT_FOR(condition)                                                                        \
    for (int64_t deadline_ns_ = clock_mono_ns() + WAIT_NS; !(condition);)                          \
    cr_assert_lt(clock_mono_ns(), deadline_ns_, #condition)

/* Hosts find each other and each other's volumes, in both directions, and a host that joins later sees all. */
Test(directory, hosts_meet, .init = cr_redirect_stderr)
{
    struct mock_kafka *mock = mock_kafka_start();
    mock_kafka_create(mock, "whiskfs-hosts");
    mock_kafka_create(mock, "whiskfs-volumes");
    struct membership *a = join(mock, "h1", 0), *b = join(mock, "h2", 1);
    struct member_host host, list[4];
    WAIT_FOR(a->ops->host_by_name(a, "h2", &host) == 0 && host.alive);
    cr_assert_str_eq(host.address, "h2.example:7433");
    WAIT_FOR(b->ops->host_by_invoker(b, 0, &host) == 0 && host.alive);
    cr_assert_str_eq(host.name, "h1");
    cr_assert_eq(a->ops->hosts(a, list, 4), 1);
    cr_assert(a->ops->connected(a));

    struct member_volume volume = {.name = "imgnet", .home = "h1", .limit_bytes = 1 << 30}, found;
    cr_assert_eq(a->ops->announce(a, &volume), 0);
    cr_assert_eq(a->ops->volume(a, "imgnet", &found), 0);
    WAIT_FOR(b->ops->volume(b, "imgnet", &found) == 0);
    cr_assert_str_eq(found.home, "h1");
    struct membership *c = join(mock, "h3", -1);
    cr_assert_eq(c->ops->volume(c, "imgnet", &found), 0); /* ready means: all that there was */
    cr_assert_eq(c->ops->host_by_id(c, host_id_of("h1"), &host), 0);
    cr_assert_eq(a->ops->retract(a, "imgnet"), 0);
    cr_assert_eq(a->ops->volume(a, "imgnet", &found), -ENOENT);
    WAIT_FOR(c->ops->volume(c, "imgnet", &found) == -ENOENT);
    cr_assert_eq(c->ops->volumes(c, &found, 1), 0);
    a->ops->free(a);
    b->ops->free(b);
    c->ops->free(c);
    mock_kafka_stop(mock);
}

/* Hosts that went long ago are known and dead; what nobody of us wrote is dropped, and said once. */
Test(directory, old_and_strange_records, .init = cr_redirect_stderr)
{
    struct mock_kafka *mock = mock_kafka_start();
    mock_kafka_create(mock, "whiskfs-hosts");
    mock_kafka_create(mock, "whiskfs-volumes");
    mock_kafka_produce(mock, "whiskfs-hosts", "gone", "{\"name\":\"gone\",\"address\":\"gone:1\"}",
                       clock_real_ns() / NS_PER_MS - 60000);
    for (unsigned i = 0; i < 10; i++)
        mock_kafka_produce(mock, "whiskfs-hosts", "bad", "SECRET{", 0);
    mock_kafka_produce(mock, "whiskfs-hosts", NULL, "{}", 0);
    struct membership *a = join(mock, "h1", 0);
    struct member_host host;
    cr_assert_eq(a->ops->host_by_name(a, "gone", &host), 0);
    cr_assert(!host.alive);
    cr_assert_eq(a->ops->host_by_name(a, "bad", &host), -ENOENT);
    a->ops->free(a);
    mock_kafka_stop(mock);
    (void)fflush(stderr);
    char line[2048];
    unsigned n_dropped = 0;
    for (FILE *log = cr_get_redirected_stderr(); fgets(line, sizeof line, log);) {
        n_dropped += strstr(line, "is dropped") != NULL;
        cr_assert_null(strstr(line, "SECRET"));
    }
    cr_assert_eq(n_dropped, 1);
}

/* Without a broker the daemon starts and stops all the same; announcing fails in bounded time. */
Test(directory, no_broker, .init = cr_redirect_stderr)
{
    struct kafka_setting nowhere = {"bootstrap.servers", "127.0.0.1:1"};
    struct kafka_directory_config config = {.name = "h1",
                                            .address = "h1:1",
                                            .invoker = -1,
                                            .topic_prefix = "w-",
                                            .settings = {&nowhere, 1}};
    struct membership *m;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(kafka_directory_new(&config, &m, sentence), 0);
    cr_assert(!kafka_directory_wait_ready(m, clock_mono_ns() + NS_PER_S / 10));
    cr_assert(!m->ops->connected(m));
    struct member_volume volume = {.name = "v", .home = "h1"};
    int64_t before_ns = clock_mono_ns();
    cr_assert_eq(m->ops->announce(m, &volume), -ETIMEDOUT);
    cr_assert_lt(clock_mono_ns() - before_ns, 6 * NS_PER_S);
    before_ns = clock_mono_ns();
    m->ops->free(m);
    cr_assert_lt(clock_mono_ns() - before_ns, 3 * NS_PER_S);
}

/* A host that could not be found by others is refused with a sentence. */
Test(directory, refused_names)
{
    struct kafka_directory_config config = {.name = "a b", .address = "h1:1", .topic_prefix = "w-"};
    struct membership *m;
    char sentence[KAFKA_SENTENCE_SIZE];
    cr_assert_eq(kafka_directory_new(&config, &m, sentence), -EINVAL);
    cr_assert(strstr(sentence, "'a b'"), "%s", sentence);
    config.name = "h1";
    config.address = "nowhere";
    cr_assert_eq(kafka_directory_new(&config, &m, sentence), -EINVAL);
    cr_assert(strstr(sentence, "host:port"), "%s", sentence);
}
