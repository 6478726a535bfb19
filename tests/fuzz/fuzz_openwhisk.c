/* A Kafka record's value of any bytes: decoded or refused, and what was decoded is within its bounds. What jansson takes for
 * an object is selected from. */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
#include "proto/openwhisk/json.h"
#include "proto/openwhisk/message.h"
#include "tests/fuzz/fuzz.h"

static void check_activation(const struct ow_activation *a)
{
    CHECK(strlen(a->id) == OW_ID_SIZE - 1);
    CHECK(strlen(ow_activation_run(a)) == OW_ID_SIZE - 1);
    CHECK(strchr(a->action, '/') && a->namespace_name[0] != '\0');
    CHECK(a->volumes.n <= OW_VOLUMES_MAX);
    for (unsigned i = 0; i < a->volumes.n; i++) {
        char name[OW_INSTANCE_NAME_SIZE];
        if (ow_volume_instance_name(&a->volumes.refs[i], a->namespace_name, ow_activation_run(a),
                                    name) < 0)
            continue;
        CHECK(strlen(name) < sizeof name && !strchr(name, '/') && name[0] != '.');
    }
}

static void check_grammar(const uint8_t *data, size_t size, const struct ow_limits *limits)
{
    static const struct ow_wanted nothing[] = {{NULL, NULL}};
    json_t *whole =
        json_loadb((const char *)data, size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    json_t *selected = NULL;
    int r = ow_json_select(data, size, limits, nothing, &selected);
    bool is_text = !memchr(data, '\0', size); /* jansson passes over a NUL behind a number */
    CHECK(!is_text || !json_is_object(whole) || r == 0 || r == -EMSGSIZE);
    CHECK(r < 0 || json_object_size(selected) == 0);
    json_decref(selected);
    json_decref(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ow_limits limits = OW_LIMITS_DEFAULT;
    struct ow_message m;
    check_grammar(data, size, &limits);
    if (ow_message_decode(data, size, &limits, &m) < 0)
        return 0;
    char line[256];
    ow_message_describe(&m, line, sizeof line);
    CHECK(strlen(line) < sizeof line && !strchr(line, '\n'));
    if (m.kind == OW_ACTIVATION)
        check_activation(&m.activation);
    else if (m.kind == OW_ACK)
        CHECK(strlen(m.ack.id) == OW_ID_SIZE - 1 && m.ack.invoker.id < OW_INVOKERS_MAX);
    else if (m.kind == OW_PING)
        CHECK(m.ping.invoker.id < OW_INVOKERS_MAX);
    return 0;
}
