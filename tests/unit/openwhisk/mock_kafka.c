#include "tests/unit/openwhisk/mock_kafka.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"

struct mock_kafka {
    rd_kafka_t *client; /* carries the mock cluster, and produces */
    rd_kafka_mock_cluster_t *cluster;
    struct kafka_setting settings[2];
    rd_kafka_resp_err_t last_error;
};

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    (void)opaque;
    *(rd_kafka_resp_err_t *)message->_private = message->err;
}

struct mock_kafka *mock_kafka_start(void)
{
    struct mock_kafka *mock = calloc(1, sizeof *mock);
    char sentence[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    (void)rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", sentence, sizeof sentence);
    (void)rd_kafka_conf_set(conf, "linger.ms", "0", sentence, sizeof sentence);
    mock->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, sentence, sizeof sentence);
    CHECK(mock->client);
    rd_kafka_set_log_level(mock->client, 0);
    mock->cluster = rd_kafka_handle_mock_cluster(mock->client);
    mock->settings[0] = (struct kafka_setting){"bootstrap.servers",
                                               rd_kafka_mock_cluster_bootstraps(mock->cluster)};
    mock->settings[1] = (struct kafka_setting){"reconnect.backoff.max.ms", "200"};
    return mock;
}

void mock_kafka_stop(struct mock_kafka *mock)
{
    rd_kafka_destroy(mock->client);
    free(mock);
}

struct kafka_settings mock_kafka_settings(const struct mock_kafka *mock)
{
    return (struct kafka_settings){mock->settings, N_ELEMENTS(mock->settings)};
}

void mock_kafka_create(struct mock_kafka *mock, const char *topic)
{
    CHECK(rd_kafka_mock_topic_create(mock->cluster, topic, 1, 1) == RD_KAFKA_RESP_ERR_NO_ERROR);
}

void mock_kafka_down(struct mock_kafka *mock)
{
    CHECK(rd_kafka_mock_broker_set_down(mock->cluster, 1) == RD_KAFKA_RESP_ERR_NO_ERROR);
}

void mock_kafka_up(struct mock_kafka *mock)
{
    CHECK(rd_kafka_mock_broker_set_up(mock->cluster, 1) == RD_KAFKA_RESP_ERR_NO_ERROR);
}

void mock_kafka_produce(struct mock_kafka *mock, const char *topic, const char *key,
                        const char *payload, int64_t timestamp_ms)
{
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__IN_PROGRESS;
    rd_kafka_vu_t fields[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)key, key ? strlen(key) : 0}},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {(void *)(uintptr_t)payload, payload ? strlen(payload) : 0}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = &error},
    };
    CHECK(!rd_kafka_produceva(mock->client, fields, N_ELEMENTS(fields)));
    while (error == RD_KAFKA_RESP_ERR__IN_PROGRESS)
        (void)rd_kafka_poll(mock->client, 10);
    CHECK(error == RD_KAFKA_RESP_ERR_NO_ERROR);
}
