#include "proto/openwhisk/message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/openwhisk/json.h"

/* ---- what is looked at ---- */

static const struct ow_wanted invoker_members[] = {{"instance", NULL},
                                                   {"uniqueName", NULL},
                                                   {"displayedName", NULL},
                                                   {"userMemory", NULL},
                                                   {NULL, NULL}};
static const struct ow_wanted namespace_members[] = {{"name", NULL}, {NULL, NULL}};
static const struct ow_wanted user_members[] = {{"namespace", namespace_members}, {NULL, NULL}};
static const struct ow_wanted content_members[] = {{OW_VOLUME_PARAMETER, NULL}, {NULL, NULL}};
static const struct ow_wanted locked_members[] = {{OW_VOLUME_PARAMETER, OW_PRESENCE}, {NULL, NULL}};
static const struct ow_wanted key_members[] = {{"mainId", NULL}, {NULL, NULL}};
static const struct ow_wanted result_members[] = {{"error", OW_PRESENCE}, {NULL, NULL}};
static const struct ow_wanted outcome_members[] = {
    {"statusCode", NULL}, {"result", result_members}, {NULL, NULL}};
static const struct ow_wanted response_members[] = {{"activationId", NULL},
                                                    {"cause", NULL},
                                                    {"namespace", NULL},
                                                    {"response", outcome_members},
                                                    {NULL, NULL}};
static const struct ow_wanted message_members[] = {{"activationId", NULL},
                                                   {"cause", NULL},
                                                   {"transid", NULL},
                                                   {"action", NULL},
                                                   {"user", user_members},
                                                   {"blocking", NULL},
                                                   {"content", content_members},
                                                   {"lockedArgs", locked_members},
                                                   {"response", response_members},
                                                   {"instance", invoker_members},
                                                   {"isSystemError", NULL},
                                                   {"name", invoker_members},
                                                   {"isEnabled", NULL},
                                                   {"key", key_members},
                                                   {"creationId", OW_PRESENCE},
                                                   {"invocationNamespace", NULL},
                                                   {"rootInvokerIndex", invoker_members},
                                                   {"error", OW_PRESENCE},
                                                   {NULL, NULL}};

/* ---- reading ---- */

/* By the keys that are present, as topics may carry several kinds; the order of the questions matters. */
static enum ow_kind kind_of(const json_t *root)
{
    if (ow_json_get(root, "creationId") || ow_json_get(root, "invocationNamespace"))
        return OW_CONTAINER;
    if (ow_json_get(root, "response") || ow_json_get(root, "instance"))
        return OW_ACK;
    if (ow_json_get(root, "activationId"))
        return OW_ACTIVATION;
    if (json_is_object(ow_json_get(root, "name")))
        return OW_PING;
    if (json_is_object(ow_json_get(root, "key")))
        return OW_INVALIDATION;
    return OW_OTHER;
}

static int read_invalidation(const json_t *root, struct ow_invalidation *invalidation)
{
    int r = ow_json_text(ow_json_get(root, "key"), "mainId", invalidation->entity,
                         sizeof invalidation->entity);
    if (r < 0)
        return r;
    return invalidation->entity[0] == '\0' ? -EBADMSG : 0;
}

static int read_message(const json_t *root, struct ow_message *m)
{
    m->kind = kind_of(root);
    switch (m->kind) {
    case OW_ACTIVATION:
        return ow_activation_read(root, &m->activation);
    case OW_ACK:
        return ow_ack_read(root, &m->ack);
    case OW_PING:
        return ow_ping_read(root, &m->ping);
    case OW_INVALIDATION:
        return read_invalidation(root, &m->invalidation);
    case OW_CONTAINER:
        return ow_container_read(root, &m->container);
    case OW_OTHER:
        break;
    }
    return 0;
}

int ow_message_decode(const void *payload, size_t size, const struct ow_limits *limits,
                      struct ow_message *ret_message)
{
    json_t *root;
    int r = ow_json_select(payload, size, limits, message_members, &root);
    if (r < 0)
        return r;
    struct ow_message message;
    memset(&message, 0, sizeof message);
    r = read_message(root, &message);
    json_decref(root);
    if (r < 0)
        return r;
    *ret_message = message;
    return 0;
}

static void describe_activation(const struct ow_activation *a, char *line, size_t size)
{
    (void)snprintf(line, size,
                   "activation id=%s cause=%s action=%s namespace=%s volumes=%u refused=%u%s",
                   a->id, a->cause[0] ? a->cause : "-", a->action, a->namespace_name, a->volumes.n,
                   a->volumes.n_refused, a->is_noise ? " noise" : "");
}

void ow_message_describe(const struct ow_message *message, char *ret_line, size_t size)
{
    static const char *const forms[] = {"result", "completion", "combined"};
    static const char *const container_forms[] = {"creation", "created", "deletion"};
    switch (message->kind) {
    case OW_ACTIVATION:
        describe_activation(&message->activation, ret_line, size);
        break;
    case OW_ACK:
        (void)snprintf(ret_line, size, "%s id=%s%s", forms[message->ack.form], message->ack.id,
                       message->ack.is_error ? " error" : "");
        break;
    case OW_PING:
        (void)snprintf(ret_line, size, "ping invoker=%u name=%s enabled=%d",
                       message->ping.invoker.id, message->ping.invoker.unique_name,
                       message->ping.is_enabled);
        break;
    case OW_INVALIDATION:
        (void)snprintf(ret_line, size, "invalidation of=%s", message->invalidation.entity);
        break;
    case OW_CONTAINER:
        (void)snprintf(ret_line, size, "container %s action=%s namespace=%s%s",
                       container_forms[message->container.form], message->container.action,
                       message->container.namespace_name,
                       message->container.is_error ? " error" : "");
        break;
    case OW_OTHER:
        (void)snprintf(ret_line, size, "other message");
        break;
    }
}
