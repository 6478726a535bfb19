#include "proto/openwhisk/container.h"

#include <errno.h>
#include <string.h>

#include "proto/openwhisk/json.h"

static enum ow_container_form form_of(const json_t *root)
{
    if (ow_json_get(root, "rootInvokerIndex"))
        return OW_CONTAINER_CREATED;
    return ow_json_get(root, "creationId") ? OW_CONTAINER_CREATION : OW_CONTAINER_DELETION;
}

/* OpenWhisk's own, with which it warms up its channels, name no place to run. */
static bool is_noise(const struct ow_container *c)
{
    return strncmp(c->action, "whisk.system/", strlen("whisk.system/")) == 0 &&
           strcmp(c->namespace_name, "whisk.system") == 0;
}

int ow_container_read(const struct json_t *root, struct ow_container *ret_container)
{
    struct ow_container c = {.form = form_of(root)};
    int r = ow_json_action(ow_json_get(root, "action"), c.action, sizeof c.action);
    if (r < 0)
        return r;
    r = ow_json_text(root, "invocationNamespace", c.namespace_name, sizeof c.namespace_name);
    if (r < 0)
        return r;
    if (c.namespace_name[0] == '\0')
        return -EBADMSG;
    c.is_noise = is_noise(&c);
    c.is_error = ow_json_get(root, "error") != NULL;
    if (c.form == OW_CONTAINER_CREATED)
        r = ow_invoker_read(ow_json_get(root, "rootInvokerIndex"), &c.invoker);
    if (r < 0)
        return r;
    *ret_container = c;
    return 0;
}
