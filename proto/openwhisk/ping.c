#include "proto/openwhisk/ping.h"

#include <errno.h>

#include "proto/openwhisk/json.h"

int ow_invoker_read(const struct json_t *object, struct ow_invoker *ret_invoker)
{
    if (!json_is_number(ow_json_get(object, "instance")))
        return -EBADMSG;
    struct ow_invoker invoker = {0};
    int64_t id;
    int r = ow_json_int(object, "instance", &id);
    if (r < 0)
        return r;
    if (id < 0 || id >= OW_INVOKERS_MAX)
        return -EBADMSG;
    invoker.id = (unsigned)id;
    r = ow_json_text(object, "uniqueName", invoker.unique_name, sizeof invoker.unique_name);
    if (r < 0)
        return r;
    r = ow_json_text(object, "displayedName", invoker.displayed_name,
                     sizeof invoker.displayed_name);
    if (r < 0)
        return r;
    r = ow_json_size(object, "userMemory", &invoker.user_memory_bytes);
    if (r < 0)
        return r;
    *ret_invoker = invoker;
    return 0;
}

int ow_ping_read(const struct json_t *root, struct ow_ping *ret_ping)
{
    struct ow_ping ping = {0};
    int r = ow_invoker_read(ow_json_get(root, "name"), &ping.invoker);
    if (r < 0)
        return r;
    r = ow_json_bool(root, "isEnabled", true, &ping.is_enabled);
    if (r < 0)
        return r;
    *ret_ping = ping;
    return 0;
}
