#include "daemon/kafka/settings.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

/* A message of OpenWhisk's is at most 1 MiB and 6 KiB unless its operator raised that; what librdkafka reads ahead is
 * bounded; a broker that comes back is tried again soon. */
static const struct kafka_setting defaults[] = {
    {"client.id", "whiskfs"},
    {"fetch.message.max.bytes", "2097152"},
    {"message.max.bytes", "2097152"},
    {"queued.max.messages.kbytes", "16384"},
    {"queue.buffering.max.messages", "10000"},
    {"queue.buffering.max.kbytes", "16384"},
    {"reconnect.backoff.ms", "100"},
    {"reconnect.backoff.max.ms", "2000"},
    {"topic.metadata.refresh.interval.ms", "5000"},
    {"message.timeout.ms", "10000"},
    {"linger.ms", "0"},
    {"socket.keepalive.enable", "true"},
};

static int set_all(rd_kafka_conf_t *conf, const struct kafka_settings *settings, char *sentence)
{
    for (size_t i = 0; i < settings->n; i++) {
        rd_kafka_conf_res_t r = rd_kafka_conf_set(
            conf, settings->list[i].name, settings->list[i].value, sentence, KAFKA_SENTENCE_SIZE);
        if (r != RD_KAFKA_CONF_OK)
            return -EINVAL;
    }
    return 0;
}

/* librdkafka repeats itself for every broker and try; error_event() below says the essence once a minute. */
static void log_event(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    struct kafka_log *log = rd_kafka_opaque(client);
    (void)level;
    log_debug(log->subsystem, "%s: %s", facility, text);
}

static void error_event(rd_kafka_t *client, int error, const char *reason, void *opaque)
{
    (void)client;
    struct kafka_log *log = opaque;
    bool is_lost = error == RD_KAFKA_RESP_ERR__TRANSPORT ||
                   error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
                   error == RD_KAFKA_RESP_ERR__RESOLVE;
    uint64_t suppressed;
    if (log_allow(is_lost ? &log->lost : &log->other, &suppressed))
        log_warning(log->subsystem, "%s: %s; trying on error=%s suppressed=%llu",
                    is_lost ? "no connection to a Kafka broker" : "Kafka", reason,
                    rd_kafka_err2name((rd_kafka_resp_err_t)error), (unsigned long long)suppressed);
}

int kafka_conf_make(const struct kafka_settings *settings, const struct kafka_settings *fixed,
                    struct kafka_log *log, struct rd_kafka_conf_s **ret_conf,
                    char ret_sentence[static KAFKA_SENTENCE_SIZE])
{
    struct kafka_settings ours = {defaults, N_ELEMENTS(defaults)};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int r = set_all(conf, &ours, ret_sentence);
    if (r == 0)
        r = set_all(conf, settings, ret_sentence);
    if (r == 0)
        r = set_all(conf, fixed, ret_sentence);
    if (r < 0) {
        rd_kafka_conf_destroy(conf);
        return r;
    }
    rd_kafka_conf_set_opaque(conf, log);
    rd_kafka_conf_set_log_cb(conf, log_event);
    rd_kafka_conf_set_error_cb(conf, error_event);
    *ret_conf = conf;
    return 0;
}

int kafka_settings_check(const struct kafka_settings *settings,
                         char ret_sentence[static KAFKA_SENTENCE_SIZE])
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int r = set_all(conf, settings, ret_sentence);
    rd_kafka_conf_destroy(conf);
    return r;
}
