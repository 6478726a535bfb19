#include "proto/openwhisk/ack.h"

#include <errno.h>
#include <string.h>

#include "proto/openwhisk/json.h"

/* A sequence stops at a status other than success, and at a result with a field `error`. */
static int read_outcome(const json_t *response, bool *ret_is_error)
{
    const json_t *outcome = ow_json_get(response, "response");
    int64_t status;
    int r = ow_json_int(outcome, "statusCode", &status);
    if (r < 0)
        return r;
    *ret_is_error = status != 0 || ow_json_get(ow_json_get(outcome, "result"), "error");
    return 0;
}

static int read_response(const json_t *response, struct ow_ack *ack)
{
    if (json_is_string(response)) {
        ack->is_shrunk = true;
        return 0;
    }
    if (!json_is_object(response))
        return -EBADMSG;
    int r = ow_json_id(response, "activationId", ack->id);
    if (r < 0)
        return r;
    r = ow_json_id(response, "cause", ack->cause);
    if (r < 0)
        return r;
    r = ow_json_text(response, "namespace", ack->namespace_name, sizeof ack->namespace_name);
    if (r < 0)
        return r;
    return read_outcome(response, &ack->is_error);
}

static int read_completion(const json_t *root, struct ow_ack *ack)
{
    const json_t *instance = ow_json_get(root, "instance");
    bool is_system_error;
    int r = ow_json_bool(root, "isSystemError", false, &is_system_error);
    if (r < 0)
        return r;
    if (is_system_error)
        ack->is_error = true;
    if (!instance)
        return 0;
    ack->has_invoker = true;
    return ow_invoker_read(instance, &ack->invoker);
}

int ow_ack_read(const struct json_t *root, struct ow_ack *ret_ack)
{
    struct ow_ack ack = {0};
    const json_t *response = ow_json_get(root, "response");
    int r = response ? read_response(response, &ack) : 0;
    if (r < 0)
        return r;
    r = read_completion(root, &ack);
    if (r < 0)
        return r;
    if (ack.id[0] == '\0') {
        r = ow_json_id(root, json_is_string(response) ? "response" : "activationId", ack.id);
        if (r < 0)
            return r;
    }
    if (ack.id[0] == '\0' || (!response && !ack.has_invoker))
        return -EBADMSG;
    ack.form = !response ? OW_ACK_COMPLETION : ack.has_invoker ? OW_ACK_COMBINED : OW_ACK_RESULT;
    *ret_ack = ack;
    return 0;
}
