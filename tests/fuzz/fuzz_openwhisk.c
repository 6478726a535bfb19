/* A Kafka record's value of any bytes: decoded or refused, and what was decoded is within its bounds. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/check.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ow_limits limits = OW_LIMITS_DEFAULT;
    struct ow_message m;
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
