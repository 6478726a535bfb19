#include "proto/openwhisk/activation.h"

#include <errno.h>
#include <string.h>

#include "proto/openwhisk/json.h"

#define TRANSID_DEPTH_MAX 64

const char *ow_activation_run(const struct ow_activation *activation)
{
    return activation->cause[0] != '\0' ? activation->cause : activation->id;
}

/* [id, millis], [id, millis, true], [id, millis, [parent…]] or [id, millis, true, [parent…]]. */
static int read_root_transid(const json_t *transid, char ret_id[static OW_TRANSID_SIZE])
{
    for (unsigned depth = 0; depth < TRANSID_DEPTH_MAX; depth++) {
        size_t n = json_array_size(transid);
        if (n == 0)
            return -EBADMSG;
        const json_t *last = json_array_get(transid, n - 1);
        if (n > 1 && json_is_array(last)) {
            transid = last;
            continue;
        }
        return ow_json_copy_text(json_array_get(transid, 0), ret_id, OW_TRANSID_SIZE);
    }
    return -EBADMSG;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_noise(const struct ow_activation *a)
{
    return starts_with(a->root_transid, "sid_") ||
           starts_with(a->action, "whisk.system/invokerHealthTestAction") ||
           strcmp(a->action, "whisk.system/warmUp") == 0;
}

static int read_ids(const json_t *root, struct ow_activation *a)
{
    int r = ow_json_id(root, "activationId", a->id);
    if (r < 0)
        return r;
    if (a->id[0] == '\0')
        return -EBADMSG;
    r = ow_json_id(root, "cause", a->cause);
    if (r < 0)
        return r;
    const json_t *transid = ow_json_get(root, "transid");
    return transid ? read_root_transid(transid, a->root_transid) : 0;
}

static int read_namespace(const json_t *root, char ret_name[static OW_NAME_SIZE])
{
    const json_t *user = ow_json_get(root, "user");
    int r = ow_json_text(ow_json_get(user, "namespace"), "name", ret_name, OW_NAME_SIZE);
    if (r < 0)
        return r;
    return ret_name[0] == '\0' ? -EBADMSG : 0;
}

static void read_volumes(const json_t *root, struct ow_activation *a)
{
    const json_t *parameter = ow_json_get(ow_json_get(root, "content"), OW_VOLUME_PARAMETER);
    if (ow_json_get(ow_json_get(root, "lockedArgs"), OW_VOLUME_PARAMETER))
        a->volumes.n_refused = parameter ? 1 : 0; /* a cipher text, not a name */
    else
        ow_volume_refs_read(parameter, a->namespace_name, &a->volumes);
}

int ow_activation_read(const struct json_t *root, struct ow_activation *ret_activation)
{
    struct ow_activation a = {0};
    int r = read_ids(root, &a);
    if (r < 0)
        return r;
    r = ow_json_action(ow_json_get(root, "action"), a.action, sizeof a.action);
    if (r < 0)
        return r;
    r = read_namespace(root, a.namespace_name);
    if (r < 0)
        return r;
    r = ow_json_bool(root, "blocking", false, &a.is_blocking);
    if (r < 0)
        return r;
    a.is_noise = is_noise(&a);
    read_volumes(root, &a);
    *ret_activation = a;
    return 0;
}
